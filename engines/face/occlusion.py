"""What stands in front of a face: hands, cups, microphones. First step: the grid that answers are given on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engines.face.landmarks import Square, square_of_points
from engines.types import Floats, Occlusion, Rgb, TrackedFace

GRID_PX = 80


@dataclass(slots=True)
class OcclusionState:
    """What is remembered of one person's face."""

    seen_s: float = 0.0


class Occluder:
    """Finds what covers a face. One thread at a time."""

    def init(self) -> OcclusionState:
        return OcclusionState()

    def step(self, state: OcclusionState, rgb_HW3: Rgb, face: TrackedFace, captured_s: float) -> Occlusion:
        """One face of one frame."""
        state.seen_s = captured_s
        covered = np.zeros((GRID_PX, GRID_PX), np.uint8)
        return Occlusion(covered, grid_from_frame(square_of_points(face.points_px)), 0.0)

    def close(self) -> None:
        """Frees the graphs."""


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
