"""A session fails closed: whatever happens, no picture shows the raw face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from engines import (
    Box,
    EngineFault,
    Identity,
    Rgb,
    Session,
    SettingError,
    Status,
    SwapSettings,
    Tracking,
    load,
)
from engines.types import Occlusion
from tests.engines.face.heads import DARK_SKIN, identity
from tests.engines.raw_face import HIDDEN, RAW, likeness
from tests.engines.session.steps import FRAME_S, NOBODY, run, seen_by_tracker, statuses


def test_the_measure_would_notice_a_raw_face(frames: Sequence[Rgb], box: Box) -> None:
    """Passthrough fails it, so what passes it shows something else."""
    session = load(SwapSettings(engine="passthrough"))
    for result, frame in zip(run(session, session.init(), frames), frames):
        assert result.status is Status.DRAWN
        assert likeness(result.rgb_HW3, frame, box) > 0.98
    session.close()


def test_before_the_first_drawn_frame_the_scene_is_blurred(session: Session, frames: Sequence[Rgb], box: Box) -> None:
    session.set_identity(cast("Identity", None))  # nobody was chosen yet
    state = session.init()
    for result, frame in zip(run(session, state, frames[:4]), frames):
        assert result.status is Status.WARMING
        assert likeness(result.rgb_HW3, frame, box) < HIDDEN
    session.set_identity(identity(DARK_SKIN))
    assert session.step(state, frames[4], 4 * FRAME_S).status is Status.DRAWN


def test_a_session_that_never_had_an_identity_never_draws(frames: Sequence[Rgb], box: Box) -> None:
    session = load(SwapSettings(engine="proxy", without_face="show"))
    for result, frame in zip(run(session, session.init(), frames[:3]), frames):
        assert result.status is Status.WARMING
        assert likeness(result.rgb_HW3, frame, box) < HIDDEN
    session.close()


def test_a_lost_face_is_held_for_a_moment_and_then_blurred(
    session: Session, frames: Sequence[Rgb], box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tracker loses the face, though it is still there for all to see."""
    state = session.init()
    last = run(session, state, frames[:3])[-1]
    seen_by_tracker(session, monkeypatch, NOBODY)
    drawn_s = 2 * FRAME_S
    for after_ms in (33, 150, 299):
        held = session.step(state, frames[5], drawn_s + after_ms / 1000)
        assert held.status is Status.NO_FACE
        np.testing.assert_array_equal(held.rgb_HW3, last.rgb_HW3)
    for after_ms in (301, 350, 2000, 60_000):
        gone = session.step(state, frames[5], drawn_s + after_ms / 1000)
        assert gone.status is Status.STANDBY
        assert likeness(gone.rgb_HW3, frames[5], box) < HIDDEN
    monkeypatch.undo()
    assert session.step(state, frames[6], drawn_s + 60.1).status is Status.DRAWN


@pytest.mark.parametrize("hold_ms", [0, 100])
def test_it_is_held_no_longer_than_asked(
    session: Session, frames: Sequence[Rgb], monkeypatch: pytest.MonkeyPatch, hold_ms: int
) -> None:
    session.settings = SwapSettings(engine="proxy", hold_ms=hold_ms)
    state = session.init()
    run(session, state, frames[:2])
    seen_by_tracker(session, monkeypatch, NOBODY)
    assert session.step(state, frames[2], FRAME_S + hold_ms / 1000 + 0.001).status is Status.STANDBY


