"""A hand of 30 soft solids: four fingers of three bones, a thumb, palm, wrist and forearm, with a sleeve or without.

Hand space: centimetres, the wrist at the origin, x towards the thumb, y towards the fingers, z out of the back of the
hand. Sizes are an adult's; `Grip` says what the fingers do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distill.occluders.solids import BOX, CAPSULE, EGG, FOLDS, JOINT, NAIL, SKIN, TUBE, solid
from engines.types import Floats

# Of index, middle, ring and little finger: knuckle (x, y, z), lengths of three bones, radii at four ends.
KNUCKLES = np.array([(3.0, 8.3, 0.10), (0.95, 8.7, 0.30), (-1.1, 8.3, 0.20), (-3.0, 7.4, -0.10)], np.float32)
BONES = np.array([(4.4, 2.6, 1.9), (4.9, 3.0, 2.0), (4.5, 2.8, 2.0), (3.5, 2.1, 1.7)], np.float32)
RADII = np.array(
    [(0.98, 0.86, 0.76, 0.62), (1.0, 0.88, 0.78, 0.64), (0.95, 0.83, 0.73, 0.60), (0.85, 0.72, 0.63, 0.52)], np.float32
)
ROOTS = np.array([(1.6, 0.9, 0), (0.6, 0.9, 0.15), (-0.55, 0.9, 0.1), (-1.5, 0.9, 0)], np.float32)
THUMB_ROOT, THUMB_BONES, THUMB_RADII = np.array([1.7, 1.9, -0.5]), (4.4, 3.2, 2.3), (1.35, 1.08, 0.96, 0.74)
SLEEVE = 1  # material


@dataclass(frozen=True, slots=True)
class Grip:
    """Bends of the fingers, degrees: bends_43 at knuckle, middle and last joint; spread between neighbours; the thumb's
    angle away from the palm's side and its bend."""

    bends_43: Floats
    spread_deg: float
    thumb_out_deg: float
    thumb_in_deg: float
    thumb_bend_deg: float


def _alike(*bends: float) -> Floats:
    return np.tile(np.array(bends, np.float32), (4, 1))


GRIPS: dict[str, Grip] = {
    "open": Grip(_alike(6, 10, 6), 9, 46, 18, 12),
    "flat": Grip(_alike(8, 6, 4), 2.5, 26, 14, 14),
    "relaxed": Grip(np.array([(18, 26, 16), (24, 30, 18), (28, 34, 20), (32, 38, 22)], np.float32), 5, 34, 34, 24),
    "claw": Grip(_alike(28, 42, 26), 8, 42, 42, 28),
    "fist": Grip(_alike(78, 96, 55), 0.5, 24, 62, 42),
    "point": Grip(np.array([(8, 8, 5), (76, 95, 55), (80, 96, 55), (80, 92, 55)], np.float32), 1, 26, 58, 40),
    "two": Grip(np.array([(6, 6, 4), (6, 6, 4), (78, 95, 55), (80, 92, 55)], np.float32), 9, 22, 62, 46),
    "pinch": Grip(np.array([(52, 42, 18), (40, 36, 18), (34, 32, 18), (28, 28, 16)], np.float32), 4, 38, 50, 22),
    "hold": Grip(_alike(48, 52, 26), 2, 40, 52, 20),
}


def between(first: Grip, second: Grip, share: float) -> Grip:
    """A grip on the way from one to another."""

    def mix(a: float, b: float) -> float:
        return a + share * (b - a)

    return Grip(
        first.bends_43 + np.float32(share) * (second.bends_43 - first.bends_43),
        mix(first.spread_deg, second.spread_deg),
        mix(first.thumb_out_deg, second.thumb_out_deg),
        mix(first.thumb_in_deg, second.thumb_in_deg),
        mix(first.thumb_bend_deg, second.thumb_bend_deg),
    )


