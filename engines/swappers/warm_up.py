"""A made-up face and identity, so that an engine can draw once before the first camera picture comes."""

from __future__ import annotations

import numpy as np

from engines.face.mesh import face_model
from engines.identity import ATLAS_PX, Identity, Manifest
from engines.types import LANDMARKS, SKIN_LANDMARKS, TrackedFace


def made_up_face(side_px: int) -> TrackedFace:
    """The mean face in the middle of a square picture."""
    mean = face_model().mean_S3
    points = np.zeros((LANDMARKS, 3), np.float32)
    points[:SKIN_LANDMARKS] = (mean - mean.mean(axis=0)) * (side_px * 0.5 / np.ptp(mean[:, 1]))
    points[SKIN_LANDMARKS:] = points[33] + np.random.default_rng(0).normal(0, 1, (10, 3))
    points[:, :2] += side_px / 2
    return TrackedFace(0, points, points, 1.0)


def made_up_identity() -> Identity:
    """A grey face of mean shape."""
    manifest = Manifest(
        format=1, name="warm-up", created="", consent="none", images_sha256=(), made_by="", synthetic=True
    )
    grey = np.full((ATLAS_PX, ATLAS_PX, 3), 128, np.uint8)
    return Identity(
        manifest,
        grey,
        grey[..., 0],
        face_model().mean_S3,
        np.full(3, 90, np.float32),
        np.zeros((256, 256, 3), np.uint8),
    )
