"""The invisible mark: a payload, spread over the brightness of every frame.

The same small number is added to red, green and blue, so only brightness changes. The field that is added is smooth
(chips joined by straight lines) and does not move: an encoder keeps it as it keeps a wall, and it cannot flicker.
Amplitudes are below one step of a pixel at small sizes; ordered dithering keeps their mean.
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
Field = NDArray[np.int8]


_BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.float32)


def field_of(payload: Payload, height_px: int, width_px: int) -> Field:
    """What is added to each pixel's three colours, dithered to whole steps: int8 [height, width]."""
    amplitude = AMPLITUDE * min(max(min(height_px, width_px) / WHOLE_FROM_PX, 0.6), 1.0)
    smooth = amplitude * spread(tile_of(payload), height_px, width_px, chip_px(height_px, width_px))
    threshold = np.tile((_BAYER + 0.5) / 16, (-(-height_px // 4), -(-width_px // 4)))[:height_px, :width_px]
    return np.asarray(np.floor(smooth + threshold), np.int8)


@lru_cache(maxsize=8)
def _field(payload: Payload, height_px: int, width_px: int) -> Field:
    """As `field_of`, for each colour: int8 [height, 3 * width]."""
    return np.repeat(field_of(payload, height_px, width_px), 3, axis=1)


@kernel
def _add(canvas: NDArray[np.uint8], field: NDArray[np.int8]) -> None:
    for y in range(canvas.shape[0]):
        for x in range(canvas.shape[1]):
            value = np.int16(canvas[y, x]) + np.int16(field[y, x])
            canvas[y, x] = np.uint8(min(max(value, np.int16(0)), np.int16(255)))


class Marker:
    """Marks pictures with one payload. Holds no memory of them; may be used from several threads."""

    def __init__(self, payload: Payload) -> None:
        self.payload = payload

    def apply(self, canvas_HW3: Rgb) -> None:
        """Marks uint8 [H, W, 3], C-contiguous, in place."""
        height, width = canvas_HW3.shape[:2]
        _add(canvas_HW3.reshape(height, width * 3), _field(self.payload, height, width))