def hand_solids(grip: Grip, sleeve_from_cm: float, thickness: float) -> Floats:
    """The hand as rows of solids. sleeve_from_cm: how far below the wrist the sleeve begins; thickness about 1."""
    upright = np.eye(3, dtype=np.float32)
    rows = [_capsule((0, -13, 0), (0, 1, 0), 12.5, 3.3 * thickness, 2.35 * thickness, 0.0, flat=1.22)]
    for finger in range(4):
        along = KNUCKLES[finger] - ROOTS[finger]
        length = float(np.linalg.norm(along))
        rows.append(_capsule(ROOTS[finger], along / length, length, 1.25 * thickness, 1.02 * thickness, 1.1, flat=1.05))
    rows.append(solid(EGG, np.array([1.9, 3.9, -0.75]), _leaning(-22), (1.55, 3.1, 1.25), SKIN, 1.0))
    rows.append(solid(EGG, np.array([-2.2, 3.6, -0.55]), upright, (1.15, 3.0, 1.05), SKIN, 1.0))
    for finger in range(4):
        rows += _finger(grip, finger, thickness)
    rows += _thumb(grip, thickness)
    if sleeve_from_cm < 14:
        start = -sleeve_from_cm
        rows.append(
            solid(CAPSULE, np.array([0, start - 24, 0]), upright, (24.0, 5.6, 3.95 * thickness, 1.12), SLEEVE, 0, FOLDS)
        )
    return np.stack(rows)


def _leaning(degrees: float) -> Floats:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], np.float32)


def _capsule(
    start: Floats | tuple[float, ...],
    along: Floats | tuple[float, ...],
    length: float,
    first: float,
    last: float,
    blend: float,
    flat: float = 1.0,
    detail: int = 0,
    side: Floats | None = None,
) -> Floats:
    y = np.asarray(along, np.float64)
    y = y / np.linalg.norm(y)
    x = np.array([1.0, 0, 0]) if side is None else np.asarray(side, np.float64)
    x = x - y * (x @ y)
    x /= np.linalg.norm(x)
    axes = np.stack([x, y, np.cross(x, y)]).astype(np.float32)
    return solid(CAPSULE, np.asarray(start, np.float32), axes, (length, first, last, flat), SKIN, blend, detail)


def _finger(grip: Grip, finger: int, thickness: float) -> list[Floats]:
    splay = np.radians(grip.spread_deg * (1.35 - finger * 0.95) * max(1 - grip.bends_43[finger, 0] / 70, 0.1))
    side = np.array([np.cos(splay), -np.sin(splay), 0])
    ahead = np.array([np.sin(splay), np.cos(splay), 0])
    at, bend, rows = KNUCKLES[finger].astype(np.float64), 0.0, []
    for bone in range(3):
        bend += np.radians(grip.bends_43[finger, bone])
        along = np.cos(bend) * ahead + np.sin(bend) * np.array([0, 0, -1.0])
        first, last = RADII[finger, bone] * thickness, RADII[finger, bone + 1] * thickness
        length = float(BONES[finger, bone])
        blend = 0.55 if bone == 0 else 0.22
        detail = NAIL if bone == 2 else JOINT
        rows.append(_capsule(at, along, length, float(first), float(last), blend, 1.04, detail, side))
        at = at + along * length
    return rows


def _thumb(grip: Grip, thickness: float) -> list[Floats]:
    out, inward = np.radians(grip.thumb_out_deg), np.radians(grip.thumb_in_deg)
    at, rows = THUMB_ROOT.copy(), []
    for bone in range(3):
        along = np.array([np.sin(out) * np.cos(inward), np.cos(out), -np.sin(out) * np.sin(inward) - 0.12])
        along /= np.linalg.norm(along)
        side = np.array([np.cos(out) * 0.6, -np.sin(out) * 0.6, -0.8])
        first, last = THUMB_RADII[bone] * thickness, THUMB_RADII[bone + 1] * thickness
        detail = NAIL if bone == 2 else JOINT if bone == 1 else 0
        rows.append(_capsule(at, along, THUMB_BONES[bone], first, last, 0.9 if bone == 0 else 0.25, 1.08, detail, side))
        at = at + along * THUMB_BONES[bone]
        out = max(out - np.radians(grip.thumb_bend_deg), 0.05)
    return rows


def placed(rows_P: Floats, rotation_33: Floats, place_cm: Floats, scale: float = 1.0) -> Floats:
    """Solids turned, scaled and moved: from their own space into the picture's. Mirrored, hands are left."""
    out = rows_P.copy()
    out[:, 3:6] = scale * rows_P[:, 3:6] @ rotation_33.T + place_cm
    axes = rows_P[:, 6:15].reshape(-1, 3, 3)
    out[:, 6:15] = (axes @ rotation_33.T).reshape(-1, 9)
    out[:, 2] *= scale
    out[:, 15:18] *= scale
    tubes = np.isin(out[:, 0], (BOX, TUBE))
    out[tubes, 18] *= scale
    return out
