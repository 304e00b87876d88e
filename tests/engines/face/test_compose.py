"""Laying the face into the picture: what it may touch, what it must leave."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.face.compose import (
    EYE,
    MOUTH,
    RING,
    SHIFT_X,
    SHIFT_Y,
    SKIN,
    Patch,
    detail_octaves,
    face_patch,
    lay_face,
    masked,
    patch_means,
    plane_at,
    rgb_at,
)
from engines.face.mesh import face_model, vertex_normals
from engines.face.skin_tone import unknown
from engines.types import Floats, Mask, Rgb
from tests.engines.face.heads import MIDDLE_SKIN, Looks, albedo, landmarks, photograph, scene

EVEN_GRADE = np.array([MIDDLE_SKIN, (1, 1, 1)], np.float32)
NO_MASK, NO_GRID = np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.float32)
CLEAR = np.zeros((64, 64), np.uint8)


def patch_of(points: Floats, moved: Floats | None = None, size: tuple[int, int] = (280, 320)) -> Patch | None:
    moved = points if moved is None else moved
    normals = vertex_normals(moved[:468], face_model().triangles_T3)
    return face_patch(points, moved, normals, np.ones((468, 3), np.float32), 1500.0, *size)


def laid(
    frame: Rgb,
    patch: Patch,
    points: Floats,
    texture: Rgb,
    *,
    grade: Floats = EVEN_GRADE,
    hair: Mask = CLEAR,
    keep: Mask = NO_MASK,
    grid: Floats = NO_GRID,
    black: float = 0.0,
) -> Rgb:
    onto = frame.copy()
    irises = np.array([[*points[468, :2], 5], [*points[473, :2], 5]], np.float32)
    tint = np.ones(3, np.float32)
    lay_face(
        onto, frame, patch.values, patch.part, patch.left_px, patch.top_px, texture, black, grade, hair, keep, grid,
        irises, tint, 100.0, unknown(),
    )  # fmt: skip
    return onto


def solid(texture: Rgb, opacity: int = 255) -> Rgb:
    return np.concatenate([texture, np.full((*texture.shape[:2], 1), opacity, np.uint8)], axis=2)


def needed(patch: Patch | None) -> Patch:
    assert patch is not None
    return patch


def box(patch: Patch) -> tuple[slice, slice]:
    """Where the patch lies in the frame."""
    rows, columns = patch.part.shape
    return slice(patch.top_px, patch.top_px + rows), slice(patch.left_px, patch.left_px + columns)


@pytest.mark.parametrize("yaw_deg", [-60.0, 0.0, 40.0])
def test_a_patch_holds_skin_eyes_and_ring_without_a_gap(yaw_deg: float) -> None:
    points = landmarks(Looks(yaw_deg=yaw_deg))
    patch = needed(patch_of(points))
    assert {SKIN, EYE, RING} <= set(np.unique(patch.part)) <= {0, SKIN, EYE, MOUTH, RING}
    rows = np.flatnonzero((patch.part > 0).any(axis=1))
    for row in rows:
        columns = np.flatnonzero(patch.part[row])
        assert (np.diff(columns) == 1).mean() > 0.995, "a gap inside of the mesh"


@pytest.mark.parametrize("yaw_deg", [-35.0, 0.0, 20.0])
def test_the_surroundings_of_an_unmoved_face_are_not_bent_by_perspective(yaw_deg: float) -> None:
    points = landmarks(Looks(size_px=220, yaw_deg=yaw_deg))
    patch = needed(patch_of(points))
    shift = patch.values[..., SHIFT_X : SHIFT_Y + 1][patch.part > 0]
    assert np.abs(shift).max() < 1e-3


@pytest.mark.parametrize("x_px", [-900.0, 1400.0])
def test_a_face_outside_of_the_picture_gives_no_patch(x_px: float) -> None:
    assert patch_of(landmarks(Looks(x_px=x_px))) is None


@pytest.mark.parametrize("middle", [(0, 140), (320, 140), (160, 0), (160, 280), (0, 0)])
def test_a_face_over_the_edge_is_cut_at_the_edge(middle: tuple[float, float]) -> None:
    patch = needed(patch_of(landmarks(Looks(x_px=middle[0], y_px=middle[1]))))
    assert patch.left_px >= 0
    assert patch.top_px >= 0
    assert patch.left_px + patch.part.shape[1] <= 320
    assert patch.top_px + patch.part.shape[0] <= 280


def test_a_clear_texture_on_an_unmoved_face_changes_nothing() -> None:
    """No opacity, no grade, no shift: what is sampled is what was there."""
    points = landmarks(Looks(yaw_deg=12))
    frame = photograph(points, albedo(MIDDLE_SKIN))
    patch = needed(patch_of(points))
    onto = laid(frame, patch, points, solid(albedo(MIDDLE_SKIN), 0))
    apart = np.abs(onto.astype(int) - frame)
    part, place = patch.part, box(patch)
    assert apart[place][(part == SKIN) | (part == RING)].max() <= 1
    apart[place] = 0
    assert apart.max() == 0


def test_an_opaque_texture_is_what_is_shown() -> None:
    points = landmarks(Looks())
    patch = needed(patch_of(points))
    green = np.zeros((512, 512, 3), np.uint8)
    green[..., 1] = 180
    onto = laid(scene(), patch, points, solid(green))
    drawn = onto[box(patch)]
    front = (patch.part == SKIN) & (patch.values[..., -1] > 0.999)
    assert front.mean() > 0.1
    np.testing.assert_array_equal(np.unique(drawn[front], axis=0), [[0, 180, 0]])


def test_the_driver_s_hair_stays_before_the_face() -> None:
    points = landmarks(Looks())
    patch = needed(patch_of(points))
    frame, texture = scene(), solid(albedo(MIDDLE_SKIN))
    hair = np.zeros((64, 64), np.uint8)
    hair[:, :20] = 255
    onto, bare = laid(frame, patch, points, texture, hair=hair), laid(frame, patch, points, texture)
    place = box(patch)
    haired = (patch.part == SKIN) & (patch.values[..., 0] < 18 / 63)
    skin = (patch.part == SKIN) & (patch.values[..., 0] > 21 / 63)
    assert haired.sum() > 100
    assert np.abs(onto[place].astype(int) - frame[place])[haired].max() <= 1
    np.testing.assert_array_equal(onto[place][skin], bare[place][skin])


@pytest.mark.parametrize("share", [0.5, 1.6])
def test_what_is_in_front_stays_whatever_part_of_the_face_is_behind(share: float) -> None:
    """A hand over eyes, mouth, skin and surroundings keeps its colour, even where the face around it is regraded."""
    points = landmarks(Looks())
    patch = needed(patch_of(points))
    frame = photograph(points, albedo(MIDDLE_SKIN))
    frame[60:240, 90:170] = np.array(MIDDLE_SKIN) * 0.9  # a hand is skin, too: no tone tells it from the face
    keep = np.zeros((280, 320), np.uint8)
    keep[60:240, 90:170] = 255
    grid = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    grade = np.array([MIDDLE_SKIN, (share, share, share)], np.float32)
    onto = laid(frame, patch, points, solid(albedo(MIDDLE_SKIN)), keep=keep, grid=grid, grade=grade)
    hand = np.s_[62:238, 92:168]
    parts = np.zeros(frame.shape[:2], np.uint8)
    parts[box(patch)] = patch.part
    for kind in (SKIN, EYE, MOUTH, RING):
        there = parts[hand] == kind
        assert there.any()
        assert np.abs(onto[hand].astype(int) - frame[hand])[there].max() <= 2, f"part {kind}"


def test_nothing_is_laid_darker_than_the_haze_allows() -> None:
    points = landmarks(Looks())
    patch = needed(patch_of(points))
    dark = np.zeros((512, 512, 3), np.uint8)
    onto = laid(np.full((280, 320, 3), 120, np.uint8), patch, points, solid(dark), black=30.0)
    drawn = onto[box(patch)]
    front = (patch.part == SKIN) & (patch.values[..., -1] > 0.999)
    np.testing.assert_array_equal(np.unique(drawn[front]), [30])


def test_skin_around_the_face_takes_the_tone_and_the_wall_does_not() -> None:
    points = landmarks(Looks())
    patch = needed(patch_of(points))
    frame = np.full((280, 320, 3), (96, 108, 122), np.uint8)
    frame[:, 160:] = MIDDLE_SKIN  # neck and ears to the right, wall to the left
    grade = np.array([MIDDLE_SKIN, (0.6, 0.6, 0.6)], np.float32)
    onto = laid(frame, patch, points, solid(albedo(MIDDLE_SKIN)), grade=grade)
    place = box(patch)
    ring, near = patch.part == RING, patch.values[..., -2] > 0.3
    x = patch.left_px + np.arange(patch.part.shape[1])[None, :] + np.zeros(patch.part.shape)
    ratio = onto[place].astype(float).mean(axis=2) / frame[place].mean(axis=2)
    assert np.median(ratio[ring & near & (x > 165)]) < 0.9
    assert np.abs(ratio[ring & (x < 155)] - 1).max() < 0.03


@given(st.floats(-3, 40), st.floats(-3, 30))
def test_a_sample_between_pixels_is_linear_and_never_outside(x: float, y: float) -> None:
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(32)[None, :] * 8, np.arange(24)[:, None] * 10
    out = rgb_at(picture, np.float32(x), np.float32(y))
    assert plane_at(picture, 1, np.float32(x), np.float32(y)) == pytest.approx(out[1], abs=1e-4)
    np.testing.assert_allclose(out, [min(max(x, 0), 31) * 8, min(max(y, 0), 23) * 10, 0], atol=0.02)


@given(st.floats(-3, 12), st.floats(-3, 12))
def test_a_mask_is_nothing_outside_of_its_grid(x: float, y: float) -> None:
    full = np.full((8, 9), 255, np.uint8)
    inside = 0 <= x < 8 and 0 <= y < 7
    assert masked(full, x, y) == pytest.approx(1.0 if inside else 0.0, abs=1e-6)


def test_means_around_points_are_those_of_the_pixels_and_of_none_outside() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    points = np.array([[10, 8], [0, 0], [29, 19], [12.4, 5.6], [-50, 4]], np.float32)
    got = patch_means(picture, points, 2)
    np.testing.assert_allclose(got[0], picture[6:11, 8:13].mean(axis=(0, 1)), atol=1e-3)
    np.testing.assert_allclose(got[1], picture[:3, :3].mean(axis=(0, 1)), atol=1e-3)
    np.testing.assert_allclose(got[2], picture[17:, 27:].mean(axis=(0, 1)), atol=1e-3)
    np.testing.assert_allclose(got[3], picture[4:9, 10:15].mean(axis=(0, 1)), atol=1e-3)
    assert np.isfinite(got).all()


def test_a_sharper_picture_has_more_detail() -> None:
    points = landmarks(Looks())
    patch = needed(patch_of(points))
    frame = photograph(points, albedo(MIDDLE_SKIN))
    noisy = np.clip(frame + np.random.default_rng(0).normal(0, 6, frame.shape), 0, 255).astype(np.uint8)
    assert detail_octaves(frame, frame, patch) == pytest.approx(0)
    assert detail_octaves(frame, noisy, patch) > 0.5
    assert detail_octaves(noisy, frame, patch) < -0.5
