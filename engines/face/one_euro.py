"""The One-Euro filter (Casiez, Roussel, Vogel, CHI 2012) on a face: still when the face is still, prompt when it moves.

The landmarks are taken apart into the similarity transform of the head (place, turn, size) and the shape in the head's
own frame, and each part is filtered at its own pace: the shape hardly changes but for expression, so it may be held
much stiller than the place. Eyelids, irises and lips get filters of their own, that open within one frame of a blink.

Three departures from the paper. A part's speed is the root mean square over its points, since all points of an eyelid
move together and noise does not. The speed that noise alone would show is taken off it: how much noise there is, the
filter measures itself by how badly a straight line foretells the next sample, so a dim camera and a small face are
held as still as a good picture, and a blink still opens the filter within a frame. And slow drift, that is no faster
than noise, opens the filter too, by how far its output stays behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engines.face import regions
from engines.face.regions import RIGID
from engines.types import LANDMARKS, Floats

LONGEST_GAP_S = 0.5  # after a longer gap the past says nothing about the present


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a filter follows.

    rest_hz    cut-off frequency at rest: lower is stiller
    per_speed  by how many Hz each unit of speed raises it: higher is prompter
    per_lag    by how many Hz each unit by which the output stays behind raises it: catches slow drift
    speed_hz   cut-off frequency of the smoothing of speed and lag
    doubt      how many times the speed or lag of mere noise counts as rest
    """

    rest_hz: float
    per_speed: float
    per_lag: float
    speed_hz: float
    doubt: float


# Units: head radii (root mean square distance of the rigid points from their centre) or radians, per second.
# Found by a random search over recorded landmarks (benchmarks/jitter.py measures what became of it).
PLACE = Pace(rest_hz=0.25, per_speed=49.0, per_lag=100.0, speed_hz=3.0, doubt=4.8)
TURN = Pace(rest_hz=0.8, per_speed=9.2, per_lag=60.0, speed_hz=3.7, doubt=4.8)
SIZE = Pace(rest_hz=0.25, per_speed=62.0, per_lag=60.0, speed_hz=2.4, doubt=5.0)
SKIN = Pace(rest_hz=0.6, per_speed=12.0, per_lag=60.0, speed_hz=6.4, doubt=3.8)
LIDS = Pace(rest_hz=0.88, per_speed=77.0, per_lag=60.0, speed_hz=5.5, doubt=1.4)
BROW = Pace(rest_hz=0.46, per_speed=23.0, per_lag=60.0, speed_hz=18.0, doubt=6.0)
IRIS = Pace(rest_hz=0.36, per_speed=17.0, per_lag=60.0, speed_hz=9.6, doubt=3.9)
LIPS = Pace(rest_hz=1.2, per_speed=15.0, per_lag=60.0, speed_hz=4.8, doubt=1.6)

FIRST_NOISE = 0.01  # before any was measured
MOST_NOISE = 0.05
AVERAGED = 12  # samples that count alike at the start
NOISE_FALLS_S, NOISE_RISES_S = 0.3, 1.5  # time constants: motion that no line foretells must not pass for noise

SHAPE_PARTS: tuple[tuple[NDArray[np.intp], Pace], ...] = (
    (regions.SKIN, SKIN),
    (regions.RIGHT_LIDS, LIDS),
    (regions.LEFT_LIDS, LIDS),
    (regions.RIGHT_BROW, BROW),
    (regions.LEFT_BROW, BROW),
    (regions.RIGHT_IRIS, IRIS),
    (regions.LEFT_IRIS, IRIS),
    (regions.MOUTH, LIPS),
)


def blend(cutoff_hz: float, elapsed_s: float) -> float:
    """Share of the new value in a first-order low pass, 0..1 (equation 3 of the paper)."""
    return 1.0 / (1.0 + 1.0 / (2.0 * math.pi * cutoff_hz * elapsed_s))


