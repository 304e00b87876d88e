"""Takes pixels of the driver's skin to the tone of the face that is drawn.

A colour is multiplied, never painted, so shadows, stubble and folds stay; haze lies over skin as over everything, and
is left where it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from engines.jit import inlined
from engines.types import Floats, Mask

HAZE, GAIN, NECK_GAIN = range(3)


class SkinTone(NamedTuple):
    """What pixels around a face are toned by. Made by `engines.face.skin.observe`.

    share_FF   uint8, 255 where the picture is skin that takes the face's tone; empty: nothing is known of the skin
    grid_3     float32: x and y of its first place in the frame, and places a pixel
    gains_33   float32, by channel: haze, 0..255; what is multiplied above it, at the head and at the neck
    neck_3     float32: (a, b, c), how far a place (x, y) of the frame belongs to the neck: a x + b y + c, within 0..1
    """

    share_FF: Mask
    grid_3: Floats
    gains_33: Floats
    neck_3: Floats


def unknown() -> SkinTone:
    """Nothing is known of the driver's skin: the surroundings are graded by likeness to the face's mean colour."""
    none = np.zeros(3, np.float32)
    return SkinTone(np.zeros((0, 0), np.uint8), none, np.ones((3, 3), np.float32), none)


@inlined
def skin_share(x: np.float32, y: np.float32, skin: SkinTone) -> np.float32:
    """How far a place of the driver's picture takes the face's tone, 0..1."""
    share = skin.share_FF
    across, down = (x - skin.grid_3[0]) * skin.grid_3[2], (y - skin.grid_3[1]) * skin.grid_3[2]
    if not (0 <= across < np.float32(share.shape[1] - 1) and 0 <= down < np.float32(share.shape[0] - 1)):
        return np.float32(0)
    x0, y0 = np.uint32(np.int32(across)), np.uint32(np.int32(down))
    x1, y1 = x0 + np.uint32(1), y0 + np.uint32(1)
    fx, fy = np.float32(across - np.float32(x0)), np.float32(down - np.float32(y0))
    upper = np.float32(share[y0, x0]) + fx * (np.float32(share[y0, x1]) - np.float32(share[y0, x0]))
    lower = np.float32(share[y1, x0]) + fx * (np.float32(share[y1, x1]) - np.float32(share[y1, x0]))
    return np.float32((upper + fy * (lower - upper)) * np.float32(1 / 255))


@inlined
def toned(
    red: np.float32,
    green: np.float32,
    blue: np.float32,
    x: np.float32,
    y: np.float32,
    share: np.float32,
    skin: SkinTone,
) -> tuple[np.float32, np.float32, np.float32]:
    """A pixel at a place of the driver's picture, taken to the face's tone by a share: what lies above the haze."""
    if share <= 0:
        return red, green, blue
    gains = skin.gains_33
    neck = min(max(skin.neck_3[0] * x + skin.neck_3[1] * y + skin.neck_3[2], np.float32(0)), np.float32(1))
    of_red = gains[1, 0] + neck * (gains[2, 0] - gains[1, 0]) - np.float32(1)
    of_green = gains[1, 1] + neck * (gains[2, 1] - gains[1, 1]) - np.float32(1)
    of_blue = gains[1, 2] + neck * (gains[2, 2] - gains[1, 2]) - np.float32(1)
    return (
        red + share * of_red * max(red - gains[0, 0], np.float32(0)),
        green + share * of_green * max(green - gains[0, 1], np.float32(0)),
        blue + share * of_blue * max(blue - gains[0, 2], np.float32(0)),
    )
