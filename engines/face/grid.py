"""The small grid over a face's surroundings on which occlusion is told: a square, turned as the head is.

Legend: G = GRID_PX cells a side. The centre of a cell is at integer coordinates, as everywhere.
"""

from __future__ import annotations

import math

import numpy as np

from engines.face.landmarks import SQUARE_SCALE, Square, square_of_points
from engines.jit import kernel
from engines.types import Floats, Rgb

GRID_PX = 80
GRID_SCALE = 1.4  # the grid's side over the longer side of the landmarks' box
DARK = 8.0  # added to every channel before a logarithm: sensor noise says nothing about colour


def grid_square(points_px: Floats) -> Square:
    """The square that the grid covers."""
    square = square_of_points(points_px)
    return Square(square.x_px, square.y_px, square.size_px * GRID_SCALE / SQUARE_SCALE, square.roll_rad)


def grid_from_frame(square: Square) -> Floats:
    """The affine map that takes frame pixels into the grid of a square. float32 [2, 3]."""
    scale = GRID_PX / square.size_px
    cos, sin = math.cos(square.roll_rad) * scale, math.sin(square.roll_rad) * scale
    middle = (GRID_PX - 1) / 2
    return np.array(
        [
            [cos, sin, middle - cos * square.x_px - sin * square.y_px],
            [-sin, cos, middle + sin * square.x_px - cos * square.y_px],
        ],
        np.float32,
    )


def frame_from_grid(square: Square) -> Floats:
    """The inverse of `grid_from_frame`. float32 [2, 3]."""
    scale = square.size_px / GRID_PX
    cos, sin = math.cos(square.roll_rad) * scale, math.sin(square.roll_rad) * scale
    middle = (GRID_PX - 1) / 2
    return np.array(
        [
            [cos, -sin, square.x_px - middle * (cos - sin)],
            [sin, cos, square.y_px - middle * (sin + cos)],
        ],
        np.float32,
    )


def to_grid(points_N2: Floats, grid_from_frame_23: Floats) -> Floats:
    """Points of the frame in cells of the grid. float32 [N, 2]."""
    points: Floats = points_N2 @ grid_from_frame_23[:, :2].T + grid_from_frame_23[:, 2]
    return points


@kernel
def grid_colours(rgb_HW3: Rgb, frame_from_grid_23: Floats, side: int) -> Floats:
    """Mean of 3x3 samples of every cell: brightness (log), red and blue to green (log). float32 [side, side, 3]."""
    height, width = rgb_HW3.shape[0], rgb_HW3.shape[1]
    out = np.empty((side, side, 3), np.float32)
    a, b, c = frame_from_grid_23[0, 0], frame_from_grid_23[0, 1], frame_from_grid_23[0, 2]
    d, e, f = frame_from_grid_23[1, 0], frame_from_grid_23[1, 1], frame_from_grid_23[1, 2]
    for row in range(side):
        for column in range(side):
            reds = greens = blues = np.int32(0)
            for part_row in range(-1, 2):
                down = row + part_row / np.float32(3)
                for part_column in range(-1, 2):
                    across = column + part_column / np.float32(3)
                    x = np.uint32(min(max(int(a * across + b * down + c + np.float32(0.5)), 0), width - 1))
                    y = np.uint32(min(max(int(d * across + e * down + f + np.float32(0.5)), 0), height - 1))
                    reds += np.int32(rgb_HW3[y, x, 0])
                    greens += np.int32(rgb_HW3[y, x, 1])
                    blues += np.int32(rgb_HW3[y, x, 2])
            red, green, blue = reds / 9 + DARK, greens / 9 + DARK, blues / 9 + DARK
            out[row, column, 0] = np.log((red + 2 * green + blue) / 4)
            out[row, column, 1] = np.log(red / green)
            out[row, column, 2] = np.log(blue / green)
    return out
