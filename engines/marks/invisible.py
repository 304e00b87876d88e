"""The invisible mark: a payload, spread over the brightness of every frame.

The same small field is added to red, green and blue, so only brightness changes. It is smooth (chips joined by straight
lines) and does not move: an encoder keeps it as it keeps a wall. What is added to a colour is less where the colour is
nearly black, where it would be seen first, and where it is brighter than its surroundings; more where it is darker:
the same step is more light the brighter the pixel, and a mark whose light changed with the texture that moves under it
would flicker. Amplitudes are below one step of a pixel at small sizes; ordered dithering keeps their mean.

`engines/gpu/images.cu` does the same arithmetic, to the bit.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engines.jit import inlined, kernel
from engines.marks.pattern import chip_px, spread, tile_of
from engines.marks.payload import Payload
from engines.types import Mask, Rgb

AMPLITUDE = 2.6  # of a chip, in steps of 8-bit brightness
WHOLE_FROM_PX = 480  # shorter side; on smaller frames chips are steeper, and seen sooner, so they are flatter
PARTS = 16  # of a step of brightness, in which fields are kept; and of the share of it that a colour takes
BLACK_SHARE = 2  # of PARTS: what is added to black. Each step of brightness adds one part
LEAST_SHARE, MOST_SHARE = 8, 20  # of PARTS: what is added to what is far brighter, or darker, than its surroundings
SLOPE = 11.5  # of PARTS: how much less at twice the surroundings' brightness. Half a part, so that floors round
LIFT = 4  # steps of brightness added to both before they are compared: black has no ratio to black
CELLS_ACROSS_SHORTER_SIDE = 30  # surroundings are a cell, two chips wide, and its neighbours
EVERY_ROW = 4  # of a cell that its mean is taken of
INVERSE = int(1024 * SLOPE)  # of a brightness of one step: at LIFT and in PARTS it just fits into 16 bits
EVEN = int(PARTS + SLOPE)
Field = NDArray[np.int8]
_U16 = NDArray[np.uint16]

_BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.int16)


def field_of(payload: Payload, height_px: int, width_px: int) -> Field:
    """What is added to each pixel's three colours on even grounds that are not dark, in PARTS of a step: int8 [height,
    width].
    """
    amplitude = AMPLITUDE * min(max(min(height_px, width_px) / WHOLE_FROM_PX, 0.6), 1.0)
    smooth = amplitude * spread(tile_of(payload), height_px, width_px, chip_px(height_px, width_px))
    return np.asarray(np.rint(PARTS * smooth), np.int8)


def cell_px(height_px: int, width_px: int) -> int:
    """Side of a cell whose mean is taken, pixels."""
    return max(min(height_px, width_px) // CELLS_ACROSS_SHORTER_SIDE, EVERY_ROW)


@lru_cache(maxsize=8)
def _field(payload: Payload, height_px: int, width_px: int) -> Field:
    """As `field_of`, for each colour: int8 [height, 3 * width]."""
    return np.repeat(field_of(payload, height_px, width_px), 3, axis=1)


@lru_cache(maxsize=8)
def _thresholds(width_px: int) -> NDArray[np.int16]:
    """Of the dithering, for each colour of four rows: int16 [4, 3 * width], in 1 / PARTS**2 of a step."""
    across = np.tile(PARTS * _BAYER + PARTS // 2, (1, -(-width_px // 4)))[:, :width_px]
    return np.repeat(across, 3, axis=1)


@inlined
def _inverse(lifted: int, count: int) -> int:
    return (2 * INVERSE * count + lifted) // (2 * lifted)


@kernel
def _inverses(canvas: Mask, cell: int) -> _U16:
    """INVERSE over the brightness of each cell, of each colour: uint16 [cells down, 3 * cells across]."""
    rows, columns = canvas.shape
    down, across = (rows + cell - 1) // cell, (columns // 3 + cell - 1) // cell
    out = np.empty((down, 3 * across), np.uint16)
    sums = np.empty(columns, np.uint16)
    for j in range(down):
        sums[:] = 0
        taken = 0
        for y in range(j * cell, min((j + 1) * cell, rows), EVERY_ROW):
            row = canvas[y]
            taken += 1
            for x in range(columns):
                sums[x] += row[x]
        for i in range(across):
            first, last = i * cell, min((i + 1) * cell, columns // 3)
            red = green = blue = 0
            for x in range(first, last):
                red += sums[3 * x]
                green += sums[3 * x + 1]
                blue += sums[3 * x + 2]
            count = taken * (last - first)
            out[j, 3 * i] = _inverse(red + LIFT * count, count)
            out[j, 3 * i + 1] = _inverse(green + LIFT * count, count)
            out[j, 3 * i + 2] = _inverse(blue + LIFT * count, count)
    return out


@lru_cache(maxsize=8)
def _ways(width_px: int, cell: int) -> tuple[NDArray[np.int32], NDArray[np.int32], _U16]:
    """For each colour of a row of pixels: the colour of the cell whose middle is before it, that of the next, and how
    far it lies on the way there, in PARTS. Each [3 * width].
    """
    at = 2 * np.arange(width_px) + 1 - cell
    before, last = at // (2 * cell), -(-width_px // cell) - 1
    share = PARTS * (at - 2 * cell * before) // (2 * cell)
    cells = [np.clip(place, 0, last)[:, None] * 3 + np.arange(3) for place in (before, before + 1)]
    return cells[0].ravel().astype(np.int32), cells[1].ravel().astype(np.int32), np.repeat(share, 3).astype(np.uint16)


@kernel
def _across(inverses: _U16, one: NDArray[np.int32], other: NDArray[np.int32], share: _U16, out: _U16) -> None:
    """One row of cells, joined by straight lines: uint16 [3 * width]."""
    for x in range(out.size):
        before, after = np.int32(inverses[one[x]]), np.int32(inverses[other[x]])
        out[x] = (before * PARTS + (after - before) * np.int32(share[x]) + PARTS // 2) // PARTS


@kernel
def _add_row(
    row: Mask, full: Field, threshold: NDArray[np.int16], above: _U16, below: _U16, rest: np.uint16, share: np.uint16
) -> None:
    """All in 16 bits, so that as many colours as can be are worked on at once."""
    for x in range(row.size):
        before = np.int16(row[x])
        lifted = np.uint16(np.uint16(np.uint16(row[x]) + np.uint16(LIFT)) << np.uint16(2))
        inverse = np.uint16(np.uint16(above[x] * rest) + np.uint16(below[x] * share))
        over = np.int16(np.uint16(np.uint32(np.uint32(lifted) * np.uint32(inverse)) >> np.uint32(16)))
        even = max(min(np.int16(np.int16(EVEN) - over), np.int16(MOST_SHARE)), np.int16(LEAST_SHARE))
        part = min(np.int16(before + np.int16(BLACK_SHARE)), even)
        added = np.int16(np.int16(np.int16(full[x]) * part) + threshold[x]) >> np.int16(8)
        row[x] = np.uint8(min(max(np.int16(before + np.int16(added)), np.int16(0)), np.int16(255)))


@kernel
def _add(
    canvas: Mask,
    field: Field,
    thresholds: NDArray[np.int16],
    ways: tuple[NDArray[np.int32], NDArray[np.int32], _U16],
    cell: int,
) -> None:
    rows, columns = canvas.shape
    one, other, way = ways
    inverses = _inverses(canvas, cell)
    last = len(inverses) - 1
    above, below = np.empty(columns, np.uint16), np.empty(columns, np.uint16)
    _across(inverses[0], one, other, way, below)
    of = -2
    for y in range(rows):
        at = 2 * y + 1 - cell
        j = at // (2 * cell)
        if j != of:
            of = j
            above, below = below, above
            _across(inverses[min(j + 1, last)], one, other, way, below)
        share = np.uint16(PARTS * (at - 2 * cell * j) // (2 * cell))
        _add_row(canvas[y], field[y], thresholds[y % 4], above, below, np.uint16(PARTS - share), share)


class Marker:
    """Marks pictures with one payload. Holds no memory of them; may be used from several threads."""

    def __init__(self, payload: Payload) -> None:
        self.payload = payload

    def apply(self, canvas_HW3: Rgb) -> None:
        """Marks uint8 [H, W, 3], C-contiguous, in place."""
        height, width = canvas_HW3.shape[:2]
        canvas, cell = canvas_HW3.reshape(height, width * 3), cell_px(height, width)
        _add(canvas, _field(self.payload, height, width), _thresholds(width), _ways(width, cell), cell)