@dataclass(slots=True)
class OneEuro:
    """One filtered value: a vector, or points [n, k] that move together. `value` is None until the first sample."""

    pace: Pace
    value: Floats | None = None
    last: Floats | None = None  # the latest sample, unfiltered
    slope: Floats | None = None  # between the two latest samples, per second
    speed: Floats | None = None  # the slope, smoothed
    lag: Floats | None = None  # how far the output stays behind the samples, smoothed
    elapsed_s: float = 0.0  # between the two latest samples
    noise: float = FIRST_NOISE  # standard deviation of a sample
    samples: int = 1

    def step(self, sample: Floats, elapsed_s: float) -> Floats:
        """The filtered value after `elapsed_s` seconds. The first sample comes back as it is."""
        if self.value is None or self.last is None:
            self.value = self.last = sample
            return sample
        slope = (sample - self.last) / np.float32(elapsed_s)
        share = blend(self.pace.speed_hz, elapsed_s)
        if self.slope is None or self.speed is None or self.lag is None:
            self.speed, self.lag = np.float32(share) * slope, np.float32(share) * (sample - self.value)
        else:
            self._measure_noise(slope - self.slope, elapsed_s)
            self.speed = self.speed + np.float32(share) * (slope - self.speed)
            self.lag = self.lag + np.float32(share) * (sample - self.value - self.lag)
        self.last, self.slope, self.elapsed_s = sample, slope, elapsed_s
        self.samples += 1
        first = 1.0 / self.samples if self.samples <= AVERAGED else 0.0  # else the first sample's error stays long
        kept = max(blend(self._cutoff_hz(share, elapsed_s), elapsed_s), first)
        self.value = self.value + np.float32(kept) * (sample - self.value)
        return self.value

    def _cutoff_hz(self, share: float, elapsed_s: float) -> float:
        """Equation 5 of the paper, with what noise alone would show taken off."""
        assert self.speed is not None
        assert self.lag is not None
        # White noise, averaged by `share`, and the same differenced first:
        noise_lag = self.noise * math.sqrt(share / (2.0 - share))
        noise_speed = self.noise / elapsed_s * share * math.sqrt(2.0 / (2.0 - share))
        speed = above(rms(self.speed), self.pace.doubt * noise_speed)
        lag = above(rms(self.lag), self.pace.doubt * noise_lag)
        return self.pace.rest_hz + self.pace.per_speed * speed + self.pace.per_lag * lag

    def _measure_noise(self, bend: Floats, elapsed_s: float) -> None:
        """Learns from how far the sample lies off the line through the two before it."""
        ratio = elapsed_s / max(self.elapsed_s, 1e-6)
        noise = rms(bend) * elapsed_s / math.sqrt(1.0 + (1.0 + ratio) ** 2 + ratio**2)
        constant_s = NOISE_FALLS_S if noise < self.noise else NOISE_RISES_S
        first = 1.0 / self.samples if self.samples <= AVERAGED else 0.0
        self.noise += max(1.0 - math.exp(-elapsed_s / constant_s), first) * (noise - self.noise)
        self.noise = min(self.noise, MOST_NOISE)


def above(value: float, noise: float) -> float:
    """What is left of a length when that of independent noise is taken off."""
    return math.sqrt(max(value**2 - noise**2, 0.0))


def rms(points: Floats) -> float:
    """Length of a vector, or root mean square length over points [n, k]."""
    return math.sqrt(float(np.vdot(points, points)) / (len(points) if points.ndim > 1 else 1))


