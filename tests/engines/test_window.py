"""Which frame lies in which slot, said once in arithmetic and once by playing it through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.window import Window, recent_order, recent_slot

WINDOWS = st.integers(1, 12).flatmap(
    lambda frames: st.builds(Window, st.just(frames), st.integers(0, max(frames - 2, 0)))
)


def played(window: Window, frames: int) -> list[int]:
    """What the slots hold after `frames` frames, by writing them one by one."""
    slots = [-1] * window.slots
    for frame in range(frames):
        if window.slots:
            slots[window.slot_of(frame)] = frame
    return slots


@given(WINDOWS, st.integers(0, 60))
def test_slots_hold_what_was_written(window: Window, frame: int) -> None:
    assert window.frames_in(frame).tolist() == played(window, frame)


@given(WINDOWS, st.integers(0, 60))
def test_sinks_stay_and_the_rest_are_the_newest(window: Window, frame: int) -> None:
    held = window.frames_in(frame)
    rolling = window.slots - window.sinks
    first = set(range(min(window.sinks, frame)))
    newest = set(range(max(frame - rolling, min(window.sinks, frame)), frame))
    assert set(held[held >= 0]) == first | newest


@given(WINDOWS, st.integers(0, 60))
def test_positions_count_up_to_the_present_and_are_all_different(window: Window, frame: int) -> None:
    held, positions, bias = window.frames_in(frame), window.positions(frame), window.bias(frame)
    filled = held >= 0
    assert (bias[filled] == 0).all()
    assert np.isneginf(bias[~filled]).all()
    assert len(set(positions[filled])) == filled.sum()
    by_frame = positions[filled][np.argsort(held[filled])]
    assert (np.diff(by_frame) > 0).all(), "an older frame must stand before a newer one"
    if filled.any():
        assert by_frame[-1] == window.frames - 2, "the frame before this one stands right before it"
        assert by_frame[0] >= 0


def test_a_sink_never_leaves_its_own_number() -> None:
    assert Window(8, 2).positions(1000).tolist()[:2] == [0, 1]
    assert Window(8, 2).positions(3).tolist()[:3] == [4, 5, 6]


@given(WINDOWS, st.integers(1, 40))
def test_a_whole_sequence_sees_what_a_stream_sees(window: Window, frames: int) -> None:
    positions, bias = window.seen(frames)
    for frame in range(frames):
        held = window.frames_in(frame)
        seen = {int(past): int(position) for past, position in zip(held, window.positions(frame)) if past >= 0}
        assert {s: int(positions[frame, s]) for s in range(frames) if bias[frame, s] == 0} == seen
        assert np.isneginf(bias[frame, frame:]).all()


def test_a_window_of_one_frame_keeps_nothing() -> None:
    window = Window(1, 0)
    assert window.slot_of(5) == -1
    assert window.frames_in(5).shape == window.positions(5).shape == window.bias(5).shape == (0,)


@pytest.mark.parametrize(("frames", "sinks"), [(0, 0), (4, -1), (4, 3), (2, 1), (1, 1)])
def test_impossible_windows_are_refused(frames: int, sinks: int) -> None:
    with pytest.raises(ValueError, match=r"sinks|frames"):
        Window(frames, sinks)


@given(st.integers(1, 5), st.integers(0, 50))
def test_the_plain_ring_orders_its_slots_from_old_to_new(slots: int, frame: int) -> None:
    held = [-1] * slots
    for past in range(frame):
        held[recent_slot(past, slots)] = past
    in_order = [held[slot] for slot in recent_order(frame, slots)]
    known = [past for past in in_order if past >= 0]
    assert known == sorted(known) == list(range(max(frame - slots, 0), frame))
    assert recent_order(frame, slots)[0] == recent_slot(frame, slots), "the oldest gives way"
