"""Who is who: what is remembered of the people in a call, and whether a face that is seen now is one of theirs.

By looks and by place; by looks alone where somebody was away for long. A face is somebody's only where nobody else who
is known looks more like it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from engines.face.appearance import OTHER_PERSON, SAME_PERSON, Appearance, difference, remember
from engines.face.bystanders import Bystanders, centre, same_place, widen
from engines.face.cut import Thumbnail
from engines.face.detect import Detection, overlap
from engines.face.landmarks import box_of_points
from engines.face.motion import Cells
from engines.face.one_euro import FaceFilter
from engines.types import Box, Floats

NEARBY_S = 1.0  # a person lost for less than this, and found near by, need look only roughly the same
UNLIKE_RIVALS = 0.65  # a changed face is still somebody's when everybody else known looks this much less like it
MOST_REMEMBERED = 16
LEARN_S = 3.0  # time constant of what is remembered of somebody's looks


@dataclass(slots=True)
class Person:
    """Somebody who is or was followed."""

    number: int
    points_px: Floats  # latest landmarks, filtered
    raw_px: Floats
    score: float
    seen_s: float
    looks: Appearance | None = None
    strays: float = SAME_PERSON / 2  # how different from `looks` this person's own face usually is
    frames: int = 0
    lost: bool = False
    filter: FaceFilter = field(default_factory=FaceFilter)

    @property
    def box_px(self) -> Box:
        return box_of_points(self.raw_px)

    @property
    def same_within(self) -> float:
        return min(max(1.7 * self.strays, 0.6 * SAME_PERSON), SAME_PERSON)

    @property
    def other_beyond(self) -> float:
        return min(max(2.5 * self.strays, 0.7 * OTHER_PERSON), OTHER_PERSON)


@dataclass(frozen=True, slots=True)
class Stranger:
    """The looks of a bystander, remembered so that they are not taken for somebody who is lost."""

    looks: Appearance
    seen_s: float


@dataclass(slots=True)
class TrackState:
    """What is remembered of one call."""

    people: list[Person] = field(default_factory=list)
    bystanders: Bystanders = field(default_factory=Bystanders)
    strangers: list[Stranger] = field(default_factory=list)
    locked: int | None = None  # the person whom the session follows
    owner: int | None = None  # the first whom it followed
    numbered: int = 0
    scanned_s: float | None = None
    surveyed_s: float | None = None  # as `scanned_s`, but for looks that are taken at most every SCAN_EVERY_S
    stepped_s: float | None = None
    size_px: tuple[int, int] | None = None
    scene: Thumbnail | None = None
    moving: Cells | None = None  # what changed between the latest two of those frames
    scanned: Thumbnail | None = None  # a finer one, of the frame in which the detectors looked last

    def person(self, number: int | None) -> Person | None:
        return next((one for one in self.people if one.number == number), None)

    @property
    def present(self) -> list[Person]:
        return [one for one in self.people if not one.lost]


@dataclass(frozen=True, slots=True)
class Look:
    """A detected face, looked at closely."""

    points_px: Floats
    score: float
    looks: Appearance

    @property
    def box_px(self) -> Box:
        return box_of_points(self.points_px)


def welcome(state: TrackState, look: Look, now_s: float) -> Person:
    """Somebody new, who takes a lock that nobody has; of those who are lost, who was away for longest is forgotten."""
    state.numbered += 1
    person = Person(state.numbered, look.points_px, look.points_px, look.score, now_s)
    update(person, look.points_px, look.score, now_s)
    learn(person, look.looks, None)
    if state.locked is None:
        state.locked = person.number
    if state.owner is None:
        state.owner = person.number
    kept = [one for one in state.people if one.number in (state.locked, state.owner) or not one.lost]
    old = [one for one in state.people if one not in kept]
    room = max(MOST_REMEMBERED - 1 - len(kept), 0)
    state.people = kept + sorted(old, key=lambda one: one.seen_s)[len(old) - min(room, len(old)) :] + [person]
    return person


def resume(person: Person, look: Look, now_s: float) -> None:
    """Somebody who was lost is followed again."""
    person.lost, person.filter = False, FaceFilter()
    update(person, look.points_px, look.score, now_s)


def update(person: Person, points_px: Floats, score: float, now_s: float) -> None:
    """Takes the landmarks of a frame."""
    person.raw_px, person.score, person.seen_s = points_px, score, now_s
    person.points_px = person.filter.step(points_px, now_s)
    person.frames += 1


def learn(person: Person, looks: Appearance, apart: float | None) -> None:
    """Remembers somebody's looks: quickly at first, then slowly, and slower still where they look unlike themselves."""
    share = max(1.0 / (person.frames + 1), 1.0 / (30 * LEARN_S))
    if apart is not None:
        person.strays += 0.05 * (apart - person.strays)
        if apart > person.same_within:
            share /= 2
    person.looks = remember(person.looks, looks, share)


