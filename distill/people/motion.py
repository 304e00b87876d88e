"""What faces do over time: heads turn and rest, eyes jump, lids blink, mouths talk, light moves.

Everything is made in continuous time from a few random events and sampled at the clip's frames, with `BEFORE_S` seconds
made and thrown away in front, so that a clip starts in the middle of things and its first frame is like its last.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from distill.people.expressions import INDEX, Unit, Weights
from distill.people.sample import (
    GAZE_PITCH_DEG,
    GAZE_YAW_DEG,
    HARMONICS,
    LIGHTS,
    cut_head,
    posture,
    sample_expression,
    sample_gaze,
    sample_head,
    sample_scene,
)
from distill.people.types import EXPRESSIONS, Posture, Scene

Floats = NDArray[np.float64]

BEFORE_S = 4.0
FPS = (25.0, 30.0)
HEAD_PEAK_DEG_S = (25.0, 220.0)  # peak speed of a turn: slow to quick; people reach 300 and more, seldom on camera
LEAST_TURN_S = 0.25
HEAD_STRAY = 0.4  # of the spread of heads: how far turns within one clip go from its own middle
EXPRESSION_ONSET_S = (0.25, 0.7)
BLINK_S = (0.1, 0.3)
BLINKS_PER_MIN = (8.0, 28.0)
LEAST_BETWEEN_BLINKS_S = 0.35
SYLLABLE_S = (0.12, 0.32)
TALKING_SHARE = 0.5
MOVING_LIGHT_SHARE = 0.4
VESTIBULAR_GAIN, VESTIBULAR_S = 0.6, 0.35  # eyes stay on what they look at while the head turns

# Mouth shapes of speech: weights of whole movements; jaw first. Rough: they are mixed and scaled by lot.
VISEMES: tuple[dict[str, float], ...] = (
    {"jawOpen": 0.55, "mouthLowerDown": 0.25, "mouthUpperUp": 0.15},  # a
    {"jawOpen": 0.3, "mouthFunnel": 0.5},  # o
    {"jawOpen": 0.12, "mouthPucker": 0.6, "mouthFunnel": 0.2},  # u, w
    {"jawOpen": 0.12, "mouthSmile": 0.3, "mouthStretch": 0.3, "mouthLowerDown": 0.15},  # e, i
    {"mouthPress": 0.35, "mouthRollLower": 0.25, "mouthRollUpper": 0.2},  # m, b, p
    {"jawOpen": 0.05, "mouthRollLower": 0.4, "mouthUpperUp": 0.2},  # f, v
    {"jawOpen": 0.1, "mouthStretch": 0.2, "mouthLowerDown": 0.25, "mouthUpperUp": 0.1},  # s, t, d
    {"jawOpen": 0.1, "mouthFunnel": 0.35, "mouthShrugLower": 0.2},  # sh, ch
    {"jawOpen": 0.2, "mouthShrugUpper": 0.1},  # l, n
    {},
)


def sample_clip(rng: Generator, frames: int, fps: float | None = None) -> list[tuple[Posture, Scene]]:
    """One person's clip without the person: posture and scene of every frame. 25 to 30 fps, by lot if not given."""
    rate = float(rng.uniform(*FPS)) if fps is None else fps
    return list(zip(trajectory(rng, frames, rate), scenes(rng, frames, rate)))


def trajectory(rng: Generator, frames: int, fps: float) -> list[Posture]:
    """What a face does: head, eyes, lids, mouth and the rest."""
    times = np.arange(-math.ceil(BEFORE_S * fps), frames) / fps
    first = len(times) - frames
    talk, loudness = speech(rng, times) if rng.random() < TALKING_SHARE else (np.zeros((len(times), EXPRESSIONS)), 0.0)
    head = head_angles(rng, times, loudness)
    gaze = gaze_angles(rng, times, head)
    weights = expression(rng, times)
    mouth_free = 1 - 0.6 * np.clip(talk.sum(axis=1, keepdims=True), 0, 1)  # a talking mouth smiles less
    weights[:, MOUTH] *= mouth_free
    weights = np.clip(weights + talk, 0, 1)
    weights[:, BLINK] = np.maximum(weights[:, BLINK], blinks(rng, times))
    shift = np.stack([wander(rng, times, spread) for spread in (1.0, 0.8, 1.0)], axis=1)
    return [posture(weights[i], head[i], shift[i], gaze[i]) for i in range(first, len(times))]


