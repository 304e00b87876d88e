"""The identity's shape on the driver's movement: what must stay closed stays closed, what is stiff stays stiff."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from engines.face.mesh import (
    FACE_OVAL,
    INNER_LIPS,
    LEFT_IRIS,
    LEFT_LIDS,
    LIPS,
    RIGHT_IRIS,
    RIGHT_LIDS,
    face_model,
)
from engines.face.retarget import (
    MOST_SHIFT_CM,
    TURNED_DEG,
    NeutralShape,
    canonical_face,
    expression_energy,
    observe,
    oval_rings,
    product,
    retarget,
    shape_shift,
    without_expression,
)
from engines.types import Floats
from tests.engines.face.heads import Looks, landmarks

LIDS = np.concatenate([RIGHT_LIDS, LEFT_LIDS])
LOOKS = st.builds(
    Looks,
    size_px=st.floats(40, 400),
    yaw_deg=st.floats(-50, 50),
    pitch_deg=st.floats(-30, 30),
    roll_deg=st.floats(-40, 40),
)


def person(key: int, strength: float = 1.0) -> Floats:
    """A neutral face of the model's own identity modes."""
    model = face_model()
    weights = np.clip(np.random.default_rng(key).normal(0, strength, len(model.identity_KS3)), -2.5, 2.5)
    return (model.mean_S3 + np.tensordot(weights, model.identity_KS3, 1)).astype(np.float32)


def expression(key: int) -> Floats:
    """Offsets of a few of the model's expressions, none negative."""
    model = face_model()
    random = np.random.default_rng(key)
    weights = np.zeros(len(model.expression_KS3))
    weights[random.permutation(len(weights))[:4]] = random.uniform(0.2, 0.9, 4)
    return np.tensordot(weights, model.expression_KS3, 1).astype(np.float32)


def swapped(points: Floats, identity_S3: Floats, driver_S3: Floats) -> Floats:
    pose, _ = canonical_face(points)
    return retarget(points, pose, identity_S3, driver_S3)


@settings(max_examples=30)
@given(LOOKS, st.integers(0, 99))
def test_somebody_who_wears_their_own_face_is_not_moved(looks: Looks, key: int) -> None:
    driver = person(key)
    points = landmarks(looks, driver + expression(key))
    np.testing.assert_allclose(swapped(points, driver, driver), points, atol=1e-3)


@settings(max_examples=30)
@given(LOOKS, st.integers(0, 99))
def test_lips_and_lids_that_touch_in_the_driver_touch_in_the_result(looks: Looks, key: int) -> None:
    shape = person(key)
    for pairs in (LIPS, LIDS):
        shape[pairs[:, 0]] = shape[pairs[:, 1]] = shape[pairs].mean(axis=1)
    result = swapped(landmarks(looks, shape), person(key + 1, 1.5), person(key))
    for pairs in (LIPS, LIDS):
        gap = np.linalg.norm(result[pairs[:, 0]] - result[pairs[:, 1]], axis=1)
        assert gap.max() < 2e-3 * looks.size_px / 100 + 1e-3


def test_open_eyes_stay_open_and_open_mouths_stay_open_by_as_much() -> None:
    model = face_model()
    shape = model.mean_S3.copy()
    shape[LIPS[:, 1], 1] += 1.5
    points = landmarks(Looks(), shape)
    result = swapped(points, person(5, 1.5), model.mean_S3)
    driven, got = (np.linalg.norm(p[LIPS[:, 0]] - p[LIPS[:, 1]], axis=1) for p in (points, result))
    np.testing.assert_allclose(got, driven, rtol=1e-3)
    driven, got = (np.linalg.norm(p[LIDS[:, 0]] - p[LIDS[:, 1]], axis=1) for p in (points, result))
    ratio = got / driven
    assert 0.75 < ratio.min() <= ratio.max() < 1.3


def test_no_lid_crosses_the_other() -> None:
    """Whoever squints keeps the upper lid above the lower one, whatever eyes the identity has."""
    model = face_model()
    for openness in (0.0, 0.05, 0.3, 1.0):
        shape = model.mean_S3.copy()
        middle = shape[LIDS].mean(axis=1)
        for side in (0, 1):
            shape[LIDS[:, side]] = middle + openness * (shape[LIDS[:, side]] - middle)
        points = landmarks(Looks(), shape)
        for key in range(4):
            result = swapped(points, person(key, 1.5), person(key + 7, 1.5))
            assert (result[LIDS[:, 1], 1] - result[LIDS[:, 0], 1]).min() > -1e-3


@settings(max_examples=30)
@given(st.integers(0, 99), LOOKS, LOOKS)
def test_a_head_that_only_moves_moves_the_result_as_one_piece(key: int, first: Looks, second: Looks) -> None:
    driver, identity = person(key), person(key + 1)
    one, other = landmarks(first, driver), landmarks(second, driver)
    a, b = swapped(one, identity, driver)[:468], swapped(other, identity, driver)[:468]
    centred_a, centred_b = a - a.mean(axis=0), b - b.mean(axis=0)
    scale = second.size_px / first.size_px
    rotation, _ = Rotation.align_vectors(centred_b, centred_a * scale)
    np.testing.assert_allclose(centred_b, rotation.apply(centred_a * scale), atol=2e-3 * second.size_px)


def test_the_result_has_the_identity_s_neutral_shape() -> None:
    driver, identity = person(1, 0.4), person(2, 0.4)
    points = landmarks(Looks(yaw_deg=15), driver)
    result = swapped(points, identity, driver)
    pose, _ = canonical_face(points)
    got, meant = pose.to_canonical(result[:468]), identity
    posed = pose.to_canonical(points[:468])
    apart = np.linalg.norm(identity - driver, axis=1)
    left = np.linalg.norm(got - (posed + meant - driver), axis=1)
    assert left.mean() < 0.2 * apart.mean()


