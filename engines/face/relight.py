"""Light on a face as second-order spherical harmonics of its logarithm, one set per colour channel.

Order two carries at least 98 % of what diffuse light does to a convex body (Ramamoorthi and Hanrahan, 2001). The
logarithm turns light times albedo into a sum, so a light can be taken off one face and laid onto another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.jit import kernel
from engines.types import Floats

Doubles = NDArray[np.float64]

RIDGE = np.array([0.0] + [0.02] * 3 + [0.12] * 5)  # shrinks the fine terms first: little of the sphere is seen
ROUNDS = 4  # of reweighting
OUTLIER = 0.12  # in log units: moles, stubble and highlights beyond it count less


@dataclass(frozen=True, slots=True)
class Light:
    """log colour of the lit skin = mean_C + shading(normal). coefficients_BC: float32 [9, 3]; mean_C: float32 [3]."""

    coefficients_BC: Floats
    mean_C: Floats


def harmonics(normals_V3: Floats) -> Floats:
    """The nine basis functions (constant, linear, quadratic), unnormalised. [V, 3] unit vectors -> [V, 9]."""
    x, y, z = normals_V3[:, 0], normals_V3[:, 1], normals_V3[:, 2]
    basis = [np.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1]
    return np.asarray(np.stack(basis, axis=1), np.float32)


def fit_light(normals_V3: Floats, log_rgb_V3: Floats, weight_V: Floats) -> Light:
    """Fits the light on skin samples by reweighted ridge regression.

    normals_V3: unit, camera axes. log_rgb_V3: natural logarithm of 8-bit colour. weight_V: 0 where no skin was seen.
    """
    coefficients, mean = _ridge(
        harmonics(normals_V3), log_rgb_V3.astype(np.float32), weight_V.astype(np.float32), RIDGE
    )
    return Light(coefficients, mean)


@kernel
def _ridge(basis_VB: Floats, target_VC: Floats, weight_V: Floats, ridge_B: Floats) -> tuple[Floats, Floats]:
    """Reweighted ridge regression. Compiled, because nine unknowns are too few for a threaded solver to pay."""
    samples, size = basis_VB.shape
    robust = weight_V.copy()
    solution = np.zeros((size, 3))
    for _ in range(ROUNDS):
        total = max(weight_V.sum(), 1e-6)
        gram, right = np.zeros((size, size)), np.zeros((size, 3))
        for v in range(samples):
            if robust[v] > 0:
                for i in range(size):
                    weighted = robust[v] * basis_VB[v, i] / total
                    for j in range(size):
                        gram[i, j] += weighted * basis_VB[v, j]
                    for c in range(3):
                        right[i, c] += weighted * target_VC[v, c]
        for i in range(size):
            gram[i, i] += ridge_B[i] + 1e-6
        solve_in_place(gram, right)
        solution = right
        for v in range(samples):
            off = 0.0
            for c in range(3):
                fitted = 0.0
                for i in range(size):
                    fitted += basis_VB[v, i] * solution[i, c]
                off += abs(target_VC[v, c] - fitted) / 3
            robust[v] = weight_V[v] / (1 + (off / OUTLIER) ** 2)
    mean, share = np.zeros(3), max(robust.sum(), 1e-6)
    for v in range(samples):
        for i in range(size):
            for c in range(3):
                mean[c] += robust[v] / share * basis_VB[v, i] * solution[i, c]
    solution[0] -= mean
    return solution.astype(np.float32), mean.astype(np.float32)


@kernel
def solve_in_place(matrix: Doubles, right: Doubles) -> None:
    """Solves matrix @ x = right for a positive definite matrix; x replaces `right`, the matrix is used up."""
    size = matrix.shape[0]
    for i in range(size):
        for row in range(i + 1, size):
            share = matrix[row, i] / matrix[i, i]
            for column in range(i, size):
                matrix[row, column] -= share * matrix[i, column]
            for c in range(right.shape[1]):
                right[row, c] -= share * right[i, c]
    for i in range(size - 1, -1, -1):
        for c in range(right.shape[1]):
            for column in range(i + 1, size):
                right[i, c] -= matrix[i, column] * right[column, c]
            right[i, c] /= matrix[i, i]


def shading(light: Light, normals_V3: Floats) -> Floats:
    """Log shading per channel, zero on average over the skin that the light was fitted on. [V, 3] -> [V, 3]."""
    return np.asarray(harmonics(normals_V3) @ light.coefficients_BC, np.float32)


def smoothed(before: Light | None, now: Light, share: float) -> Light:
    """Moves `before` towards `now` by `share` (0..1): light changes slowly, its estimate is noisy."""
    if before is None:
        return now
    return Light(
        before.coefficients_BC + share * (now.coefficients_BC - before.coefficients_BC),
        before.mean_C + share * (now.mean_C - before.mean_C),
    )
