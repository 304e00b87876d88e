"""Triplets are exact: what must agree agrees to the last bit, what must differ differs."""

from __future__ import annotations

from dataclasses import fields

import pytest

from distill.people.sample import generator, is_held_out_pair
from distill.people.types import Person
from distill.triplets import Part, source_photos, triplet

FRAMES = 6
NOT_THE_FACE = {"hair", "hair_lab", "glasses", "glasses_lab", "clothes_seed"}


@pytest.mark.parametrize("index", range(12))
def test_truth_twin_and_target_agree_in_posture_and_scene_to_the_last_bit(index: int) -> None:
    sample = triplet(3, index, FRAMES)
    for clip in (sample.truth, sample.worn, sample.twin):
        assert [(repr(shot.posture), repr(shot.scene)) for shot in clip] == [
            (repr(shot.posture), repr(shot.scene)) for shot in sample.target
        ]
    assert len(sample.target) == FRAMES
    assert len({shot.posture for shot in sample.target}) == FRAMES


@pytest.mark.parametrize("index", range(12))
def test_source_and_truth_are_the_same_person_to_the_last_bit(index: int) -> None:
    sample = triplet(3, index, FRAMES)
    assert 1 <= len(sample.sources) <= 8
    assert {repr(shot.person) for shot in (*sample.sources, *sample.truth)} == {repr(sample.identity)}
    for field in fields(Person):
        of_face = sample.worn[0].person
        whose = sample.driver if field.name in NOT_THE_FACE else sample.identity
        assert getattr(of_face, field.name) == getattr(whose, field.name), field.name


@pytest.mark.parametrize("index", range(12))
def test_driver_identity_and_twin_are_three_people(index: int) -> None:
    sample = triplet(3, index, FRAMES)
    people = (sample.driver, sample.identity, sample.twin[0].person)
    assert len({person.identity for person in people}) == 3
    assert {shot.person for shot in sample.target} == {sample.driver}


def test_sources_show_other_poses_and_rooms_than_the_clip() -> None:
    sample = triplet(3, 1, FRAMES, sources=8)
    clip = {shot.posture for shot in sample.target}, {shot.scene for shot in sample.target}
    assert len({shot.posture for shot in sample.sources}) == 8
    assert len({shot.scene for shot in sample.sources}) == 8
    assert not clip[0] & {shot.posture for shot in sample.sources}
    assert not clip[1] & {shot.scene for shot in sample.sources}
    assert abs(sample.sources[0].posture.yaw_deg) < 20


@pytest.mark.parametrize("count", [0, 9])
def test_an_impossible_number_of_sources_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 8"):
        source_photos(generator("train", 0, 0, Part.SOURCES), triplet(0, 0, 1).identity, count)


def test_a_triplet_can_be_made_alone_and_again() -> None:
    assert triplet(3, 5, FRAMES) == triplet(3, 5, FRAMES)
    assert triplet(3, 5, FRAMES) != triplet(3, 6, FRAMES)


def test_held_out_triplets_share_nothing_with_training_ones() -> None:
    for index in range(8):
        kept, trained = triplet(3, index, FRAMES, split="held_out"), triplet(3, index, FRAMES)
        people = (kept.driver, kept.identity, kept.twin[0].person)
        assert all(is_held_out_pair(*person.skins) for person in people)
        assert {p.identity for p in people}.isdisjoint({trained.driver.identity, trained.identity.identity})
        assert {s.posture for s in kept.target}.isdisjoint({s.posture for s in trained.target})
