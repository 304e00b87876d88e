"""The hold-out stays what it is, has everything that is hard, and training cannot reach it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from distill.evaluate.held_out import (
    CHOSEN,
    COVERING,
    FRAMES,
    GLASSES,
    LIGHTS,
    PASSING,
    POSES,
    QUICK_FRAMES,
    QUICK_SWAPS,
    SOURCES,
    SWAPS,
    VERSION,
    HeldOut,
    angle_deg,
    chosen,
    digest,
    held_out,
    light_of,
    pose_of,
    wanted,
)
from distill.people.sample import is_held_out_pair, seed_key
from distill.people.types import Posture

FINGERPRINT = "4d42cdd47cfdb788"


@pytest.fixture(scope="module")
def swaps() -> list[HeldOut]:
    return held_out()


def test_the_hold_out_is_the_one_of_this_version(swaps: list[HeldOut]) -> None:
    """If this fails, samplers changed and old reports cannot be compared: mend them, or count VERSION up and take the
    new fingerprint."""
    assert digest(swaps) == FINGERPRINT
    assert digest(held_out()) == FINGERPRINT
    assert digest(held_out(quick=True)) != FINGERPRINT


def test_chosen_numbers_are_the_first_that_fit() -> None:
    """If this fails, samplers changed: count VERSION up and take what stands on the left here."""
    assert chosen() == CHOSEN


def test_everything_that_is_hard_is_there(swaps: list[HeldOut]) -> None:
    assert len(swaps) == SWAPS == len(set(CHOSEN))
    poses = Counter(pose_of(shot.posture) for swap in swaps for shot in swap.triplet.target)
    assert all(poses[pose] > 0.15 * SWAPS * FRAMES for pose in POSES), poses
    assert Counter(swap.light for swap in swaps).keys() == set(LIGHTS)
    assert Counter(swap.glasses for swap in swaps).keys() == set(GLASSES)
    for swap in swaps:
        assert light_of([shot.scene for shot in swap.triplet.target]) == swap.light
        middle = swap.triplet.target[FRAMES // 2].posture
        assert (pose_of(middle), swap.light) == wanted(swap.number)


def test_things_pass_before_a_third_in_every_pose_light_and_kind(swaps: list[HeldOut]) -> None:
    behind = [swap for swap in swaps if swap.passing is not None]
    assert [swap.number for swap in behind] == list(PASSING)
    assert len(behind) == SWAPS // 3
    kinds = Counter(swap.passing.kind for swap in behind if swap.passing)
    assert kinds == {"hand": 4, "thing": 2, "texture": 2}, "half of them hands, as in training"
    assert {wanted(swap.number)[0] for swap in behind} == set(POSES)
    assert {wanted(swap.number)[1] for swap in behind} == set(LIGHTS)
    assert {swap.glasses for swap in behind} == set(GLASSES)
    assert any(swap.passing for swap in swaps[:QUICK_SWAPS]), "quick sees some too"


def test_another_thing_in_front_is_another_hold_out(swaps: list[HeldOut]) -> None:
    changed = [replace(swap, passing=None) for swap in swaps]
    assert digest(changed) != digest(swaps)


def test_no_hair_hangs_over_a_face(swaps: list[HeldOut]) -> None:
    for swap in swaps:
        assert not {swap.triplet.driver.hair, swap.triplet.identity.hair} & set(COVERING)


def test_glasses_are_where_the_report_says(swaps: list[HeldOut]) -> None:
    for swap in swaps:
        drawn = swap.triplet
        assert (drawn.driver.glasses != "none") == (swap.glasses == "driver")
        assert (drawn.identity.glasses != "none") == (swap.glasses == "identity")
        assert drawn.worn[0].person.glasses == drawn.driver.glasses


def test_the_truth_is_exact_here_too(swaps: list[HeldOut]) -> None:
    for swap in swaps:
        drawn = swap.triplet
        assert len(drawn.sources) == SOURCES
        assert {shot.person for shot in (*drawn.sources, *drawn.truth)} == {drawn.identity}
        for clip in (drawn.truth, drawn.worn):
            assert [(s.posture, s.scene) for s in clip] == [(s.posture, s.scene) for s in drawn.target]


def test_training_cannot_reach_it(swaps: list[HeldOut]) -> None:
    """Its people mix skins that no training person mixes, whatever the index, and its seeds begin with another word."""
    for swap in swaps:
        for person in (swap.triplet.driver, swap.triplet.identity):
            assert is_held_out_pair(*person.skins)
    ours = {seed_key("held_out", VERSION, index, 0)[0] for index in CHOSEN}
    for seed in (0, VERSION, 2**32 - 1):
        for index in (0, *CHOSEN, 2**48 - 1):
            assert seed_key("train", seed, index, 0)[0] not in ours


def test_quick_is_a_part_of_it(swaps: list[HeldOut]) -> None:
    quick = held_out(quick=True)
    assert len(quick) == QUICK_SWAPS
    for short, long in zip(quick, swaps):
        assert short.triplet.target == long.triplet.target[:QUICK_FRAMES]
        assert short.triplet.sources == long.triplet.sources


@pytest.mark.parametrize(
    ("yaw", "pitch", "angle", "pose"),
    [(0, 0, 0, "0-20"), (-30, 0, 30, "20-45"), (0, 19, 19, "0-20"), (60, 0, 60, "45-75"), (40, 30, 48.4, "45-75")],
)
def test_how_far_a_face_is_turned(yaw: float, pitch: float, angle: float, pose: str) -> None:
    posture = Posture((), yaw, pitch, 10.0, (), (0.0, 0.0))
    assert angle_deg(posture) == pytest.approx(angle, abs=0.1)
    assert pose_of(posture) == pose
