"""Clips for enrolment: what was asked and nothing else passes, by arithmetic and on pictures of a made-up head."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines import Challenge, Rgb, UnsuitablePhoto, Watched, check_clip, looks_of, new_challenge, watch_clip
from engines.face.appearance import Appearance, appearance
from engines.face.mesh import face_model
from engines.liveness import TURNS, WORDS, Moment, Turn, check_moments, mouth_openings, turns_of
from tests.engines.face.heads import DARK_SKIN, MIDDLE_SKIN, Looks, albedo, landmarks, photograph

ASKED: tuple[Turn, ...] = ("left", "up", "right", "up", "left")
FPS = 8
VIEWS = Path(__file__).parents[2] / "docs" / "personas"
CHALLENGE = Challenge(code="abc123", phrase="one two three four five", turns=ASKED, asked="2026-11-23T12:00:00+00:00")


def pose_at(turns: tuple[Turn, ...], second: float) -> tuple[float, float]:
    """Yaw to the person's left and pitch up, degrees: one turn a second, the middle in between."""
    number, within = divmod(second - 0.8, 1.0)
    if not 0 <= number < len(turns):
        return 0.0, 0.0
    there = math.sin(math.pi * within)
    return {"left": (28 * there, 0.0), "right": (-28 * there, 0.0), "up": (0.0, 20 * there)}[turns[int(number)]]


def moments(turns: tuple[Turn, ...] = ASKED, seconds: float = 7.0, rest: float = 0.0) -> list[Moment]:
    """What is seen of somebody who does as asked and speaks; `rest`: how far their head is turned all the while."""
    made = []
    for index in range(int(seconds * 25)):
        second = index / 25
        yaw_deg, pitch_deg = pose_at(turns, second)
        mouth_cm = 0.6 + 0.4 * math.sin(8 * second)
        made.append(Moment(second, 1, yaw_deg + rest, pitch_deg - rest / 2, mouth_cm))
    return made


def refused(seen: list[Moment], challenge: Challenge = CHALLENGE) -> str:
    with pytest.raises(UnsuitablePhoto) as caught:
        check_moments(seen, challenge)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_who_does_as_asked_passes() -> None:
    check_moments(moments(), CHALLENGE)
    assert turns_of(moments()) == list(ASKED)


def test_a_camera_that_stands_aside_does_not_matter() -> None:
    check_moments(moments(rest=12.0), CHALLENGE)
    check_moments(moments(rest=-12.0), CHALLENGE)


def test_a_mirrored_recording_passes_and_a_half_mirrored_one_does_not() -> None:
    mirrored = [replace(one, yaw_deg=-(one.yaw_deg or 0.0)) for one in moments()]
    check_moments(mirrored, CHALLENGE)
    half = [*moments()[:75], *mirrored[75:]]
    assert "turned left, up, left" in refused(half).replace("right", "left")


@pytest.mark.parametrize("turns", [ASKED[:-1], (*ASKED, "up"), ("up", *ASKED[1:]), ()])
def test_other_turns_than_asked_are_refused(turns: tuple[Turn, ...]) -> None:
    assert "the head was to turn left, up, right, up, left" in refused(moments(turns, 8.0))


def test_a_clip_of_something_else_is_refused() -> None:
    seen = moments()
    assert "too short" in refused(seen[:80])
    assert "too short" in refused([])
    assert "two faces" in refused([replace(one, faces=2) for one in seen])
    gone = [Moment(one.captured_s, 0) if index % 3 == 0 else one for index, one in enumerate(seen)]
    assert "a face is seen in" in refused(gone)
    assert "the mouth opens 0 times" in refused([replace(one, mouth_cm=0.2) for one in seen])
    assert "the mouth opens 1 times" in refused([replace(one, mouth_cm=float(one.captured_s > 3)) for one in seen])


def test_small_movements_are_no_turns_and_no_words() -> None:
    still = [replace(one, yaw_deg=0.4 * (one.yaw_deg or 0), pitch_deg=0.4 * (one.pitch_deg or 0)) for one in moments()]
    assert turns_of(still) == []
    assert mouth_openings([replace(one, mouth_cm=0.5 + 0.1 * math.sin(9 * one.captured_s)) for one in still]) == 0


def test_what_is_asked_is_by_lot() -> None:
    asked = [new_challenge("2026-11-23T12:00:00+00:00") for _ in range(200)]
    assert len({one.turns for one in asked}) > 30
    assert len({one.phrase for one in asked}) == len({one.code for one in asked}) == 200
    assert {turn for one in asked for turn in one.turns} == set(TURNS)
    assert all(a != b for one in asked for a, b in zip(one.turns, one.turns[1:], strict=False))
    assert all(set(one.phrase.split()) <= set(WORDS) for one in asked)
    assert asked[0].phrase in asked[0].sentence()


def filmed(skin_rgb: tuple[int, int, int] = MIDDLE_SKIN) -> Iterator[tuple[Rgb, float]]:
    """A made-up head that does as asked."""
    shape = face_model().mean_S3
    below = shape[:, 1] > shape[13, 1] + 0.05  # the lower lip, and all under it
    for index in range(int(6.6 * FPS)):
        second = index / FPS
        yaw_deg, pitch_deg = pose_at(ASKED, second)
        speaking = shape.copy()
        speaking[below, 1] += 0.5 + 0.5 * math.sin(6 * second)
        points = landmarks(Looks(yaw_deg=yaw_deg, pitch_deg=-pitch_deg), speaking)
        yield photograph(points, albedo(skin_rgb)), second


def look(skin_rgb: tuple[int, int, int]) -> Appearance:
    points = landmarks(Looks())
    return appearance(photograph(points, albedo(skin_rgb)), points)


@pytest.fixture(scope="module")
def watched() -> Watched:
    return watch_clip(filmed())


def test_a_head_on_pictures_is_followed(watched: Watched) -> None:
    check_clip(watched, CHALLENGE, [look(MIDDLE_SKIN)])


def test_somebody_else_s_photos_are_refused(watched: Watched) -> None:
    strangers = [np.array(Image.open(VIEWS / name / "front.jpg").convert("RGB")) for name in ("henrik", "rohan")]
    for stranger in looks_of(strangers):
        with pytest.raises(UnsuitablePhoto, match="another person"):
            check_clip(watched, CHALLENGE, [stranger])
    with pytest.raises(UnsuitablePhoto, match="never seen"):
        check_clip(watched, CHALLENGE, [])


def test_a_clip_that_was_put_together_is_refused(watched: Watched) -> None:
    with pytest.raises(UnsuitablePhoto, match="cut"):
        check_clip(replace(watched, broken=1), CHALLENGE, [look(MIDDLE_SKIN)])


def test_a_clip_that_changes_the_person_is_noticed() -> None:
    first, other = islice(filmed(), 12), islice(filmed(DARK_SKIN), 12, 30)
    assert watch_clip([*first, *((np.roll(rgb_HW3, 90, 1), at_s) for rgb_HW3, at_s in other)]).broken
