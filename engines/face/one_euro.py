"""The One-Euro filter (Casiez, Roussel, Vogel, CHI 2012) on a face: still when the face is still, prompt when it moves.

The landmarks are taken apart into the similarity transform of the head (place, turn, size) and the shape in the head's
own frame, and each part is filtered at its own pace: the shape hardly changes but for expression, so it may be held
much stiller than the place. Eyelids, irises and lips get filters of their own, that open within one frame of a blink.

One departure from the paper: a part's speed is the root mean square over its points, less the speed that noise alone
would show. All points of an eyelid move together and noise does not, so a blink is told from noise at once.
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

    rest_hz      cut-off frequency at rest: lower is stiller
    per_speed    by how many Hz each unit of speed raises it: higher is prompter
    noise_speed  the speed that a still face shows by noise alone, units per second at 30 frames per second
    speed_hz     cut-off frequency of the speed's own smoothing
    """

    rest_hz: float
    per_speed: float
    noise_speed: float
    speed_hz: float


# Units: head radii (root mean square distance of the rigid points from their centre) or radians, per second.
PLACE = Pace(rest_hz=0.6, per_speed=60.0, noise_speed=0.02, speed_hz=4.0)
TURN = Pace(rest_hz=0.5, per_speed=30.0, noise_speed=0.03, speed_hz=4.0)
SIZE = Pace(rest_hz=0.4, per_speed=40.0, noise_speed=0.02, speed_hz=4.0)
SKIN = Pace(rest_hz=0.5, per_speed=12.0, noise_speed=0.05, speed_hz=4.0)
LIDS = Pace(rest_hz=0.7, per_speed=60.0, noise_speed=0.05, speed_hz=12.0)
IRIS = Pace(rest_hz=0.7, per_speed=60.0, noise_speed=0.05, speed_hz=12.0)
MOUTH = Pace(rest_hz=0.7, per_speed=40.0, noise_speed=0.05, speed_hz=10.0)

SHAPE_PARTS: tuple[tuple[NDArray[np.intp], Pace], ...] = (
    (regions.SKIN, SKIN),
    (regions.RIGHT_LIDS, LIDS),
    (regions.LEFT_LIDS, LIDS),
    (regions.RIGHT_BROW, LIDS),
    (regions.LEFT_BROW, LIDS),
    (regions.RIGHT_IRIS, IRIS),
    (regions.LEFT_IRIS, IRIS),
    (regions.MOUTH, MOUTH),
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
    speed: Floats | None = None

    def step(self, sample: Floats, elapsed_s: float) -> Floats:
        """The filtered value after `elapsed_s` seconds. The first sample comes back as it is."""
        if self.value is None or self.last is None or self.speed is None:
            self.value, self.last, self.speed = sample, sample, np.zeros_like(sample)
            return sample
        share = blend(self.pace.speed_hz, elapsed_s)
        self.speed = self.speed + share * ((sample - self.last) / elapsed_s - self.speed)
        self.last = sample
        speed = math.sqrt(float(np.vdot(self.speed, self.speed)) / max(len(sample) if sample.ndim > 1 else 1, 1))
        excess = max(speed - self.pace.noise_speed, 0.0)
        cutoff_hz = self.pace.rest_hz + self.pace.per_speed * excess
        self.value = self.value + np.float32(blend(cutoff_hz, elapsed_s)) * (sample - self.value)
        return self.value


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
        turn = self.turn
        # In coordinates about the filtered value, that value is zero and the previous sample is `last`.
        step = turn.step(to_new, elapsed_s)
        self.turn_33 = rotation_matrix(step) @ self.turn_33
        turn.value = np.zeros(3, np.float32)
        turn.last = to_new - step  # exact for small angles, and only the speed is made of it

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
