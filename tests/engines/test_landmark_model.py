"""The shipped landmark model: shapes, symmetry, winding, unwrapping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open

import engines.face

MODEL = Path(next(iter(engines.face.__path__))) / "landmark_model.safetensors"
GROUPS = ("triangles_T3", "eye_left_triangles_T3", "eye_right_triangles_T3", "mouth_triangles_T3")
MIRROR = np.array([-1.0, 1.0, 1.0])

Tensors = dict[str, NDArray[np.generic]]


def read() -> tuple[Tensors, dict[str, str]]:
    with safe_open(MODEL, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


TENSORS, METADATA = read()


def real(name: str) -> NDArray[np.float64]:
    return TENSORS[name].astype(np.float64)


def whole(name: str) -> NDArray[np.int64]:
    return TENSORS[name].astype(np.int64)


def signed_area(points_S2: NDArray[np.float64], triangles_T3: NDArray[np.int64]) -> NDArray[np.float64]:
    a, b, c = (points_S2[triangles_T3[:, corner]] for corner in range(3))
    return np.asarray(((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2)


def area_3d(points_S3: NDArray[np.float64], triangles_T3: NDArray[np.int64]) -> NDArray[np.float64]:
    a, b, c = (points_S3[triangles_T3[:, corner]] for corner in range(3))
    return np.asarray(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2)


def test_is_small_and_says_where_it_comes_from() -> None:
    assert MODEL.stat().st_size < 600_000
    assert "ICT-FaceKit" in METADATA["licence"]
    assert "MediaPipe" in METADATA["licence"]


def test_every_tensor_has_its_shape_and_no_hole() -> None:
    names = METADATA["expression_names"].split(",")
    shapes = {name: tensor.shape for name, tensor in TENSORS.items()}
    assert shapes == {
        "mean_S3": (468, 3),
        "identity_KS3": (40, 468, 3),
        "expression_KS3": (len(names), 468, 3),
        "uv_S2": (468, 2),
        "mirror_S": (468,),
        "procrustes_weight_S": (468,),
        "spread_cm_S": (468,),
        "eye_centres_23": (2, 3),
        "triangles_T3": (852, 3),
        "eye_left_triangles_T3": (14, 3),
        "eye_right_triangles_T3": (14, 3),
        "mouth_triangles_T3": (18, 3),
    }
    for name in TENSORS:
        assert np.isfinite(real(name)).all(), name


def test_axes_are_the_picture_s() -> None:
    """Landmarks everybody knows: 10 forehead, 152 chin, 1 nose tip, 33 the person's right eye corner, 263 the left."""
    mean_S3 = real("mean_S3")
    assert mean_S3[10, 1] < mean_S3[1, 1] < mean_S3[152, 1]
    assert mean_S3[33, 0] < 0 < mean_S3[263, 0]
    assert mean_S3[1, 2] < mean_S3[234, 2]
    assert 8 < mean_S3[263, 0] - mean_S3[33, 0] < 11
    assert real("eye_centres_23")[0, 0] > 0


def test_triangles_close_the_face_into_one_disc() -> None:
    every_T3 = np.concatenate([whole(name) for name in GROUPS])
    directed = {(int(t[i]), int(t[(i + 1) % 3])) for t in every_T3 for i in range(3)}
    assert len(directed) == 3 * len(every_T3), "two triangles run along one edge in the same direction"
    outline = {edge for edge in directed if edge[::-1] not in directed}
    assert len(outline) == 36
    edges = (len(directed) + len(outline)) // 2
    assert 468 - edges + len(every_T3) == 1


@pytest.mark.parametrize("name", GROUPS)
def test_no_triangle_folds_over_in_the_texture(name: str) -> None:
    areas = signed_area(real("uv_S2"), whole(name))
    assert (areas < 0).all()
    assert np.abs(areas).min() * 512**2 > 1.0, "a triangle without a texel"


def test_faces_turned_to_the_camera_wind_as_the_texture_does() -> None:
    areas = signed_area(real("mean_S3")[:, :2], whole("triangles_T3"))
    assert (areas < 0).mean() > 0.97
    assert np.abs(areas[areas > 0]).sum() < 0.02 * np.abs(areas).sum()


def test_skin_has_even_texel_density() -> None:
    skin = whole("triangles_T3")
    area_cm2 = area_3d(real("mean_S3"), skin)
    texels_per_cm = 512 * np.sqrt(np.abs(signed_area(real("uv_S2"), skin)) / area_cm2)
    order = np.argsort(texels_per_cm)
    share = np.cumsum(area_cm2[order]) / area_cm2.sum()
    low, high = texels_per_cm[order][np.searchsorted(share, [0.03, 0.97])]
    assert low > 17
    assert high / low < 1.5


@given(st.integers(0, 467))
def test_mirror_is_its_own_inverse_and_flips_texture_and_shape(landmark: int) -> None:
    other = int(whole("mirror_S")[landmark])
    assert int(whole("mirror_S")[other]) == landmark
    u, v = real("uv_S2")[landmark]
    np.testing.assert_allclose(real("uv_S2")[other], [1 - u, v], atol=1e-6)
    np.testing.assert_allclose(real("mean_S3")[other], real("mean_S3")[landmark] * MIRROR, atol=1e-5)


@given(st.lists(st.floats(-2.5, 2.5), min_size=40, max_size=40))
def test_mirrored_people_are_people_too(amounts: list[float]) -> None:
    """The mirror image of any face of the model is in the model: its modes are symmetric or antisymmetric."""
    modes = real("identity_KS3")
    offset_S3 = np.tensordot(np.array(amounts), modes, 1)
    mirrored = (offset_S3[whole("mirror_S")] * MIRROR).ravel()
    basis = modes.reshape(len(modes), -1).T
    explained = basis @ np.linalg.lstsq(basis, mirrored, rcond=None)[0]
    assert np.linalg.norm(mirrored - explained) <= 0.01 * np.linalg.norm(mirrored) + 1e-6


def test_identity_modes_are_orthogonal_and_sorted() -> None:
    flat = real("identity_KS3").reshape(40, -1)
    length = np.linalg.norm(flat, axis=1)
    assert (np.diff(length) < 1e-3).all()
    turned = (flat @ flat.T) / np.outer(length, length) - np.eye(40)
    assert np.abs(turned).max() < 0.02


def test_expressions_do_what_their_names_say() -> None:
    names = METADATA["expression_names"].split(",")
    moves = real("expression_KS3")
    assert moves[names.index("jawOpen")][152, 1] > 1.0, "the chin goes down"
    blink = moves[names.index("eyeBlink_L")]
    assert blink[386, 1] > 0.5 > np.abs(blink[159, 1]), "the person's left upper lid alone"
    left, right = moves[names.index("mouthSmile_L")], moves[names.index("mouthSmile_R")]
    np.testing.assert_allclose(left[whole("mirror_S")] * MIRROR, right, atol=2e-3)


def test_rigid_weights_trust_the_skull_and_not_the_mouth() -> None:
    weight_S = real("procrustes_weight_S")
    assert weight_S.sum() == pytest.approx(1, abs=1e-4)
    steady, moving = weight_S[[6, 168, 10, 133, 362]], weight_S[[13, 14, 61, 291, 152, 105, 334, 234, 454]]
    assert steady.min() > 2.5 * moving.max()
