"""Following faces from frame to frame, each locked to its person.

The landmark net runs in a square about each followed face's last landmarks; detectors look for newcomers and for those
who are lost. A lock is held by place and looks together, and is never handed to another face that merely stands there:
a person who is lost is taken up again where they look the same, at once and anywhere in the picture; somebody else gets
the lock only after `ALONE_S` when nobody else is in view, `CROWD_S` otherwise. Until then they are a bystander, whom
the session hides. The first person keeps a claim: when they come back, the lock goes back to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from engines.face.appearance import appearance, difference
from engines.face.bystanders import Bystander, centre, same_place, widen
from engines.face.cut import is_cut, thumbnail
from engines.face.detect import SAME_FACE_OVERLAP, Detection, FaceDetector, merge, overlap
from engines.face.edges import EdgeDetector, in_band
from engines.face.landmarks import FaceMesh, box_of_points, square_of_detection, square_of_points
from engines.face.mediapipe_graph import Packet, image_packet
from engines.face.motion import cells_in, changed, fine_thumbnail, stirs
from engines.face.people import (
    MOST_REMEMBERED,
    Look,
    Person,
    Stranger,
    TrackState,
    drop_doubles,
    first_to_look_at,
    learn,
    others_near,
    recognised,
    resume,
    update,
    welcome,
    went_over,
)
from engines.types import Box, Rgb, TrackedFace, Tracking

SCAN_EVERY_S = 0.09  # between two looks for newcomers while nothing moves but the faces that are followed
CAME_IN = 0.2  # of a face at an edge must have changed: what is like a face in the background does not
KEEP_SCORE = 0.5  # below this the landmark net sees no face; a followed face is lost
TAKE_SCORE = 0.7  # a new face has to be surer
ALONE_S = 3.0  # the lock may pass to the only face in view after this long without its person
CROWD_S = 10.0  # ... and where several faces are in view, after this long
LOST_HIDDEN_S = 3.0  # a lost face's last place stays hidden for this long: it may still be there, half covered
MOST_TRIES = 3  # to see a bystander's looks
MOST_LOOKS = 3  # candidates that the landmark net looks at in one frame


@dataclass(frozen=True, slots=True)
class _Frame:
    image: Packet
    rgb_HW3: Rgb
    now_s: float

    @property
    def height_px(self) -> int:
        return self.rgb_HW3.shape[0]

    @property
    def width_px(self) -> int:
        return self.rgb_HW3.shape[1]


@dataclass(frozen=True, slots=True)
class Begun:
    """A frame whose faces are known. While `looking`, detectors still look for whom else it shows.

    faces, broken: as of `Tracking`
    """

    faces: tuple[TrackedFace, ...]
    broken: bool
    looking: bool
    frame: _Frame


class FaceTracker:
    """The networks of tracking. One thread at a time; what is remembered is in the TrackState that the caller holds.

    follow   "one": the locked person only, everybody else is a bystander; "all": everybody up to `max_faces`
    """

    def __init__(self, max_faces: int, follow: Literal["one", "all"]) -> None:
        self._most = 1 if follow == "one" else max_faces
        self._detector = FaceDetector()
        self._edges = EdgeDetector()
        self._mesh = FaceMesh()

    def init(self) -> TrackState:
        return TrackState()

    def warm_up(self, face: TrackedFace, side_px: int) -> None:
        """Compiles the kernels; `face` is any face in a square picture of that side."""
        grey = np.full((side_px, side_px, 3), 128, np.uint8)
        thumbnail(grey)
        fine_thumbnail(grey)
        appearance(grey, face.points_px)

    def close(self) -> None:
        self._detector.close()
        self._edges.close()
        self._mesh.close()

    def step(self, state: TrackState, rgb_HW3: Rgb, captured_s: float) -> Tracking:
        """One frame. uint8 [H, W, 3], captured at `captured_s` seconds on a monotonic clock."""
        return self.finish(state, self.begin(state, rgb_HW3, captured_s))

    def begin(self, state: TrackState, rgb_HW3: Rgb, captured_s: float) -> Begun:
        """The first half of `step`: the faces to draw.

        Where everybody who should be followed is, and is who they should be, a look round can bring nothing but
        bystanders: it goes on in threads of its own while the caller draws. `finish` must follow, whatever happens in
        between, before the next frame of any state.
        """
        frame = _Frame(image_packet(rgb_HW3), rgb_HW3, captured_s)
        broken = self._notice_breaks(state, frame)
        present = state.present
        if present:
            self._feed(present[0], frame)  # the net works while this thread looks out
        scanning = self._look_out(state, frame)
        for person in present:
            if person is not present[0]:
                self._feed(person, frame)
            self._follow(state, person, frame)
        drop_doubles(state)
        if not scanning and _searching(state, self._most):  # lost in this very frame
            self._detector.feed(frame.image, both=True)
            scanning = True
        if scanning and not self._settled(state):
            self._scan(state, frame)
            scanning = False
        return Begun(self._faces(state), broken, scanning, frame)

    def finish(self, state: TrackState, begun: Begun) -> Tracking:
        """The second half: everybody else in that frame. They must be hidden before it is shown to anybody."""
        now_s = begun.frame.now_s
        if begun.looking:
            self._scan(state, begun.frame)
        state.bystanders.forget(now_s)
        state.stepped_s = now_s
        return self._tracking(state, begun, now_s)

    def _settled(self, state: TrackState) -> bool:
        """Whether `_scan` changes nothing about who is followed: it then neither takes anybody up nor gives back."""
        full = len(state.present) >= self._most and not _searching(state, self._most)
        return full and state.locked == state.owner

    def _look_out(self, state: TrackState, frame: _Frame) -> bool:
        """Starts the detectors where there is a reason to; they work in their own threads while the mesh follows."""
        scene = fine_thumbnail(frame.rgb_HW3)
        size_px = frame.height_px, frame.width_px
        moving = np.zeros(scene.shape, np.bool_) if state.scanned is None else changed(state.scanned, scene)
        moving &= ~cells_in((person.box_px for person in state.present), *size_px)
        due = state.scanned_s is None or frame.now_s - state.scanned_s >= SCAN_EVERY_S
        if not (due or stirs(moving) or _searching(state, self._most)):
            return False
        state.scanned, state.moving = scene, moving
        self._detector.feed(frame.image, both=_searching(state, self._most))
        hidden = cells_in((one.box_px for one in state.bystanders.known), *size_px)
        self._edges.feed(frame.rgb_HW3, moving | hidden)
        return True

    def _notice_breaks(self, state: TrackState, frame: _Frame) -> bool:
        """Whether there is a cut, a jump in time or another picture size: then nobody is where they were."""
        scene = thumbnail(frame.rgb_HW3)
        size_px = frame.height_px, frame.width_px
        backwards = state.stepped_s is not None and frame.now_s < state.stepped_s
        resized = state.size_px not in (None, size_px)
        broken = backwards or resized or (state.scene is not None and is_cut(state.scene, scene))
        if broken:
            for person in state.present:
                person.lost = True
                person.seen_s = min(person.seen_s, frame.now_s)
            state.bystanders.known.clear()
            state.scanned_s = state.surveyed_s = state.scanned = None
        state.scene, state.size_px = scene, size_px
        return broken

    def _feed(self, person: Person, frame: _Frame) -> None:
        square = square_of_points(person.points_px)
        self._mesh.feed(frame.image, square, frame.height_px, frame.width_px)

    def _follow(self, state: TrackState, person: Person, frame: _Frame) -> None:
        """Takes the landmarks that the net, fed with this person, finds."""
        points_px, score = self._mesh.collect(square_of_points(person.points_px))
        box_px = box_of_points(points_px)
        if score < KEEP_SCORE or not _plausible(person.box_px, box_px, frame):
            person.lost = True
            return
        looks = appearance(frame.rgb_HW3, points_px)
        apart = None if person.looks is None else difference(person.looks, looks)
        others = others_near(state, person, box_px)
        if others and apart is not None and went_over(person, apart, looks, others):
            person.lost = True
            return
        update(person, points_px, score, frame.now_s)
        if not others and score > TAKE_SCORE:
            learn(person, looks, apart)

    def _scan(self, state: TrackState, frame: _Frame) -> None:
        found, weak = self._detector.collect_all(frame.height_px, frame.width_px)
        weak = merge(weak + self._edges.collect(frame.width_px, lambda box: _newsworthy(state, box, frame)))
        survey = state.surveyed_s is None or frame.now_s - state.surveyed_s >= SCAN_EVERY_S
        state.scanned_s = frame.now_s
        state.surveyed_s = frame.now_s if survey else state.surveyed_s
        present = [person.box_px for person in state.present]
        strangers = [one for one in found if not any(same_place(one.box_px, box) for box in present)]
        if strangers and (_searching(state, self._most) or len(state.present) < self._most):
            strangers = self._take_up(state, strangers, len(found), frame)
        elif strangers and survey and state.locked != state.owner:
            strangers = self._give_back(state, strangers, frame)
        state.bystanders.scan([one.box_px for one in strangers], frame.now_s)
        present = [person.box_px for person in state.present]
        state.bystanders.scan(_maybe_faces(weak, found, present), frame.now_s, sure=False)
        if survey and len(state.present) >= self._most:
            self._get_to_know(state, strangers, frame)

    def _get_to_know(self, state: TrackState, strangers: list[Detection], frame: _Frame) -> None:
        """Looks at one bystander, once: before they can be confused with a face that is followed."""
        for bystander in state.bystanders.known:
            one = next((one for one in strangers if one.box_px is bystander.box_px), None)
            if one is None or bystander.looks is not None or bystander.looked_at >= MOST_TRIES:
                continue
            bystander.looked_at += 1
            look = self._look(one, frame)
            if look is not None:
                bystander.looks = look.looks
                state.strangers = [*state.strangers[1 - MOST_REMEMBERED :], Stranger(look.looks, frame.now_s)]
            return

    def _look(self, detection: Detection, frame: _Frame) -> Look | None:
        """Lands the mesh on a detected face: the detector's square is rough, so the net runs a second time."""
        rough_px, _ = self._mesh.find(frame.image, square_of_detection(detection), frame.height_px, frame.width_px)
        square = square_of_points(rough_px)
        points_px, score = self._mesh.find(frame.image, square, frame.height_px, frame.width_px)
        if score < TAKE_SCORE or not same_place(box_of_points(points_px), detection.box_px):
            return None
        return Look(points_px, score, appearance(frame.rgb_HW3, points_px))

    def _take_up(self, state: TrackState, strangers: list[Detection], faces: int, frame: _Frame) -> list[Detection]:
        """Finds lost people among unknown faces, and new people where there is room. Returns who stays unknown."""
        looks = [(one, self._look(one, frame)) for one in first_to_look_at(state, strangers)[:MOST_LOOKS]]
        seen = [(one, look) for one, look in looks if look is not None]
        for person, one, look in recognised(state, seen, frame.now_s):
            if len(state.present) >= self._most and person.number != state.locked:
                continue
            resume(person, look, frame.now_s)
            seen.remove((one, look))
            strangers = [other for other in strangers if other is not one]
            state.bystanders.release(person.box_px)
        for one, look in seen:
            if not self._may_be_new(state, faces, frame.now_s):
                break
            person = welcome(state, look, frame.now_s)
            strangers = [other for other in strangers if other is not one]
            state.bystanders.release(person.box_px)
        return strangers

    def _may_be_new(self, state: TrackState, faces: int, now_s: float) -> bool:
        """Whether somebody unknown may be followed now; takes the lock from a person who is away for too long."""
        if len(state.present) >= self._most:
            return False
        locked = state.person(state.locked)
        if locked is None or not locked.lost:
            return True
        if now_s - locked.seen_s > (ALONE_S if faces == 1 else CROWD_S):
            state.locked = None
            return True
        return self._most > 1  # followed, but without the lock

    def _give_back(self, state: TrackState, strangers: list[Detection], frame: _Frame) -> list[Detection]:
        """Hands the lock back to its owner when they are among the unknown faces."""
        owner = state.person(state.owner)
        if owner is None or owner.looks is None:
            return strangers
        one = strangers[0]
        look = self._look(one, frame)
        apart = None if look is None else difference(owner.looks, look.looks)
        if look is None or apart is None or apart > owner.same_within:
            return strangers
        holder = state.person(state.locked)
        if holder is not None:
            holder.lost = True
            state.bystanders.scan([holder.box_px], frame.now_s)
        resume(owner, look, frame.now_s)
        state.locked = state.owner
        state.bystanders.release(owner.box_px)
        return strangers[1:]

    def _followed(self, state: TrackState) -> list[Person]:
        return sorted(state.present, key=lambda one: (one.number != state.locked, one.number))[: self._most]

    def _faces(self, state: TrackState) -> tuple[TrackedFace, ...]:
        followed = self._followed(state)
        return tuple(TrackedFace(one.number, one.points_px, one.raw_px, one.score) for one in followed)

    def _tracking(self, state: TrackState, begun: Begun, now_s: float) -> Tracking:
        present = self._followed(state)
        hidden = [one.hidden_px(now_s) for one in state.bystanders.known]
        for person in state.people:
            if person.lost and now_s - person.seen_s <= LOST_HIDDEN_S:
                place = Bystander(person.box_px, person.seen_s).hidden_px(now_s)
                if not any(same_place(person.box_px, one.box_px) for one in present):
                    hidden.append(place)
        found = len(begun.faces) + len(state.bystanders.known)
        return Tracking(begun.faces, tuple(hidden), found, begun.broken)


