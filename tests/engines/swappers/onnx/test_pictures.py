"""What swapper files draw: colours, precision, masks, tone, whole clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines import (
    EnginePool,
    Identity,
    Status,
    load,
)
from engines.face.five_points import five_points
from engines.types import Occlusion
from tests.engines.face.scenes import clip

pytest.importorskip("onnx")
from tests.engines.swappers import onnx_files as files
from tests.engines.swappers.onnx.drawing import (
    DRAWN_KINDS,
    SIGNED,
    Make,
    drawn,
    head,
    middle_of,
    normalised,
    wall,
)


@pytest.mark.usefixtures("gives_back")
@pytest.mark.parametrize("kind", [kind for kind in DRAWN_KINDS if kind != "simswap_256"])
def test_a_swapper_that_gives_its_target_back_changes_nothing(opened: Make, worn: Identity, kind: str) -> None:
    frame, points = wall(), head(yaw_deg=10, roll_deg=-15)
    result = drawn(opened(kind), frame, points, worn)
    assert np.abs(result.astype(int) - frame).max() <= 1


@pytest.mark.parametrize("kind", DRAWN_KINDS)
def test_colours_go_in_and_come_out_as_the_type_has_them(opened: Make, worn: Identity, kind: str) -> None:
    colour = np.array([150, 120, 90])
    frame = np.full((380, 400, 3), colour, np.uint8)
    points = head()
    result = drawn(opened(kind, "shift"), frame, points, worn)
    by = np.array([0.1, -0.05, 0.2])
    shown = normalised(kind, colour / 255) + (by[::-1] if kind == "dfm" else by)
    expected = np.clip(shown * 0.5 + 0.5 if kind in SIGNED else shown, 0, 1) * 255
    np.testing.assert_allclose(result[middle_of(points)].reshape(-1, 3).mean(axis=0), expected, atol=0.6)
    assert (result[:20] == frame[:20]).all()


@pytest.mark.parametrize("kind", ["inswapper", "hyperswap", "ghost"])
def test_files_in_half_precision_give_the_same_picture(opened: Make, worn: Identity, kind: str) -> None:
    frame, points = wall(), head(roll_deg=10)
    full = drawn(opened(kind, "shift"), frame, points, worn)
    half = drawn(opened(kind, "shift", dtype="float16"), frame, points, worn)
    assert (full != frame).any()
    assert np.abs(full.astype(int) - half).max() <= 1


def test_what_is_before_the_face_stays(opened: Make, worn: Identity) -> None:
    frame, points = wall(), head()
    five = five_points(points)
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255  # the picture's right half of the face
    scale = 64 / 380
    from_frame = np.array([[scale, 0, 32 - five[2, 0] * scale], [0, scale, 0]], np.float32)
    result = drawn(opened("ghost", "shift"), frame, points, worn, Occlusion(mask, from_frame, 0.5))
    edge = round(float(five[2, 0]))
    assert (result[:, edge + 1 :] == frame[:, edge + 1 :]).all()
    assert (result[middle_of(points)][:, :2] != frame[middle_of(points)][:, :2]).any()


def test_a_dfms_own_mask_holds(opened: Make, worn: Identity) -> None:
    mask = np.zeros((224, 224), np.float32)
    mask[:, :112] = 1
    frame, points = wall(), head()
    result = drawn(opened("dfm", "shift", mask=mask), frame, points, worn)
    x = round(float(five_points(points)[2, 0]))
    changed = (result != frame).any(axis=(0, 2))
    assert changed[x - 60 : x - 20].all()
    assert not changed[x + 30 :].any()


@pytest.mark.parametrize("tone", ["mix", "driver"])
def test_the_driver_s_colours_are_taken_where_they_are_asked_for(opened: Make, worn: Identity, tone: str) -> None:
    frame, points = wall(), head()
    engine = opened("ghost", "shift")
    own, plain, toned = frame, drawn(engine, frame, points, worn), drawn(engine, frame, points, worn, tone=tone)
    where = middle_of(points)
    off = [np.abs(one[where].astype(float) - own[where]).mean() for one in (plain, toned)]
    assert off[1] < (0.6 if tone == "mix" else 0.15) * off[0]


def test_sessions_share_what_is_opened_until_the_file_changes(tmp_path: Path) -> None:
    settings = files.settings_of(tmp_path, "ghost", files.swapper(tmp_path / "model.onnx", "ghost"))
    pool = EnginePool()
    first, second = load(settings, pool=pool), load(settings, pool=pool)
    assert first._drawer._shared is second._drawer._shared  # type: ignore[attr-defined]
    files.swapper(tmp_path / "model.onnx", "ghost", "shift")
    third = load(settings, pool=pool)
    assert third._drawer._shared is not first._drawer._shared  # type: ignore[attr-defined]
    for session in (first, second, third):
        session.close()
    pool.close()


def test_a_clip_is_swapped_from_beginning_to_end(tmp_path: Path, worn: Identity, shared_data: Path) -> None:
    frames = [np.ascontiguousarray(frame) for frame in clip(shared_data / "clips" / "single_face.mp4", 6)]
    settings = files.settings_of(tmp_path, "hyperswap", files.swapper(tmp_path / "model.onnx", "hyperswap", "source"))
    session = load(settings, worn)
    assert "model.onnx, said to be hyperswap, 256 px; ONNX Runtime on cpu" in session.why
    session.warm_up(*frames[0].shape[:2])
    state = session.init()
    for number, frame in enumerate(frames):
        result = session.step(state, frame, number / 30)
        assert result.status is Status.DRAWN
        assert (result.rgb_HW3 != frame).any(axis=2).mean() > 0.02
    session.close()
