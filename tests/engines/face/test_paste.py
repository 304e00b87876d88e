"""Laying a drawn face back: an identity network gives the frame back, nothing is shifted, nothing else is touched."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.face.align import crop, crop_from_frame, moved
from engines.face.paste import paste, paste_change
from engines.face.region import face_region, planes
from engines.types import Floats, Rgb
from tests.engines.face.heads import Looks, landmarks
from tests.engines.face.test_align import pattern

SIZE = 256


def unchanged(frame: Rgb, points: Floats, size_px: int = SIZE) -> tuple[Rgb, Floats]:
    """The frame after a network that returns what it is given; and where it was drawn, as alpha in the frame."""
    there = crop_from_frame(points, size_px)
    region = face_region(moved(points, there), size_px)
    onto, white = frame.copy(), np.zeros_like(frame)
    paste(onto, planes(crop(frame, there, size_px))[0], region.alpha_SS, there)
    paste(white, np.ones((3, size_px, size_px), np.float32), region.alpha_SS, there)
    return onto, white[..., 0].astype(np.float32) / 255


@settings(max_examples=25)
@given(
    st.floats(60, 400), st.floats(-60, 60), st.floats(-40, 40), st.floats(150, 490), st.floats(150, 330),
    st.sampled_from([256, 512]),
)  # fmt: skip
def test_an_identity_network_gives_the_frame_back(
    face_px: float, yaw: float, roll: float, x: float, y: float, size_px: int
) -> None:
    frame = pattern(480, 640)
    points = landmarks(Looks(size_px=face_px, yaw_deg=yaw, roll_deg=roll, x_px=x, y_px=y))
    onto, alpha = unchanged(frame, points, size_px)
    np.testing.assert_array_equal(onto[alpha == 0], frame[alpha == 0])
    off = np.abs(onto.astype(int) - frame)[alpha > 0]
    assert len(off), "something was drawn"
    assert off.mean() < 1.2, "half a pixel of shift would be 2.5 levels of this pattern"
    assert np.percentile(off, 99) <= 5


@pytest.mark.parametrize("face_px", [40.0, 70.0, 120.0, 165.0, 300.0, 620.0])
def test_nothing_is_shifted(face_px: float) -> None:
    """The centre of a dot, cut out and pasted back, within a tenth of a pixel; for crops finer and coarser."""
    points = landmarks(Looks(size_px=face_px, roll_deg=17, x_px=500, y_px=460))
    y, x = np.mgrid[:1000, :1000].astype(np.float32)
    spread = max(2.0, face_px / 40)
    for number in (1, 33, 291):
        place = points[number, :2]
        dot = 255 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * spread**2))
        frame = np.ascontiguousarray(np.repeat(dot[..., None], 3, axis=2).astype(np.uint8))
        onto, _ = unchanged(frame, points)
        seen = []
        for picture in (frame, onto):
            weight = picture[..., 0].astype(np.float64)
            weight[weight < 8] = 0
            seen.append(np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum())
        assert np.abs(seen[1] - seen[0]).max() < 0.1


def test_on_whole_pixels_it_is_exact() -> None:
    """Where crop pixels are frame pixels, not a level is lost."""
    frame = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    there = np.array([[1, 0, -20], [0, 1, -30]], np.float32)
    alpha = np.zeros((SIZE, SIZE), np.float32)
    alpha[40:200, 50:190] = 1
    onto = frame.copy()
    paste(onto, planes(crop(frame, there, SIZE))[0], alpha, there)
    np.testing.assert_array_equal(onto, frame)
    paste(onto, -planes(crop(frame, there, SIZE))[0], alpha, there)
    np.testing.assert_array_equal(onto[70:230, 70:210], 255 - frame[70:230, 70:210])
    onto[70:230, 70:210] = frame[70:230, 70:210]
    np.testing.assert_array_equal(onto, frame)


def test_it_is_pasted_into_the_frame_it_was_cut_from() -> None:
    """The delay trap, at its smallest: with the transform of a frame before, the face lies where the head was."""
    before, now = (landmarks(Looks(x_px=x, y_px=140)) for x in (120.0, 180.0))
    frame = np.zeros((280, 320, 3), np.uint8)
    white = np.ones((3, SIZE, SIZE), np.float32)
    middles = []
    for points in (before, now):
        onto, there = frame.copy(), crop_from_frame(points, SIZE)
        paste(onto, white, face_region(moved(points, there), SIZE).alpha_SS, there)
        middles.append(float(np.nonzero(onto[..., 0])[1].mean()))
    assert middles[1] - middles[0] == pytest.approx(60, abs=0.5)


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (320.0, 280.0), (-400.0, 100.0), (160.0, -500.0)])
def test_a_face_at_the_edge_or_outside_is_cut_off(x: float, y: float) -> None:
    points = landmarks(Looks(x_px=x, y_px=y))
    there = crop_from_frame(points, SIZE)
    onto = np.zeros((280, 320, 3), np.uint8)
    paste(onto, np.ones((3, SIZE, SIZE), np.float32), face_region(moved(points, there), SIZE).alpha_SS, there)
    inside = -60 < x < 380 and -60 < y < 340
    assert bool(onto.any()) == inside


def test_colours_beyond_the_range_are_cut_off_and_do_not_wrap() -> None:
    there = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    face = np.stack([np.full((64, 64), level, np.float32) for level in (-7.0, 9.0, 0.0)])
    onto = np.full((64, 64, 3), 50, np.uint8)
    paste(onto, face, np.ones((64, 64), np.float32), there)
    assert onto[30, 30].tolist() == [0, 255, 128]


def test_a_small_face_is_averaged_not_skipped() -> None:
    """Stripes of one crop pixel, pasted four times smaller, are grey, though every fourth column is white."""
    stripes = np.where(np.arange(SIZE) % 2 == 0, 1, -1).astype(np.float32)
    face = np.broadcast_to(stripes, (3, SIZE, SIZE)).copy()
    onto = np.zeros((64, 64, 3), np.uint8)
    there = np.array([[4, 0, 2], [0, 4, 2]], np.float32)
    paste(onto, face, np.ones((SIZE, SIZE), np.float32), there)
    assert np.abs(onto[4:60, 4:60].astype(int) - 128).max() <= 1


def test_nothing_to_draw_draws_nothing() -> None:
    onto = np.full((64, 64, 3), 9, np.uint8)
    paste(onto, np.ones((3, 64, 64), np.float32), np.zeros((64, 64), np.float32), np.eye(2, 3, dtype=np.float32))
    assert (onto == 9).all()


def test_with_a_helper_it_is_the_same_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where the helper fails, the frame fails."""
    frame, points = pattern(480, 640), landmarks(Looks(size_px=200, roll_deg=15))
    there = crop_from_frame(points, SIZE)
    alpha = face_region(moved(points, there), SIZE).alpha_SS
    face = np.random.default_rng(0).uniform(-1, 1, (3, SIZE, SIZE)).astype(np.float32)
    alone, helped = frame.copy(), frame.copy()
    paste(alone, face, alpha, there)
    with ThreadPoolExecutor(1) as helper:
        paste(helped, face, alpha, there, helper)
        np.testing.assert_array_equal(helped, alone)
        assert (alone != frame).any()
        monkeypatch.setattr(helper, "submit", lambda *_: ThreadPoolExecutor(1).submit(lambda: 1 / 0))
        with pytest.raises(ZeroDivisionError):
            paste(helped, face, alpha, there, helper)


