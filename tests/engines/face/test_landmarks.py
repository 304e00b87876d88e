"""Where the landmark net looks, and that its answer lands where it looked."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.face.detect import FaceDetector
from engines.face.landmarks import (
    HALF_NET_PIXEL,
    FaceMesh,
    Square,
    box_of_points,
    from_square,
    square_of_detection,
    square_of_points,
)
from engines.face.mediapipe_graph import image_packet
from engines.types import LANDMARKS, Floats
from tests.engines.face.scenes import clip

places = st.floats(-500, 1500)


def mesh_points(square: Square) -> Floats:
    random = np.random.default_rng(0)
    return from_square(random.uniform(0.2, 0.8, (LANDMARKS, 3)).astype(np.float32), square)


@given(places, places, st.floats(5, 900), st.floats(-3, 3))
def test_the_middle_of_the_square_is_its_middle_in_the_picture(x: float, y: float, size: float, roll: float) -> None:
    middle = np.full((LANDMARKS, 3), 0.5 + HALF_NET_PIXEL, np.float32)
    assert from_square(middle, Square(x, y, size, roll))[0, :2] == pytest.approx((x, y), abs=1e-2)


@given(places, places, st.floats(20, 900), st.floats(-3, 3))
def test_the_next_square_follows_shift_scale_and_turn(x: float, y: float, size: float, roll: float) -> None:
    plain = square_of_points(mesh_points(Square(0, 0, 100, 0)))
    moved = square_of_points(mesh_points(Square(x, y, size, roll)))
    assert moved.size_px == pytest.approx(plain.size_px * size / 100, rel=1e-3)
    turned = math.remainder(moved.roll_rad - plain.roll_rad - roll, 2 * math.pi)
    assert turned == pytest.approx(0, abs=1e-2)
    cos, sin = math.cos(roll) * size / 100, math.sin(roll) * size / 100
    assert moved.x_px == pytest.approx(x + plain.x_px * cos - plain.y_px * sin, abs=0.02 * size)
    assert moved.y_px == pytest.approx(y + plain.x_px * sin + plain.y_px * cos, abs=0.02 * size)


def test_another_number_of_points_is_refused() -> None:
    with pytest.raises(ValueError, match="478"):
        from_square(np.zeros((468, 3), np.float32), Square(0, 0, 1, 0))


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_landmarks_land_on_the_face_however_the_picture_is_turned(shared_data: Path, turns: int) -> None:
    rgb = clip(shared_data / "clips/single_face.mp4", 1)[0]
    detector, mesh = FaceDetector(), FaceMesh()
    try:
        detector.feed(image_packet(rgb), both=False)
        (face,) = detector.collect(*rgb.shape[:2])
        upright, score = mesh.find(image_packet(rgb), square_of_detection(face), *rgb.shape[:2])
        assert score > 0.9
        turned = np.ascontiguousarray(np.rot90(rgb, -turns))  # clockwise
        height, width = rgb.shape[:2]
        x, y = upright[:, 0], upright[:, 1]
        expected = [(x, y), (height - 1 - y, x), (width - 1 - x, height - 1 - y), (y, width - 1 - x)][turns]
        square = square_of_points(np.stack((*expected, upright[:, 2]), axis=1))
        found, score = mesh.find(image_packet(turned), square, *turned.shape[:2])
    finally:
        detector.close()
        mesh.close()
    assert score > 0.9
    apart = np.hypot(found[:, 0] - expected[0], found[:, 1] - expected[1])
    assert np.median(apart) < 0.02 * box_of_points(upright).width_px


def test_the_net_has_no_lean_to_either_side(shared_data: Path) -> None:
    """Landmarks of a mirrored picture are the mirrored landmarks: half a net pixel of lean is taken out."""
    rgb = clip(shared_data / "clips/single_face.mp4", 1)[0]
    height, width = rgb.shape[:2]
    middle = [1, 4, 5, 6, 168, 10, 152, 0, 17, 8, 9, 2, 164]
    detector, mesh = FaceDetector(), FaceMesh()
    try:
        found = []
        for picture in (rgb, np.ascontiguousarray(rgb[:, ::-1])):
            detector.feed(image_packet(picture), both=False)
            square = square_of_detection(detector.collect(height, width)[0])
            for _ in range(8):
                square = square_of_points(mesh.find(image_packet(picture), square, height, width)[0])
            found.append(mesh.find(image_packet(picture), square, height, width)[0])
    finally:
        detector.close()
        mesh.close()
    assert float((found[0][middle, 0] + found[1][middle, 0]).mean()) == pytest.approx(width - 1, abs=0.8)
