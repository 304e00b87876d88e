"""Frechet distance of two sets of features, with an interval. Pure NumPy.

For Gaussians (Dowson and Landau 1982; of video features: FVD, arXiv 1812.01717)

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

With centred features X_i / sqrt(n_i - 1) as rows, S_i = X_i' X_i, and the non-zero eigenvalues of S1 S2 are the squared
singular values of X1 X2'. So the last trace is the nuclear norm of X1 X2': no root of an indefinite product, no epsilon
on a diagonal, and exact where there are fewer clips than features, which is where most tables of FVD are made.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rows = NDArray[np.float64]  # [N, D], a clip's features in each
PARTS = 20  # of the jackknife
NORMAL_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and 95 % around it; NaN where it cannot be said."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


def frechet(first_ND: ArrayLike, second_ND: ArrayLike) -> float:
    """Squared Frechet distance of the Gaussians with both sets' means and covariances (by n - 1). Of a set with itself
    0. Raises ValueError for fewer than two rows, or rows of different lengths or with values that are no numbers."""
    first, second = _checked(first_ND), _checked(second_ND)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"features of {first.shape[1]} and {second.shape[1]} numbers have no distance")
    a, b = _factor(first), _factor(second)
    means = float(((first.mean(0) - second.mean(0)) ** 2).sum())
    root = float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    return max(means + float((a * a).sum() + (b * b).sum()) - 2 * root, 0.0)


def _checked(features: ArrayLike) -> Rows:
    rows = np.asarray(features, np.float64)
    if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all():
        raise ValueError(f"a set of features is two rows or more of finite numbers, not {list(rows.shape)}")
    return rows


def _factor(rows: Rows) -> Rows:
    """Rows whose S = X' X, no more of them than features: many are packed into a triangle (QR)."""
    centred = (rows - rows.mean(0)) / np.sqrt(len(rows) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(rows) > rows.shape[1] else centred


def with_interval(
    first_ND: ArrayLike, second_ND: ArrayLike, first_from: Sequence[Hashable], second_from: Sequence[Hashable]
) -> Interval:
    """The distance and its 95 %, by a jackknife that leaves out whole sources.

    first_from, second_from: for each row what it was cut from. Rows of one source leave together, from both sets, since
    cuts of one video are no independent clips. A bootstrap would not do: what it draws twice makes the covariance
    poorer, and FVD larger. The distance itself is too large for few clips; see docs/evaluation.md.
    """
    first, second = _checked(first_ND), _checked(second_ND)
    value = frechet(first, second)
    sources = sorted({*first_from, *second_from}, key=str)
    parts = min(PARTS, len(sources))
    part_of = {source: i % parts for i, source in enumerate(sources)}
    kept = [np.array([part_of[source] for source in of]) for of in (first_from, second_from)]
    left_out = []
    for part in range(parts):
        rest = first[kept[0] != part], second[kept[1] != part]
        if min(map(len, rest)) < 2:
            return Interval(value)
        left_out.append(frechet(*rest))
    if parts < 3:
        return Interval(value)
    error = float(np.sqrt((parts - 1) * np.var(left_out)))
    return Interval(value, max(value - NORMAL_95 * error, 0.0), value + NORMAL_95 * error)


def mean_with_interval(values: ArrayLike, seed: int = 0, draws: int = 2000) -> Interval:
    """Mean over independent parts (clips), and 95 % of its bootstrap. NaN values do not count."""
    known = np.asarray(values, np.float64).reshape(-1)
    known = known[~np.isnan(known)]
    if not len(known):
        return Interval(float("nan"))
    if len(known) < 3:
        return Interval(float(known.mean()))
    chosen = np.random.default_rng(seed).integers(len(known), size=(draws, len(known)))
    low, high = np.percentile(known[chosen].mean(1), (2.5, 97.5))
    return Interval(float(known.mean()), float(low), float(high))