MOUTH = [i for name, i in INDEX.items() if name.startswith(("mouth", "jaw"))]
BLINK = [INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]


def minimum_jerk(share: Floats) -> Floats:
    """From 0 to 1 as limbs and heads move (Flash and Hogan 1985); flat before 0 and after 1."""
    x = np.clip(share, 0, 1)
    return np.asarray(x**3 * (10 - 15 * x + 6 * x * x))


def steps(times: Floats, starts: list[float], durations: list[float], values: list[Floats]) -> Floats:
    """A course that stays at values[0] and moves to values[i + 1] from starts[i] on, in durations[i] s. [T, ...]."""
    course = np.broadcast_to(values[0], (len(times), *values[0].shape)).copy()
    for i, (start, duration) in enumerate(zip(starts, durations)):
        share = minimum_jerk((times - start) / duration)
        course += share.reshape(-1, *[1] * values[0].ndim) * (values[i + 1] - values[i])
    return course


def events(rng: Generator, times: Floats, wait_s: Callable[[], float], duration_s: Callable[[], float]) -> list[float]:
    """Start and duration of events one after another over the whole course: s, d, s, d, ..."""
    now = float(times[0])
    found: list[float] = []
    while True:
        now += wait_s()
        if now >= times[-1]:
            return found
        duration = duration_s()
        found += [now, duration]
        now += duration


def wander(rng: Generator, times: Floats, spread: float, slowest_hz: float = 0.05, fastest_hz: float = 0.6) -> Floats:
    """A slow smooth random course of the given standard deviation: sines of random phase, weaker when faster. [T]."""
    hz = np.exp(rng.uniform(math.log(slowest_hz), math.log(fastest_hz), 6))
    power = hz**-0.8
    phases = rng.uniform(0, 2 * math.pi, 6)
    course = (np.sqrt(2 * power / power.sum()) * np.sin(2 * math.pi * hz * times[:, None] + phases)).sum(axis=1)
    return np.asarray(spread * course)


def head_angles(rng: Generator, times: Floats, loudness_T: Floats | float) -> Floats:
    """Yaw, pitch, roll in degrees: rests and turns about the clip's own middle, drift, nods while talking. [T, 3]."""
    middle = sample_head(rng)
    liveliness = rng.uniform(0.3, 1.6)
    starts, durations, values = [], [], [middle + HEAD_STRAY * liveliness * _head_step(rng)]
    now = float(times[0])
    while now < times[-1]:
        now += 0.2 + rng.exponential(1.1)
        target = middle + HEAD_STRAY * liveliness * _head_step(rng)
        size = float(np.abs(target - values[-1]).max())
        peak = rng.uniform(
            HEAD_PEAK_DEG_S[0], HEAD_PEAK_DEG_S[0] + (HEAD_PEAK_DEG_S[1] - HEAD_PEAK_DEG_S[0]) * rng.random()
        )
        duration = max(1.875 * size / peak, LEAST_TURN_S)
        starts.append(now)
        durations.append(duration)
        values.append(target)
        now += duration
    course = steps(times, starts, durations, values)
    course += np.stack([wander(rng, times, spread) for spread in (1.8, 1.2, 0.8)], axis=1)
    nods = np.stack([wander(rng, times, 1.0, 1.0, 3.0) for _ in range(3)], axis=1) * (0.7, 1.2, 0.5)
    course += np.reshape(loudness_T, (-1, 1)) * nods
    return _soft_cut(course)


