"""The identity's shape on the driver's pose and expression.

A face seen in a picture is taken apart as pose (neutral shape + expression). The result keeps the driver's pose and
expression to the pixel and exchanges the neutral shape: result = driver + pose(identity's neutral - driver's neutral).
Only the difference of two neutral shapes is added, so what the landmark net gets systematically wrong cancels out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from engines.face.mesh import (
    FACE_OVAL,
    LEFT_IRIS,
    LEFT_LIDS,
    LIPS,
    RIGHT_IRIS,
    RIGHT_LIDS,
    Indices,
    Pose,
    face_model,
    fit_pose,
)
from engines.jit import kernel
from engines.types import SKIN_LANDMARKS, Floats

LANDMARK_NOISE_CM = 0.15
EXPRESSION_SPREAD = 0.3  # of an expression's weight, where 1 is the extreme
MOST_SHIFT_CM = 1.1  # of any landmark: beyond it the surroundings would bend visibly
NEUTRAL_FRAMES = 150  # memory of the driver's neutral shape: 5 s at 30 frames/s
TURNED_DEG = 35.0  # beyond it the far half of the face is a guess and says little about the shape


@dataclass(slots=True)
class NeutralShape:
    """Running mean of a person's neutral shape, float32 [468, 3] in canonical centimetres."""

    shape_S3: Floats | None = None
    weight: float = 0.0


@lru_cache(maxsize=1)
def _expression_solver() -> tuple[Floats, Floats]:
    """`(coefficients_from_offsets [K, 3S], offsets_from_coefficients [3S, K])` for the expression modes.

    Ridge regression over identity and expression modes together, each shrunk by its own spread (a Gaussian prior),
    so that a wide mouth of birth is not taken for a smile.
    """
    model = face_model()
    identity = model.identity_KS3.reshape(len(model.identity_KS3), -1)
    expression = model.expression_KS3.reshape(len(model.expression_KS3), -1)
    modes = np.concatenate([identity, expression]).astype(np.float64).T
    spread = np.concatenate([np.ones(len(identity)), np.full(len(expression), EXPRESSION_SPREAD)])
    gram = modes.T @ modes / LANDMARK_NOISE_CM**2 + np.diag(spread**-2)
    solver = np.linalg.solve(gram, modes.T / LANDMARK_NOISE_CM**2)
    return np.ascontiguousarray(solver[len(identity) :].astype(np.float32)), np.ascontiguousarray(
        expression.T.astype(np.float32)
    )


def without_expression(canonical_S3: Floats) -> Floats:
    """Takes the expression off a face in canonical space. float32 [468, 3] -> the same, mouth closed, lids at rest."""
    solve, spread_out = _expression_solver()
    offsets = (canonical_S3 - face_model().mean_S3).reshape(-1)
    return canonical_S3 - product(spread_out, product(solve, offsets)).reshape(-1, 3)


@kernel
def product(matrix_RC: Floats, vector_C: Floats) -> Floats:
    """Matrix times vector on one core: waking a thread pool for it would cost more than the product."""
    out = np.empty(matrix_RC.shape[0], np.float32)
    for row in range(matrix_RC.shape[0]):
        total = np.float32(0)
        for column in range(matrix_RC.shape[1]):
            total += matrix_RC[row, column] * vector_C[column]
        out[row] = total
    return out


def expression_energy(canonical_S3: Floats) -> float:
    """How far a face is from rest: the sum of squared expression weights. 0 is at rest, a wide smile about 1."""
    solve, _ = _expression_solver()
    return float(((solve @ (canonical_S3 - face_model().mean_S3).reshape(-1)) ** 2).sum())


def canonical_face(points_px: Floats) -> tuple[Pose, Floats]:
    """Pose of a face and its landmarks in canonical space, [468, 3] centimetres."""
    pose = fit_pose(points_px, face_model().mean_S3)
    return pose, pose.to_canonical(points_px[:SKIN_LANDMARKS])


def observe(neutral: NeutralShape, pose: Pose, canonical_S3: Floats) -> Floats:
    """Adds one frame to the running neutral shape, in place, and returns it. Turned heads weigh less."""
    weight = max(1.0 - abs(pose.yaw_deg) / TURNED_DEG, 0.02)
    seen = without_expression(canonical_S3)
    neutral.weight = min(neutral.weight + weight, NEUTRAL_FRAMES)
    share = weight / neutral.weight
    neutral.shape_S3 = seen if neutral.shape_S3 is None else neutral.shape_S3 + share * (seen - neutral.shape_S3)
    return neutral.shape_S3


def _apertures(shape_S3: Floats, pairs: Indices) -> float:
    return float(np.linalg.norm(shape_S3[pairs[:, 0]] - shape_S3[pairs[:, 1]], axis=1).mean())


def shape_shift(identity_S3: Floats, driver_S3: Floats) -> Floats:
    """How far each landmark moves, canonical centimetres, [468, 3].

    Upper and lower lips, and upper and lower lids, move together: what touches in the driver touches in the result.
    """
    shift = identity_S3 - driver_S3
    for pairs in (LIPS, RIGHT_LIDS, LEFT_LIDS):
        together = shift[pairs].mean(axis=1)
        shift[pairs[:, 0]] = shift[pairs[:, 1]] = together
    length = np.linalg.norm(shift, axis=1, keepdims=True) + 1e-6
    return np.asarray(shift * np.tanh(length / MOST_SHIFT_CM) * MOST_SHIFT_CM / length, np.float32)


def opened_lids(points_px: Floats, identity_S3: Floats, driver_S3: Floats) -> None:
    """Scales the lids' opening in place by the identity's over the driver's: shut stays shut."""
    for pairs in (RIGHT_LIDS, LEFT_LIDS):
        ratio = np.clip(_apertures(identity_S3, pairs) / max(_apertures(driver_S3, pairs), 1e-3), 0.8, 1.25)
        gap = points_px[pairs[:, 0]] - points_px[pairs[:, 1]]
        points_px[pairs[:, 0]] += gap * (ratio - 1) * 0.6
        points_px[pairs[:, 1]] -= gap * (ratio - 1) * 0.4


def retarget(points_px: Floats, pose: Pose, identity_S3: Floats, driver_S3: Floats) -> Floats:
    """The landmarks of the result: the identity's neutral shape with the driver's pose and expression.

    points_px: float32 [478, 3] frame pixels. Returns the same shape.
    """
    shift = shape_shift(identity_S3, driver_S3)
    result = points_px.copy()
    result[:SKIN_LANDMARKS] += pose.px_per_cm * shift @ pose.rotation_33.T
    opened_lids(result, identity_S3, driver_S3)
    for iris, pairs in ((RIGHT_IRIS, RIGHT_LIDS), (LEFT_IRIS, LEFT_LIDS)):
        result[iris] += pose.px_per_cm * shift[pairs].mean(axis=(0, 1)) @ pose.rotation_33.T
    return result


def oval_rings(points_px: Floats, reach: float) -> Floats:
    """The face's outline pushed outwards from its middle by `reach` of its radius. [36, 3]."""
    outline = points_px[FACE_OVAL]
    return np.asarray(outline + (outline - outline.mean(axis=0)) * reach, np.float32)
