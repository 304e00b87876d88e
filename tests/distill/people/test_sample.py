"""People, postures and scenes by lot: repeatable, in range, possible for a face, and kept apart where they must be."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.people.expressions import EXPRESSION_NAMES, INDEX, OPPOSED, Unit, follow_gaze, sensible
from distill.people.sample import (
    BLINK_SHARE,
    HAIR_SHARE,
    INDEX_LIMIT,
    MOST_PITCH_DEG,
    MOST_YAW_DEG,
    STANDARD,
    AssetFacts,
    Split,
    generator,
    is_held_out_pair,
    light_colour,
    sample_person,
    sample_posture,
    sample_scene,
    seed_key,
)

MANY = 400
LEFT_RIGHT = [
    (Unit(name, 0).indices) for name in ("mouthSmile", "browInnerUp", "eyeSquint", "mouthFrown", "cheekSquint")
]


def test_the_names_are_those_of_the_face_model(shared_data: Path) -> None:
    with np.load(shared_data / "ict" / "ict_lite_f16.npz") as model:
        assert tuple(model["exp_names"]) == EXPRESSION_NAMES


def test_the_standard_facts_are_those_of_the_data(shared_data: Path) -> None:
    skins = sorted(path.name for path in (shared_data / "skins_ictuv").glob("*_face1024.jpg"))
    with np.load(shared_data / "hair_ict" / "hair_ict.npz") as file:
        hair = sorted(key[:-2] for key in file.files if key.endswith("_v"))
    names = SimpleNamespace(
        skins=tuple(skins),
        brows=tuple(path.name for path in (shared_data / "brows_ictuv").glob("*.png")),
        hair=tuple(hair),
        irises=tuple(path.name for path in (shared_data / "eyes").glob("*.jpg")),
    )
    assert AssetFacts.of(names) == STANDARD


def test_any_sample_can_be_made_alone() -> None:
    in_order = [sample_person(generator("train", 7, i)) for i in range(6)]
    assert sample_person(generator("train", 7, 4)) == in_order[4]
    assert len(set(in_order)) == 6
    assert sample_scene(generator("train", 7, 4, 1)) == sample_scene(generator("train", 7, 4, 1))
    assert sample_posture(generator("train", 7, 4)) != sample_posture(generator("train", 8, 4))


words = st.integers(0, 2**32 - 1)
keys = st.tuples(st.sampled_from(["train", "held_out"]), words, st.integers(0, INDEX_LIMIT - 1), words)


@given(keys, keys)
def test_different_samples_never_share_a_seed(
    one: tuple[Split, int, int, int], other: tuple[Split, int, int, int]
) -> None:
    assert (seed_key(*one) == seed_key(*other)) == (one == other)
    assert all(0 <= word < 2**32 for word in seed_key(*one))


@pytest.mark.parametrize(
    ("seed", "index", "part"), [(0, INDEX_LIMIT, 0), (0, -1, 0), (-1, 0, 0), (2**32, 0, 0), (0, 0, -1)]
)
def test_numbers_that_no_sample_has_are_refused(seed: int, index: int, part: int) -> None:
    with pytest.raises(ValueError, match="no sample"):
        generator("train", seed, index, part)


@given(words, st.integers(0, INDEX_LIMIT - 1))
def test_no_training_index_reaches_a_held_out_mix_of_skins(seed: int, index: int) -> None:
    assert not is_held_out_pair(*sample_person(generator("train", seed, index)).skins)
    assert is_held_out_pair(*sample_person(generator("held_out", seed, index), split="held_out").skins)


def test_held_out_mixes_are_of_every_tone_and_not_too_many() -> None:
    pairs = [(a, b) for a, b in product(range(STANDARD.skins), repeat=2) if a < b and is_held_out_pair(a, b)]
    dark = {sum(skin in STANDARD.dark_skins for skin in pair) for pair in pairs}
    assert dark == {0, 1, 2}
    assert 0.1 < len(pairs) / (STANDARD.skins * (STANDARD.skins - 1) / 2) < 0.25
    assert all(is_held_out_pair(b, a) for a, b in pairs)


def test_people_are_in_range_and_various() -> None:
    people = [sample_person(generator("train", 1, i)) for i in range(MANY)]
    identities = np.array([person.identity for person in people])
    assert np.abs(identities).max() <= 2.5
    assert 0.8 < identities.std() < 0.95
    for person in people:
        assert 0 <= min(person.skins) <= max(person.skins) < STANDARD.skins
        assert 0 <= person.brows < STANDARD.brows
        assert person.hair in (-1, *STANDARD.hairs)
        assert 0.3 <= person.roughness <= 0.6
        strengths = (person.freckles, person.stubble, person.blotches, person.lips_strength, person.shadow_strength)
        assert all(0 <= strength <= 1 for strength in strengths)
    assert np.mean([person.hair >= 0 for person in people]) == pytest.approx(HAIR_SHARE, abs=0.06)
    dark = np.mean([any(skin in STANDARD.dark_skins for skin in person.skins) for person in people])
    assert 0.4 < dark < 0.85


def test_postures_are_in_range() -> None:
    postures = [sample_posture(generator("train", 2, i)) for i in range(MANY)]
    angles = np.array([(p.yaw_deg, p.pitch_deg, p.roll_deg) for p in postures])
    assert np.abs(angles[:, 0]).max() <= MOST_YAW_DEG
    assert np.abs(angles[:, 1]).max() <= MOST_PITCH_DEG
    assert np.allclose(angles.std(axis=0), (22, 12, 10), rtol=0.2)
    gaze = np.array([p.gaze_deg for p in postures])
    assert np.abs(gaze).max(axis=0) == pytest.approx((25, 15), rel=0.25)
    weights = np.array([p.expression for p in postures])
    assert weights.shape == (MANY, 57)
    assert weights.min() >= 0
    assert weights.max() <= 1
    blinks = (weights[:, INDEX["eyeBlink_L"]] > 0.25).mean()
    assert blinks == pytest.approx(BLINK_SHARE, abs=0.06)


def test_both_sides_of_a_face_go_together() -> None:
    weights = np.array([sample_posture(generator("train", 3, i)).expression for i in range(1500)])
    left = np.concatenate([weights[:, a] for a, _ in LEFT_RIGHT])
    right = np.concatenate([weights[:, b] for _, b in LEFT_RIGHT])
    moved = (left > 0.02) | (right > 0.02)
    assert 0.6 < np.corrcoef(left[moved], right[moved])[0, 1] < 0.99


@given(st.lists(st.floats(0, 1), min_size=57, max_size=57))
def test_no_face_does_two_opposed_things_at_once(values: list[float]) -> None:
    weights = sensible(np.array(values))
    assert weights.min() >= 0
    assert weights.max() <= 1
    for one, other in OPPOSED:
        a, b = Unit(one, 0).indices, Unit(other, 0).indices
        both = product(a, b) if len(a) != len(b) else zip(a, b)
        assert all(min(weights[i], weights[j]) == 0 for i, j in both), (one, other)
    for side in "LR":
        if weights[INDEX[f"eyeBlink_{side}"]] >= 0.5:
            assert weights[INDEX[f"eyeWide_{side}"]] == 0
    assert weights[INDEX["mouthClose"]] <= weights[INDEX["jawOpen"]]


def test_lids_follow_the_gaze() -> None:
    rest = np.zeros(57)
    to_the_left = follow_gaze(rest, np.array([20.0, 0.0]))  # of the person: the picture's right
    assert to_the_left[INDEX["eyeLookOut_L"]] == to_the_left[INDEX["eyeLookIn_R"]] > 0.4
    assert to_the_left[INDEX["eyeLookIn_L"]] == to_the_left[INDEX["eyeLookOut_R"]] == 0
    up = follow_gaze(rest, np.array([0.0, 12.0]))
    assert up[INDEX["eyeLookUp_L"]] == up[INDEX["eyeLookUp_R"]] > 0.3
    assert up[INDEX["eyeLookDown_L"]] == 0


def test_scenes_are_in_range() -> None:
    scenes = [sample_scene(generator("train", 4, i)) for i in range(MANY)]
    for scene in scenes:
        assert 20 <= scene.field_of_view_deg <= 65
        assert scene.distance_cm >= 34
        share = 15 / (2 * scene.distance_cm * np.tan(np.radians(scene.field_of_view_deg / 2)))
        assert 0.25 < share <= 0.63
        lengths = np.linalg.norm(np.array(scene.light_directions).reshape(3, 3), axis=1)
        assert np.allclose(lengths, 1)
        assert min(scene.light_colours) >= 0
        assert 0 < scene.exposure < 10
        assert len(scene.ambient) == 27
    lit = [np.count_nonzero(np.array(scene.light_colours).reshape(3, 3).any(axis=1)) for scene in scenes]
    assert set(lit) == {1, 2, 3}


def test_warm_light_is_red_and_cool_light_blue() -> None:
    warm, day, cool = light_colour(2700), light_colour(6500), light_colour(8000)
    assert warm[0] > 2 * warm[2]
    assert np.allclose(day, 1, atol=0.06)
    assert cool[2] > cool[0]
    for kelvin in (2700, 4000, 6500, 8000):
        assert light_colour(kelvin) @ (0.2126, 0.7152, 0.0722) == pytest.approx(1, abs=0.01)
