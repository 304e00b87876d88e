"""Light on a face as second-order spherical harmonics of its logarithm, one set per colour channel.

Order two carries at least 98 % of what diffuse light does to a convex body (Ramamoorthi and Hanrahan, 2001). The
logarithm turns light times albedo into a sum, so a light can be taken off one face and laid onto another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engines.types import Floats

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
    return np.stack(basis, axis=1).astype(np.float32)


def fit_light(normals_V3: Floats, log_rgb_V3: Floats, weight_V: Floats) -> Light:
    """Fits the light on skin samples by reweighted ridge regression.

    normals_V3: unit, camera axes. log_rgb_V3: natural logarithm of 8-bit colour. weight_V: 0 where no skin was seen.
    """
    basis = harmonics(normals_V3).astype(np.float64)
    target = log_rgb_V3.astype(np.float64)
    weight = weight_V.astype(np.float64)
    total = max(weight.sum(), 1e-6)
    solution = np.zeros((9, 3))
    robust = weight
    for _ in range(ROUNDS):
        gram = basis.T @ (basis * robust[:, None]) / total + np.diag(RIDGE) + 1e-6 * np.eye(9)
        solution = np.linalg.solve(gram, basis.T @ (target * robust[:, None]) / total)
        residual = np.abs(target - basis @ solution).mean(axis=1)
        robust = weight / (1 + (residual / OUTLIER) ** 2)
    share = robust / max(robust.sum(), 1e-6)
    mean = share @ (basis @ solution)
    solution[0] -= mean
    return Light(solution.astype(np.float32), mean.astype(np.float32))


def shading(light: Light, normals_V3: Floats) -> Floats:
    """Log shading per channel, zero on average over the skin that the light was fitted on. [V, 3] -> [V, 3]."""
    return harmonics(normals_V3) @ light.coefficients_BC


def smoothed(before: Light | None, now: Light, share: float) -> Light:
    """Moves `before` towards `now` by `share` (0..1): light changes slowly, its estimate is noisy."""
    if before is None:
        return now
    return Light(
        before.coefficients_BC + share * (now.coefficients_BC - before.coefficients_BC),
        before.mean_C + share * (now.mean_C - before.mean_C),
    )
