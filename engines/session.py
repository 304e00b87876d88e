"""One frame in, one picture out that is safe to show: track, look for occluders, draw, hide everybody else, label."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from engines import registry
from engines.errors import EngineFault, SettingError, VividError
from engines.identity import Identity
from engines.marks.invisible import Marker
from engines.marks.label import Corner, draw_label, free_corner
from engines.marks.own import marker_on, own_payload, utc_today
from engines.pool import EnginePool
from engines.settings import SwapSettings
from engines.standby import blurred_scene, hide_face
from engines.swappers.base import EngineState, Inputs
from engines.types import Box, Rgb, Status, StepResult, TrackedFace, Tracking

if TYPE_CHECKING:
    from engines.face.occlusion import Occluder, OcclusionState
    from engines.face.people import TrackState
    from engines.face.track import Begun, FaceTracker

LEAST_SIDE_PX, MOST_SIDE_PX = 16, 8192
FORGET_S = 1.0  # a person who is not seen for longer is drawn as somebody new
MOST_COVERED = 0.6  # a face covered beyond this share is treated as lost: too little is left to draw on


@dataclass(slots=True)
class PersonState:
    """What is remembered of one person in view."""

    engine: EngineState
    occlusion: OcclusionState | None
    seen_s: float


@dataclass(slots=True)
class SessionState:
    """Everything that a session remembers from frame to frame. Made by `Session.init`; belongs to one call."""

    track: TrackState | None
    people: dict[int, PersonState] = field(default_factory=dict)
    last_good: Rgb | None = None
    last_good_s: float = -math.inf
    label_corner: Corner = "upper right"


class Stopwatch:
    """Milliseconds per stage of one frame."""

    def __init__(self) -> None:
        self.stage_ms: dict[str, float] = {}
        self._since_ns = time.perf_counter_ns()

    def lap(self, stage: str) -> None:
        now_ns = time.perf_counter_ns()
        self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + (now_ns - self._since_ns) / 1e6
        self._since_ns = now_ns


class Session:
    """Draws with one engine. Holds no memory of a call: that is the `SessionState` that the caller passes in.

    Not thread safe, but for `set_identity`: one thread steps it, with as many states as it likes.
    """

    def __init__(
        self,
        settings: SwapSettings,
        identity: Identity | None = None,
        pool: EnginePool | None = None,
        today: Callable[[], date] = utc_today,
    ) -> None:
        self.settings = settings
        self._today = today
        self.engine, self.why = registry.choose(settings.engine)
        self._pool = EnginePool() if pool is None else pool
        self._owns_pool = pool is None
        try:
            self._drawer = registry.make(self.engine, settings, self._pool)
        except BaseException:
            self._close_pool()
            raise
        self.why = "; ".join(filter(None, (self.why, self._drawer.why)))
        self.marker: Marker | None = Marker(own_payload())  # taken away only to measure what an engine draws
        self._identity = identity
        self._tracker: FaceTracker | None = None
        self._occluder: Occluder | None = None
        if self._drawer.needs_face:
            from engines.face.occlusion import Occluder
            from engines.face.track import FaceTracker

            self._tracker = FaceTracker(max_faces=settings.max_faces, follow=settings.faces)
            self._occluder = Occluder()

    @property
    def identity(self) -> Identity | None:
        return self._identity

    def set_identity(self, identity: Identity | None) -> None:
        """Takes effect with the next frame, whole; None draws nobody. May be called from any thread.

        Raises EngineFault where the engine cannot take the identity; the one before is then kept.
        """
        if identity is not None:
            self._drawer.prepare(identity, self.settings)
        self._identity = identity

    def init(self) -> SessionState:
        """A fresh state: nobody tracked, nothing drawn."""
        return SessionState(track=self._tracker.init() if self._tracker else None)

    def warm_up(self, height_px: int, width_px: int) -> None:
        """Compiles kernels and starts graphs for one picture size, so that the first frame is not late."""
        self._drawer.warm_up()
        if self._tracker is not None and self._occluder is not None:
            from engines.swappers.warm_up import made_up_face

            self._tracker.warm_up(made_up_face(256), 256)
            self._occluder.warm_up(made_up_face(256), 256)
        grey = np.full((height_px, width_px, 3), 128, np.uint8)
        self.step(self.init(), grey, 0.0)

    def close(self) -> None:
        """Frees the tracker's graphs, and the engine where no other session shares it. It must not be stepped again."""
        self._drawer.close()
        self._close_pool()
        for part in (self._tracker, self._occluder):
            if part is not None:
                part.close()

    def _close_pool(self) -> None:
        if self._owns_pool:
            self._pool.close()

    def standby(self, rgb_HW3: Rgb) -> Rgb:
        """The standby picture for this frame, marked: the scene blurred beyond recognition."""
        picture = blurred_scene(_plain(rgb_HW3))
        self._mark(picture)
        return picture

    def step(self, state: SessionState, rgb_HW3: Rgb, captured_s: float) -> StepResult:
        """One frame.

        rgb_HW3     uint8 [H, W, 3], never written to
        captured_s  when it was captured, seconds on any monotonic clock; the filters run on it

        Returns a new picture of the same size that is always safe to show. Raises SettingError for a picture of an
        impossible shape, EngineFault where the engine fails; then nothing of the frame may be shown.
        """
        _check(rgb_HW3)
        try:
            return self._step(state, _plain(rgb_HW3), captured_s)
        except VividError:
            raise
        except Exception as error:  # the boundary: whatever an engine raises, callers wait for one kind of fault
            words = " ".join(str(error).split())
            raise EngineFault(f"the engine {self.engine} failed: {type(error).__name__}: {words}") from error

    def _step(self, state: SessionState, rgb_HW3: Rgb, captured_s: float) -> StepResult:
        watch = Stopwatch()
        picture = rgb_HW3.copy()
        found, drawn = 0, True
        if self._drawer.needs_face:
            found, drawn = self._swap(state, rgb_HW3, captured_s, picture, watch)
        else:
            inputs = Inputs(rgb_HW3, _NOBODY, None, captured_s)
            self._drawer.draw(self._drawer.init(), self._identity, inputs, self.settings, picture)
            watch.lap("draw")
        if not drawn:
            return self._without(state, rgb_HW3, captured_s, found, watch)
        self._mark(picture, state.label_corner)
        if self._drawer.needs_face:  # else there is never a frame without a picture of its own
            state.last_good, state.last_good_s = picture.copy(), captured_s
        watch.lap("label")
        return StepResult(picture, Status.DRAWN, found, watch.stage_ms)

    def _swap(
        self, state: SessionState, rgb_HW3: Rgb, captured_s: float, picture: Rgb, watch: Stopwatch
    ) -> tuple[int, bool]:
        """Draws every face that is to be swapped. Returns how many faces are in view, and whether all were drawn."""
        assert self._tracker is not None
        assert state.track is not None
        begun = self._tracker.begin(state.track, rgb_HW3, captured_s)
        watch.lap("track")
        try:  # faces are drawn while the tracker still looks for bystanders
            _forget(state, begun, captured_s)
            drawn = self._draw_all(state, rgb_HW3, begun.faces, captured_s, picture, watch)
        finally:
            tracking = self._tracker.finish(state.track, begun)
        watch.lap("track")
        self._place_label(state, rgb_HW3, tracking)
        if tracking.found == 0 and not tracking.bystanders_px and self.settings.without_face == "show":
            return 0, True
        if not drawn:
            return tracking.found, False
        if self.settings.bystanders == "blur":
            for box in tracking.bystanders_px:
                hide_face(picture, box)
            watch.lap("bystanders")
        return tracking.found, True

    def _draw_all(
        self,
        state: SessionState,
        rgb_HW3: Rgb,
        faces: tuple[TrackedFace, ...],
        captured_s: float,
        picture: Rgb,
        watch: Stopwatch,
    ) -> bool:
        """Whether there is somebody to draw, and everybody was drawn."""
        if not faces or self._identity is None:
            return False
        return all(self._draw(state, rgb_HW3, face, captured_s, picture, watch) for face in faces)

    def _draw(
        self,
        state: SessionState,
        rgb_HW3: Rgb,
        face: TrackedFace,
        captured_s: float,
        picture: Rgb,
        watch: Stopwatch,
    ) -> bool:
        assert self._occluder is not None
        person = state.people.get(face.person)
        if person is None:
            person = PersonState(self._drawer.init(), self._occluder.init(), captured_s)
            state.people[face.person] = person
        person.seen_s = captured_s
        assert person.occlusion is not None
        occlusion = self._occluder.step(person.occlusion, rgb_HW3, face, captured_s)
        watch.lap("occlusion")
        if occlusion.covered_share > MOST_COVERED:
            return False
        inputs = Inputs(rgb_HW3, face, occlusion, captured_s, watch.lap)
        self._drawer.draw(person.engine, self._identity, inputs, self.settings, picture)
        watch.lap("draw")
        return True

    def _without(
        self, state: SessionState, rgb_HW3: Rgb, captured_s: float, found: int, watch: Stopwatch
    ) -> StepResult:
        """Nothing was drawn: the last good picture for a moment, then the standby picture. Never the frame itself."""
        held = state.last_good is not None and state.last_good.shape == rgb_HW3.shape
        if held and 0 <= captured_s - state.last_good_s <= self.settings.hold_ms / 1000:
            assert state.last_good is not None
            return StepResult(state.last_good.copy(), Status.NO_FACE, found, watch.stage_ms)
        status = Status.WARMING if state.last_good is None else Status.STANDBY
        picture = self.standby(rgb_HW3)
        watch.lap("standby")
        return StepResult(picture, status, found, watch.stage_ms)

    def _place_label(self, state: SessionState, rgb_HW3: Rgb, tracking: Tracking) -> None:
        """Out of the way of faces; it moves only where one comes under it."""
        if not self.settings.label:
            return
        faces = [*(_box_of(face) for face in tracking.faces), *tracking.bystanders_px]
        height, width = rgb_HW3.shape[:2]
        style, language = self.settings.label_style, self.settings.label_language
        state.label_corner = free_corner(height, width, faces, state.label_corner, style, language)

    def _mark(self, picture: Rgb, corner: Corner = "upper right") -> None:
        """The visible label, then the invisible mark, which no setting switches off. Only a picture that nobody drew
        on and that says nothing (the engine passthrough, without a label) stays as it came.
        """
        if self.settings.label:
            draw_label(picture, corner, self.settings.label_style, self.settings.label_language)
        if self.marker is not None and (self._drawer.needs_face or self.settings.label):
            self.marker = marker_on(self._today(), self.marker)  # a call goes on past midnight
            self.marker.apply(picture)


