"""What makes the tracker look for newcomers, and what it takes for one at an edge of the picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines.face.detect import Detection
from engines.face.edges import Window, cut_out, put_back, windows
from engines.face.motion import COLUMNS, ROWS, cells_in, changed, fine_thumbnail, stirs
from engines.face.track import FaceTracker
from engines.types import Box, Tracking
from tests.engines.face.scenes import clip

FRAME_S = 1 / 30


@pytest.fixture(scope="module")
def one() -> Iterator[FaceTracker]:
    tracker = FaceTracker(max_faces=1, follow="one")
    yield tracker
    tracker.close()


def test_noise_and_light_are_no_motion_but_a_small_thing_is() -> None:
    random = np.random.default_rng(5)
    room = random.integers(40, 200, (480, 640, 3)).astype(np.float32)
    noisy = [np.clip(room + random.normal(0, 6, room.shape), 0, 255).astype(np.uint8) for _ in range(2)]
    assert not stirs(changed(fine_thumbnail(noisy[0]), fine_thumbnail(noisy[1])))
    lighter = np.clip(noisy[1].astype(int) + 12, 0, 255).astype(np.uint8)
    assert not stirs(changed(fine_thumbnail(noisy[0]), fine_thumbnail(lighter)))
    noisy[1][200:240, 300:330] //= 3
    moving = changed(fine_thumbnail(noisy[0]), fine_thumbnail(noisy[1]))
    assert stirs(moving)
    assert not stirs(moving & ~cells_in([Box(295, 195, 335, 245)], 480, 640))


def test_cells_of_a_box_over_the_edge_are_those_inside() -> None:
    assert cells_in([Box(-50, -50, -9, -9)], 480, 640).sum() == 0
    assert cells_in([Box(-50, -50, 8, 8)], 480, 640).sum() == 4
    assert cells_in([Box(-9, -9, 700, 500)], 480, 640).all()


@pytest.mark.parametrize("edge", ["left", "right"])
def test_a_window_goes_there_and_back(edge: str) -> None:
    """What is found in a window lies where it is in the picture; what only the mirror shows is nothing."""
    picture = np.random.default_rng(2).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    moving = np.zeros((ROWS, COLUMNS), np.bool_)
    moving[20:40, :3] = moving[20:40, -3:] = True
    for window in windows(moving, 480, 640, "left" if edge == "left" else "right"):
        piece = cut_out(picture, window)
        assert piece.shape[:2] == window.shape_px
        assert window.top_px <= 20 * 8 < window.top_px + window.side_px
        x_px = window.margin_px + 12 if edge == "left" else window.side_px - 40
        back = put_back(Detection(Box(x_px, 50, x_px + 20, 70), (x_px, 55), (x_px + 9, 55), 0.9), window, 640)
        assert back is not None
        box = back.box_px
        np.testing.assert_array_equal(
            picture[int(box.top_px) : int(box.bottom_px), int(box.left_px) : int(box.right_px)],
            piece[50:70, x_px : x_px + 20],
        )
        mirrored_px = 5 if edge == "left" else window.side_px + 20
        mirrored = Detection(Box(mirrored_px, 50, mirrored_px + 20, 70), (0, 0), (0, 0), 0.9)
        assert put_back(mirrored, window, 640) is None


def test_nobody_looks_at_an_edge_where_all_is_still_or_at_a_tiny_picture() -> None:
    moving = np.zeros((ROWS, COLUMNS), np.bool_)
    moving[:, 20:60] = True
    assert windows(moving, 480, 640, "left") == ()
    assert windows(~moving, 48, 64, "left") == ()
    assert windows(~moving, 480, 640, "left") == (Window("left", 0, 240), Window("left", 0, 480))


def test_hands_are_rarely_taken_for_newcomers(shared_data: Path, one: FaceTracker) -> None:
    """Signers, whose hands move all the time: something was hidden in 4 of 921 frames, by a weak detection."""
    found: list[Tracking] = []
    for name in ("again", "bird", "help", "no"):
        state = one.init()
        pictures = clip(shared_data / "clips" / "asl" / f"asl_{name}.mkv", 80)
        found += [one.step(state, picture, number * FRAME_S) for number, picture in enumerate(pictures)]
    assert sum(bool(each.bystanders_px) for each in found) <= 0.02 * len(found)


def test_another_picture_size_is_a_break(shared_data: Path, one: FaceTracker) -> None:
    """The same scene, so no cut by its looks: nobody is looked for where they were in the other size."""
    frame = clip(shared_data / "clips" / "single_face.mp4", 3)[0]
    small = np.ascontiguousarray(frame[::2, ::2])
    state = one.init()
    before = one.step(state, frame, 0.0).faces[0]
    after = one.step(state, small, FRAME_S)
    assert [face.person for face in after.faces] == [before.person], "found again in the same frame"
    assert np.abs(after.faces[0].raw_px[:, :2] - before.raw_px[:, :2] / 2).max() < 6
    assert np.abs(after.faces[0].points_px - after.faces[0].raw_px).max() < 1e-3, "the filter starts anew"
    assert after.bystanders_px == ()