@dataclass(slots=True)
class FaceFilter:
    """The filter of one person's landmarks. Replace it by a new one after a loss or a scene cut."""

    place: OneEuro = field(default_factory=lambda: OneEuro(PLACE))
    turn: OneEuro = field(default_factory=lambda: OneEuro(TURN))
    size: OneEuro = field(default_factory=lambda: OneEuro(SIZE))
    parts: list[OneEuro] = field(default_factory=lambda: [OneEuro(pace) for _, pace in SHAPE_PARTS])
    shape_N3: Floats | None = None  # the first face, in its own frame: what turns are measured against
    turn_33: Floats | None = None
    radius_px: float = 1.0
    stepped_s: float | None = None

    def step(self, points_px: Floats, captured_s: float) -> Floats:
        """Filters float32 [478, 3] in pixels; times may be irregular. A repeated or earlier time changes nothing."""
        if self.stepped_s is not None and captured_s - self.stepped_s > LONGEST_GAP_S:
            self._forget()
        if self.shape_N3 is None or self.turn_33 is None or self.stepped_s is None:
            return self._start(points_px, captured_s)
        elapsed_s = captured_s - self.stepped_s
        if elapsed_s <= 0:
            return self._compose()
        self.stepped_s = captured_s
        centre, turn_33, radius_px = fit_similarity(self.shape_N3, points_px)
        # Every part is filtered in its own small units, so that one set of paces serves all sizes of faces.
        self.place.step(centre / np.float32(self.radius_px), elapsed_s)
        self.size.step(np.array([math.log(radius_px)], np.float32), elapsed_s)
        self._step_turn(turn_33, elapsed_s)
        shape_N3 = (points_px - centre) @ turn_33 / np.float32(radius_px)
        for (index, _), part in zip(SHAPE_PARTS, self.parts, strict=True):
            part.step(shape_N3[index], elapsed_s)
        return self._compose()

    def _forget(self) -> None:
        self.place, self.turn, self.size = OneEuro(PLACE), OneEuro(TURN), OneEuro(SIZE)
        self.parts = [OneEuro(pace) for _, pace in SHAPE_PARTS]
        self.shape_N3 = self.turn_33 = self.stepped_s = None

    def _start(self, points_px: Floats, captured_s: float) -> Floats:
        rigid = points_px[RIGID]
        centre = rigid.mean(axis=0)
        self.radius_px = max(float(np.sqrt(((rigid - centre) ** 2).sum(axis=1).mean())), 1e-3)
        self.shape_N3 = (points_px - centre) / np.float32(self.radius_px)
        self.turn_33 = np.eye(3, dtype=np.float32)
        self.stepped_s = captured_s
        self.place.step(centre / np.float32(self.radius_px), 0.0)
        self.size.step(np.array([math.log(self.radius_px)], np.float32), 0.0)
        self.turn.step(np.zeros(3, np.float32), 0.0)
        for (index, _), part in zip(SHAPE_PARTS, self.parts, strict=True):
            part.step(self.shape_N3[index], 0.0)
        return points_px.copy()

    def _step_turn(self, turn_33: Floats, elapsed_s: float) -> None:
        """Filters the turn as a rotation vector about the filtered turn, where it is small and has no seam."""
        assert self.turn_33 is not None
        to_new = rotation_vector(turn_33 @ self.turn_33.T)
        # In coordinates about the filtered value that value is zero, and the previous sample is `last`.
        step = self.turn.step(to_new, elapsed_s)
        self.turn_33 = rotation_matrix(step) @ self.turn_33
        self.turn.value = np.zeros(3, np.float32)
        self.turn.last = to_new - step  # exact for small angles, and only the speed is made of it

    def _compose(self) -> Floats:
        assert self.place.value is not None
        assert self.size.value is not None
        assert self.turn_33 is not None
        shape_N3 = np.empty((LANDMARKS, 3), np.float32)
        for (index, _), part in zip(SHAPE_PARTS, self.parts, strict=True):
            shape_N3[index] = part.value
        radius_px = math.exp(float(self.size.value[0]))
        points: Floats = shape_N3 @ self.turn_33.T * np.float32(radius_px)
        points += self.place.value * np.float32(self.radius_px)
        return points


def fit_similarity(shape_N3: Floats, points_px: Floats) -> tuple[Floats, Floats, float]:
    """Centre, rotation and radius that carry the shape's rigid points onto the face's, by least squares (Kabsch)."""
    rigid = points_px[RIGID]
    centre = rigid.mean(axis=0)
    moved = rigid - centre
    model = shape_N3[RIGID] - shape_N3[RIGID].mean(axis=0)
    u, _, vt = np.linalg.svd(moved.T @ model)
    u[:, 2] *= np.linalg.det(u) * np.linalg.det(vt)
    rotation: Floats = (u @ vt).astype(np.float32)
    radius_px = max(float(np.sqrt((moved**2).sum(axis=1).mean())), 1e-3)
    return centre, rotation, radius_px


def rotation_vector(matrix_33: Floats) -> Floats:
    """Axis times angle (radians) of a rotation of less than half a turn. float32 [3]."""
    axis = np.array(
        [
            matrix_33[2, 1] - matrix_33[1, 2],
            matrix_33[0, 2] - matrix_33[2, 0],
            matrix_33[1, 0] - matrix_33[0, 1],
        ],
        np.float32,
    )
    sine = 0.5 * math.sqrt(float(axis @ axis))
    angle = math.atan2(sine, 0.5 * (float(np.trace(matrix_33)) - 1.0))
    scale = 0.5 if sine < 1e-6 else 0.5 * angle / sine
    return axis * np.float32(scale)


def rotation_matrix(vector: Floats) -> Floats:
    """The rotation about `vector` by its length in radians (Rodrigues). float32 [3, 3]."""
    angle = math.sqrt(float(vector @ vector))
    x, y, z = (float(value) for value in vector)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    sine = math.sin(angle) / angle if angle > 1e-6 else 1.0
    cosine = (1.0 - math.cos(angle)) / angle**2 if angle > 1e-6 else 0.5
    rotation: Floats = (np.eye(3) + sine * cross + cosine * (cross @ cross)).astype(np.float32)
    return rotation
