"""A short clip in which a person reads a random phrase and turns the head as asked: is that what it shows, and whom?

Decided by the head's pose and the mouth's opening over time. It tells a clip made for this enrolment from a photo and
from a clip that lay about; not from a screen that shows the person, and not from another program's puppet. The words
are not recognised here: they and the clip's hash stay in the identity file, for whoever has the clip to hear.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from engines.enrolment import face_finder, scaled_down
from engines.errors import UnsuitablePhoto
from engines.face.appearance import Appearance, appearance, difference
from engines.face.mesh import INNER_LIPS, Pose
from engines.face.retarget import canonical_face
from engines.face.track import FaceTracker
from engines.settings import StrictModel
from engines.types import Rgb, TrackedFace

Turn = Literal["left", "right", "up"]  # as the person sees it
TURNS: tuple[Turn, ...] = get_args(Turn)
OTHER_SIDE: dict[Turn, Turn] = {"left": "right", "right": "left"}
WORDS = (
    "amber anchor apple arrow autumn badge basket beacon birch bottle branch bridge bronze butter cabin candle canyon "
    "carpet castle cedar cherry cliff cloud copper coral cotton desert dragon eagle ember falcon feather fern forest "
    "garden ginger glacier gravel hammer harbour hazel helmet honey island ivory jungle kettle ladder lantern lemon "
    "marble meadow mirror mountain needle ocean olive orchard paper pebble pepper pillow planet pocket prairie quartz "
    "rabbit ribbon river rocket saddle salmon shadow silver spiral spring stone summer thunder timber tunnel umbrella "
    "valley velvet violet walnut whistle willow window winter wonder yellow zebra"
).split()
WORDS_ASKED, TURNS_ASKED = 5, 5
ASIDE_DEG, BACK_DEG = 17.0, 9.0  # a turn begins beyond the first and ends within the second, from the person's middle
UP_DEG, BACK_FROM_UP_DEG = 11.0, 6.0
LEAST_SECONDS, MOST_SECONDS = 4.0, 60.0
LEAST_SEEN = 0.8  # share of pictures in which the face is found
MOUTH_MOVES = 4  # openings: five words have more syllables than that
LEAST_OPENING_CM = 0.25  # between closed and open, in the face's own measure
LOOKS = 12  # pictures by which the person is compared, facing the camera
OTHER_PERSON = 1.45  # as between photos, see engines.enrolment


class Challenge(StrictModel):
    """What a person is asked to do in the clip. code: names it; asked: when, ISO 8601."""

    code: str
    phrase: str
    turns: tuple[Turn, ...]
    asked: str

    def sentence(self) -> str:
        return f'say "{self.phrase}" and meanwhile turn the head {", ".join(self.turns)}, back to the middle each time'


def new_challenge(asked: str) -> Challenge:
    """By lot, from the system's own source of it."""
    lot = secrets.SystemRandom()
    turns: list[Turn] = []
    while len(turns) < TURNS_ASKED:
        turns.append(lot.choice([turn for turn in TURNS if turn not in turns[-1:]]))
    phrase = " ".join(lot.sample(WORDS, WORDS_ASKED))
    return Challenge(code=secrets.token_hex(3), phrase=phrase, turns=tuple(turns), asked=asked)


@dataclass(frozen=True, slots=True)
class Moment:
    """One picture of the clip. yaw to the person's left positive, pitch up positive; None where no face was found."""

    captured_s: float
    faces: int
    yaw_deg: float | None = None
    pitch_deg: float | None = None
    mouth_cm: float = 0.0


@dataclass(frozen=True, slots=True)
class Watched:
    """A clip as it was seen: its moments, and how the person looks when facing the camera."""

    moments: tuple[Moment, ...]
    looks: tuple[Appearance, ...]
    broken: int  # times at which the picture jumped or somebody else took the place


def watch_clip(frames: Iterable[tuple[Rgb, float]]) -> Watched:
    """Follows the face through pictures uint8 [H, W, 3] and their times in seconds, a minute at most."""
    tracker = FaceTracker(max_faces=2, follow="one")
    state, broken = tracker.init(), 0
    moments: list[Moment] = []
    frontal: list[tuple[float, Appearance]] = []
    people: set[int] = set()
    begin_s: float | None = None
    try:
        for rgb_HW3, captured_s in frames:
            begin_s = captured_s if begin_s is None else begin_s
            if captured_s - begin_s > MOST_SECONDS:
                break
            tracking = tracker.step(state, rgb_HW3, captured_s)
            broken += bool(tracking.broken and moments)
            found = len(tracking.faces) + len(tracking.bystanders_px)
            if not tracking.faces:
                moments.append(Moment(captured_s, found))
                continue
            face = tracking.faces[0]
            people.add(face.person)
            moment = _moment(face, found, captured_s)
            moments.append(moment)
            aside = abs(moment.yaw_deg or 0.0) + abs(moment.pitch_deg or 0.0)
            if len(frontal) < LOOKS or aside < frontal[-1][0]:
                frontal = sorted([*frontal, (aside, appearance(rgb_HW3, face.points_px))], key=lambda one: one[0])[
                    :LOOKS
                ]
    finally:
        tracker.close()
    return Watched(tuple(moments), tuple(looks for _, looks in frontal), broken + max(len(people) - 1, 0))


