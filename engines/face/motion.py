"""Where a picture changed: a cheap reason to look for newcomers at once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from engines.face.cut import Thumbnail, cells_of
from engines.types import Box, Rgb

Cells = NDArray[np.bool_]

ROWS, COLUMNS = 60, 80
SAMPLES = 4  # per side of a cell
LEAST_CHANGE = 5.0  # of 255: less is a codec's or a sensor's
OVER_NOISE = 5.0  # in medians of all changes: a noisy camera changes every cell a little
LEAST_CELLS = 3  # fewer are a blinking light


def fine_thumbnail(rgb_HW3: Rgb) -> Thumbnail:
    """Brightness of 60x80 cells, float32, 0..255."""
    return cells_of(np.ascontiguousarray(rgb_HW3), ROWS, COLUMNS, SAMPLES)


def changed(before: Thumbnail, after: Thumbnail) -> Cells:
    """The cells that differ by more than noise, bool [60, 80]."""
    apart = np.abs(after - before)
    return np.asarray(apart > max(LEAST_CHANGE, OVER_NOISE * float(np.median(apart))))


def cells_in(boxes_px: Iterable[Box], height_px: int, width_px: int) -> Cells:
    """The cells that these boxes touch."""
    cells = np.zeros((ROWS, COLUMNS), np.bool_)
    for box in boxes_px:
        top, bottom = int(box.top_px * ROWS / height_px), int(box.bottom_px * ROWS / height_px) + 1
        left, right = int(box.left_px * COLUMNS / width_px), int(box.right_px * COLUMNS / width_px) + 1
        cells[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return cells


def stirs(moving: Cells) -> bool:
    """Whether enough of a picture changed to look at it."""
    return int(moving.sum()) >= LEAST_CELLS
