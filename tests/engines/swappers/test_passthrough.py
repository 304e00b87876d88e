"""The engine that draws nothing, and the face that warm-up makes up."""

from __future__ import annotations

import numpy as np

from engines.face.mesh import fit_pose
from engines.identity import ATLAS_PX
from engines.settings import SwapSettings
from engines.swappers.base import Engine, Inputs
from engines.swappers.passthrough import Passthrough
from engines.swappers.warm_up import made_up_face, made_up_identity


def test_leaves_every_byte_as_it_was() -> None:
    engine: Engine = Passthrough()
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    onto = picture.copy()
    engine.warm_up()
    engine.draw(engine.init(), None, Inputs(picture, made_up_face(48), None, 0.0), SwapSettings(), onto)
    np.testing.assert_array_equal(onto, picture)
    assert not engine.needs_face


def test_the_made_up_face_stands_upright_in_the_picture() -> None:
    identity = made_up_identity()
    for side_px in (64, 300):
        face = made_up_face(side_px)
        assert face.points_px.shape == (478, 3)
        assert 0 <= face.points_px[:, :2].min() <= face.points_px[:, :2].max() < side_px
        pose = fit_pose(face.points_px, identity.shape_S3)
        np.testing.assert_allclose(pose.rotation_33, np.eye(3), atol=1e-3)


def test_the_made_up_identity_is_whole() -> None:
    identity = made_up_identity()
    assert identity.manifest.synthetic
    assert identity.albedo_AA3.shape == (ATLAS_PX, ATLAS_PX, 3)
    assert identity.confidence_AA.shape == (ATLAS_PX, ATLAS_PX)
    assert identity.shape_S3.shape == (468, 3)
