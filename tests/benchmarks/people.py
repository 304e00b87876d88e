"""People and clips for the tests of the benchmarks: real footage, and an identity that passthrough never looks at."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.corpus import PEOPLE, Enrolled, Footage, read_clip, read_photo
from engines import Identity, Manifest
from engines.identity import ATLAS_PX

FRAMES = 3


def blank_identity(name: str) -> Identity:
    manifest = Manifest(format=1, name=name, created="", consent="a test", images_sha256=(), made_by="a test")
    return Identity(
        manifest,
        np.zeros((ATLAS_PX, ATLAS_PX, 3), np.uint8),
        np.zeros((ATLAS_PX, ATLAS_PX), np.uint8),
        np.zeros((468, 3), np.float32),
        np.zeros(3, np.float32),
        np.zeros((256, 256, 3), np.uint8),
    )


def synthetic_person(data: Path) -> Enrolled:
    person = next(person for person in PEOPLE if not person.exists)
    return Enrolled(person, read_photo(data / person.photo), blank_identity(person.key))


def short_clip(data: Path) -> Footage:
    return read_clip(data / "clips" / "single_face.mp4", limit=FRAMES)
