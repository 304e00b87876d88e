"""Poses of heads, and which way triangles and normals look."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from engines.face.mesh import FACE_OVAL, Pose, face_model, fit_pose, vertex_normals
from engines.types import SKIN_LANDMARKS, Floats
from tests.engines.face.heads import Looks, landmarks

ANGLES = st.tuples(st.floats(-80, 80), st.floats(-60, 60), st.floats(-180, 180))


def posed(px_per_cm: float, angles: tuple[float, float, float], x: float, y: float) -> Pose:
    rotation = Rotation.from_euler("yxz", angles, degrees=True).as_matrix().astype(np.float32)
    return Pose(px_per_cm, rotation, np.array([x, y, 10], np.float32))


@settings(max_examples=60)
@given(st.floats(1, 90), ANGLES, st.floats(-500, 4000), st.floats(-500, 2000))
def test_finds_the_pose_that_a_face_was_put_into(
    px_per_cm: float, angles: tuple[float, float, float], x: float, y: float
) -> None:
    truth = posed(px_per_cm, angles, x, y)
    shape = face_model().mean_S3
    found = fit_pose(truth.to_picture(shape), shape)
    assert found.px_per_cm == pytest.approx(px_per_cm, rel=1e-3)
    np.testing.assert_allclose(found.rotation_33, truth.rotation_33, atol=2e-3)
    np.testing.assert_allclose(found.to_picture(shape), truth.to_picture(shape), atol=0.02 + 1e-3 * px_per_cm)


@settings(max_examples=60)
@given(st.floats(1, 90), ANGLES, st.floats(-500, 4000), st.floats(-500, 2000))
def test_to_the_picture_and_back_is_where_it_was(
    px_per_cm: float, angles: tuple[float, float, float], x: float, y: float
) -> None:
    pose = posed(px_per_cm, angles, x, y)
    points = pose.to_picture(face_model().mean_S3)
    again = pose.to_picture(pose.to_canonical(points))
    assert np.abs(again - points).max() < 0.01
    np.testing.assert_allclose(pose.to_canonical(points), face_model().mean_S3, atol=0.01)


def test_a_moving_mouth_hardly_turns_the_head() -> None:
    """Rigid landmarks weigh most: a jaw that drops by 2 cm is not a nod."""
    shape = face_model().mean_S3
    wide = shape.copy()
    wide[[152, 148, 377, 176, 400, 17, 14, 87, 317]] += np.array([0, 2, 0], np.float32)
    calm = posed(20, (0, 0, 0), 300, 200)
    found = fit_pose(calm.to_picture(wide), shape)
    nod_deg = np.degrees(np.linalg.norm(Rotation.from_matrix(found.rotation_33).as_rotvec()))
    assert nod_deg < 1.0


def test_a_mirrored_face_is_never_fitted_by_turning_it_inside_out() -> None:
    shape = face_model().mean_S3
    found = fit_pose(shape * np.array([-1, 1, 1], np.float32) * 10, shape)
    assert np.linalg.det(found.rotation_33) == pytest.approx(1, abs=1e-4)


def test_a_fit_may_use_all_landmarks_or_the_skin_s_alone() -> None:
    points = landmarks(Looks(yaw_deg=20))
    with_irises, without = fit_pose(points, face_model().mean_S3), fit_pose(points[:468], face_model().mean_S3)
    np.testing.assert_array_equal(with_irises.rotation_33, without.rotation_33)


@pytest.mark.parametrize("yaw_deg", [-60.0, -25.0, 25.0, 60.0])
def test_yaw_is_positive_to_the_picture_s_right(yaw_deg: float) -> None:
    points = landmarks(Looks(yaw_deg=yaw_deg))
    nose_right_of_outline = points[1, 0] - points[FACE_OVAL, 0].mean()
    assert np.sign(nose_right_of_outline) == np.sign(yaw_deg)
    assert fit_pose(points, face_model().mean_S3).yaw_deg == pytest.approx(yaw_deg, abs=0.1)


def test_skin_that_faces_the_camera_has_normals_towards_it() -> None:
    model = face_model()
    normals = vertex_normals(model.mean_S3, model.triangles_T3)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-4)
    assert (normals[:, 2] < 0).mean() > 0.95
    assert normals[[1, 151, 50, 280], 2].max() < -0.5, "nose tip, forehead, cheeks"
    assert normals[234, 0] < -0.5, "the picture's left side looks left"
    assert normals[454, 0] > 0.5


@given(st.floats(-180, 180), st.floats(-60, 60))
def test_normals_turn_with_the_mesh(yaw_deg: float, pitch_deg: float) -> None:
    model = face_model()
    rotation = Rotation.from_euler("yx", [yaw_deg, pitch_deg], degrees=True).as_matrix().astype(np.float32)
    turned = vertex_normals((model.mean_S3 @ rotation.T).astype(np.float32), model.triangles_T3)
    np.testing.assert_allclose(turned, vertex_normals(model.mean_S3, model.triangles_T3) @ rotation.T, atol=2e-3)


def test_normals_of_a_ball_point_out_of_it() -> None:
    """An octahedron split finely, wound as the model's triangles: negative winding faces the camera."""
    rows, columns = 24, 48
    lat = np.linspace(0.05, np.pi - 0.05, rows)[:, None]
    lon = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]
    ball = np.stack([np.sin(lat) * np.cos(lon), np.cos(lat) + 0 * lon, np.sin(lat) * np.sin(lon)], axis=-1)
    points: Floats = ball.reshape(-1, 3).astype(np.float32)
    at = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = at[:-1], np.roll(at, -1, 1)[:-1], at[1:], np.roll(at, -1, 1)[1:]
    quads = np.stack([a, b, c, b, d, c], axis=-1).reshape(-1, 3).astype(np.int32)
    normals = vertex_normals(points, quads)
    side = np.sign((normals * points).sum(axis=1))
    assert len(np.unique(side)) == 1
    first = points[quads[:, 0], 2] < -0.9
    p, q, r = (points[quads[first][:, corner], :2] for corner in range(3))
    winding = (q - p)[:, 0] * (r - p)[:, 1] - (q - p)[:, 1] * (r - p)[:, 0]
    outwards = side[0] * np.sign(winding[np.abs(winding) > 1e-6])
    assert (outwards == -1).all(), "negative winding must go with normals out of the body"
    inner = np.abs((normals * points).sum(axis=1))[columns:-columns]
    assert inner.min() > 0.99


def test_the_model_is_loaded_once_and_not_changed_by_use() -> None:
    assert face_model() is face_model()
    before = face_model().mean_S3.copy()
    landmarks(Looks(yaw_deg=10))
    fit_pose(np.zeros((SKIN_LANDMARKS, 3), np.float32) + before, face_model().mean_S3)
    np.testing.assert_array_equal(face_model().mean_S3, before)
