"""The region that a learned engine draws: larger than the face, sound in every pose, never over what is in front."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from engines.face.align import SPAN_CM, crop, crop_from_frame, moved
from engines.face.mesh import FACE_OVAL
from engines.face.region import (
    FEATHER_CM,
    GROWN_CM,
    GROWN_UP_CM,
    convex_hull,
    covered_on_crop,
    face_region,
    fill_colour,
    masked_planes,
    planes,
    small_picture,
)
from engines.types import SKIN_LANDMARKS, Floats, Occlusion
from tests.engines.face.heads import MIDDLE_SKIN, Looks, albedo, landmarks, photograph

SIZE = 256


def on_crop(looks: Looks, size_px: int = SIZE) -> Floats:
    points = landmarks(looks)
    return moved(points, crop_from_frame(points, size_px))


@settings(max_examples=40)
@given(st.integers(3, 200), st.integers(0, 2**32 - 1))
def test_the_hull_is_that_of_a_library(count: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(100, 30, (count, 2)).astype(np.float32)
    ours = {tuple(corner) for corner in convex_hull(points).tolist()}
    theirs = {tuple(points[i].tolist()) for i in ConvexHull(points).vertices}
    assert ours == theirs


@settings(max_examples=40)
@given(st.floats(-88, 88), st.floats(-45, 45), st.floats(-60, 60))
def test_all_of_the_face_is_in_the_region_and_well_inside(yaw: float, pitch: float, roll: float) -> None:
    points = on_crop(Looks(yaw_deg=yaw, pitch_deg=pitch, roll_deg=roll))
    region = face_region(points, SIZE)
    at = np.round(points[:SKIN_LANDMARKS, :2]).astype(int)
    assert (region.mask_SS[at[:, 1], at[:, 0]] == 1).all()
    assert (region.alpha_SS[at[:, 1], at[:, 0]] > 0.7).all(), "at the forehead's edge it fades in already"
    edge = np.concatenate([region.mask_SS[0], region.mask_SS[-1], region.mask_SS[:, 0], region.mask_SS[:, -1]])
    assert edge.max() == 0, "the crop has room for it"


def test_it_is_larger_than_the_outline_by_what_is_promised() -> None:
    points, px_per_cm = on_crop(Looks()), SIZE / SPAN_CM
    rows, columns = np.nonzero(face_region(points, SIZE).mask_SS)
    oval = points[FACE_OVAL]
    assert points[0, 0] == pytest.approx(127.5, abs=2)
    assert oval[:, 0].min() - columns.min() == pytest.approx(GROWN_CM * px_per_cm, abs=2.5)
    assert columns.max() - oval[:, 0].max() == pytest.approx(GROWN_CM * px_per_cm, abs=2.5)
    assert rows.max() - oval[:, 1].max() == pytest.approx(GROWN_CM * px_per_cm, abs=2.5)
    assert oval[:, 1].min() - rows.min() == pytest.approx(GROWN_UP_CM * px_per_cm, abs=2.5)


def test_it_is_the_same_at_every_size() -> None:
    small, large = (face_region(on_crop(Looks(yaw_deg=25), size), size) for size in (256, 512))
    halves = large.mask_SS.reshape(256, 2, 256, 2).mean(axis=(1, 3))
    assert np.abs(halves - small.mask_SS).mean() < 0.004


def test_the_feather_lies_inside_of_the_mask_and_is_as_wide_as_promised() -> None:
    region = face_region(on_crop(Looks()), SIZE)
    assert (region.alpha_SS <= region.mask_SS + 1e-6).all()
    across = region.alpha_SS[150]
    fading = np.count_nonzero((across > 0) & (across < 1)) / 2
    assert fading == pytest.approx(FEATHER_CM * SIZE / SPAN_CM, abs=2)
    assert np.abs(np.diff(across)).max() < 0.35, "no hard edge"


def covered_square(points: Floats, there: Floats) -> Occlusion:
    """A grid of 20 px cells over the frame, with what covers the mouth switched on."""
    grid = np.zeros((16, 16), np.uint8)
    mouth = points[[13, 14], :2].mean(axis=0) / 20
    grid[int(mouth[1]) - 1 : int(mouth[1]) + 2, int(mouth[0]) - 1 : int(mouth[0]) + 2] = 255
    return Occlusion(grid, np.array([[1 / 20, 0, 0], [0, 1 / 20, 0]], np.float32), 0.1)


def test_what_is_in_front_is_neither_masked_nor_drawn_over() -> None:
    points = landmarks(Looks(roll_deg=20))
    there = crop_from_frame(points, SIZE)
    frame = photograph(points, albedo(MIDDLE_SKIN))
    cut, here = crop(frame, there, SIZE), moved(points, there)
    covered = covered_on_crop(covered_square(points, there), there, SIZE)
    assert covered is not None
    region = face_region(here, SIZE, covered)
    mouth = np.round(here[[13, 14], :2].mean(axis=0)).astype(int)
    assert region.mask_SS[mouth[1], mouth[0]] == 0
    assert region.alpha_SS[mouth[1], mouth[0]] == 0
    nose = np.round(here[6, :2]).astype(int)
    assert region.alpha_SS[nose[1], nose[0]] == 1
    shown = masked_planes(cut, region.mask_SS, fill_colour(cut, region.mask_SS, "mean"))
    own = planes(cut)
    np.testing.assert_allclose(shown[0, :, mouth[1], mouth[0]], own[0, :, mouth[1], mouth[0]], atol=1e-6)


def test_nothing_in_front_is_none() -> None:
    there = crop_from_frame(landmarks(Looks()), SIZE)
    free = Occlusion(np.zeros((80, 80), np.uint8), np.zeros((2, 3), np.float32), 0.0)
    assert covered_on_crop(None, there, SIZE) is None
    assert covered_on_crop(free, there, SIZE) is None


@pytest.mark.parametrize("fill", ["mean", "grey"])
def test_no_pixel_of_the_face_is_left_in_the_masked_crop(fill: str) -> None:
    """Two crops that differ only inside the region, but for its mean, are the same once it is masked."""
    points = landmarks(Looks(yaw_deg=-30))
    there = crop_from_frame(points, SIZE)
    cut = crop(photograph(points, albedo(MIDDLE_SKIN)), there, SIZE)
    mask = face_region(moved(points, there), SIZE).mask_SS
    colour = fill_colour(cut, mask, "mean" if fill == "mean" else "grey")
    noise = np.random.default_rng(0).integers(0, 256, cut.shape, np.uint8)
    other = np.where(mask[..., None] == 1, noise, cut).astype(np.uint8)
    np.testing.assert_array_equal(masked_planes(cut, mask, colour), masked_planes(other, mask, colour))
    if fill == "mean":
        inside = cut[mask == 1].mean(axis=0)
        np.testing.assert_allclose(colour, inside, atol=1.0)
    else:
        assert (colour == 127.5).all()


def test_a_face_that_is_wholly_covered_has_no_mean_and_stays_as_it_is() -> None:
    cut = np.full((64, 64, 3), 200, np.uint8)
    region = face_region(on_crop(Looks(), 64), 64, np.ones((64, 64), np.float32))
    assert region.mask_SS.max() == 0
    colour = fill_colour(cut, region.mask_SS, "mean")
    np.testing.assert_array_equal(masked_planes(cut, region.mask_SS, colour), planes(cut))


def test_planes_are_all_of_the_range() -> None:
    ramp = np.arange(256, dtype=np.uint8)
    picture = np.repeat(np.tile(ramp, (256, 1))[..., None], 3, axis=2)
    out = planes(np.ascontiguousarray(picture))
    assert out.dtype == np.float32
    assert out.shape == (1, 3, 256, 256)
    np.testing.assert_allclose(out[0, 1, 7], ramp / 127.5 - 1, atol=1e-6)
    assert out.min() == -1
    assert out.max() == pytest.approx(1)


@pytest.mark.parametrize("side_px", [64, 128, 224, 256])
def test_a_small_picture_is_where_the_large_one_was(side_px: int) -> None:
    y, x = np.mgrid[:256, :256]
    picture = np.ascontiguousarray(np.stack([x, y, np.full_like(x, 9)], axis=2).astype(np.uint8))
    small = small_picture(picture, side_px)
    assert small.shape == (side_px, side_px, 3)
    ticks = (np.arange(side_px) + 0.5) * 256 / side_px - 0.5
    np.testing.assert_allclose(small[side_px // 2, :, 0], ticks, atol=1.01)
    np.testing.assert_allclose(small[:, side_px // 2, 1], ticks, atol=1.01)
