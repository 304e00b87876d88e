"""The driver's own hair where it hangs into the face: it stays in the picture, in front of the identity's skin.

Works on a small atlas of the driver's face, sampled through the landmarks, with the light taken off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from engines.face.cleaning import LUMINANCE, log_colour
from engines.face.compose import patch_means
from engines.face.mesh import face_model
from engines.face.rasterise import rasterise
from engines.face.relight import Light, shading
from engines.face.zones import Bools, zones
from engines.types import SKIN_LANDMARKS, Floats, Mask, Rgb

SIDE = 64  # texels across the atlas
MEMORY_S = 0.2
DARK, STRANGE = 0.42, 0.30  # log units from the skin: brightness below, tint beyond
GLARE = 0.15  # above the skin's brightness, in log units: from here on a strange tint is a burnt-out highlight
FAR = 1e6


@dataclass(slots=True)
class OwnHair:
    """Smoothed mask of one driver, float32 [64, 64], 0..1."""

    hair_UU: Floats | None = None
    captured_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where each texel of the hairy zones lies on the mesh: its number on this grid, three landmarks and their shares;
    and the rim of the face on this grid."""

    texel_T: NDArray[np.int64]
    corner_T3: NDArray[np.int64]
    share_T3: Floats
    rim: Bools


@lru_cache(maxsize=1)
def _grid() -> _Grid:
    model = face_model()
    atlas = np.concatenate([model.uv_S2 * (SIDE - 1), np.zeros((SKIN_LANDMARKS, 1))], axis=1).astype(np.float32)
    triangles = model.triangles_T3
    corners = np.zeros((SIDE * SIDE, 3), np.int64)
    shares = np.zeros((SIDE * SIDE, 3), np.float32)
    for t, triangle in enumerate(triangles):
        one = np.zeros((SKIN_LANDMARKS, 3), np.float32)
        one[triangle] = np.eye(3, dtype=np.float32)
        seen, part = rasterise(atlas, triangles[t : t + 1], np.ones(1, np.uint8), one, FAR, SIDE, SIDE)
        hit = part.reshape(-1) > 0
        corners[hit], shares[hit] = triangle, seen.reshape(-1, 3)[hit]
    places = zones()
    step = places.oval.shape[0] // SIDE
    oval = places.oval[step // 2 :: step, step // 2 :: step]
    mine = places.hairy & ~places.brows & ~places.beard  # a raised brow is no fringe, and a beard goes
    hairy = mine[step // 2 :: step, step // 2 :: step] & (shares.sum(axis=1).reshape(SIDE, SIDE) > 0)
    texels = np.flatnonzero(hairy.reshape(-1))
    return _Grid(texels, corners[texels], shares[texels], oval & ~ndimage.binary_erosion(oval, iterations=2))


def own_hair(
    memory: OwnHair, rgb_HW3: Rgb, points_px: Floats, normals_S3: Floats, light: Light, captured_s: float
) -> Mask:
    """Where the driver's hair lies over the face: uint8 [64, 64] in the atlas' square, 255 is hair. Feeds `memory`."""
    grid = _grid()
    at = np.einsum("tk,tkc->tc", grid.share_T3, points_px[grid.corner_T3]).astype(np.float32)
    normals = np.einsum("tk,tkc->tc", grid.share_T3, normals_S3[grid.corner_T3]).astype(np.float32)
    reach = max(int(np.ptp(points_px[:SKIN_LANDMARKS, 0]) / 90), 1)
    flat = log_colour(patch_means(rgb_HW3, at, reach)) - shading(light, normals) - light.mean_C
    brightness = flat @ LUMINANCE
    strange = np.abs(flat - brightness[:, None]).max(axis=1)
    odd = np.zeros((SIDE, SIDE), bool)
    odd.reshape(-1)[grid.texel_T] = (brightness < -DARK) | ((strange > STRANGE) & (brightness < GLARE))
    begins = odd & grid.rim
    joined = ndimage.binary_propagation(begins, mask=odd) if begins.any() else begins
    now = ndimage.uniform_filter(joined.astype(np.float32), 3)
    if memory.hair_UU is None:
        memory.hair_UU = now
    else:
        share = 1 - float(np.exp(-max(captured_s - memory.captured_s, 0.0) / MEMORY_S))
        memory.hair_UU = memory.hair_UU + share * (now - memory.hair_UU)
    memory.captured_s = captured_s
    return np.asarray(memory.hair_UU * 255, np.uint8)
