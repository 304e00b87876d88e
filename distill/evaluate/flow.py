"""Optical flow between two small pictures: pyramidal Lucas and Kanade (1981; Bouguet 2000), dense. NumPy and SciPy.

H, W picture. Flow is float32 [H, W, 2], x then y, pixels: the place p of `now` shows what `before` has at p + flow(p).

Made for aligned crops of a face at about 128 px, where motion is a few pixels at most. Where a picture has no texture
the flow stays near that of its surroundings at the coarser level. tests/distill/evaluate/test_flow.py proves it on
known motion.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from engines.types import Floats

Grey = NDArray[np.float32]  # [H, W], levels 0..255
LEVELS, ITERATIONS = 3, 4
WINDOW_PX = 2.5  # standard deviation of the window in which motion is taken for one
STIFF = 20.0  # levels^2 per px^2, added to the structure tensor: below that contrast nothing moves
MOST_STEP_PX = 1.5  # of one iteration: more is no solution of the linearised equation
SAME_PX = 0.7  # there and back again: what ends farther from its start was covered, or is unknown


def flow(now_HW: Grey, before_HW: Grey) -> Floats:
    """Where each place of `now` was in `before`."""
    shape = now_HW.shape
    nows, befores = _pyramid(now_HW), _pyramid(before_HW)
    found = np.zeros((*nows[-1].shape, 2), np.float32)
    for level in range(len(nows) - 1, -1, -1):
        found = _refined(nows[level], befores[level], _resized(found, nows[level].shape))
    assert found.shape[:2] == shape
    return found


def _pyramid(picture_HW: Grey) -> list[Grey]:
    levels = [np.asarray(picture_HW, np.float32)]
    while len(levels) < LEVELS and min(levels[-1].shape) >= 32:
        levels.append(ndimage.gaussian_filter(levels[-1], 1.0, mode="nearest")[::2, ::2])
    return levels


def _resized(found: Floats, shape: tuple[int, ...]) -> Floats:
    if found.shape[:2] == shape:
        return found
    rows, columns = (
        np.minimum(np.arange(side, dtype=np.float32) / 2, old - 1) for side, old in zip(shape, found.shape)
    )
    at = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    return np.stack([2 * ndimage.map_coordinates(found[..., i], at, order=1, mode="nearest") for i in (0, 1)], -1)


def _refined(now: Grey, before: Grey, found: Floats) -> Floats:
    dy, dx = np.gradient(now)
    xx, xy, yy = (_window(a * b) for a, b in ((dx, dx), (dx, dy), (dy, dy)))
    xx, yy = xx + STIFF, yy + STIFF
    determinant = xx * yy - xy * xy
    for _ in range(ITERATIONS):
        change = warped(before, found) - now
        bx, by = _window(dx * change), _window(dy * change)
        step = np.stack([(xy * by - yy * bx) / determinant, (xy * bx - xx * by) / determinant], -1)
        length = np.maximum(np.linalg.norm(step, axis=-1, keepdims=True) / MOST_STEP_PX, 1)
        found = ndimage.median_filter(found + step / length, size=(3, 3, 1), mode="nearest")
    return found.astype(np.float32)


def _window(picture: Grey) -> Grey:
    return np.asarray(ndimage.gaussian_filter(picture, WINDOW_PX, truncate=2.5, mode="nearest"))


def warped(picture: Floats, found: Floats, order: int = 1) -> Floats:
    """`before` [H, W] or [H, W, C] as it would look now: sampled at p + flow(p); outside the edge is repeated."""
    height, width = found.shape[:2]
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    at = np.stack([rows + found[..., 1], columns + found[..., 0]])
    if picture.ndim == 2:
        return np.asarray(ndimage.map_coordinates(picture, at, np.float32, order=order, mode="nearest"))
    planes = [ndimage.map_coordinates(picture[..., c], at, np.float32, order=order, mode="nearest") for c in range(3)]
    return np.stack(planes, -1)


def consistent(found: Floats, back: Floats) -> NDArray[np.bool_]:
    """Where the way there and back ends at its start, inside of the picture: elsewhere it was covered. bool [H, W].

    back: the flow with both pictures' roles exchanged.
    """
    height, width = found.shape[:2]
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    x, y = columns + found[..., 0], rows + found[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    round_trip = found + np.stack([warped(back[..., i], found) for i in (0, 1)], -1)
    return np.asarray(inside & (np.linalg.norm(round_trip, axis=-1) < SAME_PX))