def _newsworthy(state: TrackState, box_px: Box, frame: _Frame) -> bool:
    """Whether something at an edge that looks like a face came in there, or is hidden already."""
    if any(overlap(box_px, one.box_px) >= SAME_FACE_OVERLAP for one in state.bystanders.known):
        return True
    if not in_band(box_px, frame.width_px) or state.moving is None:
        return False
    here = cells_in((box_px,), frame.height_px, frame.width_px)
    return int((state.moving & here).sum()) >= CAME_IN * int(here.sum())


def _maybe_faces(weak: list[Detection], sure: list[Detection], present_px: list[Box]) -> list[Box]:
    """What only may be a face, away from all that are known: a hand before a followed face must not be hidden."""
    known = [one.box_px for one in sure] + [widen(box) for box in present_px]
    return [one.box_px for one in weak if all(overlap(one.box_px, box) < SAME_FACE_OVERLAP for box in known)]


def _searching(state: TrackState, most: int) -> bool:
    """Whether somebody who should be followed is not: the lock's person, or, with several, anybody lost just now."""
    locked = state.person(state.locked)
    return locked is None or locked.lost or (most > 1 and not state.present)


def _plausible(before_px: Box, after_px: Box, frame: _Frame) -> bool:
    """Whether a face can have moved and grown so much within one frame, and its middle is still in the picture."""
    (x, y), (old_x, old_y) = centre(after_px), centre(before_px)
    size, old_size = max(after_px.width_px, after_px.height_px), max(before_px.width_px, before_px.height_px)
    moved = ((x - old_x) ** 2 + (y - old_y) ** 2) ** 0.5
    inside = 0 <= x < frame.width_px and 0 <= y < frame.height_px
    return inside and moved < 0.7 * old_size and 0.55 < size / max(old_size, 1e-6) < 1.8
