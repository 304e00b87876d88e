"""The invisible mark: a payload, spread over the brightness of every frame.

The same small number is added to red, green and blue, so only brightness changes; less to what is nearly black,
where it would be seen first. The field that is added is smooth (chips joined by straight lines) and does not move: an
encoder keeps it as it keeps a wall. Amplitudes are below one step of a pixel at small sizes; ordered dithering keeps
their mean.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engines.jit import kernel
from engines.marks.pattern import chip_px, spread, tile_of
from engines.marks.payload import Payload
from engines.types import Rgb

AMPLITUDE = 2.6  # of a chip, in steps of 8-bit brightness
WHOLE_FROM_PX = 480  # shorter side; on smaller frames chips are steeper, and seen sooner, so they are flatter
PARTS = 16  # of a step of brightness, in which fields are kept
LEAST_SHARE = 2  # of PARTS: what is added to black. Each step of brightness adds one part, until it is all of them
Field = NDArray[np.int8]

_BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.int16)


def field_of(payload: Payload, height_px: int, width_px: int) -> Field:
    """What is added to each pixel's three colours where it is not dark, in PARTS of a step: int8 [height, width]."""
    amplitude = AMPLITUDE * min(max(min(height_px, width_px) / WHOLE_FROM_PX, 0.6), 1.0)
    smooth = amplitude * spread(tile_of(payload), height_px, width_px, chip_px(height_px, width_px))
    return np.asarray(np.rint(PARTS * smooth), np.int8)


@lru_cache(maxsize=8)
def _field(payload: Payload, height_px: int, width_px: int) -> Field:
    """As `field_of`, for each colour: int8 [height, 3 * width]."""
    return np.repeat(field_of(payload, height_px, width_px), 3, axis=1)


@lru_cache(maxsize=8)
def _thresholds(width_px: int) -> NDArray[np.int16]:
    """Of the dithering, for each colour of four rows: int16 [4, 3 * width], in 1 / PARTS**2 of a step."""
    across = np.tile(PARTS * _BAYER + PARTS // 2, (1, -(-width_px // 4)))[:, :width_px]
    return np.repeat(across, 3, axis=1)


@kernel
def _add(canvas: NDArray[np.uint8], field: NDArray[np.int8], thresholds: NDArray[np.int16]) -> None:
    for y in range(canvas.shape[0]):
        threshold = thresholds[y % 4]
        for x in range(canvas.shape[1]):
            before = np.int16(canvas[y, x])
            share = min(before + np.int16(LEAST_SHARE), np.int16(PARTS))
            added = np.int16(np.int16(field[y, x]) * share + threshold[x]) >> np.int16(8)
            canvas[y, x] = np.uint8(min(max(before + added, np.int16(0)), np.int16(255)))


class Marker:
    """Marks pictures with one payload. Holds no memory of them; may be used from several threads."""

    def __init__(self, payload: Payload) -> None:
        self.payload = payload

    def apply(self, canvas_HW3: Rgb) -> None:
        """Marks uint8 [H, W, 3], C-contiguous, in place."""
        height, width = canvas_HW3.shape[:2]
        _add(canvas_HW3.reshape(height, width * 3), _field(self.payload, height, width), _thresholds(width))
