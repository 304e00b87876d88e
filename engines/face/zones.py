"""Where things are in the UV atlas: the same for everybody, because the atlas is made of landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from engines.face.mesh import (
    FACE_OVAL,
    INNER_LIPS,
    LEFT_BROW,
    LEFT_EYE,
    NOSTRILS,
    OUTER_LIPS,
    RIGHT_BROW,
    RIGHT_EYE,
    Indices,
    face_model,
)
from engines.identity import ATLAS_PX

Bools = NDArray[np.bool_]
UNIT = ATLAS_PX / 64  # zones are measured in 64ths of the atlas


@dataclass(frozen=True, slots=True)
class Zones:
    """Parts of the face in the atlas, bool [A, A]."""

    inside: Bools  # on the mesh's skin, outside eyes and mouth
    plain: Bools  # cheeks, nose, chin, the forehead's middle: skin and nothing else, as a rule
    cheeks: Bools  # the part of it below the eyes and beside the mouth: skin for certain
    features: Bools  # brows, eyes, lips, nostrils, a little enlarged: dark or red by nature, not by light
    red: Bools  # lips and the rims of the eyes, whose tint is not the skin's
    brows: Bools  # brows with room around them
    beard: Bools  # where a beard may grow
    hairy: Bools  # where the photo's hair may hang in: forehead, temples, the rim down to the mouth
    oval: Bools  # within the outline


def _polygon(landmarks: Indices, grow_px: float = 0.0) -> Bools:
    uv = face_model().uv_S2 * (ATLAS_PX - 1)
    picture = Image.new("L", (ATLAS_PX, ATLAS_PX), 0)
    ImageDraw.Draw(picture).polygon([tuple(map(float, uv[i])) for i in landmarks], fill=1, outline=1)
    mask = np.array(picture).astype(bool)
    if grow_px > 0:
        mask = np.asarray(ndimage.distance_transform_edt(~mask)) <= grow_px
    return mask


def _hull(landmarks: Indices, grow_px: float) -> Bools:
    """The convex surroundings of a few landmarks, for brows, whose points are two rows."""
    uv = face_model().uv_S2[landmarks] * (ATLAS_PX - 1)
    picture = Image.new("L", (ATLAS_PX, ATLAS_PX), 0)
    pen = ImageDraw.Draw(picture)
    half = len(landmarks) // 2
    pen.polygon([tuple(map(float, p)) for p in [*uv[:half], *uv[half:][::-1]]], fill=1, outline=1)
    return np.asarray(ndimage.distance_transform_edt(~np.array(picture).astype(bool))) <= grow_px


@lru_cache(maxsize=1)
def zones() -> Zones:
    """Where things are in the atlas; the same for everybody, because the atlas is made of landmarks."""
    uv = face_model().uv_S2 * (ATLAS_PX - 1)
    oval = _polygon(FACE_OVAL)
    eyes = _polygon(RIGHT_EYE, 1.2 * UNIT) | _polygon(LEFT_EYE, 1.2 * UNIT)
    brows = _hull(RIGHT_BROW, 1.8 * UNIT) | _hull(LEFT_BROW, 1.8 * UNIT)
    thin_brows = _hull(RIGHT_BROW, 0.5 * UNIT) | _hull(LEFT_BROW, 0.5 * UNIT)
    lips = _polygon(OUTER_LIPS, 0.8 * UNIT)
    rim = np.asarray(ndimage.distance_transform_edt(oval))
    v = np.arange(ATLAS_PX)[:, None] + np.zeros((1, ATLAS_PX))
    brow_top = uv[[105, 334, 66, 296], 1].min() - 0.5 * UNIT
    mouth_corner = uv[[61, 291], 1].mean()
    plain = oval & ~eyes & ~brows & ~lips & (rim > 7 * UNIT) & (v > brow_top)
    hairy = oval & ((v < brow_top + 3 * UNIT) | ((rim < 9 * UNIT) & (v < mouth_corner)) | (rim < 10 * UNIT))
    nose_base = uv[[2, 98, 327], 1].max()
    cheeks = plain & (v > uv[[145, 374], 1].mean() + 1.5 * UNIT) & (v < nose_base)
    features = eyes | brows | lips | _polygon(NOSTRILS, 0.4 * UNIT)
    beard = oval & (v > nose_base)
    inside = oval & ~_polygon(RIGHT_EYE) & ~_polygon(LEFT_EYE) & ~_polygon(INNER_LIPS)
    red = lips | _polygon(RIGHT_EYE, 0.4 * UNIT) | _polygon(LEFT_EYE, 0.4 * UNIT)
    return Zones(inside, plain, cheeks, features, red, brows, beard, hairy & ~eyes & ~thin_brows, oval)
