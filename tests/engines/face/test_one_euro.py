"""The One-Euro filter: what holds for every signal, and what it must do for a face."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.face import regions
from engines.face.mesh import face_model
from engines.face.one_euro import (
    LIDS,
    PLACE,
    SHAPE_PARTS,
    FaceFilter,
    OneEuro,
    blend,
    fit_similarity,
    rotation_matrix,
    rotation_vector,
)
from engines.types import LANDMARKS, Floats

FPS = 30.0
angles = st.tuples(*[st.floats(-1.7, 1.7)] * 3)


def a_face(width_px: float = 150.0) -> Floats:
    """The mean face's landmarks in a picture, irises on the eyes."""
    skin = face_model().mean_S3
    eyes = np.concatenate((np.repeat(skin[[159]], 5, 0), np.repeat(skin[[386]], 5, 0)))
    points = np.concatenate((skin, eyes)) * np.float32(width_px / 15.0)
    face: Floats = (points + np.array([320, 240, 0])).astype(np.float32)
    return face


def noisy(face: Floats, count: int, deviation_px: float, seed: int = 1) -> list[Floats]:
    random = np.random.default_rng(seed)
    return [(face + random.normal(0, deviation_px, face.shape)).astype(np.float32) for _ in range(count)]


def spread(faces: list[Floats], points: regions.Indices | slice = slice(None)) -> float:
    return float(np.sqrt(np.array(faces)[:, points, :2].var(axis=0).sum(axis=-1).mean()))


@given(angles)
def test_a_rotation_vector_makes_its_matrix_again(vector: tuple[float, float, float]) -> None:
    matrix = rotation_matrix(np.array(vector, np.float32))
    assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-5)
    if math.hypot(*vector) < math.pi - 0.05:  # half a turn has two vectors
        assert rotation_vector(matrix) == pytest.approx(np.array(vector), abs=2e-3)


@given(angles, st.floats(0.3, 3.0), st.floats(-200, 200), st.floats(-200, 200))
def test_the_similarity_of_a_moved_face_is_found(
    vector: tuple[float, float, float], scale: float, right_px: float, down_px: float
) -> None:
    face = a_face()
    centre, _, radius = fit_similarity(face, face)
    turn = rotation_matrix(np.array(vector, np.float32))
    moved = (face - centre) @ turn.T * np.float32(scale) + centre + np.array([right_px, down_px, 0], np.float32)
    found_centre, found_turn, found_radius = fit_similarity(face, moved.astype(np.float32))
    assert found_centre[:2] == pytest.approx(centre[:2] + np.array((right_px, down_px)), abs=0.05)
    assert found_turn == pytest.approx(turn, abs=1e-3)
    assert found_radius == pytest.approx(radius * scale, rel=1e-3)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.floats(1e-3, 0.4))
def test_the_output_never_leaves_the_range_of_the_samples(samples: list[float], elapsed_s: float) -> None:
    one = OneEuro(PLACE)
    for count, sample in enumerate(samples, start=1):
        value = float(one.step(np.array([sample], np.float32), elapsed_s)[0])
        assert min(samples[:count]) - 1e-3 <= value <= max(samples[:count]) + 1e-3


@given(st.floats(0.01, 100.0), st.floats(1e-4, 1.0))
def test_the_share_of_the_new_value_grows_with_cutoff_and_time(cutoff_hz: float, elapsed_s: float) -> None:
    share = blend(cutoff_hz, elapsed_s)
    assert 0.0 < share < 1.0
    assert blend(cutoff_hz * 2, elapsed_s) > share
    assert blend(cutoff_hz, elapsed_s * 2) > share


def test_every_landmark_is_filtered_exactly_once() -> None:
    indices = np.concatenate([index for index, _ in SHAPE_PARTS])
    assert sorted(indices.tolist()) == list(range(LANDMARKS))


def test_a_face_that_does_not_move_stays_where_it_is() -> None:
    face, filtered = a_face(), FaceFilter()
    out = face
    for step in range(10):
        out = filtered.step(face, step / FPS)
    assert out == pytest.approx(face, abs=0.02)


