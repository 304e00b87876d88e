"""The face mesh: 468 landmarks as a small shape model, its triangles, and its pose in a picture.

Legend: S = 468 skin landmarks, N = 478 with the irises, T triangles, K modes. Canonical space is in centimetres, x to
the picture's right, y down, z away from the camera. The model is made by examples/fit_landmark_model.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from engines.jit import kernel
from engines.types import SKIN_LANDMARKS, Floats

Indices = NDArray[np.int32]

MODEL_FILE = Path(__file__).with_name("landmark_model.safetensors")

# The outline of the mesh, from the forehead's middle round the picture's right side.
FACE_OVAL = np.array(
    "10 338 297 332 284 251 389 356 454 323 361 288 397 365 379 378 400 377 152 148 176 149 150 136 172 58 132 93 234 "
    "127 162 21 54 103 67 109".split(),
    np.int32,
)
RIGHT_EYE = np.array("33 246 161 160 159 158 157 173 133 155 154 153 145 144 163 7".split(), np.int32)
LEFT_EYE = np.array("263 466 388 387 386 385 384 398 362 382 381 380 374 373 390 249".split(), np.int32)
# Upper and lower lid above each other, from the outer to the inner corner.
RIGHT_LIDS = np.array([(246, 7), (161, 163), (160, 144), (159, 145), (158, 153), (157, 154), (173, 155)], np.int32)
LEFT_LIDS = np.array([(466, 249), (388, 390), (387, 373), (386, 374), (385, 380), (384, 381), (398, 382)], np.int32)
INNER_LIPS = np.array("78 191 80 81 82 13 312 311 310 415 308 324 318 402 317 14 87 178 88 95".split(), np.int32)
OUTER_LIPS = np.array("61 185 40 39 37 0 267 269 270 409 291 375 321 405 314 17 84 181 91 146".split(), np.int32)
# Upper and lower inner lip above each other, from the picture's left to its right.
LIPS = np.array(
    [(191, 95), (80, 88), (81, 178), (82, 87), (13, 14), (312, 317), (311, 402), (310, 318), (415, 324)], np.int32
)
RIGHT_BROW = np.array("46 53 52 65 55 70 63 105 66 107".split(), np.int32)
LEFT_BROW = np.array("276 283 282 295 285 300 293 334 296 336".split(), np.int32)
NOSTRILS = np.array("98 97 2 326 327 294 278 279 275 1 45 49 48 64".split(), np.int32)
RIGHT_IRIS, LEFT_IRIS = slice(468, 473), slice(473, 478)  # the centre first, then four points of the rim


@dataclass(frozen=True, slots=True)
class FaceModel:
    """The landmark model's arrays; see examples/fit_landmark_model.py for how each is made."""

    mean_S3: Floats
    identity_KS3: Floats
    expression_KS3: Floats
    triangles_T3: Indices
    eye_triangles_T3: Indices
    mouth_triangles_T3: Indices
    uv_S2: Floats
    mirror_S: Indices
    rigid_S: Floats


@lru_cache(maxsize=1)
def face_model() -> FaceModel:
    """Loads the model that ships with the package, once."""
    stored = load_file(MODEL_FILE)
    return FaceModel(
        mean_S3=stored["mean_S3"].astype(np.float32),
        identity_KS3=stored["identity_KS3"].astype(np.float32),
        expression_KS3=stored["expression_KS3"].astype(np.float32),
        triangles_T3=stored["triangles_T3"].astype(np.int32),
        eye_triangles_T3=np.concatenate([stored["eye_left_triangles_T3"], stored["eye_right_triangles_T3"]]).astype(
            np.int32
        ),
        mouth_triangles_T3=stored["mouth_triangles_T3"].astype(np.int32),
        uv_S2=stored["uv_S2"].astype(np.float32),
        mirror_S=stored["mirror_S"].astype(np.int32),
        rigid_S=stored["procrustes_weight_S"].astype(np.float32),
    )


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a head is: picture point = scale * rotation @ canonical point + translation."""

    px_per_cm: float
    rotation_33: Floats
    translation_px: Floats

    def to_picture(self, points_S3: Floats) -> Floats:
        """Canonical centimetres -> frame pixels (z on the same scale, smaller is nearer)."""
        return (self.px_per_cm * points_S3 @ self.rotation_33.T + self.translation_px).astype(np.float32)

    def to_canonical(self, points_px_S3: Floats) -> Floats:
        """Frame pixels -> canonical centimetres."""
        return ((points_px_S3 - self.translation_px) @ self.rotation_33 / self.px_per_cm).astype(np.float32)

    @property
    def yaw_deg(self) -> float:
        """Turn of the head to the picture's left (negative) or right (positive)."""
        forward = -self.rotation_33[:, 2]
        return float(np.degrees(np.arctan2(forward[0], -forward[2])))


def fit_pose(points_px: Floats, shape_S3: Floats) -> Pose:
    """The similarity transform that lays a canonical shape onto landmarks, by weighted least squares (Umeyama, 1991).

    points_px: float32 [S or N, 3] frame pixels; shape_S3: float32 [S, 3] centimetres. Rigid landmarks weigh most.
    """
    weight = face_model().rigid_S.astype(np.float64)
    target = points_px[:SKIN_LANDMARKS].astype(np.float64)
    shape = shape_S3.astype(np.float64)
    target_mean, shape_mean = weight @ target / weight.sum(), weight @ shape / weight.sum()
    target, shape = target - target_mean, shape - shape_mean
    u, singular, vt = np.linalg.svd((target * weight[:, None]).T @ shape)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / (weight @ (shape**2).sum(1)))
    translation = target_mean - scale * rotation @ shape_mean
    return Pose(scale, rotation.astype(np.float32), translation.astype(np.float32))


@kernel
def vertex_normals(points_V3: Floats, triangles_T3: Indices) -> Floats:
    """Unit normals, area weighted. For triangles that wind as the model's do, z < 0 faces the camera."""
    normals = np.zeros(points_V3.shape, np.float32)
    for t in range(triangles_T3.shape[0]):
        a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
        ux = points_V3[b, 0] - points_V3[a, 0]
        uy = points_V3[b, 1] - points_V3[a, 1]
        uz = points_V3[b, 2] - points_V3[a, 2]
        vx = points_V3[c, 0] - points_V3[a, 0]
        vy = points_V3[c, 1] - points_V3[a, 1]
        vz = points_V3[c, 2] - points_V3[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in (a, b, c):
            normals[corner, 0] += nx
            normals[corner, 1] += ny
            normals[corner, 2] += nz
    for i in range(normals.shape[0]):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2) + np.float32(1e-9)
        for axis in range(3):
            normals[i, axis] /= length
    return normals
