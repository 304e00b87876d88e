"""What stands before a face: real hands, things with known outlines, and everything that must not count as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.face.grid import GRID_PX, frame_from_grid, grid_from_frame, to_grid
from engines.face.hand_mask import hand_mask
from engines.face.landmarks import Square
from engines.face.occlusion import Occluder, OcclusionState, face_on_grid
from engines.face.regions_on_grid import components, dilate, erode, grow_alike
from engines.face.track import FaceTracker
from engines.types import Occlusion, Rgb, TrackedFace
from tests.engines.face import things
from tests.engines.face.scenes import clip

FPS = 30.0
places = st.floats(-500, 1500)


class Watch:
    """A tracker and an occluder at work on one clip."""

    def __init__(self) -> None:
        self.tracker, self.occluder = FaceTracker(max_faces=1, follow="one"), Occluder()

    def over(
        self, frames: Iterable[Rgb], state: OcclusionState | None = None
    ) -> Iterator[tuple[TrackedFace, Occlusion]]:
        track, state = self.tracker.init(), state or self.occluder.init()
        for index, rgb in enumerate(frames):
            faces = self.tracker.step(track, rgb, index / FPS).faces
            if faces:
                yield faces[0], self.occluder.step(state, rgb, faces[0], index / FPS)

    def close(self) -> None:
        self.tracker.close()
        self.occluder.close()


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch()
    yield made
    made.close()


@given(places, places, st.floats(10, 900), st.floats(-3.1, 3.1))
def test_the_grid_and_the_frame_undo_each_other(x: float, y: float, size: float, roll: float) -> None:
    square = Square(x, y, size, roll)
    there, back = grid_from_frame(square), frame_from_grid(square)
    cells = np.array([[0, 0], [79, 0], [40, 13]], np.float32)
    assert to_grid(to_grid(cells, back), there) == pytest.approx(cells, abs=0.05)
    middle = np.array([[x, y]], np.float32)
    assert to_grid(middle, there) == pytest.approx(np.full((1, 2), (GRID_PX - 1) / 2), abs=0.05)


@pytest.mark.parametrize("name", ["single_face.mp4", "head-pose-face-detection-male.gif", "asl/asl_no.mkv"])
def test_smiles_blinks_and_head_turns_cover_nothing(shared_data: Path, watch: Watch, name: str) -> None:
    """In asl_no a hand is held beside the face: still nothing is before it."""
    shares = [occlusion.covered_share for _, occlusion in watch.over(clip(shared_data / "clips" / name))]
    assert len(shares) > 50
    assert max(shares) < 0.02


@pytest.mark.parametrize(
    ("name", "before", "during", "after", "least", "most"),
    [
        ("bird", (0, 10), (18, 36), (50, 62), 0.2, 0.5),  # a fist before the mouth
        ("eat", (0, 12), (20, 28), (36, 46), 0.05, 0.2),  # fingers at the lips
        ("brother", (0, 12), (20, 24), (34, 64), 0.08, 0.3),  # a fist at the temple
    ],
)
def test_a_hand_before_the_face_covers_it_while_it_is_there(
    shared_data: Path,
    watch: Watch,
    name: str,
    before: tuple[int, int],
    during: tuple[int, int],
    after: tuple[int, int],
    least: float,
    most: float,
) -> None:
    frames = clip(shared_data / f"clips/asl/asl_{name}.mkv")
    shares = [occlusion.covered_share for _, occlusion in watch.over(frames)]
    assert max(shares[slice(*before)]) == 0
    assert max(shares[slice(*after)]) == 0
    assert least < min(shares[slice(*during)])
    assert max(shares[slice(*during)]) < most


def agreement(
    face: TrackedFace, occlusion: Occlusion, truth: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What was said and what is true, on the face's cells of the grid."""
    _, part = face_on_grid(face.points_px, occlusion.mask_from_frame)
    full = np.vstack((occlusion.mask_from_frame, (0, 0, 1)))
    rows, columns = np.mgrid[:GRID_PX, :GRID_PX]
    x, y, _ = np.linalg.inv(full) @ np.stack((columns.ravel(), rows.ravel(), np.ones(GRID_PX**2)))
    at_y = np.clip(np.round(y).astype(int), 0, truth.shape[0] - 1)
    at_x = np.clip(np.round(x).astype(int), 0, truth.shape[1] - 1)
    return occlusion.covered_HW[part > 0] > 127, truth[at_y, at_x].reshape(part.shape)[part > 0]


