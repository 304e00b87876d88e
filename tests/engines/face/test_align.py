"""Crops: where they lie, how exact the way there and back is, and that shrinking skips nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engines.face.align import crop, crop_from_frame, inside_share, inverse, moved
from engines.face.mesh import Pose, face_model
from engines.face.track import FaceTracker
from engines.pixels import warp_affine
from engines.types import Floats, Rgb
from tests.engines.face.heads import turn

TURNS = st.tuples(st.floats(-75, 75), st.floats(-40, 40), st.floats(-40, 40))


def points(px_per_cm: float, angles: tuple[float, float, float], x: float, y: float) -> Floats:
    rotation = turn(*angles)
    return Pose(px_per_cm, rotation, np.array([x, y, 0], np.float32)).to_picture(face_model().mean_S3)


def pattern(height_px: int, width_px: int) -> Rgb:
    """A smooth picture, so that linear interpolation loses little."""
    y, x = np.mgrid[:height_px, :width_px].astype(np.float32)
    planes = [127 + 90 * np.sin(x / 17 + k) * np.cos(y / 23 - k) for k in range(3)]
    return np.ascontiguousarray(np.stack(planes, axis=2).astype(np.uint8))


@settings(max_examples=80)
@given(st.floats(3, 60), TURNS, st.floats(-200, 2200), st.floats(-200, 1200), st.sampled_from([256, 512]))
def test_there_and_back_is_the_same_place(
    px_per_cm: float, angles: tuple[float, float, float], x: float, y: float, size_px: int
) -> None:
    face = points(px_per_cm, angles, x, y)
    there = crop_from_frame(face, size_px)
    assert there.dtype == np.float32
    assert there.shape == (2, 3)
    np.testing.assert_allclose(there[0, 0], there[1, 1], rtol=1e-4, atol=1e-5)  # a similarity: no shear, no stretch
    np.testing.assert_allclose(there[0, 1], -there[1, 0], rtol=1e-4, atol=1e-5)
    back = moved(moved(face, there), inverse(there))
    assert np.abs(back - face).max() < 0.02


@settings(max_examples=80)
@given(st.floats(3, 60), TURNS)
def test_the_face_fills_the_crop_alike_however_it_is_turned(
    px_per_cm: float, angles: tuple[float, float, float]
) -> None:
    face = points(px_per_cm, angles, 300, 200)
    placed = moved(face, crop_from_frame(face, 256))
    assert placed[:, :2].min() > 8, "all of the face lies inside"
    assert placed[:, :2].max() < 247
    assert np.linalg.norm(placed[:, :2].mean(axis=0) - 127.5) < 0.22 * 256


@settings(max_examples=40)
@given(st.floats(-170, 170))
def test_an_inclined_head_stands_upright(roll_deg: float) -> None:
    upright = points(12, (0, 0, 0), 300, 200)
    inclined = points(12, (0, 0, roll_deg), 300, 200)
    there, upright_there = crop_from_frame(inclined, 256), crop_from_frame(upright, 256)
    np.testing.assert_allclose(moved(inclined, there), moved(upright, upright_there), atol=0.1)


def test_a_smile_does_not_zoom() -> None:
    """An open mouth moves the box of the landmarks by several centimetres and the crop by next to nothing."""
    still = points(12, (10, 5, 3), 300, 200)
    model = face_model()
    rotation = turn(10, 5, 3)
    chin = 152
    widest = int(np.abs(model.expression_KS3[:, chin, 1]).argmax())
    drop_cm = 3.0 / model.expression_KS3[widest, chin, 1]
    shape = model.mean_S3 + drop_cm * model.expression_KS3[widest]
    open_mouth = Pose(12, rotation, np.array([300, 200, 0], np.float32)).to_picture(shape)
    corners = np.array([[0, 0, 0], [255, 255, 0]], np.float32)
    before = moved(corners, inverse(crop_from_frame(still, 256)))
    after = moved(corners, inverse(crop_from_frame(open_mouth, 256)))
    assert np.ptp(open_mouth[:, 1]) - np.ptp(still[:, 1]) > 25
    assert np.abs(after - before).max() < 9


@pytest.mark.parametrize("px_per_cm", [4.0, 9.8, 14.0, 30.0, 61.0])
def test_a_dot_lands_where_the_transform_says(px_per_cm: float) -> None:
    """Within half a crop pixel, for crops finer and coarser than the frame."""
    face = points(px_per_cm, (20, 0, 25), 700, 600)
    there = crop_from_frame(face, 256)
    y, x = np.mgrid[:1200, :1400].astype(np.float32)
    spread_px = max(2.0, px_per_cm / 6)
    worst = 0.0
    for place in (face[1, :2], face[33, :2], face[291, :2]):
        dot = 255 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * spread_px**2))
        cut = crop(np.ascontiguousarray(np.repeat(dot[:, :, None], 3, axis=2).astype(np.uint8)), there, 256)
        weight = cut[:, :, 0].astype(np.float64)
        weight[weight < 8] = 0
        rows, columns = np.mgrid[:256, :256]
        seen = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
        said = moved(np.array([[*place, 0]], np.float32), there)[0, :2]
        worst = max(worst, float(np.abs(seen - said).max()))
    assert worst < 0.5


def test_pasting_back_restores_the_frame() -> None:
    frame = pattern(480, 640)
    face = points(16, (0, 0, 12), 320, 240)
    there = crop_from_frame(face, 512)
    pasted = warp_affine(crop(frame, there, 512), there, 480, 640)
    shift = np.abs(pasted[150:330, 230:410].astype(int) - frame[150:330, 230:410].astype(int))
    assert shift.mean() < 1.0, "half a pixel of shift would be 2.5 levels of this pattern"


def test_shrinking_averages_instead_of_skipping() -> None:
    """A fine checkerboard must turn grey, not into stripes."""
    y, x = np.mgrid[:1600, :1600]
    board = np.ascontiguousarray(np.repeat((((x // 2 + y // 2) % 2) * 255)[:, :, None], 3, axis=2).astype(np.uint8))
    face = points(50, (0, 0, 0), 800, 800)
    cut = crop(board, crop_from_frame(face, 256), 256)
    assert cut.std() < 16
    assert abs(float(cut.mean()) - 127.5) < 3
    skipped = warp_affine(board, inverse(crop_from_frame(face, 256)), 256, 256)
    assert skipped.std() > 60, "or the test could not fail"


def test_a_crop_that_hangs_over_the_edge_says_so() -> None:
    inside = crop_from_frame(points(8, (0, 0, 0), 320, 240), 256)
    corner = crop_from_frame(points(8, (0, 0, 0), 0, 0), 256)
    assert inside_share(inside, 256, 480, 640) == 1.0
    assert 0.2 < inside_share(corner, 256, 480, 640) < 0.35
    assert crop(pattern(480, 640), corner, 256).shape == (256, 256, 3)


def test_refuses_what_is_no_face() -> None:
    face = points(8, (0, 0, 0), 320, 240)
    broken = face.copy()
    broken[7, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        crop_from_frame(broken, 256)
    with pytest.raises(ValueError, match="one place"):
        crop_from_frame(np.zeros_like(face), 256)


def test_a_photo_of_a_real_face(shared_data: Path) -> None:
    photo = np.ascontiguousarray(np.asarray(Image.open(shared_data / "photos" / "astronaut.png").convert("RGB")))
    tracker = FaceTracker(1, "one")
    face = tracker.step(tracker.init(), photo, 0.0).faces[0]
    tracker.close()
    there = crop_from_frame(face.points_px, 256)
    placed = moved(face.points_px, there)
    eyes, mouth = placed[468:, :2].mean(axis=0), placed[[13, 14], :2].mean(axis=0)
    assert abs(float(eyes[0] - mouth[0])) < 14, "upright"
    assert 80 < eyes[1] < 125 < mouth[1] < 190
    assert np.ptp(placed[:, 1]) == pytest.approx(256 * 0.66, rel=0.12)
