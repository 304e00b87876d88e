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
    out = np.zeros((rows, columns), np.float32)
    for row in range(rows * samples):
        y = (2 * row + 1) * height // (2 * rows * samples)
        for column in range(columns * samples):
            x = (2 * column + 1) * width // (2 * columns * samples)
            total = rgb_HW3[y, x, 0] + 2 * np.float32(rgb_HW3[y, x, 1]) + rgb_HW3[y, x, 2]
            out[row // samples, column // samples] += total / (4 * samples * samples)
    return out
