"""What the numbers of decoded video mean: matrices from Y, U, V to red, green, blue (ITU-R BT.601, BT.709)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from engines.types import Floats

Standard = Literal["bt601", "bt709"]
LUMA_RED_BLUE: dict[Standard, tuple[float, float]] = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def rgb_from_yuv_matrix(standard: Standard, full_range: bool) -> Floats:
    """float32 [3, 4]: takes (Y, U, V, 1), each 0..255 as stored, to R, G, B, 0..255.

    Limited range keeps luma in 16..235 and chroma in 16..240 around 128.
    """
    red, blue = LUMA_RED_BLUE[standard]
    green = 1 - red - blue
    luma, black, chroma = (1.0, 0.0, 1.0) if full_range else (255 / 219, 16.0, 255 / 224)
    from_u = np.array([0, -2 * blue * (1 - blue) / green, 2 * (1 - blue)]) * chroma
    from_v = np.array([2 * (1 - red), -2 * red * (1 - red) / green, 0]) * chroma
    constant = -luma * black - 128 * (from_u + from_v)
    return np.asarray(np.stack([np.full(3, luma), from_u, from_v, constant], axis=1), np.float32)
