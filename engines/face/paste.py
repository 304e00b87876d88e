"""A drawn face laid back into the very frame that its crop was cut from: the face itself, or how it changed one that
was drawn on the frame already."""

from __future__ import annotations

import math
from concurrent.futures import Executor

import numpy as np

from engines.face.align import inverse
from engines.jit import kernel
from engines.types import Floats, Rgb

FINER = 2.0  # crop pixels per frame pixel from which the crop is averaged before it is sampled


def paste(
    onto_HW3: Rgb, face_3SS: Floats, alpha_SS: Floats, crop_from_frame: Floats, helper: Executor | None = None
) -> None:
    """Blends the drawn crop into `onto`, in place.

    onto_HW3         uint8 [H, W, 3]; pixels where alpha is 0, and all outside of the crop, keep their value to the bit
    face_3SS         float32 [3, S, S], finite, -1..1; what lies beyond is cut off
    alpha_SS         float32 [S, S], 0..1 (engines.face.region.Region)
    crop_from_frame  float32 [2, 3], the transform by which this crop was cut from this frame
    helper           does the upper half meanwhile
    """
    _lay(onto_HW3, coloured(face_3SS, alpha_SS), alpha_SS, crop_from_frame, helper)


def paste_change(
    onto_HW3: Rgb,
    face_3SS: Floats,
    before_3SS: Floats,
    alpha_SS: Floats,
    crop_from_frame: Floats,
    helper: Executor | None = None,
) -> None:
    """Adds to `onto`, in place, what a network changed of a face that is drawn there already: as fine as the frame,
    however coarse the crop. before_3SS: the crop before the change, as face_3SS; the others as of `paste`."""
    _lay(onto_HW3, changed(face_3SS, before_3SS, alpha_SS), alpha_SS, crop_from_frame, helper)


def _lay(onto_HW3: Rgb, colours: Floats, alpha_SS: Floats, crop_from_frame: Floats, helper: Executor | None) -> None:
    rows, columns = np.flatnonzero(alpha_SS.any(axis=1)), np.flatnonzero(alpha_SS.any(axis=0))
    if not len(rows):
        return
    size_px = alpha_SS.shape[0]
    there = crop_from_frame.astype(np.float64)
    scale = math.sqrt(abs(float(np.linalg.det(there[:, :2]))))
    while scale >= FINER and size_px % 2 == 0:
        colours, size_px, scale = halved(colours), size_px // 2, scale / 2
        there = (there - [[0, 0, 0.5], [0, 0, 0.5]]) / 2
    corners = np.array([(x, y, 1) for x in (columns[0] - 1, columns[-1] + 1) for y in (rows[0] - 1, rows[-1] + 1)])
    in_frame = corners @ inverse(crop_from_frame).T
    left, top = np.maximum(np.floor(in_frame.min(axis=0)), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(in_frame.max(axis=0)) + 1, onto_HW3.shape[1::-1]).astype(int).tolist()
    from_frame, middle = there.astype(np.float32), top if helper is None else (top + bottom) // 2
    upper = None if helper is None else helper.submit(blend, onto_HW3, colours, from_frame, left, top, right, middle)
    blend(onto_HW3, colours, from_frame, left, middle, right, bottom)
    if upper is not None:
        upper.result()


@kernel
def coloured(face_3SS: Floats, alpha_SS: Floats) -> Floats:
    """The face as colour times opacity, and opacity: float32 [S, S, 4], 0..255 and 0..1. -1..1 becomes 0..255."""
    size = alpha_SS.shape[0]
    out = np.zeros((size, size, 4), np.float32)
    for row in range(size):
        for column in range(size):
            alpha = alpha_SS[row, column]
            if alpha <= 0:
                continue
            out[row, column, 3] = alpha
            for c in range(3):
                level = (face_3SS[c, row, column] + np.float32(1)) * np.float32(127.5)
                out[row, column, c] = min(max(level, np.float32(0)), np.float32(255)) * alpha
    return out


@kernel
def changed(face_3SS: Floats, before_3SS: Floats, alpha_SS: Floats) -> Floats:
    """As `coloured`, of the difference of two pictures: it hides nothing of what is there, so its opacity is 0."""
    size = alpha_SS.shape[0]
    out = np.zeros((size, size, 4), np.float32)
    for row in range(size):
        for column in range(size):
            share = alpha_SS[row, column] * np.float32(127.5)
            if share <= 0:
                continue
            for c in range(3):
                now = min(max(face_3SS[c, row, column], np.float32(-1)), np.float32(1))
                out[row, column, c] = (now - before_3SS[c, row, column]) * share
    return out


@kernel
def halved(colours_SS4: Floats) -> Floats:
    """The mean of every 2x2 pixels."""
    size = colours_SS4.shape[0] // 2
    out = np.empty((size, size, 4), np.float32)
    for row in range(size):
        for column in range(size):
            for k in range(4):
                upper = colours_SS4[2 * row, 2 * column, k] + colours_SS4[2 * row, 2 * column + 1, k]
                lower = colours_SS4[2 * row + 1, 2 * column, k] + colours_SS4[2 * row + 1, 2 * column + 1, k]
                out[row, column, k] = (upper + lower) * np.float32(0.25)
    return out


@kernel
def blend(
    onto_HW3: Rgb, colours_SS4: Floats, there: Floats, left_px: int, top_px: int, right_px: int, bottom_px: int
) -> None:
    """Samples `colours` linearly at every pixel of a box of the frame, and lays them over what is there.

    Where all four are 0 a pixel keeps its value to the bit.
    """
    last = np.float32(colours_SS4.shape[0] - 1)
    for row in range(top_px, bottom_px):
        to_y, from_x = np.uint32(row), there[0, 1] * np.float32(row) + there[0, 2]
        from_y = there[1, 1] * np.float32(row) + there[1, 2]
        for column in range(left_px, right_px):
            x = there[0, 0] * np.float32(column) + from_x
            y = there[1, 0] * np.float32(column) + from_y
            if not (x >= 0 and x < last and y >= 0 and y < last):
                continue
            x0, y0 = np.uint32(np.int32(x)), np.uint32(np.int32(y))
            x1, y1 = x0 + np.uint32(1), y0 + np.uint32(1)
            fx, fy = x - np.float32(x0), y - np.float32(y0)
            d = fx * fy
            b, c = fx - d, fy - d
            a = np.float32(1) - fx - c
            alpha = a * colours_SS4[y0, x0, 3] + b * colours_SS4[y0, x1, 3]
            alpha += c * colours_SS4[y1, x0, 3] + d * colours_SS4[y1, x1, 3]
            clear, to_x = np.float32(1) - alpha, np.uint32(column)
            for k in range(3):
                level = a * colours_SS4[y0, x0, k] + b * colours_SS4[y0, x1, k]
                level += c * colours_SS4[y1, x0, k] + d * colours_SS4[y1, x1, k]
                level += clear * np.float32(onto_HW3[to_y, to_x, k]) + np.float32(0.5)
                onto_HW3[to_y, to_x, k] = np.uint8(min(max(level, np.float32(0)), np.float32(255)))
