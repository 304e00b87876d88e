"""The judge tells people apart, and the likeness report says of passthrough what is true of passthrough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.corpus import read_photo
from benchmarks.likeness import SessionSwapper, disturbed, markdown, measure, summary
from distill.evaluate.judge import Judge, distance, judge_is_available, overlap
from engines import SwapSettings, load
from engines.types import Box
from tests.benchmarks.people import synthetic_person


@pytest.fixture(scope="module")
def judge() -> Judge:
    if not judge_is_available():
        pytest.skip("needs the extra eval")
    return Judge()


def test_same_person_disturbed_is_nearer_than_another(judge: Judge, shared_data: Path) -> None:
    first, second = (read_photo(shared_data / f"synth_faces/t{number}_schnell.jpg") for number in ("0069", "0361"))
    box = judge.find(first)
    assert box is not None
    known = judge.describe(first, box)
    again = judge.describe_photo(disturbed(first, box.width_px))
    other = judge.describe_photo(second)
    assert again is not None
    assert other is not None
    assert distance(known, again) < 0.4
    assert distance(known, other) > 0.7


def test_a_picture_without_a_face_has_none(judge: Judge) -> None:
    assert judge.find(np.full((120, 160, 3), 90, np.uint8)) is None


def test_landmarks_of_a_small_face_are_those_of_the_large_one(judge: Judge, shared_data: Path) -> None:
    photo = read_photo(shared_data / "synth_faces/t0069_schnell.jpg")
    box = judge.find(photo)
    assert box is not None
    small = photo[: photo.shape[0] // 4 * 4, : photo.shape[1] // 4 * 4]
    small = small.reshape(small.shape[0] // 4, 4, small.shape[1] // 4, 4, 3).mean((1, 3)).astype(np.uint8)
    edges = (box.left_px, box.top_px, box.right_px, box.bottom_px)
    points = judge.points(small, Box(*(edge / 4 for edge in edges)))
    assert np.abs(points * 4 - judge.points(photo, box)).mean() < 0.03 * box.width_px


def test_overlap_is_shared_over_joint_area() -> None:
    assert overlap(Box(0, 0, 2, 2), Box(1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert overlap(Box(0, 0, 1, 1), Box(1, 0, 2, 1)) == 0


def test_passthrough_looks_like_the_driver_and_not_like_the_identity(judge: Judge, shared_data: Path) -> None:
    wearer = synthetic_person(shared_data)
    session = load(SwapSettings(engine="passthrough", label=False))
    clips = [shared_data / "clips" / "single_face.mp4"]
    samples, baselines = measure(judge, SessionSwapper(session), [wearer], clips, frames=3)
    figures = summary(samples)
    assert len(samples) == 3
    assert baselines.unseen_frames == 0
    assert figures["to_driver"] == pytest.approx(0, abs=1e-6)
    assert figures["to_identity"] == pytest.approx(figures["stranger"])
    assert figures["stranger"] > 0.7
    assert figures["drawn_share"] == 1
    assert baselines.same_driver < 0.4
    assert baselines.same_photo < 0.4
    assert f"| {wearer.person.key} (" in markdown(samples, baselines, {}, [wearer], "a test")
