"""The offline rasteriser: what is nearer hides what is farther, peeling goes on behind it, textures stand upright."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distill.colour import lab_from_linear, linear
from examples.persona_assets import Assets
from examples.persona_skin import rest_map, skin_from_lab
from examples.soft_render import (
    F32,
    I32,
    Camera,
    bumped,
    interpolate,
    raster,
    sample,
    smooth_normals,
    tone_map,
)

SIZE = 16
SOLID = np.ones((1, 1), np.float32)


def square(depth_cm: float) -> F32:
    """Corners of a square over the middle of the picture, as screen coordinates."""
    return np.array([[x, y, 1 / depth_cm] for x, y in ((3, 3), (12, 3), (12, 12), (3, 12))], np.float32)


def draw(screen: F32, tri: I32, behind: F32 | None = None) -> tuple[F32, I32]:
    depth, ids = np.zeros((SIZE, SIZE), np.float32), np.full((SIZE, SIZE), -1, np.int32)
    limit = np.full((SIZE, SIZE), np.float32(1e9)) if behind is None else behind
    raster(screen, tri, np.zeros((len(tri), 3, 2), np.float32), SOLID, 0.0, limit, depth, ids)
    return depth, ids


BOTH = np.concatenate([square(10), square(20)])
TRIANGLES = np.array([[4, 5, 6], [4, 6, 7], [0, 1, 2], [0, 2, 3]], np.int32)  # the farther square first


def test_the_nearer_triangle_is_kept_whatever_the_order() -> None:
    for order in (TRIANGLES, TRIANGLES[::-1].copy()):
        depth, ids = draw(BOTH, order)
        assert (ids >= 0).sum() == 100
        assert depth.max() == depth[ids >= 0].min() == pytest.approx(0.1)


def test_peeling_finds_the_next_layer_and_then_nothing() -> None:
    first, ids = draw(BOTH, TRIANGLES)
    second, again = draw(BOTH, TRIANGLES, np.where(ids >= 0, first, 0).astype(np.float32))
    assert (again >= 0).sum() == 100
    assert second.max() == pytest.approx(0.05)
    _, none = draw(BOTH, TRIANGLES, np.where(again >= 0, second, 0).astype(np.float32))
    assert (none >= 0).sum() == 0


def test_holes_in_the_alpha_are_not_drawn() -> None:
    alpha = np.array([[1, 0], [1, 0]], np.float32)
    uv = np.array([[[0, 1], [1, 1], [1, 0]], [[0, 1], [1, 0], [0, 0]]], np.float32)
    depth, ids = np.zeros((SIZE, SIZE), np.float32), np.full((SIZE, SIZE), -1, np.int32)
    limit = np.full((SIZE, SIZE), np.float32(1e9))
    raster(square(10), np.array([[0, 1, 2], [0, 2, 3]], np.int32), uv, alpha, 0.5, limit, depth, ids)
    assert (ids[:, :7] >= 0).any()
    assert not (ids[:, 9:] >= 0).any()


def test_values_are_interpolated_in_space_not_on_the_screen() -> None:
    """Half way across the picture of a slanted edge is nearer to its near end."""
    screen = np.array([[0, 0, 1 / 10], [14, 0, 1 / 30], [0, 14, 1 / 10]], np.float32)
    values = np.array([[0], [1], [0]], np.float32)
    out = np.empty((1, 3), np.float32)
    at = (np.zeros(1, np.int32), np.full(1, 7, np.int32), np.zeros(1, np.int32))
    interpolate(screen, np.array([[0, 1, 2]], np.int32), np.zeros((1, 3, 2), np.float32), values, *at, out)
    assert out[0, 0] == pytest.approx(0.25, abs=1e-5)


def test_textures_stand_upright() -> None:
    texture = np.zeros((8, 8, 1), np.float32)
    texture[0] = 1
    assert sample(texture, np.array([[0.5, 0.94], [0.5, 0.06]], np.float32))[:, 0].tolist() == pytest.approx([1, 0])


def test_colour_spaces_have_inverses() -> None:
    rgb = np.random.default_rng(3).uniform(0.01, 0.95, (50, 3)).astype(np.float32)
    np.testing.assert_allclose(skin_from_lab(lab_from_linear(rgb)), rgb, atol=2e-3)
    low = rgb * 0.6
    np.testing.assert_allclose(linear(tone_map(low)), low, atol=1e-4)


def test_the_camera_sees_up_as_up_and_near_as_large() -> None:
    camera = Camera(100, 20, 0, SIZE)
    points = np.array([[0, 5, 0], [0, 5, 50], [0, -5, 0]], np.float32)
    screen = camera.screen(points)
    middle = SIZE / 2 - 0.5
    assert screen[1, 1] < screen[0, 1] < middle < screen[2, 1]
    assert screen[1, 2] > screen[0, 2]


def test_normals_point_out_and_bumps_tilt_them_away_from_the_rise() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    normals = smooth_normals(points, np.array([[0, 1, 2], [0, 2, 3]], np.int32), np.arange(4, dtype=np.int32))
    np.testing.assert_allclose(normals, np.tile([0, 0, 1], (4, 1)), atol=1e-6)
    columns, rows = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    position = np.stack([columns, -rows, np.zeros_like(rows)], axis=2).astype(np.float32)
    flat = np.zeros((SIZE, SIZE, 3), np.float32)
    flat[..., 2] = 1
    tilted = bumped(flat, position, (0.2 * columns).astype(np.float32))
    assert tilted[8, 8, 0] < -0.1
    assert abs(tilted[8, 8, 1]) < 1e-3


def test_every_texel_of_the_skin_knows_its_place(shared_data: Path) -> None:
    places = rest_map(Assets(shared_data), 128)
    known = places[..., 0] > -90
    assert 0.6 < known.mean() < 1.0
    assert abs(float(places[known][:, 0].mean())) < 0.5
    assert np.ptp(places[known][:, 1]) > 25
