"""What a still does in a clip: small turns, expressions, blinks and glances, smooth in time, within what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from distill.stills.portrait import Portrait
from engines.face.mesh import MODEL_FILE
from engines.types import Floats

Doubles = NDArray[np.float64]

YAW_DEG, PITCH_DEG, ROLL_DEG = 18.0, 10.0, 7.0  # the most that a head turns from where the photo has it
SHIFT_CM = 0.8
BLINK_S, CLOSED_S = 0.14, 0.05  # down and up; shut in between
EYES_OPEN_CM = 0.45  # lids in the photo stand at least so far apart, or there is nothing to blink with
OPEN_MOUTH_CM = 0.35  # a mouth that is open in the photo keeps its own inside, and opens no further
# Words of the face: shapes that go together, and how strong they get at most.
FACES: tuple[dict[str, float], ...] = (
    {"mouthSmile_L": 0.8, "mouthSmile_R": 0.8, "cheekSquint_L": 0.5, "cheekSquint_R": 0.5},
    {"mouthFrown_L": 0.6, "mouthFrown_R": 0.6, "browInnerUp_L": 0.5, "browInnerUp_R": 0.5},
    {"browOuterUp_L": 0.7, "browOuterUp_R": 0.7, "browInnerUp_L": 0.6, "browInnerUp_R": 0.6},
    {"browDown_L": 0.8, "browDown_R": 0.8, "noseSneer_L": 0.4, "noseSneer_R": 0.4, "mouthPress_L": 0.4},
    {"mouthPucker": 0.6, "browInnerUp_L": 0.3, "browInnerUp_R": 0.3},
    {"mouthLeft": 0.5, "mouthSmile_L": 0.4},
    {"mouthRight": 0.5, "mouthSmile_R": 0.4},
)
VISEMES: tuple[dict[str, float], ...] = (
    {"jawOpen": 0.45},
    {"jawOpen": 0.22, "mouthStretch_L": 0.4, "mouthStretch_R": 0.4},
    {"jawOpen": 0.15, "mouthFunnel": 0.5},
    {"mouthPucker": 0.5, "jawOpen": 0.08},
    {"mouthPress_L": 0.5, "mouthPress_R": 0.5},
    {"jawOpen": 0.3, "mouthLowerDown_L": 0.4, "mouthLowerDown_R": 0.4, "mouthUpperUp_L": 0.3, "mouthUpperUp_R": 0.3},
)


@dataclass(frozen=True, slots=True)
class Motion:
    """How one frame differs from the photo. All zero is the photo itself.

    yaw_deg > 0 turns the face to the picture's right, pitch_deg > 0 upwards, roll_deg > 0 clockwise in the picture.
    shift_cm     of the head, x to the right, y down
    expression   weight of each of the landmark model's modes, added to what the photo shows
    relax        0..1, how much of the photo's own expression is taken off
    blink        0..1 of each eye, the picture's left first
    gaze         shift of the irises in their own radii, x to the right, y down
    """

    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    shift_cm: tuple[float, float]
    expression: tuple[float, ...]
    relax: float
    blink: tuple[float, float]
    gaze: tuple[float, float]


@lru_cache(maxsize=1)
def expression_names() -> tuple[str, ...]:
    """Names of the landmark model's expression modes (ARKit's, with _L and _R for the person's sides)."""
    with safe_open(MODEL_FILE, "np") as stored:
        return tuple(stored.metadata()["expression_names"].split(","))


def at_rest() -> Motion:
    """The photo as it is."""
    return Motion(0.0, 0.0, 0.0, (0.0, 0.0), (0.0,) * len(expression_names()), 0.0, (0.0, 0.0), (0.0, 0.0))


def still_clip(rng: np.random.Generator, portrait: Portrait, frames: int, fps: float) -> list[Motion]:
    """A clip's worth of motion. The same generator state gives the same clip."""
    time_s = np.arange(frames) / fps
    low, high = yaw_range_deg(portrait.yaw_deg)
    yaw = np.clip(_wander(rng, time_s, 0.9, YAW_DEG), low, high)
    pitch = np.clip(_wander(rng, time_s, 0.8, PITCH_DEG), -PITCH_DEG, PITCH_DEG)
    roll = np.clip(_wander(rng, time_s, 0.6, ROLL_DEG), -ROLL_DEG, ROLL_DEG)
    shift = np.stack([_wander(rng, time_s, 0.6, SHIFT_CM), _wander(rng, time_s, 0.6, SHIFT_CM * 0.6)], axis=1)
    expression = _expressions(rng, time_s, portrait.mouth_cm)
    relax = float(rng.uniform(0, 0.6)) * _eased(rng.uniform(), time_s / max(time_s[-1], 0.2))
    blink = _blinks(rng, time_s) if portrait.eyes_cm > EYES_OPEN_CM else np.zeros((frames, 2))
    gaze = np.stack([_glances(rng, time_s, 0.45), _glances(rng, time_s, 0.2)], axis=1)
    return [
        Motion(
            float(yaw[t]),
            float(pitch[t]),
            float(roll[t]),
            (float(shift[t, 0]), float(shift[t, 1])),
            tuple(float(w) for w in expression[t]),
            float(relax[t]),
            (float(blink[t, 0]), float(blink[t, 1])),
            (float(gaze[t, 0]), float(gaze[t, 1])),
        )
        for t in range(frames)
    ]


