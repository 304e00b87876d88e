"""Drivers who are the identity wear another face: the same for the same number, never their own, nothing around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from distill.data import Batch, Dataset, DataSettings
from distill.errors import DataMissing
from distill.examples.cache import Record
from distill.examples.condition import Conditioner
from distill.examples.disguise import SAME, Wardrobe
from distill.examples.types import Example
from distill.recipes import RETOUCH_RATE, of
from distill.sources.stills import MovingStills
from distill.training.run import check_examples
from engines import IdentityStore, SettingError
from engines.identity_vector import identity_vector

DATA = DataSettings(
    seed=5, size_px=192, images_a_batch=1, occlude=0, aligned=False, photo_px=256, degrade=None, degrade_photos=None
)


@pytest.fixture(scope="module")
def still(shared_data: Path) -> Batch:
    portraits = MovingStills(shared_data, shared_data / "synth_faces")
    with Dataset(DATA, ((portraits, 1.0),)).maker() as maker:
        return maker.one("image", 1)


@pytest.fixture(scope="module")
def wardrobe(shared_data: Path) -> Iterator[Wardrobe]:
    with Wardrobe(shared_data / "synth_faces") as opened:
        yield opened


def drawn(still: Batch, wardrobe: Wardrobe | None, number: int = 6) -> Example:
    return Conditioner(64, 32, wardrobe).example(still, 0, number)


def features(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """How alike two pictures are where the driver's face is, -1..1."""
    return float(np.corrcoef(first.astype(float).ravel(), second.astype(float).ravel())[0, 1])


@pytest.mark.long  # portraits are enrolled
def test_a_portraits_driver_wears_another_face_and_the_truth_stays(still: Batch, wardrobe: Wardrobe) -> None:
    plain, other = drawn(still, None), drawn(still, wardrobe)
    assert np.array_equal(plain.truth_TSS3, other.truth_TSS3)
    face, around = plain.alpha_TSS[0] > 200, plain.mask_TSS[0] == 0
    assert features(plain.target_TSS3[0][face], plain.truth_TSS3[0][face]) > 0.9, "copying would pay"
    assert features(other.target_TSS3[0][face], other.truth_TSS3[0][face]) < 0.9
    apart = np.abs(plain.target_TSS3[0].astype(int) - other.target_TSS3[0])
    assert apart[around].mean() < 0.5, "hair and room stay"
    assert features(other.attribute_TAA3[0], plain.attribute_TAA3[0]) < 0.999, "nor do the small pictures tell"


@pytest.mark.long  # portraits are enrolled
def test_the_same_number_wears_the_same_and_others_wear_others(still: Batch, wardrobe: Wardrobe) -> None:
    first, again, next_one = (drawn(still, wardrobe, number).target_TSS3 for number in (6, 6, 26))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, next_one)


@pytest.mark.long  # portraits are enrolled
def test_nobody_wears_themselves(wardrobe: Wardrobe) -> None:
    first = wardrobe.other_than(IdentityStore().load("amara"), 6)
    second = wardrobe.other_than(first, 6)
    assert float(identity_vector(first) @ identity_vector(second)) < SAME


@pytest.mark.long  # portraits are enrolled
def test_rendered_drivers_stay_as_they_are(still: Batch, wardrobe: Wardrobe) -> None:
    rendered = replace(still, origins=(("rendered", 0),))
    assert np.array_equal(drawn(rendered, wardrobe).target_TSS3, drawn(rendered, None).target_TSS3)


def test_an_empty_wardrobe_says_so(still: Batch, tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="--no-disguise"):
        drawn(still, Wardrobe(tmp_path))


@pytest.mark.parametrize(
    ("sources", "disguise", "refused"),
    [(["rendered"], False, False), (["rendered", "stills"], False, True), (["rendered", "stills"], True, False)],
)
def test_a_seen_driver_must_not_be_the_truth(tmp_path: Path, sources: list[str], disguise: bool, refused: bool) -> None:
    Record(tmp_path, {"disguise": disguise, "train sources": dict.fromkeys(sources, 1.0)}).write()
    config = of("retouch", "tiny", tmp_path)
    assert config.train.learning_rate == RETOUCH_RATE * 2e-4
    if refused:
        with pytest.raises(SettingError, match="undisguised"):
            check_examples(config)
    else:
        check_examples(config)
    check_examples(of("rollout", "tiny", tmp_path))  # sees no driver
