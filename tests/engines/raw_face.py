"""How much of a real face a picture shows: the measure behind every test that says the raw face is not shown."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from engines.enrolment import FaceFinder
from engines.types import Box, Floats, Rgb

# Correlation of the face's features with the camera's. The face itself reaches 1, after a video codec 0.8; a swapped
# face, whose eyes and mouth follow the driver's, stays below this, and a hidden one far below.
RAW = 0.6
HIDDEN = 0.35
FAINT = 2.0  # of 255


def find_face(rgb_HW3: Rgb) -> Box:
    """Around brows, eyes, nose and mouth of the largest face."""
    finder = FaceFinder()
    try:
        points = finder.find(rgb_HW3)[0].points_px[:468, :2]
    finally:
        finder.close()
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    inset_x, inset_y = 0.12 * (right - left), 0.12 * (bottom - top)
    return Box(float(left + inset_x), float(top + inset_y), float(right - inset_x), float(bottom - inset_y))


def features(rgb_HW3: Rgb, box: Box) -> Floats:
    """What makes a face recognisable: brightness finer than a 14th of its width, less the mean, in units of its length.

    What is as faint as two levels is not blown up to a face.
    """
    rows = slice(max(int(box.top_px), 0), max(int(box.bottom_px), 1))
    columns = slice(max(int(box.left_px), 0), max(int(box.right_px), 1))
    grey = rgb_HW3[rows, columns].mean(axis=2, dtype=np.float32)
    band = ndimage.gaussian_filter(grey, box.width_px / 100) - ndimage.gaussian_filter(grey, box.width_px / 14)
    flat = (band - band.mean()).ravel()
    return np.asarray(flat / max(float(np.linalg.norm(flat)), FAINT * flat.size**0.5), np.float32)


def likeness(shown_HW3: Rgb, camera_HW3: Rgb, box: Box) -> float:
    """-1..1: 1 for the camera's own face, about 0 for no face or an unrelated one."""
    return float(features(shown_HW3, box) @ features(camera_HW3, box))
