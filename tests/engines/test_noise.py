"""Noise is a function of seed and frame, and normal."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from engines.noise import MOST_SEED, noise


def test_it_never_changes() -> None:
    """These very numbers: weights are trained with them, and golden files hold them."""
    expected = [-1.602648, -0.220756, 0.463166, 0.224178, -1.162138]
    np.testing.assert_allclose(noise(7, 3, (5,)), expected, atol=1e-6)


def test_it_is_normal() -> None:
    drawn = noise(1, 0, (200_000,))
    assert drawn.dtype == np.float32
    assert np.isfinite(drawn).all()
    assert stats.kstest(drawn, "norm").pvalue > 0.01
    assert abs(float(np.corrcoef(drawn[:-1], drawn[1:])[0, 1])) < 0.01


def test_frames_and_seeds_are_strangers_to_each_other() -> None:
    first = noise(1, 0, (4096,))
    for seed, frame in ((1, 1), (2, 0), (1, 2**62), (MOST_SEED, 0)):
        assert abs(float(np.corrcoef(first, noise(seed, frame, (4096,)))[0, 1])) < 0.08


@pytest.mark.parametrize("shape", [(1,), (3,), (1, 1, 8, 32, 32), (0,)])
def test_any_shape_reads_the_same_stream(shape: tuple[int, ...]) -> None:
    drawn = noise(5, 9, shape)
    assert drawn.shape == shape
    np.testing.assert_array_equal(drawn.reshape(-1), noise(5, 9, (10_000,))[: drawn.size])


@pytest.mark.parametrize(("seed", "frame"), [(-1, 0), (2**64, 0), (0, -1), (0, 2**63)])
def test_other_numbers_are_refused(seed: int, frame: int) -> None:
    with pytest.raises(ValueError, match="no noise for"):
        noise(seed, frame, (4,))
