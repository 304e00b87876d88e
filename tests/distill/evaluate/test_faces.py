"""Pose, gaze and expression of faces that are made as they are to be read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.evaluate.faces import (
    Blendshapes,
    Face,
    FaceReader,
    angle_error,
    euler_deg,
    expression_error,
    gaze_deg,
    gaze_error,
    pose_deg,
    pose_error,
)
from engines import EngineUnavailable
from engines.enrolment import face_finder
from engines.face.landmarks import square_of_points
from engines.face.mesh import face_model
from engines.types import Floats

TASK = Path("models/face_landmarker.task")


def turned(yaw_deg: float, pitch_deg: float, roll_deg: float) -> Floats:
    """Rz Ry Rx."""
    (cy, sy), (cx, sx), (cz, sz) = (
        (math.cos(math.radians(one)), math.sin(math.radians(one))) for one in (yaw_deg, pitch_deg, roll_deg)
    )
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, np.float32)


def head(rotation_33: Floats, gaze_cm: tuple[float, float] = (0, 0), closed: bool = False) -> Floats:
    """The mean face with irises that lie off the middle of their eyes by that much; float32 [478, 3], pixels."""
    skin = face_model().mean_S3.copy()
    irises = []
    for one, other, upper, lower in ((33, 133, 159, 145), (362, 263, 386, 374)):
        middle = (skin[one] + skin[other]) / 2
        irises += [middle + np.array([*gaze_cm, 0])] * 5
        if closed:
            skin[upper] = skin[lower]
    points = np.concatenate([skin, np.array(irises)])
    return np.asarray(9 * points @ rotation_33.T + (320, 240, 0), np.float32)


def face(points_px: Floats, shapes: Floats | None = None) -> Face:
    return Face(points_px, pose_deg(points_px), gaze_deg(points_px), shapes)


@pytest.mark.parametrize("angles", [(0, 0, 0), (25, -10, 5), (-40, 15, -30), (0, 0, 90)])
def test_a_turn_is_read_as_it_was_made(angles: tuple[float, float, float]) -> None:
    assert euler_deg(turned(*angles)) == pytest.approx(angles, abs=1e-3)
    assert pose_deg(head(turned(*angles))) == pytest.approx(angles, abs=0.1)


def test_pose_error_is_the_length_of_the_turn_between() -> None:
    one, other = face(head(turned(10, 0, 0))), face(head(turned(13, 4, 0)))
    assert pose_error(one, other) == pytest.approx(5, abs=0.1)
    assert pose_error(one, one) == 0
    assert angle_error(np.array([179.0]), np.array([-179.0])) == pytest.approx(2)


@pytest.mark.parametrize("rotation", [turned(0, 0, 0), turned(30, 10, 5)], ids=["frontal", "turned"])
def test_gaze_is_of_the_eyes_in_the_head(rotation: Floats) -> None:
    """An iris 0.4 cm off its eye's middle, on a ball of 1.2 cm, looks asin(1/3) to that side."""
    ahead, aside = face(head(rotation)), face(head(rotation, (0.4, 0)))
    assert ahead.gaze_deg == pytest.approx(np.zeros((2, 2)), abs=1.5)
    assert gaze_error(ahead, aside) == pytest.approx(math.degrees(math.asin(1 / 3)), abs=0.5)
    assert gaze_error(ahead, ahead) == 0


def test_a_closed_eye_looks_nowhere() -> None:
    shut, open_ = face(head(turned(0, 0, 0), closed=True)), face(head(turned(0, 0, 0)))
    assert np.isnan(shut.gaze_deg).all()
    assert math.isnan(gaze_error(shut, open_))


def test_expression_error_leaves_the_neutral_one_out() -> None:
    points = head(turned(0, 0, 0))
    smile, still = np.zeros(52, np.float32), np.zeros(52, np.float32)
    smile[[0, 44, 45]] = 1, 0.6, 0.8
    assert expression_error(face(points, smile), face(points, still)) == pytest.approx(1)
    assert math.isnan(expression_error(face(points), face(points, still)))


def test_a_smile_is_read_off_a_photo(shared_data: Path) -> None:
    """The same photo read twice is the same face; mirrored, left and right of the blendshapes are exchanged."""
    rgb = np.array(Image.open(shared_data / "photos" / "astronaut.png").convert("RGB"))
    with face_finder() as finder:
        found = finder.find(rgb)[0].points_px
    reader = FaceReader(shared_data / TASK)
    try:
        one, again = (reader.read(rgb, square_of_points(found)) for _ in range(2))
        assert one is not None
        assert again is not None
        assert (one.points_px == again.points_px).all()
        assert one.shapes is not None
        assert expression_error(one, again) == 0
        assert one.shapes[44] > 0.7  # mouthSmileLeft
        assert one.shapes[25] < 0.3  # jawOpen
        nothing = reader.read(np.full_like(rgb, 90), square_of_points(found))
        assert nothing is None
    finally:
        reader.close()


def test_a_file_that_is_no_blendshape_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.task").write_bytes(b"no model at all")
    with pytest.raises(EngineUnavailable, match=r"a\.task: is no blendshape model"):
        Blendshapes(tmp_path / "a.task")
    with pytest.raises(EngineUnavailable, match="cannot be read"):
        Blendshapes(tmp_path / "b.task")
