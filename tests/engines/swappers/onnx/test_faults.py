"""Swapper files that are damaged, fail or leave the real face: nothing is drawn, and it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines import (
    EngineFault,
    EngineUnavailable,
    Identity,
    SettingError,
    SwapSettings,
    load,
)
from engines.errors import EngineRefused
from engines.swappers.base import Inputs
from engines.types import TrackedFace
from tests.engines.face.heads import DARK_SKIN, identity
from tests.engines.face.scenes import clip

pytest.importorskip("onnx")
from tests.engines.swappers import onnx_files as files
from tests.engines.swappers.onnx.drawing import (
    Make,
    drawn,
    head,
    wall,
)


@pytest.mark.parametrize(("kind", "how"), [("inswapper", "nan"), ("ghost", "nan"), ("dfm", "nan"), ("ghost", "half")])
def test_a_swapper_that_fails_draws_nothing(opened: Make, worn: Identity, kind: str, how: str) -> None:
    frame, points = wall(), head()
    engine, onto = opened(kind, how), frame.copy()
    inputs = Inputs(frame, TrackedFace(1, points, points, 1.0), None, 0.0)
    why = "no numbers" if how == "nan" else r"gave float32 \[1, 3, 128, 128\] as"
    for _ in range(2):
        with pytest.raises(EngineFault, match=why):
            engine.draw(engine.init(), worn, inputs, SwapSettings(), onto)
    assert (onto == frame).all()


@pytest.mark.parametrize("kind", ["inswapper", "uniface", "dfm"])
def test_a_swapper_that_leaves_the_real_face_is_a_fault(opened: Make, worn: Identity, kind: str) -> None:
    with pytest.raises(EngineFault, match="gave the face back as it was"):
        drawn(opened(kind), wall(), head(), worn)


def test_a_mask_that_leaves_the_real_face_bare_is_a_fault(opened: Make, worn: Identity) -> None:
    mask = np.zeros((224, 224), np.float32)
    mask[:60] = 1
    with pytest.raises(EngineFault, match="found no face where there is one"):
        drawn(opened("dfm", "shift", mask=mask), wall(), head(), worn)


def test_an_identity_without_a_face_in_its_portrait_is_refused(opened: Make) -> None:
    engine = opened("hyperswap")
    for _ in range(2):
        with pytest.raises(EngineFault, match='identity "made-up": no face is found in its portrait'):
            engine.prepare(identity(DARK_SKIN), SwapSettings())


def test_an_embedder_that_gives_no_numbers_is_a_fault(tmp_path: Path, worn: Identity) -> None:
    settings = files.settings_of(tmp_path, "hyperswap", files.swapper(tmp_path / "model.onnx", "hyperswap"))
    assert settings.embedder is not None
    files.embedder(settings.embedder, nan=True)
    session = load(settings)
    with pytest.raises(EngineFault, match="no numbers"):
        session.set_identity(worn)
    session.close()


def test_what_is_missing_or_too_much_is_said(tmp_path: Path) -> None:
    ghost = files.swapper(tmp_path / "ghost.onnx", "ghost")
    whole = files.settings_of(tmp_path, "ghost", ghost)

    def refusal(**changes: object) -> str:
        with pytest.raises((EngineUnavailable, SettingError)) as refused:
            load(SwapSettings.read({**whole.model_dump(), **changes}))
        assert "\n" not in str(refused.value)
        return str(refused.value)

    assert "--model FILE" in refusal(model=None)
    assert "no such file" in refusal(model=tmp_path / "other.onnx")
    assert "arcface_w600k_r50" in refusal(embedder=None)
    assert "--embedder FILE" in refusal(embedder=None)
    assert "crossface_ghost" in refusal(converter=None)
    assert "is not a face recogniser" in refusal(embedder=whole.converter)
    assert "is not a converter" in refusal(converter=whole.embedder)
    assert 'setting "embedder": a swapper of type dfm needs none' in refusal(model=files.dfm(tmp_path / "d.onnx"))
    assert "--runtime ort" in refusal(runtime="torch")
    assert "valid: 256, 512, 768, 1024" in refusal(size_px=320)


def test_a_damaged_swapper_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = files.swapper(tmp_path / "model.onnx", "ghost")
    settings = files.settings_of(tmp_path, "ghost", path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EngineRefused, match="damaged or cut"):
        load(settings)
    path.write_bytes(whole.replace(b"MatMul", b"MutMal"))
    with pytest.raises(EngineUnavailable, match=r"ONNX Runtime cannot open model\.onnx"):
        load(settings)


def test_a_page_cannot_choose_files_of_the_server() -> None:
    for key in ("model", "embedder", "converter"):
        with pytest.raises(SettingError, match=f'setting "{key}"'):
            SwapSettings.read({"engine": "onnx", key: "/etc/passwd"})


def test_a_session_whose_swapper_fails_shows_no_picture(tmp_path: Path, worn: Identity, shared_data: Path) -> None:
    frames = [np.ascontiguousarray(frame) for frame in clip(shared_data / "clips" / "single_face.mp4", 3)]
    settings = files.settings_of(tmp_path, "ghost", files.swapper(tmp_path / "model.onnx", "ghost", "nan"))
    session = load(settings, worn)
    state = session.init()
    for number, frame in enumerate(frames):
        with pytest.raises(EngineFault, match="no numbers"):
            session.step(state, frame, number / 30)
    session.close()