def _head_step(rng: Generator) -> Floats:
    return np.asarray(sample_head(rng))


def _soft_cut(angles_T3: Floats) -> Floats:
    """Angles within the limits, without the corner that clipping would leave in a smooth motion."""
    most = cut_head(np.full(3, np.inf))
    knee = 0.85 * most
    over = np.maximum(np.abs(angles_T3) - knee, 0)
    room = most - knee
    return np.asarray(np.sign(angles_T3) * (np.minimum(np.abs(angles_T3), knee) + room * np.tanh(over / room)))


def gaze_angles(rng: Generator, times: Floats, head_T3: Floats) -> Floats:
    """Yaw and pitch of the eyes against the head in degrees: jumps, rests, and staying while the head turns. [T, 2]."""
    starts, durations, values = [], [], [sample_gaze(rng)]
    attention = rng.uniform(0.3, 1.0)  # how far one looks about
    now = float(times[0])
    while now < times[-1]:
        now += 0.18 + rng.exponential(0.8)
        target = attention * sample_gaze(rng)
        size = float(np.hypot(*(target - values[-1])))
        starts.append(now)
        durations.append(0.021 + 0.0022 * size)  # the main sequence of saccades (Bahill, Clark, Stark 1975)
        values.append(target)
        now += durations[-1]
    course = steps(times, starts, durations, values)
    course += np.stack([wander(rng, times, 0.3, 0.5, 4.0) for _ in range(2)], axis=1)
    course -= VESTIBULAR_GAIN * (head_T3[:, :2] - _lagging(times, head_T3[:, :2]))
    most = np.array([GAZE_YAW_DEG, GAZE_PITCH_DEG])
    return np.asarray(most * np.tanh(course / most))


def _lagging(times: Floats, course_TC: Floats) -> Floats:
    """The same course through a first-order low pass: where the head was a moment ago."""
    share = 1 - math.exp(-(times[1] - times[0]) / VESTIBULAR_S) if len(times) > 1 else 1.0
    out = course_TC.copy()
    for i in range(1, len(out)):
        out[i] = out[i - 1] + share * (course_TC[i] - out[i - 1])
    return out


def blinks(rng: Generator, times: Floats) -> Floats:
    """How far both lids are closed, 0..1: quick down, a moment closed, slower up; 100 to 300 ms in all. [T, 2]."""
    rate_hz = rng.uniform(*BLINKS_PER_MIN) / 60
    mean_wait = max(1 / rate_hz - LEAST_BETWEEN_BLINKS_S - 0.2, 0.1)
    timing = events(
        rng, times, lambda: LEAST_BETWEEN_BLINKS_S + rng.exponential(mean_wait), lambda: float(rng.uniform(*BLINK_S))
    )
    course = np.zeros((len(times), 2))
    for start, duration in zip(timing[::2], timing[1::2]):
        depth = rng.uniform(0.88, 1.0) if rng.random() < 0.85 else rng.uniform(0.4, 0.88)
        uneven = 1 - rng.uniform(0, 0.06, 2)
        course = np.maximum(course, depth * uneven * blink_profile((times - start) / duration)[:, None])
    return course


def blink_profile(share: Floats) -> Floats:
    """Closure over one blink, share of its time 0..1: closing takes 35 %, closed 12 %, opening the rest. [T]."""
    down, up = np.clip(share / 0.35, 0, 1), np.clip((1 - share) / 0.53, 0, 1)
    return np.asarray(np.minimum(0.5 - 0.5 * np.cos(math.pi * down), minimum_jerk(up)))


def expression(rng: Generator, times: Floats) -> Weights:
    """Expressions that come, stay and go, with the face at rest in between. [T, 57]."""
    neutral = np.zeros(EXPRESSIONS)
    starts, durations, values = [], [], [neutral if rng.random() < 0.4 else sample_expression(rng)]
    now = float(times[0])
    while now < times[-1]:
        now += 0.3 + rng.exponential(1.2)
        target = neutral if rng.random() < 0.4 else sample_expression(rng)
        starts.append(now)
        durations.append(float(rng.uniform(*EXPRESSION_ONSET_S)))
        values.append(target)
        now += durations[-1]
    return steps(times, starts, durations, values)


