"""The rasteriser against what geometry says: perspective, depth, winding, edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from engines.face.rasterise import Indices, rasterise
from engines.types import Floats

FAR_PX = 1e6
ONE = np.ones(1, np.uint8)
FRONT = np.array([[0, 1, 2]], np.int32)
# Negative winding in picture axes (y down): the first corner, then down, then right.
CORNERS = np.array([[10, 10, 0], [10, 50, 0], [50, 10, 0]], np.float32)


def parts(triangles: Indices) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.ones(len(triangles), np.uint8)


def facing(points: Floats, triangles: Indices) -> Indices:
    """The triangles, each wound so that it faces the camera."""
    a, b, c = (points[triangles[:, corner], :2] for corner in range(3))
    positive = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0] > 0
    return np.where(positive[:, None], triangles[:, ::-1], triangles).astype(np.int32)


def test_a_slanted_square_is_textured_in_perspective() -> None:
    """Every pixel's texture coordinate is where its ray meets the plane of the square."""
    eye_px = 120.0
    right, down = np.array([0.6, 0.1, 0.79]), np.array([-0.15, 0.97, 0.2])
    middle = np.array([-8.0, 5.0, 30.0])
    uv = np.array([[0, 0], [0, 1], [1, 1], [1, 0]], np.float32)
    corners = middle + 90 * ((uv[:, :1] - 0.5) * right + (uv[:, 1:] - 0.5) * down)
    shrink = eye_px / (eye_px + corners[:, 2])
    centre = np.array([60.0, 55.0])
    points = np.column_stack([corners[:, :2] * shrink[:, None] + centre, corners[:, 2]]).astype(np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    values, part = rasterise(points, triangles, np.ones(2, np.uint8), uv, eye_px, 110, 120)
    assert (part > 0).sum() > 1500
    for y, x in zip(*np.nonzero(part)):
        ray = np.array([x - centre[0], y - centre[1], eye_px])
        # eye + t * ray = middle + 90 * ((u - .5) * right + (v - .5) * down); the eye is at z = -eye_px
        system = np.column_stack([90 * right, 90 * down, -ray])
        u, v, _ = np.linalg.solve(system, np.array([0, 0, -eye_px]) - middle)
        np.testing.assert_allclose(values[y, x], [u + 0.5, v + 0.5], atol=2e-4)


def test_without_perspective_values_are_linear_on_the_screen() -> None:
    values, part = rasterise(CORNERS, FRONT, ONE, CORNERS[:, :2].copy(), FAR_PX, 60, 60)
    y, x = np.nonzero(part)
    np.testing.assert_allclose(values[y, x], np.column_stack([x, y]), atol=1e-3)


def test_what_is_near_hides_what_is_far_whatever_the_order() -> None:
    near, far = CORNERS.copy(), CORNERS + np.array([0, 0, 40], np.float32)
    points = np.concatenate([far, near]).astype(np.float32)
    values = np.repeat(np.array([[1.0], [2.0]], np.float32), 3, axis=0)
    for order in ([0, 1], [1, 0]):
        triangles = np.array([[0, 1, 2], [3, 4, 5]], np.int32)[order]
        seen, part = rasterise(points, triangles, np.array([7, 9], np.uint8)[order], values, 300.0, 60, 60)
        assert set(np.unique(part)) == {0, 9}
        np.testing.assert_allclose(seen[part > 0], 2.0, atol=1e-6)


def test_triangles_that_cross_hide_each_other_along_the_line() -> None:
    """One slants away to the right, the other to the left; they meet in the middle."""
    square = np.array([[0, 0], [0, 40], [40, 40], [40, 0]], np.float32)
    left, right = np.column_stack([square, square[:, 0]]), np.column_stack([square, 40 - square[:, 0]])
    points = np.concatenate([left, right]).astype(np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], np.int32)
    part_T = np.array([1, 1, 2, 2], np.uint8)
    _, part = rasterise(points, triangles, part_T, np.ones((8, 1), np.float32), FAR_PX, 41, 41)
    assert (part[:, :20] == 1).all()
    assert (part[:, 21:] == 2).all()


