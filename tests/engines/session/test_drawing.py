"""What a session draws: at once, where the head is now, of any picture, for one call alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from engines import (
    Box,
    Rgb,
    Session,
    Status,
    SwapSettings,
    load,
)
from engines.enrolment import FaceFinder
from engines.face.compose import lay_face
from engines.pixels import resize_area
from tests.engines.raw_face import RAW, likeness
from tests.engines.session.steps import FRAME_S, NOBODY, run, seen_by_tracker

STEADY = [33, 133, 362, 263, 168, 6, 197, 61, 291]  # corners of eyes and mouth, bridge of the nose


def test_a_face_is_swapped_from_the_first_frame_on(session: Session, frames: Sequence[Rgb], box: Box) -> None:
    for result, frame in zip(run(session, session.init(), frames), frames):
        assert result.status is Status.DRAWN
        assert result.faces_found == 1
        assert result.rgb_HW3.shape == frame.shape
        assert likeness(result.rgb_HW3, frame, box) < RAW
        assert set(result.stage_ms) >= {"track", "draw"}
        assert min(result.stage_ms.values()) >= 0


def test_the_drawn_face_does_not_lag_a_head_that_moves(session: Session, frames: Sequence[Rgb], box: Box) -> None:
    """The delay trap: a head that sways by up to 12 px a frame. The drawing must be where the head is now."""
    state, finder, off_px = session.init(), FaceFinder(), []
    for number in range(20):
        frame = np.ascontiguousarray(np.roll(frames[0], round(40 * np.sin(0.3 * number)), axis=1))
        result = session.step(state, frame, number * FRAME_S)
        forwards = np.sign(np.cos(0.3 * number))
        if number >= 3 and abs(np.cos(0.3 * number)) > 0.6:  # while it moves
            head, face = (finder.find(picture)[0].points_px[STEADY, 0].mean() for picture in (frame, result.rgb_HW3))
            off_px.append(float(face - head) * forwards)
    finder.close()
    assert len(off_px) >= 8
    assert np.median(np.abs(off_px)) < 2.5, "a frame of delay is 7 to 12 px"
    assert max(np.abs(off_px)) < 9, "not even where a movement begins, which the filter may take for noise at first"


def test_the_camera_s_picture_is_never_written_to(session: Session, frames: Sequence[Rgb]) -> None:
    given = [frame.copy() for frame in frames[:4]]
    run(session, session.init(), given)
    session.standby(given[0])
    for frame, before in zip(given, frames):
        np.testing.assert_array_equal(frame, before)


def compiled_for() -> list[int]:
    """How many kinds of arguments each of two kernels was compiled for; `signatures` is Numba's."""
    return [len(getattr(one, "signatures")) for one in (lay_face, resize_area)]  # noqa: B009  mypy sees functions


def test_pictures_that_are_locked_or_views_are_drawn_like_any_other(session: Session, frames: Sequence[Rgb]) -> None:
    """Mirrored pictures are views, those out of a buffer are read only. Kernels must not be compiled anew for them."""
    mirrored = [frame[:, ::-1] for frame in frames[:3]]
    locked = [np.ascontiguousarray(view) for view in mirrored]
    for frame in locked:
        frame.flags.writeable = False
    plain = run(session, session.init(), [frame.copy() for frame in locked])
    session.standby(frames[0])
    compiled = compiled_for()
    for given in (mirrored, locked):
        for one, other in zip(run(session, session.init(), given), plain):
            assert one.status is Status.DRAWN
            np.testing.assert_array_equal(one.rgb_HW3, other.rgb_HW3)
            assert one.rgb_HW3.flags.writeable
    session.standby(mirrored[0])
    session.standby(locked[0])
    assert compiled_for() == compiled


def test_what_the_caller_does_to_a_result_changes_no_later_one(
    session: Session, frames: Sequence[Rgb], monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = run(session, session.init(), frames[:4])
    state, spoilt = session.init(), []
    for number, frame in enumerate(frames[:4]):
        result = session.step(state, frame, number * FRAME_S)
        spoilt.append(result.rgb_HW3.copy())
        result.rgb_HW3[:] = 255
    for one, other in zip(clean, spoilt):
        np.testing.assert_array_equal(one.rgb_HW3, other)
    seen_by_tracker(session, monkeypatch, NOBODY)
    for after_s in (0.05, 0.1):
        held = session.step(state, frames[4], 3 * FRAME_S + after_s)
        np.testing.assert_array_equal(held.rgb_HW3, spoilt[-1])
        held.rgb_HW3[:] = 0


def test_two_calls_through_one_session_do_not_see_each_other(session: Session, frames: Sequence[Rgb]) -> None:
    mirrored = [np.ascontiguousarray(frame[:, ::-1]) for frame in frames[:6]]
    apart = [run(session, session.init(), pictures) for pictures in (frames[:6], mirrored)]
    states = [session.init(), session.init()]
    for number in range(6):
        for call, pictures in enumerate((frames[:6], mirrored)):
            result = session.step(states[call], pictures[number], number * FRAME_S)
            np.testing.assert_array_equal(result.rgb_HW3, apart[call][number].rgb_HW3)


def test_a_session_says_which_engine_it_took_and_why(session: Session) -> None:
    automatic = load(SwapSettings())
    assert automatic.engine != "passthrough"
    assert automatic.why.startswith("auto: ")
    automatic.close()
    assert (session.engine, session.why) == ("proxy", "asked for by name")


def test_warming_up_leaves_nothing_behind_and_works_at_the_least_size(session: Session, frames: Sequence[Rgb]) -> None:
    before = run(session, session.init(), frames[:2])
    session.warm_up(16, 16)
    session.warm_up(360, 640)
    after = run(session, session.init(), frames[:2])
    for one, other in zip(before, after):
        np.testing.assert_array_equal(one.rgb_HW3, other.rgb_HW3)
