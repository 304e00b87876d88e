"""A z-buffered, perspective-correct triangle rasteriser for small meshes, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.jit import kernel
from engines.types import Floats, Mask

EDGE = 1e-4  # barycentric slack, so that neighbours leave no gap between them; the z-buffer settles who wins

Indices = NDArray[np.int32]


@kernel
def rasterise(
    points_V3: Floats,
    triangles_T3: Indices,
    part_T: Mask,
    values_VK: Floats,
    camera_px: float,
    height_px: int,
    width_px: int,
) -> tuple[Floats, Mask]:
    """Interpolates values over the mesh's visible surface.

    points_V3   float32 [V, 3], pixels; z on the same scale, smaller is nearer
    part_T      uint8 [T], a number > 0 per triangle; triangles that face away (positive winding) are left out
    values_VK   float32 [V, K], interpolated with perspective: linear in value/depth (Blinn, 1992)
    camera_px   distance from the eye to z = 0, pixels; large means orthographic

    Returns the values, float32 [height, width, K], and the part seen in each pixel, uint8, 0 where there is none.
    """
    count = values_VK.shape[1]
    values = np.zeros((height_px, width_px, count), np.float32)
    part = np.zeros((height_px, width_px), np.uint8)
    nearness = np.zeros((height_px, width_px), np.float32)
    for t in range(triangles_T3.shape[0]):
        a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
        ax, ay = points_V3[a, 0], points_V3[a, 1]
        bx, by = points_V3[b, 0], points_V3[b, 1]
        cx, cy = points_V3[c, 0], points_V3[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area >= -1e-6:
            continue
        wa = camera_px / max(camera_px + points_V3[a, 2], np.float32(1))
        wb = camera_px / max(camera_px + points_V3[b, 2], np.float32(1))
        wc = camera_px / max(camera_px + points_V3[c, 2], np.float32(1))
        left = max(int(np.ceil(min(ax, bx, cx))), 0)
        right = min(int(np.floor(max(ax, bx, cx))), width_px - 1)
        top = max(int(np.ceil(min(ay, by, cy))), 0)
        bottom = min(int(np.floor(max(ay, by, cy))), height_px - 1)
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                share_a = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                share_b = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                share_c = 1 - share_a - share_b
                if share_a < -EDGE or share_b < -EDGE or share_c < -EDGE:
                    continue
                near_a, near_b, near_c = share_a * wa, share_b * wb, share_c * wc
                near = near_a + near_b + near_c
                if near <= nearness[y, x]:
                    continue
                nearness[y, x] = near
                part[y, x] = part_T[t]
                for k in range(count):
                    values[y, x, k] = (
                        near_a * values_VK[a, k] + near_b * values_VK[b, k] + near_c * values_VK[c, k]
                    ) / near
    return values, part