@pytest.mark.parametrize(("kind", "least"), [("paper", 0.8), ("cup", 0.75), ("microphone", 0.75), ("hand", 0.6)])
def test_a_thing_that_crosses_the_face_is_outlined(shared_data: Path, watch: Watch, kind: str, least: float) -> None:
    """Intersection over union with the known outline, over all frames in which it covers some of the face."""
    thing = things.hand(shared_data) if kind == "hand" else getattr(things, kind)()
    down_px = 300.0 if kind == "microphone" else 240.0
    pairs = list(things.passing(clip(shared_data / "clips/single_face.mp4"), thing, 25, 50, down_px))
    both = either = false = cells = frames = 0
    for (face, occlusion), (_, truth) in zip(watch.over(frame for frame, _ in pairs), pairs, strict=True):
        said, true = agreement(face, occlusion, truth)
        both, either = both + int((said & true).sum()), either + int((said | true).sum())
        false, cells, frames = false + int((said & ~true).sum()), cells + said.size, frames + 1
    assert frames == 75
    assert both / either > least
    assert false / cells < 0.04


def test_a_face_that_is_mostly_covered_says_so(shared_data: Path, watch: Watch) -> None:
    """Until the tracker loses it (at about 80 %), the share says that there is little left to draw on."""
    frames = [rgb.copy() for rgb in clip(shared_data / "clips/single_face.mp4", 60)]
    for index, rgb in enumerate(frames[20:]):
        rgb[max(320 - 5 * index, 60) : 340, 180:420] = (60, 90, 150)
    shares = [occlusion.covered_share for _, occlusion in watch.over(frames)]
    assert 20 < len(shares) < 60, "the tracker must lose a covered face, and not before it is covered"
    assert max(shares[:20]) == 0
    assert shares[-1] > 0.6


def test_what_was_learned_with_a_thing_before_it_is_corrected_by_the_skin(shared_data: Path, watch: Watch) -> None:
    """A call that starts with a cup before the face: the bare face that comes out must hardly count as foreign, and
    what of it does, its beard, must soon be known."""
    frames = clip(shared_data / "clips/single_face.mp4")
    thing = things.cup()
    started = [thing.over(rgb, 290, 250)[0] for rgb in frames[:30]]
    state = watch.occluder.init()
    seen = list(watch.over([*started, *frames[30:]], state))
    assert max(occlusion.covered_share for _, occlusion in seen[33:]) < 0.07
    later = [
        watch.occluder.step(state, frames[-1], seen[-1][0], len(frames) / FPS + 0.1 * step).covered_share
        for step in range(250)
    ]
    assert later[-1] == 0


def test_a_lamp_that_is_switched_on_covers_nothing_for_long(shared_data: Path, watch: Watch) -> None:
    frames = list(clip(shared_data / "clips/single_face.mp4"))
    for index in range(30, len(frames)):
        frames[index] = np.clip(frames[index] * np.array([1.35, 1.25, 1.1]) + 5, 0, 255).astype(np.uint8)
    shares = [occlusion.covered_share for _, occlusion in watch.over(frames)]
    assert sum(share > 0.02 for share in shares) <= 6


