"""What somebody looks like, as far as it tells one person in a call from another.

The face is sampled at its landmarks, so pose and place drop out; brightness is compared after a plane has been taken
off it, so the light's strength and direction drop out; colour is compared as ratios. What stays is beard, brows,
glasses, shadows that do not move, and the skin's colour. This is no face recognition and must not be used as one: it
holds a lock for a call and is forgotten with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engines.face.mesh import FACE_OVAL, face_model, fit_pose, vertex_normals
from engines.face.regions import LEFT_LIDS, MOUTH, RIGHT_LIDS, RIGID
from engines.jit import kernel
from engines.types import SKIN_LANDMARKS, Floats, Rgb

SAMPLE_RADIUS = 0.045  # of a sample's square, in head radii
LEAST_FACING = 0.25  # cosine between a landmark's normal and the camera below which it is not looked at


@dataclass(frozen=True, slots=True)
class Appearance:
    """How one face looks, or what is remembered of a person.

    values_S3  float32 [468, 3]: brightness (log, plane removed), red and blue ratios (log)
    shape_S2   float32 [468, 2]: how the landmarks lie, seen from the front, off the mean face, centimetres
    weight_S   float32 [468]: how well each landmark was seen, 0..1
    """

    values_S3: Floats
    shape_S2: Floats
    weight_S: Floats


def appearance(rgb_HW3: Rgb, points_px: Floats) -> Appearance:
    """Looks at a face whose landmarks are known. rgb_HW3 uint8 [H, W, 3], points float32 [478, 3] in pixels."""
    rigid = points_px[RIGID]
    radius_px = math.sqrt(float(((rigid - rigid.mean(axis=0)) ** 2).sum(axis=1).mean()))
    skin = np.ascontiguousarray(points_px[:SKIN_LANDMARKS])
    normals = vertex_normals(skin, face_model().triangles_T3)
    weight_S = np.clip((-normals[:, 2] - LEAST_FACING) / (1 - LEAST_FACING), 0.0, 1.0)
    weight_S[_MOUTH] *= 0.2  # it moves
    height, width = rgb_HW3.shape[:2]
    inside = (skin[:, 0] >= 0) & (skin[:, 0] < width) & (skin[:, 1] >= 0) & (skin[:, 1] < height)
    weight_S = (weight_S * inside).astype(np.float32)
    values_S3 = _sample(np.ascontiguousarray(rgb_HW3), skin, max(radius_px * SAMPLE_RADIUS, 0.5))
    values_S3[:, 0] -= _plane(values_S3[:, 0], weight_S)
    mean_S3 = face_model().mean_S3
    shape_S3 = fit_pose(points_px, mean_S3).to_canonical(skin) - mean_S3
    return Appearance(values_S3, np.ascontiguousarray(shape_S3[:, :2]), weight_S)


_MOUTH = MOUTH[MOUTH < SKIN_LANDMARKS]
# Lids and mouth move, and the outline follows the contour with the head's turn: they say little of the person's shape.
_SHAPE_WEIGHT = np.ones(SKIN_LANDMARKS, np.float32)
_SHAPE_WEIGHT[np.concatenate((LEFT_LIDS, RIGHT_LIDS))] = 0.3
_SHAPE_WEIGHT[FACE_OVAL] = 0.2
_SHAPE_WEIGHT[_MOUTH] = 0.1
_SHAPE_WEIGHT /= _SHAPE_WEIGHT.sum()


def _plane(brightness_S: Floats, weight_S: Floats) -> Floats:
    """The plane over the canonical face that fits the brightness best: light, not face."""
    basis = np.concatenate((np.ones((SKIN_LANDMARKS, 1), np.float32), face_model().mean_S3[:, :2] / 10), axis=1)
    weighted = basis * weight_S[:, None]
    solution = np.linalg.solve(weighted.T @ basis + 1e-3 * np.eye(3, dtype=np.float32), weighted.T @ brightness_S)
    plane: Floats = (basis @ solution).astype(np.float32)
    return plane


@kernel
def _sample(rgb_HW3: Rgb, points_S3: Floats, half_px: float) -> Floats:
    """Mean colour of a small square about every point, as log brightness and log ratios to green. float32 [S, 3]."""
    height, width = rgb_HW3.shape[0], rgb_HW3.shape[1]
    count = points_S3.shape[0]
    out = np.empty((count, 3), np.float32)
    step = max(half_px / 2.0, 0.5)
    for i in range(count):
        red = green = blue = 0.0
        for row in range(-2, 3):
            y = min(max(int(points_S3[i, 1] + row * step + 0.5), 0), height - 1)
            for column in range(-2, 3):
                x = min(max(int(points_S3[i, 0] + column * step + 0.5), 0), width - 1)
                red += rgb_HW3[y, x, 0]
                green += rgb_HW3[y, x, 1]
                blue += rgb_HW3[y, x, 2]
        red, green, blue = red / 25 + 8.0, green / 25 + 8.0, blue / 25 + 8.0
        out[i, 0] = np.log((red + 2 * green + blue) / 4)
        out[i, 1] = np.log(red / green)
        out[i, 2] = np.log(blue / green)
    return out


# Measured on clips and photos: the same person later in the clip 0.5 (median); the same photo smaller and at another
# exposure 1.0; two different people 3.6 (median), 2.1 (1 %); but two short-haired men in one room's light, with faces
# of 60 px, 0.8. So how far a person's own face strays from what is remembered of it is measured while they are
# followed, and these are only the bounds.
SAME_PERSON = 0.75  # closer than this: the same person
OTHER_PERSON = 1.3  # further than this: somebody else

_BRIGHTNESS_SPREAD, _TINT_SPREAD, _RATIO_SPREAD, _SHAPE_SPREAD_CM = 0.3, 0.15, 0.1, 0.35
_LEAST_IN_COMMON = 20.0  # landmarks that both saw, for a comparison to mean anything


def difference(a: Appearance, b: Appearance) -> float | None:
    """How different two faces look, 0 for none; None where they show too little in common to say."""
    weight = a.weight_S * b.weight_S
    total = float(weight.sum())
    if total < _LEAST_IN_COMMON:
        return None
    share = (weight / np.float32(total))[:, None]
    apart = a.values_S3 - b.values_S3
    tint = (apart[:, 1:] * share).sum(axis=0)  # all of the face: light as well as skin
    brightness = float((apart[:, :1] ** 2 * share).sum())
    ratios = float(((apart[:, 1:] - tint) ** 2 * share).sum())
    shape = float((((a.shape_S2 - b.shape_S2) ** 2).sum(axis=1) * _SHAPE_WEIGHT).sum())
    looks = brightness / _BRIGHTNESS_SPREAD**2 + float(tint @ tint) / _TINT_SPREAD**2 + ratios / _RATIO_SPREAD**2
    return math.sqrt(looks + shape / _SHAPE_SPREAD_CM**2)


def remember(known: Appearance | None, seen: Appearance, share: float) -> Appearance:
    """Moves what is known of a person towards what is seen; `share` 0..1 is how far, where it is seen well."""
    if known is None:
        return seen
    step = share * seen.weight_S / np.maximum(np.maximum(known.weight_S, seen.weight_S), 1e-6)
    values_S3 = known.values_S3 + step[:, None] * (seen.values_S3 - known.values_S3)
    shape_S2 = known.shape_S2 + np.float32(share) * (seen.shape_S2 - known.shape_S2)
    weight_S = np.maximum(known.weight_S, seen.weight_S * np.float32(min(1.0, 4 * share)))
    return Appearance(values_S3.astype(np.float32), shape_S2, weight_S.astype(np.float32))
