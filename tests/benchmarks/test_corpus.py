"""The people and clips that figures are measured on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.contact_sheet import PUBLIC_DRIVERS
from benchmarks.corpus import (
    CLIPS,
    PEOPLE,
    PERSONA_LOOKS,
    RESERVE,
    TONES,
    CorpusMissing,
    even_indices,
    people,
    read_clip,
)
from engines import IdentityStore
from tests.benchmarks.people import FRAMES, short_clip


def test_samples_lie_in_the_middle_of_equal_parts() -> None:
    assert even_indices(80, 4) == (10, 30, 50, 70)
    assert even_indices(3, 8) == (0, 1, 2)
    assert even_indices(80, 4, phase=1.0) == (19, 39, 59, 79)


def test_twenty_different_people_of_every_skin_tone() -> None:
    twenty = people(20)
    assert len({person.key for person in twenty}) == 20
    tones = Counter(person.tone for person in (*PEOPLE, *RESERVE))
    assert all(tones[tone] >= 5 for tone in TONES)
    assert {person.tone for person in people(4)} == set(TONES)  # a short run is a mixture too


def test_the_looks_of_every_persona_are_known() -> None:
    assert set(IdentityStore().built_in()) <= set(PERSONA_LOOKS)


def test_only_the_astronaut_exists() -> None:
    assert [person.key for person in (*PEOPLE, *RESERVE) if person.exists] == ["astronaut"]
    assert not {person.key for person in people(20)} & set(PUBLIC_DRIVERS)


def test_every_picture_and_clip_is_there(shared_data: Path) -> None:
    photos = [person.photo for person in (*PEOPLE, *RESERVE)]
    drivers = [f"synth_faces/{name}_schnell.jpg" for name in PUBLIC_DRIVERS]
    assert not [path for path in (*photos, *drivers, *CLIPS) if not (shared_data / path).is_file()]


def test_a_clip_keeps_its_times(shared_data: Path) -> None:
    footage = short_clip(shared_data)
    assert len(footage.frames) == FRAMES
    assert footage.frames[0].shape == (360, 640, 3)
    assert footage.captured_s == pytest.approx((0.0, 1 / 30, 2 / 30), abs=1e-3)


def test_a_missing_clip_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusMissing, match="no clip at"):
        read_clip(tmp_path / "none.mp4")
