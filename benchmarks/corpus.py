"""What the benchmarks measure on: real clips as drivers, and twenty people whose face is worn.

Everything is read from the data folder beside the repository (`../shared/data`), and never copied into it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
from PIL import Image, ImageOps

from engines import Identity, IdentityStore, VividError, enroll
from engines.types import Rgb

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
NOMINAL_FPS = 30.0

Tone = Literal["light", "medium", "dark"]
TONES: tuple[Tone, ...] = ("light", "medium", "dark")


@dataclass(frozen=True, slots=True)
class Person:
    """Whose face is worn: a photo (path under the data folder) or a built-in persona (its name)."""

    key: str
    label: str
    tone: Tone
    photo: str = ""
    persona: str = ""

    @property
    def exists(self) -> bool:
        """Whether this is a real person, whose pictures must stay out of the repository."""
        return self.photo.startswith("photos/")


def _portrait(number: str, label: str, tone: Tone) -> Person:
    return Person(f"t{number}", label, tone, photo=f"synth_faces/t{number}_schnell.jpg")


# Chosen by eye from all 200 portraits for a spread of skin tone, age and sex; one face, eyes open, no glasses, the
# yaw small and the face wide. The order makes every prefix a mixture. Few dark-skinned women are among the 200.
PEOPLE: tuple[Person, ...] = (
    Person("astronaut", "woman, 40s", "light", photo="photos/astronaut.png"),
    _portrait("0069", "man, 20s", "dark"),
    _portrait("0361", "woman, 50s", "medium"),
    _portrait("0280", "man, 20s", "light"),
    _portrait("0260", "woman, 20s", "dark"),
    _portrait("0195", "man, 60s", "medium"),
    _portrait("0353", "woman, 60s", "light"),
    _portrait("0060", "man, 30s, beard", "dark"),
    _portrait("0005", "woman, 20s, headscarf", "medium"),
    _portrait("0105", "man, 50s", "light"),
    _portrait("0017", "man, 30s", "dark"),
    _portrait("0327", "man, 40s", "medium"),
    _portrait("0222", "woman, 20s", "light"),
    _portrait("0064", "man, 20s", "dark"),
    _portrait("0313", "man, 20s, cap", "medium"),
    _portrait("0323", "man, 70s", "light"),
)
# Stand in for personas that an installation does not have.
RESERVE: tuple[Person, ...] = (
    _portrait("0054", "man, 40s, cap", "dark"),
    _portrait("0284", "woman, 60s", "light"),
    _portrait("0011", "man, 30s, headband", "medium"),
    _portrait("0245", "woman, 30s", "light"),
)
PERSONA_LOOKS: dict[str, tuple[str, Tone]] = {
    "amara": ("woman, 20s", "dark"),
    "henrik": ("man, 50s", "light"),
    "lucia": ("woman, 20s", "light"),
    "rohan": ("man, 20s", "medium"),
}

CLIPS: tuple[str, ...] = (
    "clips/single_face.mp4",
    "clips/head-pose-face-detection-male.gif",
    "clips/asl/asl_book.mkv",
    "clips/asl/asl_eat.mkv",
    "clips/asl/asl_hungry.mkv",
    "clips/asl/asl_please.mkv",
)
QUICK_CLIPS: tuple[str, ...] = ("clips/single_face.mp4", "clips/asl/asl_eat.mkv")


class CorpusMissing(VividError):
    """The data folder, or a file in it, is not there."""


@dataclass(frozen=True, slots=True)
class Footage:
    """A decoded clip: pictures uint8 [H, W, 3] and the time each was taken, in seconds from the first."""

    name: str
    frames: tuple[Rgb, ...]
    captured_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A person with the picture by which the judge knows them and the identity that engines draw."""

    person: Person
    picture: Rgb
    identity: Identity


def read_clip(path: Path, limit: int | None = None) -> Footage:
    """Decodes a clip (the first `limit` frames of it); frames without a timestamp get one at 30 a second."""
    if not path.exists():
        raise CorpusMissing(f"no clip at {path}")
    frames: list[Rgb] = []
    captured_s: list[float] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if limit is not None and len(frames) == limit:
                break
            captured_s.append(len(frames) / NOMINAL_FPS if frame.pts is None else float(frame.time))
            frames.append(np.ascontiguousarray(frame.to_ndarray(format="rgb24")))
    start_s = captured_s[0] if captured_s else 0.0
    return Footage(path.stem, tuple(frames), tuple(at_s - start_s for at_s in captured_s))


def read_photo(path: Path) -> Rgb:
    """A photo as uint8 [H, W, 3], turned the way it was held."""
    if not path.exists():
        raise CorpusMissing(f"no photo at {path}")
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def even_indices(count: int, wanted: int, phase: float = 0.5) -> tuple[int, ...]:
    """`wanted` frame numbers out of `count`, one in each equal part, at `phase` 0..1 of that part."""
    wanted = min(wanted, count)
    return tuple(int((part + min(phase, 0.999)) * count / wanted) for part in range(wanted))


def people(count: int) -> tuple[Person, ...]:
    """The first `count` people of the mixture: built-in personas after each fourth portrait, else reserves."""
    built_in = set(IdentityStore().built_in())
    personas = [
        Person(name, f"persona, {label}", tone, persona=name)
        for name, (label, tone) in PERSONA_LOOKS.items()
        if name in built_in
    ]
    extra = [*personas, *RESERVE[len(personas) :]]
    mixture = [
        person
        for start in range(0, len(PEOPLE), 4)
        for person in (*PEOPLE[start : start + 4], *extra[start // 4 : start // 4 + 1])
    ]
    return tuple(mixture[:count])


def enrol_person(person: Person, data: Path = DATA) -> Enrolled:
    """Makes the person's identity as `vividstream enroll` would. Raises UnsuitablePhoto as it does."""
    if person.persona:
        identity = IdentityStore().load(person.persona)
        return Enrolled(person, identity.portrait_PP3, identity)
    path = data / person.photo
    picture = read_photo(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    identity = enroll(
        [picture], person.key, "benchmark on a picture whose licence allows it", [sha256], synthetic=not person.exists
    )
    return Enrolled(person, picture, identity)


def enrol_people(wanted: Sequence[Person], data: Path = DATA) -> tuple[list[Enrolled], dict[str, str]]:
    """Everybody who can be enrolled, and for the others the reason they were refused."""
    enrolled: list[Enrolled] = []
    refused: dict[str, str] = {}
    for person in wanted:
        try:
            enrolled.append(enrol_person(person, data))
        except CorpusMissing:
            raise
        except VividError as error:
            refused[person.key] = str(error)
    return enrolled, refused
