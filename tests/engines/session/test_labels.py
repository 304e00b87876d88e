"""The label and the invisible mark are on every kind of picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from engines import (
    Box,
    Rgb,
    Session,
    Status,
    StepResult,
    SwapSettings,
    Tracking,
    detect_mark,
)
from tests.engines.session.steps import FRAME_S, NOBODY, run, seen_by_tracker, statuses


def labelled(session: Session, result: StepResult) -> bool:
    """Whether the same step without a label differs in the upper right corner."""
    height, width = result.rgb_HW3.shape[:2]
    corner = result.rgb_HW3[: height // 8, width // 2 :]
    return bool((corner.min(axis=2) > 240).sum() > 20)


def test_the_label_is_on_every_kind_of_picture_unless_it_was_switched_off(
    session: Session, frames: Sequence[Rgb], monkeypatch: pytest.MonkeyPatch
) -> None:
    dark = [(frame * 0.6).astype(np.uint8) for frame in frames[:3]]  # nothing else is white
    for label in (True, False):
        monkeypatch.undo()
        session.settings = SwapSettings(engine="proxy", label=label)
        state = session.init()
        results = run(session, state, dark)
        seen_by_tracker(session, monkeypatch, NOBODY)
        results += [session.step(state, dark[0], 2 * FRAME_S + after_s) for after_s in (0.1, 9.0)]
        assert set(statuses(results)) == {Status.DRAWN, Status.NO_FACE, Status.STANDBY}
        assert [labelled(session, result) for result in results] == [label] * len(results)
        assert labelled(session, replace(results[0], rgb_HW3=session.standby(dark[0]))) == label
    assert SwapSettings().label, "by default"


def test_the_invisible_mark_is_on_every_kind_of_picture_whatever_the_settings(
    session: Session, frames: Sequence[Rgb], monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in (True, False):
        monkeypatch.undo()
        session.settings = SwapSettings(engine="proxy", label=label, label_off_reason="a test")
        state = session.init()
        results = run(session, state, frames[:2])
        seen_by_tracker(session, monkeypatch, NOBODY)
        results.append(session.step(state, frames[2], 0.1))
        results.append(session.step(session.init(), frames[2], 0.1))
        assert [result.status for result in results[1:]] == [Status.DRAWN, Status.NO_FACE, Status.WARMING]
        pictures = [*(result.rgb_HW3 for result in results), session.standby(frames[0])]
        assert session.marker is not None
        for picture in pictures:
            found = detect_mark([picture], search=False)
            assert found.marked
            assert found.payload == session.marker.payload


def test_a_call_that_goes_on_past_midnight_is_marked_with_the_new_day(frames: Sequence[Rgb]) -> None:
    clock = [date(2026, 11, 24)]
    session = Session(SwapSettings(engine="passthrough"), today=lambda: clock[0])
    state = session.init()
    assert session.marker is not None
    instance, days, markers = session.marker.payload.instance, [], set()
    for number, picture in enumerate(frames[:4]):
        clock[0] = date(2026, 11, 24 + number // 2)
        result = session.step(state, picture, number / 30).rgb_HW3 if number < 3 else session.standby(picture)
        payload = detect_mark([result], search=False).payload
        assert payload is not None
        assert payload.instance == instance
        days.append(payload.date.day)
        markers.add(id(session.marker))
    assert days == [24, 24, 25, 25]
    assert len(markers) == 2, "one for each day"


def test_the_label_gets_out_of_the_way_of_a_face(
    session: Session, frames: Sequence[Rgb], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = session.init()
    run(session, state, frames[:1])
    corners: list[str] = [state.label_corner]
    height, width = frames[0].shape[:2]
    seen_by_tracker(session, monkeypatch, Tracking((), (Box(width * 0.6, 0, width, height * 0.5),), 0))
    session.step(state, frames[1], FRAME_S)
    assert [*corners, state.label_corner] == ["upper right", "upper left"]