@pytest.mark.parametrize("width_px", [60.0, 150.0, 400.0])
def test_noise_of_a_still_face_falls_below_a_third_whatever_its_size(width_px: float) -> None:
    faces, filtered = noisy(a_face(width_px), 90, 0.4), FaceFilter()
    out = [filtered.step(face, step / FPS) for step, face in enumerate(faces)]
    assert spread(out[15:]) <= spread(faces[15:]) / 3


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.005, 0.12), min_size=60, max_size=60), st.integers(0, 9))
def test_irregular_times_do_not_disturb_it(gaps_s: list[float], seed: int) -> None:
    faces, filtered = noisy(a_face(), len(gaps_s), 0.4, seed), FaceFilter()
    times = np.cumsum(gaps_s)
    out = [filtered.step(face, float(at)) for face, at in zip(faces, times, strict=True)]
    assert spread(out[15:]) <= spread(faces[15:]) / 2


def test_a_moving_face_is_followed_with_less_than_a_frame_of_lag() -> None:
    face, filtered = a_face(), FaceFilter()
    velocity_px = np.array([9.0, 3.0, 0.0], np.float32)  # a frame: a face's width in half a second
    random = np.random.default_rng(2)
    out = face
    for step in range(30):
        moved = face + velocity_px * np.float32(max(step - 10, 0)) + random.normal(0, 0.3, face.shape)
        out = filtered.step(moved.astype(np.float32), step / FPS)
    behind = (face + velocity_px * np.float32(19) - out).mean(axis=0)
    assert np.linalg.norm(behind[:2]) < np.linalg.norm(velocity_px)


def test_slow_drift_is_followed_too() -> None:
    face, filtered = a_face(), FaceFilter()
    out = face
    for step, sample in enumerate(noisy(face, 120, 0.4)):
        moved = sample + np.array([0.2 * step, 0, 0], np.float32)  # 6 px a second, below the noise's own speed
        out = filtered.step(moved, step / FPS)
    assert abs(float((out - face)[:, 0].mean()) - 0.2 * 119) < 1.0


def test_a_blink_is_not_smeared() -> None:
    """Lids that close within 2 frames and open within 3: at most a tenth of the way is lost, and not a frame."""
    closing = [0.0, 0.0, 0.5, 1.0, 1.0, 0.7, 0.3, 0.0, 0.0, 0.0]
    face, filtered = a_face(), FaceFilter()
    upper, lower = 159, 145
    gap = face[lower, 1] - face[upper, 1]
    frames = noisy(face, 40 + len(closing), 0.3)
    seen = []
    for step, sample in enumerate(frames):
        closed = closing[step - 40] if step >= 40 else 0.0
        sample[regions.RIGHT_LIDS, 1] += (closed * (face[lower, 1] - face[regions.RIGHT_LIDS, 1])).astype(np.float32)
        out = filtered.step(sample, step / FPS)
        seen.append(float(out[lower, 1] - out[upper, 1]))
    rest = float(np.mean(seen[30:40]))
    assert min(seen[40:]) < rest - 0.8 * gap
    assert int(np.argmin(seen[40:])) in (3, 4)
    assert LIDS.per_speed > PLACE.per_speed


def test_a_gap_starts_afresh_and_a_repeated_time_changes_nothing() -> None:
    face, filtered = a_face(), FaceFilter()
    filtered.step(face, 1.0)
    here = filtered.step(face, 1.0 + 1 / FPS)
    elsewhere = face + np.float32(100)
    assert filtered.step(elsewhere, 1.0 + 1 / FPS) == pytest.approx(here)
    assert filtered.step(elsewhere, 0.5) == pytest.approx(here)
    assert filtered.step(elsewhere, 3.0) == pytest.approx(elsewhere)


def test_two_filters_share_nothing() -> None:
    first, second, alone = FaceFilter(), FaceFilter(), FaceFilter()
    face = a_face()
    for step, sample in enumerate(noisy(face, 20, 1.0)):
        a = first.step(sample, step / FPS)
        second.step(sample + np.float32(50 + step), step / FPS)
        b = alone.step(sample, step / FPS)
        assert np.array_equal(a, b)