def test_back_faces_and_lines_are_left_out() -> None:
    behind = FRONT[:, ::-1].copy()
    line = np.array([[0, 0, 1]], np.int32)
    for triangles in (behind, line):
        _, part = rasterise(CORNERS, triangles, ONE, np.ones((3, 1), np.float32), FAR_PX, 60, 60)
        assert not part.any()


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(3, 400), st.sampled_from([0.0, 3.0, 60.0]))
def test_neighbours_leave_no_gap(key: int, count: int, depth_px: float) -> None:
    """A closed mesh over the whole picture, its vertices anywhere: every pixel is covered, and by what lies there."""
    random = np.random.default_rng(key)
    frame = np.array([[-9, -9], [-9, 57], [73, -9], [73, 57]])
    flat = np.concatenate([frame, random.uniform((-5, -5), (70, 53), (count, 2))])
    points = np.column_stack([flat, random.uniform(0, depth_px, len(flat))]).astype(np.float32)
    triangles = facing(points, Delaunay(flat).simplices.astype(np.int32))
    values, part = rasterise(points, triangles, parts(triangles), points[:, :2].copy(), FAR_PX, 48, 64)
    assert (part > 0).all()
    y, x = np.mgrid[:48, :64]
    np.testing.assert_allclose(values, np.stack([x, y], axis=-1), atol=0.02)


def test_neighbours_on_whole_pixels_leave_no_gap() -> None:
    """Vertices and edges that run exactly through pixel centres."""
    x, y = np.meshgrid(np.arange(0, 33, 4), np.arange(0, 33, 4))
    points = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)]).astype(np.float32)
    corner = (np.arange(8)[:, None] * 9 + np.arange(8)).ravel()
    triangles = np.concatenate(
        [np.column_stack([corner, corner + 9, corner + 1]), np.column_stack([corner + 1, corner + 9, corner + 10])]
    ).astype(np.int32)
    _, part = rasterise(points, triangles, parts(triangles), np.ones((81, 1), np.float32), FAR_PX, 33, 33)
    assert (part > 0).all()


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_a_shift_below_a_pixel_moves_the_result_by_as_much(dx: float, dy: float) -> None:
    shift = np.array([dx, dy, 0], np.float32)
    texture = CORNERS[:, :2].copy()
    before, part = rasterise(CORNERS, FRONT, ONE, texture, 200.0, 60, 60)
    after, moved_part = rasterise(CORNERS + shift, FRONT, ONE, texture, 200.0, 60, 60)
    both = (part > 0) & (moved_part > 0)
    assert both.sum() > 300
    np.testing.assert_allclose(before[both] - after[both], np.broadcast_to(shift[:2], (both.sum(), 2)), atol=1e-3)


def test_area_is_what_it_should_be() -> None:
    _, part = rasterise(CORNERS + np.float32(0.3), FRONT, ONE, np.ones((3, 1), np.float32), FAR_PX, 60, 60)
    assert part.sum() == pytest.approx(800, rel=0.06)


@pytest.mark.parametrize("shift", [(-60, 0), (0, -60), (60, 0), (0, 60), (1e5, -1e5)])
def test_off_the_picture_nothing_is_drawn(shift: tuple[float, float]) -> None:
    moved = CORNERS + np.array([*shift, 0], np.float32)
    _, part = rasterise(moved, FRONT, ONE, np.ones((3, 1), np.float32), 200.0, 60, 60)
    assert not part.any()


def test_half_off_the_picture_is_the_same_as_a_cut_out() -> None:
    values = np.array([[0.0], [1.0], [5.0]], np.float32)
    whole, part = rasterise(CORNERS, FRONT, ONE, values, 200.0, 60, 60)
    moved = CORNERS - np.array([25, 18, 0], np.float32)
    half, half_part = rasterise(moved, FRONT, ONE, values, 200.0, 60, 60)
    np.testing.assert_array_equal(half_part[:42, :35], part[18:, 25:])
    np.testing.assert_allclose(half[:42, :35], whole[18:, 25:], atol=1e-4)


def test_a_triangle_larger_than_the_picture_covers_it() -> None:
    huge = np.array([[-4e3, -4e3, 0], [-4e3, 9e3, 0], [9e3, -4e3, 0]], np.float32)
    _, part = rasterise(huge, FRONT, ONE, np.ones((3, 1), np.float32), 200.0, 33, 47)
    assert (part > 0).all()


def test_behind_the_eye_nothing_breaks() -> None:
    behind = CORNERS + np.array([0, 0, -500], np.float32)
    values, _ = rasterise(behind, FRONT, ONE, np.ones((3, 1), np.float32), 100.0, 60, 60)
    assert np.isfinite(values).all()
