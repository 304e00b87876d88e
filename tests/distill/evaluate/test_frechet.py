"""The Frechet distance on Gaussians whose distance is known, and what its interval promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from distill.evaluate.frechet import frechet, mean_with_interval, with_interval

Rows = NDArray[np.float64]


def exactly(mean: Rows, covariance: Rows, count: int, seed: int = 0) -> Rows:
    """Rows with exactly this mean and this covariance (by n - 1)."""
    drawn = np.random.default_rng(seed).standard_normal((count, len(mean)))
    drawn = drawn - drawn.mean(0)
    whitened = drawn @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(drawn.T)))).T
    made: Rows = whitened @ np.linalg.cholesky(covariance).T + mean
    return made


def test_of_a_set_with_itself_it_is_nothing() -> None:
    rows = np.random.default_rng(0).standard_normal((30, 400)) * 7 + 3  # fewer clips than features
    assert frechet(rows, rows) < 1e-9 * (rows**2).sum()
    assert frechet(rows, rows[::-1]) < 1e-9 * (rows**2).sum()


def test_known_gaussians_in_one_and_more_dimensions() -> None:
    """1-D: (m1 - m2)^2 + (s1 - s2)^2. Commuting covariances: the same along each axis."""
    one, two = exactly(np.array([1.0]), np.array([[4.0]]), 50), exactly(np.array([4.0]), np.array([[25.0]]), 80, 1)
    assert frechet(one, two) == pytest.approx(9 + 9, rel=1e-9)
    stretch, other = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 0.5])
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
    a = exactly(np.zeros(3), turn @ np.diag(stretch**2) @ turn.T, 40)
    b = exactly(np.ones(3), turn @ np.diag(other**2) @ turn.T, 400, 1)
    assert frechet(a, b) == pytest.approx(3 + ((stretch - other) ** 2).sum(), rel=1e-9)


@pytest.mark.parametrize("count", [12, 200])  # fewer and more clips than features
def test_covariances_that_do_not_commute(count: int) -> None:
    rng = np.random.default_rng(5)
    a, b = (rng.standard_normal((count, 24)) @ rng.standard_normal((24, 24)) for _ in range(2))
    root = sqrtm(np.cov(a.T) @ np.cov(b.T) + (1e-12 if count < 24 else 0) * np.eye(24))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * np.real(root))
    assert frechet(a, b) == pytest.approx(float(expected), rel=1e-4 if count < 24 else 1e-9)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-12)


def test_shifting_and_turning_both_changes_nothing() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((60, 8)), 2 * rng.standard_normal((70, 8)) + 1
    turn = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    assert frechet(a @ turn + 5, b @ turn + 5) == pytest.approx(frechet(a, b), rel=1e-9)


@pytest.mark.parametrize("rows", [np.zeros((1, 4)), np.zeros(4), np.full((3, 4), np.nan)])
def test_what_is_no_set_is_refused(rows: Rows) -> None:
    with pytest.raises(ValueError, match="two rows or more"):
        frechet(rows, np.zeros((3, 4)))
    with pytest.raises(ValueError, match="3 and 4"):
        frechet(np.zeros((3, 3)), np.zeros((3, 4)))


def test_the_interval_holds_what_many_clips_would_say() -> None:
    """Of 40 small experiments, about 95 % of the intervals contain the distance that samples of that size have."""
    rng = np.random.default_rng(7)

    def drawn() -> tuple[Rows, Rows]:
        return rng.standard_normal((120, 3)), 1.3 * rng.standard_normal((120, 3)) + 0.7

    centre = float(np.mean([frechet(*drawn()) for _ in range(400)]))
    found = [with_interval(*drawn(), range(120), range(120)) for _ in range(40)]
    held = sum(one.low <= centre <= one.high for one in found)
    assert 33 <= held <= 40
    assert 0.2 < np.mean([one.high - one.low for one in found]) < 2


def test_cuts_of_one_video_leave_together() -> None:
    """Copies of a clip make the interval no smaller."""
    rng = np.random.default_rng(8)
    a, b = rng.standard_normal((30, 2)), rng.standard_normal((30, 2)) + 1
    plain = with_interval(a, b, range(30), range(30))
    many = np.repeat(a, 4, 0), np.repeat(b, 4, 0)
    copied = with_interval(*many, np.repeat(np.arange(30), 4).tolist(), np.repeat(np.arange(30), 4).tolist())
    naive = with_interval(*many, range(120), range(120))
    assert copied.high - copied.low == pytest.approx(plain.high - plain.low, rel=0.1)
    assert naive.high - naive.low < 0.7 * (copied.high - copied.low)


def test_too_little_gives_a_value_without_an_interval() -> None:
    rows = np.random.default_rng(0).standard_normal((4, 2))
    found = with_interval(rows, rows + 1, [0, 0, 0, 0], [0, 0, 0, 0])
    assert found.value == pytest.approx(2)
    assert math.isnan(found.low)
    assert math.isnan(mean_with_interval([math.nan]).value)
    assert mean_with_interval([1.0, 3.0]).value == 2


def test_a_mean_s_interval_is_as_wide_as_it_should_be() -> None:
    values = np.random.default_rng(9).standard_normal(400)
    found = mean_with_interval([*values, math.nan])
    assert found.high - found.low == pytest.approx(2 * 1.96 / 20, rel=0.15)
