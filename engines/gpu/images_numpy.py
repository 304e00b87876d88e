"""The CPU path of `engines.gpu.images`: the same functions with NumPy, and what the kernels are held against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.gpu.colour import Standard, rgb_from_yuv_matrix
from engines.types import Floats, Mask, Rgb


def rgb_from_nv12(luma_HW: Mask, chroma_hw2: Mask, standard: Standard = "bt601", full_range: bool = False) -> Rgb:
    """One picture of a hardware decoder: uint8 [H, W] and [H/2, W/2, 2] (U, V) -> RGB uint8 [H, W, 3]."""
    return _rgb_from_yuv(luma_HW, chroma_hw2[..., 0], chroma_hw2[..., 1], standard, full_range)


def rgb_from_i420(luma_HW: Mask, u_hw: Mask, v_hw: Mask, standard: Standard = "bt601", full_range: bool = False) -> Rgb:
    """One picture of a software decoder: three planes, uint8 [H, W] and twice [H/2, W/2] -> RGB uint8 [H, W, 3]."""
    return _rgb_from_yuv(luma_HW, u_hw, v_hw, standard, full_range)


def _rgb_from_yuv(luma_HW: Mask, u_hw: Mask, v_hw: Mask, standard: Standard, full_range: bool) -> Rgb:
    height, width = luma_HW.shape
    matrix = rgb_from_yuv_matrix(standard, full_range)
    yuv = (luma_HW.astype(np.float32), _enlarged(u_hw, height, width), _enlarged(v_hw, height, width))
    rgb = [row[0] * yuv[0] + row[1] * yuv[1] + row[2] * yuv[2] + row[3] for row in matrix]
    return np.asarray(np.clip(np.stack(rgb, axis=-1) + np.float32(0.5), 0, 255), np.uint8)


def _enlarged(plane_hw: Mask, height: int, width: int) -> Floats:
    """Chroma at every pixel: linear between samples that lie in the middle of their four pixels."""
    rows, columns = plane_hw.shape
    y0, y1, fy = _neighbours(0.5 * (np.arange(height, dtype=np.float32) - 0.5), rows)
    x0, x1, fx = _neighbours(0.5 * (np.arange(width, dtype=np.float32) - 0.5), columns)
    plane = plane_hw.astype(np.float32)
    upper = plane[y0][:, x0] * (1 - fx) + plane[y0][:, x1] * fx
    lower = plane[y1][:, x0] * (1 - fx) + plane[y1][:, x1] * fx
    out: Floats = upper * (1 - fy[:, None]) + lower * fy[:, None]
    return out


def _neighbours(at: Floats, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    inside = np.clip(at, 0, count - 1)
    first = np.minimum(inside.astype(np.int64), max(count - 2, 0))
    return first, np.minimum(first + 1, count - 1), (inside - first).astype(np.float32)
