"""Things that people hold before their face, as solids in hand space: they lie in the palm of a hand that holds them.

Materials 2 and 3 are the thing's own; 0 is the hand's skin and 1 its sleeve.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from distill.occluders.solids import (
    BOX,
    CAPSULE,
    EGG,
    GRILLE,
    PLAIN,
    RING,
    SCREEN,
    STRIPES,
    TEXT,
    TUBE,
    solid,
)
from engines.types import Floats

FIRST, SECOND = 2, 3
IN_PALM = np.array([0.3, 8.6, -3.2], np.float32)  # of a hand that holds


def _axes(side: tuple[float, float, float], along: tuple[float, float, float]) -> Floats:
    x, y = np.array(side, np.float64), np.array(along, np.float64)
    y = y / np.linalg.norm(y)
    x = x - y * (x @ y)
    x = x / np.linalg.norm(x)
    return np.asarray(np.stack([x, y, np.cross(x, y)]), np.float32)


def _beside(place: Floats, x: float, y: float, z: float) -> Floats:
    return np.asarray(place + np.array([x, y, z], np.float32), np.float32)


UPRIGHT = _axes((1, 0, 0), (0, 1, 0))
ACROSS = _axes((0, -1, 0), (1, 0, 0.1))  # its length lies across the palm, as a handle does


def phone(rng: np.random.Generator) -> Floats:
    """A telephone, screen to the palm's other side."""
    half = (3.6, 7.4 + rng.uniform(-0.5, 0.5), 0.42, 0.4)
    facing = _axes((-1, 0, 0), (0, 1, 0)) if rng.uniform() < 0.6 else UPRIGHT
    return solid(BOX, _beside(IN_PALM, 0, 0.8, 0.9), facing, half, FIRST, 0, SCREEN)[None]


def cup(rng: np.random.Generator) -> Floats:
    """A mug or a paper cup, its opening towards the thumb."""
    high, wide = rng.uniform(3.8, 5.6), rng.uniform(3.4, 4.3)
    rows = [solid(TUBE, _beside(IN_PALM, 0, 0, -1.6), ACROSS, (high, wide, 0.15, 0.35), FIRST, 0, STRIPES)]
    if rng.uniform() < 0.6:
        rows.append(solid(RING, _beside(IN_PALM, -0.2, -3.9, -1.6), _axes((0, 1, 0), (1, 0, 0)), (2.2, 0.5), FIRST))
    return np.stack(rows)


def microphone(rng: np.random.Generator) -> Floats:
    """A stage microphone: a tapering body and a ball of wire mesh."""
    head = _beside(IN_PALM, 5.4, 0, 0.4)
    along = _axes((0, -1, 0), (-1, 0, 0))
    body = solid(CAPSULE, head, along, (15.0, 1.75, 1.05, 1.0), FIRST)
    ball = solid(EGG, _beside(head, 1.8, 0, 0), along, (2.6, 2.7, 2.6), SECOND, 0, GRILLE)
    collar = solid(TUBE, _beside(head, -0.2, 0, 0), along, (0.5, 2.25, 0.2, 0.0), FIRST)
    return np.stack([body, ball, collar])


def pen(rng: np.random.Generator) -> Floats:
    """A pen between thumb and fingers, with its tip and cap."""
    along = _axes((0, 1, 0.4), (0.9, 0.35, -0.3))
    tip = _beside(IN_PALM, -1.5, 0.4, -0.3)
    length = rng.uniform(11, 14)
    body = solid(CAPSULE, tip, along, (length, 0.3, 0.5, 1.0), FIRST)
    cap = solid(CAPSULE, tip + along[1] * (length - 4), along, (4.2, 0.6, 0.56, 1.0), SECOND)
    return np.stack([body, cap])


def paper(rng: np.random.Generator) -> Floats:
    """A sheet or a book with lines of print."""
    thick = 0.06 if rng.uniform() < 0.6 else rng.uniform(0.6, 1.6)
    half = (rng.uniform(6, 9.5), rng.uniform(8, 12), thick, min(thick * 0.5, 0.15))
    turned = _axes((1, rng.uniform(-0.15, 0.15), 0), (rng.uniform(-0.15, 0.15), 1, 0))
    return solid(BOX, _beside(IN_PALM, 0, half[1] * 0.75, 0.5), turned, half, FIRST, 0, TEXT)[None]


def glasses(rng: np.random.Generator) -> Floats:
    """Spectacles held by an arm."""
    middle, wide, thick = _beside(IN_PALM, 0, 6.0, 0), rng.uniform(2.2, 2.8), rng.uniform(0.16, 0.32)
    rows = [solid(RING, _beside(middle, k * (wide + 0.8), 0, 0), UPRIGHT, (wide, thick), FIRST) for k in (-1, 1)]
    bridge = solid(
        CAPSULE, _beside(middle, -0.8, 0.4, 0), _axes((0, -1, 0), (1, 0, 0)), (1.6, thick, thick, 1.0), FIRST
    )
    for k in (-1, 1):
        hinge = _beside(middle, k * (2 * wide + 0.9), 0.6, 0)
        rows.append(solid(CAPSULE, hinge, _axes((1, 0, 0), (0, -0.45, 0.9)), (12.0, thick, thick, 1.0), FIRST))
    return np.stack([*rows, bridge])


def bottle(rng: np.random.Generator) -> Floats:
    """A bottle or a can."""
    wide = rng.uniform(2.9, 3.6)
    body = solid(TUBE, _beside(IN_PALM, 0, 0, -1.2), ACROSS, (rng.uniform(5, 7), wide, 0.6, 0.0), FIRST, 0, STRIPES)
    neck = solid(CAPSULE, _beside(IN_PALM, 5, 0, -1.0), ACROSS, (5.0, wide * 0.85, 1.3, 1.0), FIRST, 1.2, PLAIN)
    return np.stack([body, neck])


def ball(rng: np.random.Generator) -> Floats:
    """A ball or a fruit."""
    size = rng.uniform(3.0, 4.5)
    return solid(EGG, _beside(IN_PALM, 0, 0.5, -1.0), UPRIGHT, (size, size * rng.uniform(0.85, 1.1), size), FIRST)[None]


THINGS: dict[str, Callable[[np.random.Generator], Floats]] = {
    "phone": phone,
    "cup": cup,
    "microphone": microphone,
    "pen": pen,
    "paper": paper,
    "glasses": glasses,
    "bottle": bottle,
    "ball": ball,
}
GRIP_FOR = {"phone": "claw", "cup": "hold", "microphone": "fist", "pen": "pinch", "paper": "pinch", "glasses": "pinch",
            "bottle": "hold", "ball": "claw"}  # fmt: skip