def test_time_that_jumps_back_ends_the_hold(
    session: Session, frames: Sequence[Rgb], box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = session.init()
    run(session, state, frames[:3], since_s=100.0)
    seen_by_tracker(session, monkeypatch, NOBODY)
    result = session.step(state, frames[3], 50.0)
    assert result.status is Status.STANDBY
    assert likeness(result.rgb_HW3, frames[3], box) < HIDDEN
    monkeypatch.undo()
    again = run(session, state, frames[4:8], since_s=50.1)
    assert statuses(again)[-1] is Status.DRAWN
    assert all(likeness(result.rgb_HW3, frame, box) < RAW for result, frame in zip(again, frames[4:8]))


def test_a_covered_face_is_not_drawn_on(
    session: Session, frames: Sequence[Rgb], box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    covered = Occlusion(np.full((80, 80), 255, np.uint8), np.zeros((2, 3), np.float32), 0.9)
    monkeypatch.setattr(session._occluder, "step", lambda *_: covered)
    for result, frame in zip(run(session, session.init(), frames[:3]), frames):
        assert result.status is Status.WARMING
        assert likeness(result.rgb_HW3, frame, box) < HIDDEN


def test_what_is_seen_beside_a_board_is_not_the_raw_face(session: Session, frames: Sequence[Rgb], box: Box) -> None:
    """A grey board rises from the chin over the brows; what is still seen above it must be the other face."""
    state = session.init()
    bottom, height = box.bottom_px + 40, box.bottom_px - box.top_px + 80
    for number in range(20):
        frame = frames[number % len(frames)].copy()
        edge = int(bottom - height * min(1.0, number / 15))
        frame[edge : int(bottom), int(box.left_px) - 50 : int(box.right_px) + 50] = (118, 116, 112)
        result = session.step(state, frame, number * FRAME_S)
        above = Box(box.left_px, box.top_px, box.right_px, min(edge, box.bottom_px))
        if above.height_px > 30:
            assert likeness(result.rgb_HW3, frame, above) < RAW + 0.1, f"{result.status}, board at {number}"


@pytest.mark.parametrize("error", [ValueError("two\nlines"), ZeroDivisionError(), MemoryError(), EngineFault("plain")])
@pytest.mark.parametrize("part", ["_drawer.draw", "_occluder.step", "_tracker.begin", "_tracker.finish"])
def test_whatever_fails_inside_is_an_engine_fault(
    session: Session, frames: Sequence[Rgb], monkeypatch: pytest.MonkeyPatch, error: Exception, part: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    state = session.init()
    session.step(state, frames[0], 0.0)
    which, method = part.split(".")
    monkeypatch.setattr(getattr(session, which), method, fail)
    with pytest.raises(EngineFault) as caught:
        session.step(state, frames[1], FRAME_S)
    assert "\n" not in str(caught.value)
    assert caught.value is error or caught.value.__cause__ is error
    monkeypatch.undo()
    assert session.step(state, frames[2], 2 * FRAME_S).status is Status.DRAWN


def test_a_drawing_that_fails_leaves_no_detector_at_work(
    session: Session, frames: Sequence[Rgb], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They look for bystanders meanwhile: what they find must not be taken for the next picture's."""
    state, looking = session.init(), []
    session.step(state, frames[0], 0.0)
    assert session._tracker is not None
    detector: Any = session._tracker._detector

    def fail(*_: object) -> None:
        looking.append(bool(detector._fed))
        raise EngineFault("no")

    monkeypatch.setattr(session._drawer, "draw", fail)
    for number in range(1, 6):
        with pytest.raises(EngineFault):
            session.step(state, frames[number], number * FRAME_S)
        assert not detector._fed
    assert any(looking)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((48, 64, 3), np.float32),
        np.zeros((48, 64, 3), np.int8),
        np.zeros((48, 64), np.uint8),
        np.zeros((48, 64, 4), np.uint8),
        np.zeros((3, 48, 64), np.uint8),
        np.zeros((1, 48, 64, 3), np.uint8),
        np.zeros((15, 64, 3), np.uint8),
        np.zeros((64, 0, 3), np.uint8),
        np.zeros((16, 8193, 3), np.uint8),
    ],
    ids=lambda frame: f"{frame.dtype}{list(frame.shape)}",
)
def test_what_is_no_picture_is_refused(session: Session, frame: Rgb) -> None:
    with pytest.raises(SettingError, match="a frame must be uint8"):
        session.step(session.init(), frame, 0.0)


def test_an_empty_room_is_shown_only_if_asked_and_only_while_nobody_is_there(
    session: Session, frames: Sequence[Rgb], box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = np.full((360, 640, 3), (120, 110, 100), np.uint8)
    room[200:] = (70, 60, 50)
    monkeypatch.setattr(session, "marker", None)
    assert session.step(session.init(), room, 0.0).status is Status.WARMING
    session.settings = SwapSettings(engine="proxy", without_face="show", label=False)
    state = session.init()
    shown = session.step(state, room, 0.0)
    assert shown.status is Status.DRAWN
    np.testing.assert_array_equal(shown.rgb_HW3, room)
    # somebody is there whom the tracker does not follow: a face that is too unsure, a bystander, one just lost
    for there in (Tracking((), (), 1), Tracking((), (box,), 0), Tracking((), (box,), 1)):
        seen_by_tracker(session, monkeypatch, there)
        result = session.step(session.init(), frames[0], 1.0)
        assert result.status is Status.WARMING
        assert likeness(result.rgb_HW3, frames[0], box) < HIDDEN
    monkeypatch.undo()
    session.set_identity(cast("Identity", None))
    result = session.step(session.init(), frames[0], 0.0)
    assert likeness(result.rgb_HW3, frames[0], box) < HIDDEN


def test_a_picture_that_changes_its_size_keeps_its_promises(session: Session, frames: Sequence[Rgb], box: Box) -> None:
    state = session.init()
    half = [np.array(Image.fromarray(frame).resize((320, 180))) for frame in frames]
    tall = [np.ascontiguousarray(frame[:, 140:500]) for frame in frames]
    small = Box(box.left_px / 2, box.top_px / 2, box.right_px / 2, box.bottom_px / 2)
    cut = Box(box.left_px - 140, box.top_px, box.right_px - 140, box.bottom_px)
    number, status = 0, Status.WARMING
    for pictures, where in ((frames, box), (half, small), (frames, box), (tall, cut), (half, small)):
        for picture in pictures[:4]:
            result = session.step(state, picture, number * FRAME_S)
            number, status = number + 1, result.status
            assert result.rgb_HW3.shape == picture.shape
            assert likeness(result.rgb_HW3, picture, where) < RAW
        assert status is Status.DRAWN, "within four frames"


def test_a_picture_of_another_size_is_not_held(
    session: Session, frames: Sequence[Rgb], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = session.init()
    run(session, state, frames[:2])
    seen_by_tracker(session, monkeypatch, NOBODY)
    small = np.array(Image.fromarray(frames[2]).resize((320, 180)))
    result = session.step(state, small, 2 * FRAME_S)
    assert result.status is Status.STANDBY
    assert result.rgb_HW3.shape == small.shape


def test_the_standby_picture_is_the_scene_blurred(session: Session, frames: Sequence[Rgb], box: Box) -> None:
    picture = session.standby(frames[0])
    assert picture.shape == frames[0].shape
    assert likeness(picture, frames[0], box) < HIDDEN