def test_two_people_share_the_palm_detector_but_no_memory(shared_data: Path, watch: Watch) -> None:
    frames = clip(shared_data / "clips/asl/asl_bird.mkv", 30)
    alone = [occlusion.covered_HW for _, occlusion in watch.over(frames)]
    other_face, other_frame = (
        next(watch.over(clip(shared_data / "clips/single_face.mp4", 1)))[0],
        clip(shared_data / "clips/single_face.mp4", 1)[0],
    )
    mine, theirs = watch.occluder.init(), watch.occluder.init()
    track, covered = watch.tracker.init(), []
    for index, rgb in enumerate(frames):
        face = watch.tracker.step(track, rgb, index / FPS).faces[0]
        covered.append(watch.occluder.step(mine, rgb, face, index / FPS).covered_HW)
        assert watch.occluder.step(theirs, other_frame, other_face, index / FPS).covered_share < 0.02
    late = [
        index for index, (a, b) in enumerate(zip(alone, covered, strict=True)) if (a > 127).any() != (b > 127).any()
    ]
    assert len(late) <= 4  # the detector takes turns, so a hand is found a little later
    assert (covered[-1] > 127).mean() == pytest.approx((alone[-1] > 127).mean(), abs=0.05)


def test_a_forgotten_person_does_not_block_the_palm_detector(shared_data: Path, watch: Watch) -> None:
    face, _ = next(watch.over(clip(shared_data / "clips/single_face.mp4", 1)))
    rgb = clip(shared_data / "clips/single_face.mp4", 1)[0]
    watch.occluder.step(watch.occluder.init(), rgb, face, 0.0)  # asks, and never comes back
    state, asked = watch.occluder.init(), 0
    for index in range(60):
        watch.occluder.step(state, rgb, face, index / FPS)
        asked += state.since_palms == 0
    assert asked >= 2


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 0.6))
def test_components_are_apart_and_whole(seed: int, density: float) -> None:
    on = (np.random.default_rng(seed).random((24, 24)) < density).astype(np.uint8)
    labels, count = components(on)
    assert ((labels > 0) == (on > 0)).all()
    assert set(np.unique(labels[labels > 0]).tolist()) == set(range(1, count + 1))
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = labels[: 24 - down, max(-right, 0) : 24 - max(right, 0)]
        there = labels[down:, max(right, 0) : 24 + min(right, 0)]
        both = (here > 0) & (there > 0)
        assert (here[both] == there[both]).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_closing_keeps_what_was_on_and_fills_small_holes(seed: int, radius: int) -> None:
    on = np.zeros((40, 40), np.uint8)
    on[10:30, 10:30] = 255
    on[np.random.default_rng(seed).integers(13, 27), 20] = 0
    closed = erode(dilate(on, radius), radius)
    assert (closed[10:30, 10:30] > 0).all()
    assert (closed[:9] == 0).all()


def test_a_thing_grows_over_its_own_colour_only() -> None:
    colours = np.zeros((30, 30, 3), np.float32)
    colours[:, 15:] = (0.0, 0.4, 0.4)
    thing = np.zeros((30, 30), np.uint8)
    thing[10:14, 5:9] = 255
    grown = grow_alike(thing, colours, np.ones((30, 30), np.uint8), 0.25, 2.0, 40)
    assert (grown[1:29, 1:15] > 0).all()
    assert (grown[:, 15:] == 0).all()
    nothing = np.zeros_like(thing)
    assert np.array_equal(grow_alike(nothing, colours, thing, 0.25, 2.0, 9), nothing)


@given(st.floats(0.5, 2.0), st.floats(-3, 3))
def test_the_hand_mask_turns_and_grows_with_the_hand(scale: float, turn: float) -> None:
    spread = np.zeros((21, 2), np.float32)
    spread[0] = (0, 8)
    for finger in range(5):
        for bone in range(4):
            spread[1 + 4 * finger + bone] = (3 * (finger - 2), -2.0 * bone)
    cos, sin = np.cos(turn), np.sin(turn)
    points = (spread * scale @ np.array([[cos, sin], [-sin, cos]])).astype(np.float32) + np.float32(40)
    mask = hand_mask(points, 80)
    for x, y in points:
        assert mask[round(float(y)), round(float(x))] > 100
    assert 60 * scale**2 < (mask > 127).sum() < 600 * scale**2 + 100