def others_near(state: TrackState, person: Person, box_px: Box) -> list[Appearance | None]:
    """What is known of the looks of everybody near a followed face."""
    others: list[Appearance | None] = [one.looks for one in state.bystanders.near(box_px)]
    others += [one.looks for one in state.strangers] if others else []
    for other in state.people:
        recent = not other.lost or abs(other.seen_s - person.seen_s) < NEARBY_S
        if other is not person and recent and overlap(widen(other.box_px), widen(box_px)) > 0:
            others.append(other.looks)
    return others


def went_over(person: Person, apart: float, seen: Appearance, others: list[Appearance | None]) -> bool:
    """Whether the landmark net went over to the face of somebody who is near."""
    if apart > person.other_beyond:
        return True
    theirs = [difference(other, seen) for other in others if other is not None]
    return apart > person.same_within and any(other is not None and other < apart for other in theirs)


def drop_doubles(state: TrackState) -> None:
    """Where two people are followed on one face, the newer one is lost: it wandered over."""
    present = state.present
    for index, person in enumerate(present):
        for other in present[index + 1 :]:
            if not person.lost and not other.lost and overlap(person.box_px, other.box_px) > 0.7:
                newer = max(person, other, key=lambda one: (one.number != state.locked, one.number))
                newer.lost = True


def first_to_look_at(state: TrackState, strangers: list[Detection]) -> list[Detection]:
    """Near the lost person first; without one, the largest face first."""
    locked = state.person(state.locked)
    if locked is None:
        return sorted(strangers, key=lambda one: -one.box_px.width_px)
    x, y = centre(locked.box_px)
    return sorted(strangers, key=lambda one: (centre(one.box_px)[0] - x) ** 2 + (centre(one.box_px)[1] - y) ** 2)


def recognised(
    state: TrackState, seen: list[tuple[Detection, Look]], now_s: float
) -> list[tuple[Person, Detection, Look]]:
    """Lost people found again, the surest pairs first, each person and each face once."""
    pairs: list[tuple[float, Person, Detection, Look]] = []
    for person in state.people:
        for one, look in seen if person.lost else []:
            apart = None if person.looks is None else difference(person.looks, look.looks)
            near = now_s - person.seen_s < NEARBY_S and same_place(widen(person.box_px), widen(look.box_px))
            if apart is None:  # a profile shows too little: only the place can tell
                apart = person.other_beyond if near else math.inf
            if _is_person(person, apart, near, _rivals(state, person, look.looks)):
                pairs.append((apart + (person.number != state.locked) * 0.01, person, one, look))
    chosen: list[tuple[Person, Detection, Look]] = []
    for _, person, one, look in sorted(pairs, key=lambda pair: pair[0]):
        if all(person is not p and one is not d for p, d, _ in chosen):
            chosen.append((person, one, look))
    return chosen


def _rivals(state: TrackState, person: Person, seen: Appearance) -> list[float]:
    """How different a face looks from everybody else who is known."""
    others = [one.looks for one in state.strangers]
    others += [one.looks for one in state.people if one is not person and one.looks is not None]
    found = [difference(looks, seen) for looks in others]
    return [apart for apart in found if apart is not None]


def _is_person(person: Person, apart: float, near: bool, rivals: list[float]) -> bool:
    """Whether a face is that of a lost person, by its looks, its place, and who else it might be."""
    closest = min(rivals, default=math.inf)
    if closest < apart:
        return False
    if apart <= person.same_within:
        return True
    return apart <= person.other_beyond and (near if not rivals else apart < UNLIKE_RIVALS * closest)
