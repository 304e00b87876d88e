"""How virtual cameras lay out a picture: planar or packed YUV (BT.601, 16 to 235) of whole rows without gaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from engines import Rgb, rgb_to_yuv420
from streamer.camera.sink import PixelFormat

Bytes = NDArray[np.uint8]


def picture_bytes(pixels: PixelFormat, width_px: int, height_px: int) -> int:
    """Of one picture; sides are even."""
    return 2 * width_px * height_px if pixels == "yuyv" else width_px * height_px * 3 // 2


def row_bytes(pixels: PixelFormat, width_px: int) -> int:
    """Of one row of the first plane."""
    return 2 * width_px if pixels == "yuyv" else width_px


def to_i420(rgb_HW3: Rgb) -> Bytes:
    """Planes Y, U, V one after the other, BT.601 from 16 to 235."""
    height, width = rgb_HW3.shape[:2]
    out = np.empty(width * height * 3 // 2, np.uint8)
    y, u, v = np.split(out, (width * height, width * height * 5 // 4))
    half = (height // 2, width // 2)
    rgb_to_yuv420(np.ascontiguousarray(rgb_HW3), y.reshape(height, width), u.reshape(half), v.reshape(half))
    return out


def to_nv12(rgb_HW3: Rgb) -> Bytes:
    """Plane Y, then U and V in turns."""
    planar = to_i420(rgb_HW3)
    luma = rgb_HW3.shape[0] * rgb_HW3.shape[1]
    out = np.empty_like(planar)
    out[:luma] = planar[:luma]
    out[luma::2], out[luma + 1 :: 2] = planar[luma : luma * 5 // 4], planar[luma * 5 // 4 :]
    return out


def to_yuyv(rgb_HW3: Rgb) -> Bytes:
    """Y U Y V of two pixels in a row; colour of two rows alike."""
    height, width = rgb_HW3.shape[:2]
    planar = to_i420(rgb_HW3)
    half = (height // 2, width // 2)
    y, u, v = np.split(planar, (width * height, width * height * 5 // 4))
    out = np.empty((height, width // 2, 4), np.uint8)
    out[..., 0::2] = y.reshape(height, width // 2, 2)
    out[..., 1] = np.repeat(u.reshape(half), 2, axis=0)
    out[..., 3] = np.repeat(v.reshape(half), 2, axis=0)
    return out.reshape(-1)


LAYOUTS: Mapping[PixelFormat, Callable[[Rgb], Bytes]] = MappingProxyType(
    {"i420": to_i420, "nv12": to_nv12, "yuyv": to_yuyv}
)