def test_gaze_and_the_size_of_the_irises_are_the_driver_s() -> None:
    points = landmarks(Looks(yaw_deg=10))
    points[RIGHT_IRIS, 0] += 3
    points[LEFT_IRIS, 0] += 3
    result = swapped(points, person(3), face_model().mean_S3)
    for iris, lids in ((RIGHT_IRIS, RIGHT_LIDS), (LEFT_IRIS, LEFT_LIDS)):
        size_before, size_after = (np.ptp(p[iris], axis=0) for p in (points, result))
        np.testing.assert_allclose(size_after, size_before, atol=1e-3)
        before = points[iris][0] - points[lids].mean(axis=(0, 1))
        after = result[iris][0] - result[lids].mean(axis=(0, 1))
        assert np.linalg.norm(after - before) < 1.0


def test_nothing_moves_farther_than_the_surroundings_can_bear() -> None:
    model = face_model()
    giant = model.mean_S3 * 1.6
    shift = shape_shift(giant, model.mean_S3)
    assert np.linalg.norm(shift, axis=1).max() <= MOST_SHIFT_CM + 1e-4
    small = shape_shift(model.mean_S3 + np.float32(0.05), model.mean_S3)
    np.testing.assert_allclose(small, 0.05, rtol=0.02)


@pytest.mark.parametrize("key", range(6))
def test_an_expression_is_taken_off_and_the_person_stays(key: int) -> None:
    shape, offsets = person(key), expression(key)
    calm, same = without_expression(shape + offsets), without_expression(shape)
    strength_cm = np.linalg.norm(offsets, axis=1)
    moving = strength_cm > 0.5 * strength_cm.max()
    left_cm = np.linalg.norm(calm - same, axis=1)
    assert left_cm[moving].mean() < 0.02 + 0.1 * strength_cm[moving].mean()
    mean = face_model().mean_S3
    assert np.linalg.norm(same - shape) < 0.3 * np.linalg.norm(shape - mean), "a wide mouth of birth is no smile"


def test_an_open_mouth_is_closed() -> None:
    model = face_model()
    jaw = model.expression_KS3[np.argmax(np.abs(model.expression_KS3[:, 152, 1]))]
    jaw = jaw * np.sign(jaw[152, 1])
    opened = model.mean_S3 + 0.8 * jaw

    def gap_cm(shape_S3: Floats) -> float:
        return float(np.linalg.norm(shape_S3[13] - shape_S3[14]))

    rest_cm, opened_cm = gap_cm(model.mean_S3), gap_cm(opened)
    assert opened_cm > rest_cm + 0.8
    assert gap_cm(without_expression(opened)) < rest_cm + 0.3 * (opened_cm - rest_cm)


def test_a_calm_face_is_calmer_than_a_grimace() -> None:
    mean = face_model().mean_S3
    calm, one, two = (expression_energy(mean + share * expression(4)) for share in (0.0, 0.5, 1.0))
    assert calm < 1e-6 < one < two


def test_the_neutral_shape_settles_though_the_person_talks() -> None:
    truth, memory = person(8, 0.6), NeutralShape()
    for number in range(40):
        pose, canonical = canonical_face(landmarks(Looks(yaw_deg=10 * np.sin(number)), truth + expression(number)))
        observe(memory, pose, canonical)
    _, still = canonical_face(landmarks(Looks(), truth))
    assert memory.shape_S3 is not None
    settled = np.linalg.norm(memory.shape_S3 - still, axis=1)
    assert settled.mean() < 0.25
    assert settled.mean() < 0.6 * np.linalg.norm(face_model().mean_S3 - still, axis=1).mean()


def test_a_turned_head_says_less_about_the_shape() -> None:
    front, side = canonical_face(landmarks(Looks())), canonical_face(landmarks(Looks(yaw_deg=TURNED_DEG + 10)))
    memory = NeutralShape()
    before = observe(memory, *front).copy()
    bent = side[1] + np.array([0.5, 0, 0], np.float32)
    after = observe(memory, side[0], bent)
    assert np.abs(after - before).max() < 0.05


def test_two_memories_know_nothing_of_each_other() -> None:
    pose, canonical = canonical_face(landmarks(Looks()))
    one, other = NeutralShape(), NeutralShape()
    observe(one, pose, canonical)
    kept = one.shape_S3
    assert kept is not None
    before = kept.copy()
    observe(other, pose, canonical + 1)
    np.testing.assert_array_equal(kept, before)


def test_rings_lie_around_the_outline_in_order() -> None:
    points = landmarks(Looks())
    near, far = oval_rings(points, 0.2), oval_rings(points, 0.6)
    middle = points[FACE_OVAL].mean(axis=0)
    radius = [np.linalg.norm((ring - middle)[:, :2], axis=1) for ring in (points[FACE_OVAL], near, far)]
    np.testing.assert_allclose(radius[1] / radius[0], 1.2, rtol=1e-4)
    np.testing.assert_allclose(radius[2] / radius[0], 1.6, rtol=1e-4)


def test_the_product_is_numpy_s() -> None:
    random = np.random.default_rng(0)
    matrix, vector = random.normal(size=(57, 211)).astype(np.float32), random.normal(size=211).astype(np.float32)
    np.testing.assert_allclose(product(matrix, vector), matrix @ vector, atol=1e-4)


def test_points_handed_in_are_not_written_to() -> None:
    points = landmarks(Looks())
    before = points.copy()
    swapped(points, person(2), face_model().mean_S3)
    np.testing.assert_array_equal(points, before)
    assert set(INNER_LIPS) >= set(LIPS.ravel()), "the pairs are of the inner lips"