def _box_of(face: TrackedFace) -> Box:
    (left, top), (right, bottom) = face.points_px[:, :2].min(axis=0), face.points_px[:, :2].max(axis=0)
    return Box(float(left), float(top), float(right), float(bottom))


def _forget(state: SessionState, tracking: Begun, captured_s: float) -> None:
    """Drops what was remembered of people who are gone, and of everybody where this frame does not go on from the last.

    A face that is lost for a moment goes on where it was; what an engine remembers of it ages by its own clock.
    """
    present = {face.person for face in tracking.faces}
    for number, person in list(state.people.items()):
        gone = number not in present and not 0 <= captured_s - person.seen_s <= FORGET_S
        if gone or tracking.broken:
            del state.people[number]


_NOBODY = TrackedFace(0, np.zeros((478, 3), np.float32), np.zeros((478, 3), np.float32), 0.0)


def _check(rgb_HW3: Rgb) -> None:
    fits = rgb_HW3.ndim == 3 and rgb_HW3.shape[2] == 3 and rgb_HW3.dtype == np.uint8
    if not fits or not all(LEAST_SIDE_PX <= side <= MOST_SIDE_PX for side in rgb_HW3.shape[:2]):
        raise SettingError(f"a frame must be uint8 [H, W, 3], not {rgb_HW3.dtype} {list(rgb_HW3.shape)}")


def _plain(rgb_HW3: Rgb) -> Rgb:
    """The same picture as a plain array: for views and locked ones the kernels would be compiled anew, for seconds."""
    return rgb_HW3 if rgb_HW3.flags.c_contiguous and rgb_HW3.flags.writeable else rgb_HW3.copy()


def load(settings: SwapSettings, identity: Identity | None = None, pool: EnginePool | None = None) -> Session:
    """Builds a session. Raises UnknownEngine or EngineUnavailable; never falls back to another engine.

    pool: sessions that are given the same one share what they load.
    """
    return Session(settings, identity, pool)
