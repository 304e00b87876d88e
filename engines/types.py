"""The values that travel between the stages of one frame.

Legend: H, W picture height and width in pixels; N = 478 landmarks (468 of the skin mesh, then 5 of each iris);
3 colour channels in the order red, green, blue. A picture is uint8, 0..255, sRGB, contiguous, shape [H, W, 3].
Pixel coordinates: x to the right, y down, the centre of the top left pixel is (0, 0). An affine map `b_from_a`
is float32 [2, 3] and takes (x, y, 1) of a to (x, y) of b.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]

LANDMARKS = 478
SKIN_LANDMARKS = 468


class Status(StrEnum):
    """What the picture of a step shows."""

    DRAWN = "drawn"  # the swap of this very frame
    WARMING = "warming"  # nothing was drawn yet: the standby picture
    NO_FACE = "no_face"  # the face was lost a moment ago: the last good picture, held
    STANDBY = "standby"  # nothing safe to show: the standby picture


@dataclass(frozen=True, slots=True)
class Box:
    """An upright rectangle in pixels; the right and lower edges are outside of it."""

    left_px: float
    top_px: float
    right_px: float
    bottom_px: float

    @property
    def width_px(self) -> float:
        return self.right_px - self.left_px

    @property
    def height_px(self) -> float:
        return self.bottom_px - self.top_px


@dataclass(frozen=True, slots=True)
class TrackedFace:
    """One person's face in one frame.

    person     number of the person, stable for as long as the tracker remembers them
    points_px  float32 [478, 3], filtered; x and y in frame pixels, z on the same scale, smaller is nearer
    raw_px     float32 [478, 3], the same before the filter
    score      0..1, how sure the landmark net is that this is a face
    """

    person: int
    points_px: Floats
    raw_px: Floats
    score: float


@dataclass(frozen=True, slots=True)
class Tracking:
    """What one frame holds: the faces to draw, first the one the session is locked to, and everybody else.

    broken  this frame does not go on from the one before: a cut, a jump back in time, another picture size
    """

    faces: tuple[TrackedFace, ...]
    bystanders_px: tuple[Box, ...]
    found: int
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Occlusion:
    """What stands in front of a face: 255 where something covers it, on a small grid over the face's surroundings."""

    covered_HW: Mask
    mask_from_frame: Floats
    covered_share: float  # of the face's area, 0..1


@dataclass(frozen=True, slots=True)
class StepResult:
    """The picture that may leave the machine, and what it shows."""

    rgb_HW3: Rgb
    status: Status
    faces_found: int
    stage_ms: Mapping[str, float] = field(default_factory=dict)
