"""Connected areas on the small grid: what of a deviation is large and solid enough to be a thing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.jit import kernel
from engines.types import Floats, Mask

Labels = NDArray[np.int32]


@kernel
def components(on_GG: Mask) -> tuple[Labels, int]:
    """Numbers the 8-connected areas of cells that are not 0, from 1 on."""
    side = on_GG.shape[0]
    labels = np.zeros((side, side), np.int32)
    stack = np.empty((side * side, 2), np.int32)
    count = 0
    for row in range(side):
        for column in range(side):
            if on_GG[row, column] == 0 or labels[row, column] != 0:
                continue
            count += 1
            labels[row, column] = count
            stack[0, 0], stack[0, 1] = row, column
            top = 1
            while top > 0:
                top -= 1
                y, x = stack[top, 0], stack[top, 1]
                for next_y in range(max(y - 1, 0), min(y + 2, side)):
                    for next_x in range(max(x - 1, 0), min(x + 2, side)):
                        if on_GG[next_y, next_x] != 0 and labels[next_y, next_x] == 0:
                            labels[next_y, next_x] = count
                            stack[top, 0], stack[top, 1] = next_y, next_x
                            top += 1
    return labels, count


@kernel
def dilate(on_GG: Mask, radius: int) -> Mask:
    """Grows by a disc of `radius` cells."""
    side = on_GG.shape[0]
    out = np.zeros_like(on_GG)
    for row in range(side):
        for column in range(side):
            if on_GG[row, column] == 0:
                continue
            for y in range(max(row - radius, 0), min(row + radius + 1, side)):
                for x in range(max(column - radius, 0), min(column + radius + 1, side)):
                    if (y - row) ** 2 + (x - column) ** 2 <= radius * radius:
                        out[y, x] = 255
    return out


@kernel
def erode(on_GG: Mask, radius: int) -> Mask:
    """Shrinks by a disc of `radius` cells; the grid's border counts as on."""
    side = on_GG.shape[0]
    out = on_GG.copy()
    for row in range(side):
        for column in range(side):
            if on_GG[row, column] != 0 and _near_off(on_GG, row, column, radius):
                out[row, column] = 0
    return out


@kernel
def _near_off(on_GG: Mask, row: int, column: int, radius: int) -> bool:
    """Whether a cell within the disc is off."""
    side = on_GG.shape[0]
    for y in range(max(row - radius, 0), min(row + radius + 1, side)):
        for x in range(max(column - radius, 0), min(column + radius + 1, side)):
            if on_GG[y, x] == 0 and (y - row) ** 2 + (x - column) ** 2 <= radius * radius:
                return True
    return False


@kernel
def grow_alike(thing_GG: Mask, colours_GG3: Floats, into_GG: Mask, nearest: float, widest: float, rounds: int) -> Mask:
    """Grows a thing into cells of `into` that look like it.

    A cell joins where it differs by less than `nearest` from a neighbour that belongs, and from the thing's mean by
    less than `widest` of its own spread and a little. The ratios count four times as much as
    brightness: they vary less.
    """
    side = thing_GG.shape[0]
    weight = np.array([1.0, 4.0, 4.0], np.float32)
    mean, square, count = np.zeros(3, np.float32), np.zeros(3, np.float32), 0
    for row in range(side):
        for column in range(side):
            if thing_GG[row, column] != 0:
                count += 1
                mean += colours_GG3[row, column]
                square += colours_GG3[row, column] ** 2
    out = thing_GG.copy()
    if count == 0:
        return out
    mean /= count
    spread = np.sqrt(np.maximum(square / count - mean * mean, np.float32(0))) + np.float32(0.15) / weight
    for _ in range(rounds):
        before = out.copy()
        joined = 0
        for row in range(1, side - 1):
            for column in range(1, side - 1):
                if before[row, column] != 0 or into_GG[row, column] == 0:
                    continue
                off = np.float32(0)
                for k in range(3):
                    off = max(off, abs(colours_GG3[row, column, k] - mean[k]) / spread[k])
                if off > widest:
                    continue
                for y, x in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                    if before[y, x] == 0:
                        continue
                    step = np.float32(0)
                    for k in range(3):
                        step = max(step, abs(colours_GG3[row, column, k] - colours_GG3[y, x, k]) * weight[k])
                    if step < nearest:
                        out[row, column] = 255
                        joined += 1
                        break
        if joined == 0:
            break
    return out


@kernel
def mean_of_nine(values_GG: Floats) -> Floats:
    """The mean over every cell and its neighbours."""
    side = values_GG.shape[0]
    out = np.empty_like(values_GG)
    for row in range(side):
        for column in range(side):
            total, count = np.float32(0), 0
            for y in range(max(row - 1, 0), min(row + 2, side)):
                for x in range(max(column - 1, 0), min(column + 2, side)):
                    total += values_GG[y, x]
                    count += 1
            out[row, column] = total / count
    return out
