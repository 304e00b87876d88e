"""Colour spaces against published values, and there and back."""

from __future__ import annotations

import numpy as np
import pytest

from distill.colour import encoded, lab, lab_from_linear, linear, linear_from_lab


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0.0, 0.0)),
        ((5, 5, 5), (1.37, 0.0, 0.0)),  # on the straight line
    ],
)
def test_lab_of_known_colours(rgb: tuple[int, int, int], expected: tuple[float, float, float]) -> None:
    assert lab(np.array([[rgb]], np.uint8))[0, 0] == pytest.approx(expected, abs=0.05)


def test_all_levels_go_there_and_back() -> None:
    levels = np.arange(256) / 255
    np.testing.assert_allclose(encoded(linear(levels)), levels, atol=1e-6)
    assert linear(np.array([0.5]))[0] == pytest.approx(0.2140, abs=1e-4)


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_colours_go_to_lab_and_back_in_their_own_precision(precision: type[np.floating]) -> None:  # type: ignore[type-arg]
    rgb = np.random.default_rng(3).uniform(0, 1, (200, 3)).astype(precision)
    rgb[:50] *= 0.01
    there = lab_from_linear(rgb)
    back = linear_from_lab(there)
    assert there.dtype == back.dtype == linear(rgb).dtype == encoded(rgb).dtype == precision
    np.testing.assert_allclose(back, rgb, atol=2e-5 if precision == np.float32 else 1e-9)
