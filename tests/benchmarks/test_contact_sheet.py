"""Sheets hold what they promise, and a public one never a real person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.contact_sheet import (
    GAP_PX,
    TITLE_PX,
    choose,
    cut_out,
    sheet,
    shots_of_clip,
    square_around,
    write_video,
)
from benchmarks.corpus import read_clip
from benchmarks.likeness import SessionSwapper
from engines import SettingError, SwapSettings, load
from engines.types import Box
from tests.benchmarks.people import FRAMES, short_clip, synthetic_person


def test_a_public_sheet_refuses_a_real_person() -> None:
    with pytest.raises(SettingError, match="do not exist"):
        choose(["astronaut"], public=True)
    with pytest.raises(SettingError, match="unknown identity nobody"):
        choose(["nobody"], public=False)


def test_squares_may_reach_beyond_the_frame() -> None:
    square = square_around(Box(0, 0, 10, 10), 50, 50)
    assert square.width_px == pytest.approx(square.height_px) == pytest.approx(17)
    assert cut_out(np.full((50, 50, 3), 200, np.uint8), square, 34)[0, 0].max() == 0


def test_a_sheet_puts_input_and_result_side_by_side(shared_data: Path) -> None:
    footage, wearer = short_clip(shared_data), synthetic_person(shared_data)
    shots = shots_of_clip(footage, [0, 2])
    assert all(shot.square.width_px < 360 for shot in shots)
    swapper = SessionSwapper(load(SwapSettings(engine="passthrough", label=False)))
    picture = sheet(swapper, [wearer], shots, 64, "a test")
    assert picture.shape == (64 + 2 * TITLE_PX, 5 * 64 + 3 * GAP_PX, 3)
    first = picture[2 * TITLE_PX :, 64 + GAP_PX : 3 * 64 + GAP_PX]
    assert np.array_equal(first[:, :64], first[:, 64:])
    assert first.std() > 20


def test_a_video_has_every_frame(shared_data: Path, tmp_path: Path) -> None:
    swapper = SessionSwapper(load(SwapSettings(engine="passthrough")))
    path = tmp_path / "out" / "pair.mp4"
    write_video(path, swapper, synthetic_person(shared_data), short_clip(shared_data), 96)
    footage = read_clip(path)
    assert len(footage.frames) == FRAMES
    assert footage.frames[0].shape == (96, 192, 3)
    assert footage.captured_s == pytest.approx((0, 1 / 30, 2 / 30), abs=2e-3)
