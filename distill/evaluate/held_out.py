"""The hold-out of the benchmark "true swap": fixed swaps of people who are in no training sample. No pixels here.

Every swap is a held-out triplet (`sample.generator`, split "held_out"), chosen among the held-out numbers so that
poses, lights, glasses and things in front of the face are all there. Another choice is another `VERSION`, and so are
samplers that draw other people for the same numbers: count it up, then `CHOSEN = chosen()`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

from distill.people.sample import STANDARD
from distill.people.types import Person, Posture, Scene, Shot
from distill.triplets import Triplet, acted, triplet, worn

VERSION = 2
SWAPS, FRAMES, SOURCES = 24, 16, 4
QUICK_SWAPS, QUICK_FRAMES = 6, 8

Pose = Literal["0-20", "20-45", "45-75"]
Light = Literal["even", "hard", "moving"]
Glasses = Literal["none", "driver", "identity"]
Kind = Literal["hand", "thing", "texture"]
POSES: tuple[Pose, ...] = ("0-20", "20-45", "45-75")
GLASSES: tuple[Glasses, ...] = ("none", "driver", "none", "identity")
LIGHTS: tuple[Light, ...] = ("even", "hard", "moving")
NOT_COVERING = 5  # a hair that leaves the face free
COVERING = (*STANDARD.covering_hairs, 3)  # the braid's fringe hides an eye from one side


@dataclass(frozen=True, slots=True)
class Passing:
    """What passes before a swap's face (distill.occluders), and the seed of its way, shape and colours."""

    kind: Kind
    name: str
    seed: int


# A third of the swaps, spread over poses, lights and glasses, in training's shares. Seeds chosen by eye: some come in,
# some are there from the first frame, some leave.
PASSING = {
    1: Passing("hand", "bare", 14),
    3: Passing("thing", "cup", 10),
    8: Passing("texture", "scarf", 20),
    10: Passing("hand", "bare", 13),
    12: Passing("hand", "bare", 17),
    17: Passing("thing", "phone", 5),
    19: Passing("texture", "hair", 21),
    21: Passing("hand", "bare", 22),
}
CHOSEN = (
    0,
    1011,
    2034,
    3005,
    4003,
    5043,
    6000,
    7003,
    8118,
    9001,
    10023,
    11141,
    12000,
    13013,
    14017,
    15007,
    16004,
    17054,
    18004,
    19015,
    20030,
    21030,
    22012,
    23162,
)
HARD = 1.6  # strongest lamp over the light from all around, from which light is called hard


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One swap to be measured."""

    number: int
    triplet: Triplet
    light: Light
    glasses: Glasses
    passing: Passing | None


def angle_deg(posture: Posture) -> float:
    """How far a face is turned away from the camera, whichever way."""
    straight = math.cos(math.radians(posture.yaw_deg)) * math.cos(math.radians(posture.pitch_deg))
    return math.degrees(math.acos(max(-1.0, min(1.0, straight))))


def pose_of(posture: Posture) -> Pose:
    """The class that a frame counts in."""
    angle = angle_deg(posture)
    return "0-20" if angle < 20 else "20-45" if angle < 45 else "45-75"


def light_of(scenes: list[Scene]) -> Light:
    """The class that a clip counts in."""
    if len(set(scenes)) > 1:
        return "moving"
    lamps = np.array(scenes[0].light_colours).reshape(-1, 3).mean(axis=1)
    return "hard" if lamps.max() / np.mean(scenes[0].ambient[:3]) > HARD else "even"


def held_out(quick: bool = False) -> list[HeldOut]:
    """The swaps, always the same. Quick: the first few of them, and shorter."""
    return [_swap(number, quick) for number in range(QUICK_SWAPS if quick else SWAPS)]


def choose(number: int, most_tries: int = 1000) -> int:
    """The first held-out number, from 1000 * `number` on, that shows the pose and light wanted. Made `CHOSEN`."""
    for index in range(number * 1000, number * 1000 + most_tries):
        clip = triplet(VERSION, index, FRAMES, split="held_out", sources=1).target
        if (pose_of(clip[FRAMES // 2].posture), light_of([shot.scene for shot in clip])) == wanted(number):
            return index
    raise LookupError(f"no held-out number shows {wanted(number)}")


def chosen() -> tuple[int, ...]:
    """What `CHOSEN` has to be. Nine seconds."""
    return tuple(choose(number) for number in range(SWAPS))


def wanted(number: int) -> tuple[Pose, Light]:
    """Pose in the middle of the clip, and light, of a swap: all nine pairs in turn."""
    return POSES[number % 3], LIGHTS[(number // 3) % 3]


def _swap(number: int, quick: bool) -> HeldOut:
    drawn = triplet(VERSION, CHOSEN[number], FRAMES, split="held_out", sources=SOURCES)
    glasses = GLASSES[number % 4]
    drawn = _with_glasses(drawn, glasses)
    if quick:
        target, truth, worn_, twin = (
            clip[:QUICK_FRAMES] for clip in (drawn.target, drawn.truth, drawn.worn, drawn.twin)
        )
        drawn = Triplet(drawn.sources, target, truth, worn_, twin, drawn.fps)
    return HeldOut(number, drawn, wanted(number)[1], glasses, PASSING.get(number))


def _with_glasses(drawn: Triplet, glasses: Glasses) -> Triplet:
    """The same swap with glasses on the one who is to have them, and on nobody else."""
    driver = _wearing(_with_free_face(drawn.driver), glasses == "driver")
    identity = _wearing(_with_free_face(drawn.identity), glasses == "identity")
    clip = [(shot.posture, shot.scene) for shot in drawn.target]
    return replace(
        drawn,
        sources=tuple(Shot(identity, shot.posture, shot.scene) for shot in drawn.sources),
        target=acted(driver, clip),
        truth=acted(identity, clip),
        worn=acted(worn(identity, driver), clip),
    )


def _with_free_face(person: Person) -> Person:
    """Nobody enrols with hair before half the face, and in profile such hair hides all of it."""
    return replace(person, hair=NOT_COVERING) if person.hair in COVERING else person


def _wearing(person: Person, yes: bool) -> Person:
    if not yes:
        return replace(person, glasses="none")
    return person if person.glasses != "none" else replace(person, glasses="square")


def digest(swaps: list[HeldOut]) -> str:
    """A fingerprint of what is measured, by which two reports can be told to be comparable. Rounded to 6 digits."""
    text = hashlib.sha256()
    for swap in swaps:
        text.update(repr(swap.passing).encode())
        for shot in (*swap.triplet.sources, *swap.triplet.target, *swap.triplet.truth):
            for part in (shot.person, shot.posture, shot.scene):
                text.update("|".join(_shown(getattr(part, field.name)) for field in fields(part)).encode())
    return text.hexdigest()[:16]


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(_shown(item) for item in value)
    return f"{value:.6f}" if isinstance(value, float) else str(value)
