"""The pixel kernels against scipy and Pillow, and at the sizes where indices go wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from engines.pixels import gaussian_blur, lay_over, resize_area, resize_bilinear, rgb_to_yuv420, warp_affine, warp_area
from engines.types import Floats, Rgb

SIDES = st.integers(1, 23)
IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def noise(height: int, width: int, key: int = 0) -> Rgb:
    return np.random.default_rng(key).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height: int, width: int) -> Rgb:
    """A picture that linear interpolation follows closely."""
    blurred = ndimage.gaussian_filter(noise(height, width).astype(float), (3, 3, 0))
    return np.asarray((blurred - blurred.min()) / np.ptp(blurred) * 255, np.uint8)


@settings(max_examples=60)
@given(SIDES, SIDES, st.integers(1, 9), st.integers(1, 9))
def test_shrinking_averages_every_pixel_exactly_once(rows: int, columns: int, height: int, width: int) -> None:
    height, width = min(height, rows), min(width, columns)
    source = noise(rows, columns, rows * 31 + columns)
    small = resize_area(source, height, width).astype(float)
    row_edges = np.arange(height + 1) * rows // height
    column_edges = np.arange(width + 1) * columns // width
    area = np.diff(row_edges)[:, None] * np.diff(column_edges)[None, :]
    assert area.sum() == rows * columns
    kept = (small * area[..., None]).sum(axis=(0, 1)) / area.sum()
    np.testing.assert_allclose(kept, source.mean(axis=(0, 1)), atol=0.5)


def test_shrinking_by_whole_numbers_is_pillow_s_box_filter() -> None:
    source = noise(48, 60)
    expected = np.array(Image.fromarray(source).reduce((5, 4)), int)
    assert np.abs(resize_area(source, 12, 12).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 17), (13, 1), (13, 17)])
def test_a_resize_to_the_same_size_changes_nothing(height: int, width: int) -> None:
    source = noise(height, width)
    np.testing.assert_array_equal(resize_area(source, height, width), source)
    np.testing.assert_array_equal(resize_bilinear(source, height, width), source)


@pytest.mark.parametrize(("height", "width"), [(37, 53), (80, 31), (23, 23)])
def test_enlarging_is_pillow_s_bilinear(height: int, width: int) -> None:
    source = noise(21, 19)
    size = (max(width, 19), max(height, 21))
    expected = np.array(Image.fromarray(source).resize(size, Image.Resampling.BILINEAR), int)
    assert np.abs(resize_bilinear(source, size[1], size[0]).astype(int) - expected).max() <= 1


@settings(max_examples=40)
@given(SIDES, SIDES, SIDES, SIDES)
def test_resizing_never_leaves_the_range_of_the_source(rows: int, columns: int, height: int, width: int) -> None:
    source = (noise(rows, columns, columns) // 2 + 60).astype(np.uint8)
    for resized in (resize_area(source, height, width), resize_bilinear(source, height, width)):
        assert resized.shape == (height, width, 3)
        assert resized.dtype == np.uint8
        assert source.min() <= resized.min() <= resized.max() <= source.max()


def test_full_white_stays_white() -> None:
    white = np.full((7, 5, 3), 255, np.uint8)
    assert resize_bilinear(white, 19, 23).min() == 255
    assert resize_area(white, 3, 2).min() == 255
    assert warp_affine(white, np.array([[0.3, 0.1, 1], [-0.2, 0.7, 2]], np.float32), 20, 20).min() == 255


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (31, 17)])
def test_the_identity_warp_is_exact(height: int, width: int) -> None:
    source = noise(height, width)
    np.testing.assert_array_equal(warp_affine(source, IDENTITY, height, width), source)


@pytest.mark.parametrize(
    "source_from_out",
    [
        [[1, 0, 3], [0, 1, -2]],
        [[1, 0, 0.37], [0, 1, 0.81]],
        [[0.8, -0.45, 9], [0.45, 0.8, -4]],
        [[3, 0, -7], [0, 2, 5]],
    ],
)
def test_warps_like_scipy_with_repeated_edges(source_from_out: list[list[float]]) -> None:
    source = smooth(40, 33)
    affine = np.array(source_from_out, np.float32)
    x, y = np.meshgrid(np.arange(29), np.arange(35))
    at = np.stack([x, y, np.ones_like(x)], axis=-1) @ affine.T
    expected = np.stack(
        [ndimage.map_coordinates(source[..., c].astype(float), [at[..., 1], at[..., 0]], order=1, mode="nearest")
         for c in range(3)], axis=-1,
    )  # fmt: skip
    assert np.abs(warp_affine(source, affine, 35, 29) - expected).max() <= 0.51


@given(st.integers(-30, 30), st.integers(-30, 30))
def test_a_warp_by_whole_pixels_moves_them(dx: int, dy: int) -> None:
    source = noise(12, 11)
    warped = warp_affine(source, np.array([[1, 0, dx], [0, 1, dy]], np.float32), 12, 11)
    rows, columns = np.clip(np.arange(12) + dy, 0, 11), np.clip(np.arange(11) + dx, 0, 10)
    np.testing.assert_array_equal(warped, source[rows][:, columns])


@pytest.mark.parametrize("sigma_px", [0.3, 1.0, 2.7, 6.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (5, 3), (41, 37)])
def test_blurs_like_scipy_with_repeated_edges(sigma_px: float, shape: tuple[int, int]) -> None:
    plane: Floats = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    reach = max(int(3 * sigma_px + 0.5), 1)
    expected = ndimage.gaussian_filter(plane, sigma_px, mode="nearest", radius=reach)
    np.testing.assert_allclose(gaussian_blur(plane, sigma_px), expected, atol=1e-5)


@settings(max_examples=80)
@given(st.integers(-14, 14), st.integers(-14, 14), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_a_patch_laid_over_is_cut_at_every_edge(left: int, top: int, height: int, width: int, key: int) -> None:
    """The canvas lies in the middle of a longer memory, so that a write before or behind it would be seen."""
    memory = np.random.default_rng(key).integers(0, 256, 4096, np.uint8)
    before = memory.copy()
    canvas = memory[1000 : 1000 + 10 * 8 * 3].reshape(10, 8, 3)
    patch = noise(height, width, key)
    alpha = np.random.default_rng(key + 1).integers(0, 256, (height, width), np.uint8)
    expected = before[1000 : 1000 + 240].reshape(10, 8, 3).astype(int)
    for y in range(height):
        for x in range(width):
            if 0 <= top + y < 10 and 0 <= left + x < 8:
                share = int(alpha[y, x]) / 255
                under = expected[top + y, left + x]
                expected[top + y, left + x] = np.floor(under + share * (patch[y, x].astype(int) - under) + 0.5)
    lay_over(canvas, patch, alpha, left, top)
    assert np.abs(canvas.astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(memory[:1000], before[:1000])
    np.testing.assert_array_equal(memory[1240:], before[1240:])


def test_opaque_is_exact_and_clear_leaves_all_as_it_was() -> None:
    canvas, patch = noise(9, 9), noise(5, 4, 1)
    before = canvas.copy()
    lay_over(canvas, patch, np.zeros((5, 4), np.uint8), 2, 3)
    np.testing.assert_array_equal(canvas, before)
    lay_over(canvas, patch, np.full((5, 4), 255, np.uint8), 2, 3)
    np.testing.assert_array_equal(canvas[3:8, 2:6], patch)
    canvas[3:8, 2:6] = before[3:8, 2:6]
    np.testing.assert_array_equal(canvas, before)


@settings(max_examples=60)
@given(SIDES, SIDES, st.integers(1, 12), st.integers(1, 4), st.floats(-40, 40), st.floats(-0.8, 0.8))
def test_warping_onto_fewer_pixels_is_warping_and_shrinking(
    rows: int, columns: int, size: int, samples: int, shift: float, turn: float
) -> None:
    source = noise(rows, columns, rows * 31 + columns)
    there = np.array([[0.7, -turn, shift], [turn, 1.1, shift / 2]], np.float32)
    at_once = warp_area(source, there, size, samples).astype(int)
    by_steps = resize_area(warp_affine(source, there, size * samples, size * samples), size, size)
    assert np.abs(at_once - by_steps).max() <= 1


def test_4_2_0_is_what_the_standard_says() -> None:
    """BT.601 of pictures of one colour, and round what a decoder makes of it."""
    generator = np.random.default_rng(3)
    for rgb in [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255), *generator.integers(0, 256, (50, 3))]:
        picture = np.full((4, 6, 3), rgb, np.uint8)
        y, u, v = np.zeros((4, 6), np.uint8), np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint8)
        rgb_to_yuv420(picture, y, u, v)
        red, green, blue = (float(value) / 255 for value in rgb)
        wanted_y = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
        wanted_u = 128 - 37.797 * red - 74.203 * green + 112.0 * blue
        wanted_v = 128 + 112.0 * red - 93.786 * green - 18.214 * blue
        for plane, wanted in ((y, wanted_y), (u, wanted_u), (v, wanted_v)):
            assert abs(plane.astype(float) - wanted).max() <= 0.51


def test_4_2_0_takes_the_colour_of_four_pixels_together() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0, 0] = 200, 40, 90
    mean = np.full((2, 2, 3), 0, np.uint8)
    mean[:] = 50, 10, 22
    planes = []
    for one in (picture, mean):
        y, u, v = np.zeros((2, 2), np.uint8), np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8)
        rgb_to_yuv420(one, y, u, v)
        planes.append((int(u[0, 0]), int(v[0, 0])))
    assert abs(planes[0][0] - planes[1][0]) <= 1
    assert abs(planes[0][1] - planes[1][1]) <= 1
