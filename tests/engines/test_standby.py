"""Nobody can be recognised in a standby picture, however large their face is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from distill.evaluate.judge import Judge, distance, judge_is_available
from engines.standby import blurred_scene, hide_face, standby_card
from engines.types import Box, Rgb
from tests.engines.face.scenes import clip
from tests.engines.raw_face import HIDDEN, find_face, likeness

STRANGERS = ("t0011_schnell.jpg", "t0021_schnell.jpg")
FILES = ("clips/single_face.mp4", "clips/head-pose-face-detection-male.gif")


def scaled(rgb: Rgb, width_px: int) -> Rgb:
    height_px = max(round(rgb.shape[0] * width_px / rgb.shape[1]), 1)
    return np.array(Image.fromarray(rgb).resize((width_px, height_px), Image.Resampling.LANCZOS))


def close_up(rgb: Rgb, box: Box, share: float) -> tuple[Rgb, Box]:
    """The part of the picture in which the face takes `share` of the width, and the face's place in it."""
    side = box.width_px / share
    left, top = (box.left_px + box.right_px - side) / 2, (box.top_px + box.bottom_px - side) / 2
    square = (left, top, left + side, top + side)
    image = Image.fromarray(rgb).transform((480, 480), Image.Transform.EXTENT, square, Image.Resampling.BICUBIC)
    part, scale = np.array(image), 480 / side
    moved = [(box.left_px - left), (box.top_px - top), (box.right_px - left), (box.bottom_px - top)]
    return part, Box(*(scale * value for value in moved))


@pytest.fixture(scope="module", params=FILES)
def seen(request: pytest.FixtureRequest, shared_data: Path) -> tuple[Rgb, Box]:
    picture = clip(shared_data / request.param, 1)[0]
    return picture, find_face(picture)


def test_the_measure_knows_a_raw_face_and_one_that_is_merely_soft(seen: tuple[Rgb, Box]) -> None:
    picture, box = seen
    assert likeness(picture, picture, box) == pytest.approx(1, abs=1e-3)
    dimmed = (picture * 0.5 + 20).astype(np.uint8)
    assert likeness(dimmed, picture, box) > 0.95
    soft = scaled(scaled(picture, picture.shape[1] // 4), picture.shape[1])
    assert likeness(soft[: picture.shape[0]], picture, box) > 2 * HIDDEN


@pytest.mark.parametrize(("share", "bound"), [(0.1, 0.2), (0.25, 0.2), (0.5, 0.35), (0.8, 0.45), (1.0, 0.55)])
def test_nobody_is_recognised_in_the_blurred_scene(seen: tuple[Rgb, Box], share: float, bound: float) -> None:
    part, box = close_up(*seen, share)
    assert likeness(blurred_scene(part), part, box) < bound


@pytest.mark.parametrize("share", [0.6, 0.9])
def test_a_recogniser_takes_a_blurred_face_for_a_stranger(shared_data: Path, share: float) -> None:
    """Five people: nobody's blurred picture is nearer to their own face than to those of the others."""
    if not judge_is_available():
        pytest.skip("needs the extra `eval`")
    judge, known, blurred = Judge(), [], []
    photos = [shared_data / "photos/astronaut.png", *(shared_data / f"synth_faces/{n}" for n in STRANGERS)]
    for picture in [*(clip(shared_data / f, 1)[0] for f in FILES), *(np.array(Image.open(p)) for p in photos)]:
        picture = np.ascontiguousarray(picture[..., :3])
        box = find_face(picture)
        part, place = close_up(picture, box, 0.45)
        known.append(judge.describe(part, place))
        part, place = close_up(picture, box, share)
        assert distance(judge.describe(part, place), known[-1]) < 0.6, "the recogniser knows the sharp face"
        blurred.append(judge.describe(blurred_scene(part), place))
    apart = np.array([[distance(one, other) for other in known] for one in blurred])
    own, others = np.diag(apart), apart[~np.eye(len(apart), dtype=bool)]
    assert own.mean() > others.mean() - 0.1
    assert (apart.argmin(axis=1) == np.arange(len(apart))).sum() <= 2, "no better than by chance"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
def test_nobody_is_recognised_behind_the_hiding_ellipse(seen: tuple[Rgb, Box], share: float) -> None:
    part, box = close_up(*seen, share)
    grown = Box(box.left_px - 0.1 * box.width_px, box.top_px - 0.1 * box.height_px,
                box.right_px + 0.1 * box.width_px, box.bottom_px + 0.1 * box.height_px)  # fmt: skip
    shown = part.copy()
    hide_face(shown, grown)
    assert likeness(shown, part, box) < HIDDEN


def test_hiding_leaves_everything_else_as_it_was(seen: tuple[Rgb, Box]) -> None:
    picture, box = seen
    shown = picture.copy()
    hide_face(shown, box)
    reach_x, reach_y = 0.12 * box.width_px + 1, 0.12 * box.height_px + 1
    rows = slice(max(int(box.top_px - reach_y), 0), int(box.bottom_px + reach_y) + 1)
    columns = slice(max(int(box.left_px - reach_x), 0), int(box.right_px + reach_x) + 1)
    outside = np.ones(picture.shape[:2], bool)
    outside[rows, columns] = False
    np.testing.assert_array_equal(shown[outside], picture[outside])
    assert (shown != picture).any()


@settings(max_examples=60)
@given(st.floats(-90, 90), st.floats(-90, 90), st.floats(0, 150), st.floats(0, 150))
def test_a_box_anywhere_is_hidden_as_far_as_it_is_in_view(left: float, top: float, width: float, height: float) -> None:
    """Its middle, where a face's features are, is even afterwards."""
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    shown = picture.copy()
    hide_face(shown, Box(left, top, left + width, top + height))
    rows = slice(max(int(top + 0.25 * height), 0), max(min(int(top + 0.75 * height), 64), 0))
    columns = slice(max(int(left + 0.25 * width), 0), max(min(int(left + 0.75 * width), 64), 0))
    if shown[rows, columns].size and width > 24 and height > 24 and shown[rows, columns].shape[0] > 4:
        assert np.abs(np.diff(shown[rows, columns].astype(int), axis=0)).mean() < 30


@pytest.mark.parametrize("shape", [(16, 16), (16, 640), (360, 16), (361, 641), (2, 2)])
def test_every_size_comes_back_as_it_was(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    before = picture.copy()
    blurred = blurred_scene(picture)
    assert blurred.shape == picture.shape
    assert blurred.dtype == np.uint8
    np.testing.assert_array_equal(picture, before)


def test_the_blurred_scene_still_shows_day_and_night() -> None:
    bright, dark = np.full((90, 160, 3), 230, np.uint8), np.full((90, 160, 3), 20, np.uint8)
    assert blurred_scene(bright).mean() > blurred_scene(dark).mean() + 60
    assert np.ptp(blurred_scene(bright)) <= 1


def test_a_card_needs_no_frame() -> None:
    plain, told = standby_card(120, 200), standby_card(120, 200, "One moment")
    assert plain.shape == told.shape == (120, 200, 3)
    assert np.abs(plain.astype(int) - told).max() > 50, "the words can be read"
    assert np.ptp(plain.astype(int), axis=1).max() <= 6, "nothing but the invisible mark"
    with pytest.raises(ValueError, match="read-only"):
        plain[0, 0] = 0
    assert standby_card(16, 16, "a long text that does not fit").shape == (16, 16, 3)
