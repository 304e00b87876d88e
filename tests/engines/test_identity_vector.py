"""The identity's 512 numbers: the same for the same person, others for others, each part where the page says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engines import IdentityStore
from engines.face.mesh import face_model
from engines.identity import Identity
from engines.identity_vector import WIDTH, identity_vector
from tests.engines.face.heads import DARK_SKIN, LIGHT_SKIN, identity

STORE = IdentityStore()


def people() -> dict[str, Identity]:
    return {name: STORE.load(name) for name in STORE.built_in()}


def test_it_is_of_length_one_and_512_wide() -> None:
    for person in [*people().values(), identity(LIGHT_SKIN)]:
        vector = identity_vector(person)
        assert vector.shape == (WIDTH,)
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        assert not vector[406:].any()


def test_people_differ_and_a_person_resembles_himself() -> None:
    vectors = {name: identity_vector(person) for name, person in people().items()}
    for name, vector in vectors.items():
        grainy = np.random.default_rng(0).normal(0, 4, (512, 512, 3)) + STORE.load(name).albedo_AA3
        again = identity_vector(replace(STORE.load(name), albedo_AA3=np.clip(grainy, 0, 255).astype(np.uint8)))
        assert vector @ again > 0.97
        assert all(vector @ other < 0.9 for other_name, other in vectors.items() if other_name != name)


def test_each_part_lies_where_it_is_promised() -> None:
    plain = identity(LIGHT_SKIN)
    mode = plain.shape_S3 + 2 * face_model().identity_KS3[3]
    changed = {
        (0, 40): replace(plain, shape_S3=mode.astype(np.float32)),
        (43, 46): replace(plain, iris_rgb=np.array([20, 30, 60], np.float32)),
    }
    before = identity_vector(plain)
    for (first, end), person in changed.items():
        after = identity_vector(person)
        scale = (after[46:406] @ before[46:406]) / (before[46:406] @ before[46:406])  # the common length changed
        moved = np.abs(after - scale * before) > 1e-3
        assert moved[first:end].any()
        assert not moved[:first].any()
        assert not moved[end:].any()
    assert np.abs(identity_vector(identity(DARK_SKIN)) - before)[40:43].min() > 0.1
    assert int(np.abs(identity_vector(changed[0, 40]))[:40].argmax()) == 3


def test_it_never_changes() -> None:
    """Weights are trained with this definition: change DEFINITION with it."""
    vector = identity_vector(STORE.load("amara"))
    expected = [-0.094, 0.0378, -0.2949, -0.3691, -0.2589, 0.194, -0.013, -0.0545, 0.0056]
    np.testing.assert_allclose(vector[[0, 1, 40, 41, 42, 43, 46, 200, 405]], expected, atol=1e-4)