def yaw_range_deg(photo_yaw_deg: float) -> tuple[float, float]:
    """How far a head may turn: less towards the side that the photo hides, and less away from the camera."""
    turned = abs(photo_yaw_deg)
    back, on = YAW_DEG - 0.5 * max(turned - 5.0, 0.0), YAW_DEG - 0.6 * max(turned - 8.0, 0.0)
    return (-back, on) if photo_yaw_deg > 0 else (-on, back)


def _wander(rng: np.random.Generator, time_s: Doubles, spread: float, most: float) -> Doubles:
    """Slow sines of 0.1 to 1.2 Hz, and in one clip of three a quick turn with holds before and after it."""
    value = np.zeros_like(time_s)
    for hertz, weight in ((rng.uniform(0.1, 0.3), 0.75), (rng.uniform(0.3, 0.6), 0.35), (rng.uniform(0.7, 1.2), 0.12)):
        value += weight * rng.uniform(0.4, 1.0) * np.sin(2 * np.pi * (hertz * time_s + rng.uniform()))
    if rng.uniform() < 0.33:
        length_s = rng.uniform(0.25, 0.6)
        start_s = rng.uniform(0, max(time_s[-1] - length_s, 1e-3))
        value = 0.35 * value + rng.choice([-1.0, 1.0]) * (2 * _eased(0.0, (time_s - start_s) / length_s) - 1) * 0.7
    return np.asarray(value * spread * most)


def _eased(start: float, share: Doubles) -> Doubles:
    """From `start` to 1 with minimum jerk while `share` goes from 0 to 1."""
    s = np.clip(share, 0, 1)
    return np.asarray(start + (1 - start) * s**3 * (10 - 15 * s + 6 * s * s))


def _expressions(rng: np.random.Generator, time_s: Doubles, mouth_cm: float) -> Doubles:
    """[frames, K]: one slow face, and in three clips of five speech over it."""
    names = expression_names()
    weights = np.zeros((len(time_s), len(names)))
    face = FACES[rng.integers(len(FACES))]
    level = np.clip(rng.beta(1.2, 1.2) * (0.7 + 0.6 * _wander(rng, time_s, 0.8, 1.0)), 0, 1)
    for name, most in face.items():
        weights[:, names.index(name)] += most * level * rng.uniform(0.8, 1.2)
    if rng.uniform() < 0.6:
        sounds = np.arange(0, time_s[-1] + 0.5, 1 / rng.uniform(3.5, 6.0))
        loud = rng.uniform(0.5, 1.0)
        for at_s in sounds:
            bump = np.exp(-0.5 * ((time_s - at_s - rng.uniform(-0.03, 0.03)) / 0.075) ** 2) * rng.uniform(0.3, 1.0)
            for name, most in VISEMES[rng.integers(len(VISEMES))].items():
                weights[:, names.index(name)] += most * bump * loud
    if mouth_cm > OPEN_MOUTH_CM:
        weights[:, names.index("jawOpen")] *= 0.25
    return np.clip(weights, 0, 0.85)


def _blinks(rng: np.random.Generator, time_s: Doubles) -> Doubles:
    """[frames, 2], closedness: about one blink in two seconds, both eyes, now and then one a little earlier."""
    closed = np.zeros((len(time_s), 2))
    at_s = rng.uniform(0.1, 1.2)
    while at_s < time_s[-1] + BLINK_S:
        for eye in range(2):
            away = np.abs(time_s - at_s - rng.uniform(-0.01, 0.01))
            closed[:, eye] = np.maximum(closed[:, eye], 1 - _eased(0.0, (away - CLOSED_S / 2) / BLINK_S))
        at_s += rng.uniform(0.9, 3.5)
    return closed


def _glances(rng: np.random.Generator, time_s: Doubles, most: float) -> Doubles:
    """Quick steps of the eyes with holds between them, from where the photo looks."""
    value = np.zeros_like(time_s)
    at_s, before = rng.uniform(0.2, 1.0), 0.0
    while at_s < time_s[-1]:
        now = float(rng.uniform(-most, most)) * (rng.uniform() < 0.7)
        value += (now - before) * _eased(0.0, (time_s - at_s) / 0.06)
        before, at_s = now, at_s + rng.uniform(0.4, 1.6)
    return value


def as_weights(motion: Motion) -> Floats:
    """The expression as an array, float32 [K]."""
    return np.asarray(motion.expression, np.float32)
