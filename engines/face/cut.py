"""Telling a scene cut from motion: by a thumbnail of the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.jit import kernel
from engines.types import Floats, Rgb

Thumbnail = NDArray[np.float32]

ROWS, COLUMNS = 12, 16
SAMPLES = 6  # per side of a cell
CUT = 0.6  # 1 - correlation of two thumbnails: 0 for the same scene, about 1 for unrelated ones


def thumbnail(rgb_HW3: Rgb) -> Thumbnail:
    """Brightness of 12x16 cells, float32, 0..255."""
    return cells_of(np.ascontiguousarray(rgb_HW3), ROWS, COLUMNS, SAMPLES)


def is_cut(before: Thumbnail, after: Thumbnail) -> bool:
    """Whether the two show different scenes. Brightness and contrast do not matter, nor does much motion."""
    a, b = before - before.mean(), after - after.mean()
    spread = float(np.sqrt((a * a).mean() * (b * b).mean()))
    if spread < 4.0:  # an even picture is like every other
        return bool(max(a.std(), b.std()) > 12.0)
    return 1.0 - float((a * b).mean()) / spread > CUT


@kernel
def cells_of(rgb_HW3: Rgb, rows: int, columns: int, samples: int) -> Floats:
    """Brightness of rows x columns cells, each the mean of samples x samples pixels. float32, 0..255."""
    height, width = rgb_HW3.shape[0], rgb_HW3.shape[1]
    at_x = np.empty(columns * samples, np.uint32)
    for column in range(columns * samples):
        at_x[column] = (2 * column + 1) * width // (2 * columns * samples)
    totals, out = np.empty(columns, np.int32), np.empty((rows, columns), np.float32)
    for row in range(rows):
        totals[:] = 0
        for fine_row in range(row * samples, (row + 1) * samples):
            y = np.uint32((2 * fine_row + 1) * height // (2 * rows * samples))
            for column in range(columns):
                total = np.int32(0)
                for sample in range(samples):
                    x = at_x[column * samples + sample]
                    total += np.int32(rgb_HW3[y, x, 0]) + np.int32(rgb_HW3[y, x, 2])
                    total += np.int32(2) * np.int32(rgb_HW3[y, x, 1])
                totals[column] += total
        for column in range(columns):
            out[row, column] = np.float32(totals[column]) / np.float32(4 * samples * samples)
    return out