def _moment(face: TrackedFace, found: int, captured_s: float) -> Moment:
    pose, canonical_S3 = canonical_face(face.points_px)
    half = len(INNER_LIPS) // 4
    lips = canonical_S3[INNER_LIPS]
    mouth_cm = float(np.linalg.norm(lips[half] - lips[3 * half]))
    return Moment(captured_s, found, pose.yaw_deg, _pitch_deg(pose), mouth_cm)


def _pitch_deg(pose: Pose) -> float:
    return float(np.degrees(np.arcsin(np.clip(pose.rotation_33[1, 2], -1, 1))))


def looks_of(photos: Sequence[Rgb]) -> list[Appearance]:
    """How the largest face of each photo looks, for `check_clip`; photos without one are passed over."""
    looks = []
    with face_finder() as finder:
        for photo in photos:
            upright = scaled_down(photo)
            looks += [appearance(upright, face.points_px) for face in finder.find(upright)[:1]]
    return looks


def check_clip(watched: Watched, challenge: Challenge, photos: Sequence[Appearance]) -> None:
    """Raises UnsuitablePhoto, in one line, where the clip does not show what was asked, or not the photos' person."""
    check_moments(watched.moments, challenge)
    if watched.broken:
        raise UnsuitablePhoto("the clip: it was cut, or somebody else came into its place; one unbroken clip is needed")
    apart = [value for look in watched.looks for photo in photos if (value := difference(look, photo)) is not None]
    if not apart:
        raise UnsuitablePhoto(
            "the clip: the face is never seen from where a photo shows it; look into the camera as well"
        )
    if float(np.median(sorted(apart)[: max(len(apart) // 2, 1)])) > OTHER_PERSON:
        raise UnsuitablePhoto("the clip: it may show another person than the photos")


def check_moments(moments: Sequence[Moment], challenge: Challenge) -> None:
    """The part of `check_clip` that is arithmetic. Raises UnsuitablePhoto."""
    seconds = moments[-1].captured_s - moments[0].captured_s if moments else 0.0
    if seconds < LEAST_SECONDS:
        raise UnsuitablePhoto(
            f"the clip: {seconds:.1f} s are too short; {LEAST_SECONDS:.0f} to {MOST_SECONDS:.0f} s are needed"
        )
    seen = [moment for moment in moments if moment.yaw_deg is not None]
    if len(seen) < LEAST_SEEN * len(moments):
        raise UnsuitablePhoto(f"the clip: a face is seen in {len(seen)} of {len(moments)} pictures only")
    if sum(moment.faces > 1 for moment in moments) > 0.1 * len(moments):
        raise UnsuitablePhoto("the clip: two faces; only the one to enrol may be in view")
    turned = turns_of(seen)
    mirrored = [OTHER_SIDE.get(turn, turn) for turn in turned]  # as many programs show and record a person's own camera
    if challenge.turns not in (tuple(turned), tuple(mirrored)):
        asked, done = ", ".join(challenge.turns), ", ".join(turned) or "not at all"
        raise UnsuitablePhoto(f"the clip: the head was to turn {asked}, and turned {done}")
    openings = mouth_openings(seen)
    if openings < MOUTH_MOVES:
        raise UnsuitablePhoto(f"the clip: the mouth opens {openings} times; nobody reads five words with that")


def turns_of(seen: Sequence[Moment]) -> list[Turn]:
    """The turns of the head, each from the person's own middle and back to it."""
    yaw = np.array([moment.yaw_deg or 0.0 for moment in seen])
    pitch = np.array([moment.pitch_deg or 0.0 for moment in seen])
    yaw, pitch = yaw - _middle(yaw, ASIDE_DEG), pitch - _middle(pitch, UP_DEG)
    turns: list[Turn] = []
    away = False
    for aside_deg, up_deg in zip(yaw, pitch, strict=True):
        if away:
            away = abs(aside_deg) > BACK_DEG or up_deg > BACK_FROM_UP_DEG
            continue
        share, share_up = abs(aside_deg) / ASIDE_DEG, up_deg / UP_DEG
        if max(share, share_up) > 1:
            away = True
            turns.append("up" if share_up > share else "left" if aside_deg > 0 else "right")
    return turns


def _middle(degrees: np.ndarray[tuple[int], np.dtype[np.float64]], reach: float) -> float:
    """Where the head rests: the densest stretch of angles, since a turn is passed through and the middle is kept."""
    places = np.sort(degrees)
    within = np.searchsorted(places, places + reach / 2, side="right") - np.arange(len(places))
    first = int(np.argmax(within))
    return float(np.median(places[first : first + int(within[first])]))


def mouth_openings(seen: Sequence[Moment]) -> int:
    """How often the mouth opens and closes again, by half of the way between its usual ends."""
    opened = np.array([moment.mouth_cm for moment in seen])
    low, high = np.percentile(opened, (10, 90))
    if high - low < LEAST_OPENING_CM:
        return 0
    return len(list(_rises(opened, low + 0.35 * (high - low), low + 0.6 * (high - low))))


def _rises(values: np.ndarray[tuple[int], np.dtype[np.float64]], low: float, high: float) -> Iterator[int]:
    """Where values go over `high` for the first time since they were under `low`."""
    under = True
    for index, value in enumerate(values):
        if under and value > high:
            under = False
            yield index
        under = under or value < low