def test_a_change_is_added_to_what_is_there_however_fine_that_is() -> None:
    """A frame four times as fine as the crop keeps its grain; no change keeps every bit."""
    rng = np.random.default_rng(4)
    frame = rng.integers(60, 180, (256, 256, 3)).astype(np.uint8)
    there = np.array([[0.25, 0, 0], [0, 0.25, 0]], np.float32)
    before = rng.uniform(-0.5, 0.5, (3, 64, 64)).astype(np.float32)
    alpha = np.zeros((64, 64), np.float32)
    alpha[8:56, 8:56] = 1
    same = frame.copy()
    paste_change(same, before, before, alpha, there)
    np.testing.assert_array_equal(same, frame)
    lit = frame.copy()
    paste_change(lit, before + np.float32(0.2), before, alpha, there)
    inside, outside = np.s_[40:210, 40:210], np.s_[:, 240:]
    np.testing.assert_allclose(lit[inside].astype(int) - frame[inside], 25.5, atol=0.51)
    np.testing.assert_array_equal(lit[outside], frame[outside])


def test_a_change_beyond_white_counts_only_as_far_as_white() -> None:
    frame = np.full((64, 64, 3), 240, np.uint8)
    before = np.full((3, 64, 64), 0.9, np.float32)
    paste_change(frame, before + 5, before, np.ones((64, 64), np.float32), np.eye(2, 3, dtype=np.float32))
    assert set(np.unique(frame[2:-2, 2:-2])) == {253}  # 240 + 0.1 * 127.5
