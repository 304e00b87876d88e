"""Light on a face: found among outliers, taken off, laid on again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.face.relight import Light, fit_light, harmonics, shading, smoothed, solve_in_place
from engines.types import Floats

TERMS = st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=3)


def towards_camera(count: int, key: int = 0) -> Floats:
    """Unit normals of what a camera sees of a head."""
    normals = np.random.default_rng(key).normal(size=(count, 3))
    normals[:, 2] = -np.abs(normals[:, 2])
    return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True), np.float32)


def lit(normals: Floats, linear: list[float], mean: float = 4.8, quadratic: float = 0.0) -> Floats:
    """Log colour of plain skin in a light whose linear terms are given; the channels differ in strength."""
    terms = np.zeros((9, 3))
    terms[1:4] = np.array(linear)[:, None] * [1.0, 0.9, 0.8]
    terms[4:] = quadratic
    return (mean + np.array([0.2, 0, -0.2]) + harmonics(normals) @ terms).astype(np.float32)


def test_the_basis_is_orthogonal_over_the_sphere() -> None:
    sphere = np.random.default_rng(1).normal(size=(200_000, 3))
    basis = harmonics((sphere / np.linalg.norm(sphere, axis=1, keepdims=True)).astype(np.float32))
    length = np.sqrt((basis**2).mean(axis=0))
    correlation = basis.T @ basis / len(basis) / np.outer(length, length)
    assert np.abs(correlation - np.eye(9)).max() < 0.01


@settings(max_examples=30)
@given(TERMS, st.integers(0, 99))
def test_a_light_is_found_though_a_fifth_of_the_skin_is_something_else(linear: list[float], key: int) -> None:
    random = np.random.default_rng(key)
    normals = towards_camera(400, key)
    seen = lit(normals, linear) + random.normal(0, 0.02, (400, 3)).astype(np.float32)
    strange = random.permutation(400)[:80]
    seen[strange] += random.choice([-1.6, 0.7, 1.2], 80)[:, None].astype(np.float32)
    light = fit_light(normals, seen, np.ones(400, np.float32))
    got = shading(light, normals) + light.mean_C
    error = np.abs(got - lit(normals, linear))
    assert np.median(error) < 0.05
    assert np.percentile(error, 95) < 0.15


def test_the_robust_fit_beats_plain_least_squares() -> None:
    normals = towards_camera(400)
    truth = lit(normals, [-0.5, -0.2, 0.1])
    seen = truth.copy()
    seen[normals[:, 0] > 0.7] -= 1.5  # hair over one side
    light = fit_light(normals, seen, np.ones(400, np.float32))
    plain = harmonics(normals) @ np.linalg.lstsq(harmonics(normals), seen, rcond=None)[0]
    clear = normals[:, 0] <= 0.7
    ours = np.abs(shading(light, normals) + light.mean_C - truth)[clear].mean()
    assert ours < 0.5 * np.abs(plain - truth)[clear].mean()


@settings(max_examples=30)
@given(TERMS, TERMS, st.integers(0, 99))
def test_a_light_taken_off_and_another_laid_on_is_the_face_in_that_light(
    first: list[float], second: list[float], key: int
) -> None:
    normals = towards_camera(300, key)
    spots = np.random.default_rng(key).normal(0, 0.08, (300, 1)).astype(np.float32)  # the person's own
    weight = np.ones(300, np.float32)
    in_first, in_second = lit(normals, first) + spots, lit(normals, second) + spots
    one, other = fit_light(normals, in_first, weight), fit_light(normals, in_second, weight)
    flat = in_first - shading(one, normals) - one.mean_C
    laid_on = flat + shading(other, normals) + other.mean_C
    assert np.abs(laid_on - in_second).mean() < 0.015 + 0.15 * np.abs(in_first - in_second).mean()
    back = flat + shading(one, normals) + one.mean_C
    np.testing.assert_allclose(back, in_first, atol=1e-5)


def test_shading_is_zero_on_average_so_that_the_mean_is_the_skin_s() -> None:
    normals = towards_camera(500)
    weight = np.random.default_rng(2).uniform(0, 1, 500).astype(np.float32)
    light = fit_light(normals, lit(normals, [0.4, 0.1, -0.2], quadratic=0.05), weight)
    mean = np.average(shading(light, normals), axis=0, weights=weight)
    np.testing.assert_allclose(mean, 0, atol=0.01)


def test_what_has_no_weight_has_no_say() -> None:
    normals = towards_camera(300)
    seen = lit(normals, [0.3, 0, 0])
    weight = np.ones(300, np.float32)
    weight[200:] = 0
    strange = seen.copy()
    strange[200:] = -40
    with_it, without = fit_light(normals, strange, weight), fit_light(normals[:200], seen[:200], weight[:200])
    np.testing.assert_allclose(with_it.coefficients_BC, without.coefficients_BC, atol=1e-5)
    np.testing.assert_allclose(with_it.mean_C, without.mean_C, atol=1e-5)


def test_more_pixels_of_the_same_face_give_the_same_light() -> None:
    normals = towards_camera(200)
    seen = lit(normals, [0.3, -0.2, 0.1])
    once = fit_light(normals, seen, np.ones(200, np.float32))
    thrice = fit_light(np.tile(normals, (3, 1)), np.tile(seen, (3, 1)), np.full(600, 0.2, np.float32))
    np.testing.assert_allclose(once.coefficients_BC, thrice.coefficients_BC, atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_too_little_skin_gives_a_finite_light(count: int) -> None:
    normals = towards_camera(max(count, 1))
    weight = np.full(len(normals), min(count, 1), np.float32)
    light = fit_light(normals, lit(normals, [0.3, 0.2, 0.1]), weight)
    assert np.isfinite(light.coefficients_BC).all()
    assert np.isfinite(light.mean_C).all()
    assert np.abs(light.coefficients_BC).max() < 3


@settings(max_examples=50)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 9999))
def test_solves_like_numpy(size: int, columns: int, key: int) -> None:
    random = np.random.default_rng(key)
    root = random.normal(size=(size, size))
    matrix = root @ root.T + 0.1 * np.eye(size)
    right = random.normal(size=(size, columns))
    expected = np.linalg.solve(matrix, right)
    solve_in_place(matrix, right)
    np.testing.assert_allclose(right, expected, rtol=1e-7, atol=1e-9)


def test_light_is_smoothed_from_the_first_to_the_last() -> None:
    before = Light(np.zeros((9, 3), np.float32), np.zeros(3, np.float32))
    now = Light(np.ones((9, 3), np.float32), np.full(3, 2, np.float32))
    assert smoothed(None, now, 0.1) is now
    np.testing.assert_array_equal(smoothed(before, now, 0.0).mean_C, 0)
    np.testing.assert_allclose(smoothed(before, now, 0.25).mean_C, 0.5)
    np.testing.assert_allclose(smoothed(before, now, 1.0).coefficients_BC, 1)