def speech(rng: Generator, times: Floats) -> tuple[Weights, Floats]:
    """A talking mouth, 1 to 6 Hz, in phrases with pauses. Weights [T, 57], and loudness [T], 0..1, of the phrases."""
    shapes = np.stack([_viseme(shape) for shape in VISEMES])
    tempo, volume = rng.uniform(0.85, 1.3), rng.uniform(0.5, 1.1)
    starts, durations, values = [], [], [np.zeros(EXPRESSIONS)]
    now, loud_starts, loud_durations, loud = float(times[0]) - rng.uniform(0, 1.5), [], [], [np.zeros(1)]
    while now < times[-1]:
        ends = now + rng.uniform(0.8, 4.0)
        loud_starts += [now, ends]
        loud_durations += [0.3, 0.3]
        loud += [np.ones(1), np.zeros(1)]
        while now < ends:
            which = rng.choice(len(shapes), 2, replace=False)
            blend = rng.beta(3, 1)
            strength = volume * rng.uniform(0.5, 1.1)
            duration = float(tempo * rng.uniform(*SYLLABLE_S))
            starts.append(now)
            durations.append(duration)
            values.append(strength * (blend * shapes[which[0]] + (1 - blend) * shapes[which[1]]))
            now += duration * rng.uniform(0.9, 1.25)
        starts.append(now)
        durations.append(0.2)
        values.append(np.zeros(EXPRESSIONS))
        now = max(now + 0.2, ends + 0.3) + rng.exponential(0.5)
    return np.clip(steps(times, starts, durations, values), 0, 1), steps(times, loud_starts, loud_durations, loud)


def _viseme(shape: dict[str, float]) -> Floats:
    weights = np.zeros(EXPRESSIONS)
    for name, weight in shape.items():
        weights[list(Unit(name, 0).indices)] = weight
    return weights


def scenes(rng: Generator, frames: int, fps: float) -> list[Scene]:
    """One camera in one place; in two clips of five the lights wander or a screen flickers over the face."""
    still = sample_scene(rng)
    if rng.random() >= MOVING_LIGHT_SHARE:
        return [still] * frames
    times = np.arange(frames) / fps
    turn_deg = wander(rng, times, rng.uniform(4, 30), 0.05, 0.3)
    level = np.exp(wander(rng, times, rng.uniform(0, 0.2), 0.1, 0.8))
    tint = np.exp(np.stack([wander(rng, times, rng.uniform(0, 0.1), 0.1, 0.8) for _ in range(3)], axis=1))
    return [_moved(still, float(turn_deg[i]), level[i] * tint[i]) for i in range(frames)]


def _moved(still: Scene, turn_deg: float, gain_3: Floats) -> Scene:
    """The scene with its lights turned about the vertical and their colour changed; the room's light stays."""
    cosine, sine = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
    directions = np.array(still.light_directions).reshape(LIGHTS, 3)
    turned = np.stack(
        [
            cosine * directions[:, 0] + sine * directions[:, 2],
            directions[:, 1],
            cosine * directions[:, 2] - sine * directions[:, 0],
        ],
        axis=1,
    )
    colours = np.array(still.light_colours).reshape(LIGHTS, 3) * gain_3
    ambient = np.array(still.ambient).reshape(HARMONICS, 3) * (1 + 0.3 * (gain_3 - 1))
    return Scene(
        still.field_of_view_deg,
        still.distance_cm,
        tuple(float(value) for value in ambient.ravel()),
        tuple(float(value) for value in turned.ravel()),
        tuple(float(value) for value in colours.ravel()),
        still.light_softness,
        still.background_seed,
        still.exposure,
    )
