"""The queue before the decoder: bounded, and after a loss only a key frame goes on."""

from __future__ import annotations

from streamer.decoding.backlog import MOST_BYTES, MOST_PICTURES, MOST_WAIT_S, Backlog
from streamer.transport.types import CodedPicture


def picture(number: int, is_key: bool = False, at_s: float = 0.0, size: int = 100) -> CodedPicture:
    return CodedPicture("VP8", bytes(size), number, is_key, at_s, at_s)


def test_nothing_is_taken_before_the_first_key_frame() -> None:
    backlog = Backlog()
    assert backlog.add(picture(0), 0.0) is not None
    assert backlog.add(picture(1, True), 0.0) is None
    assert backlog.add(picture(2), 0.0) is None
    first, second, third = backlog.take(), backlog.take(), backlog.take()
    assert first is not None
    assert second is not None
    assert (first.rtp_timestamp, second.rtp_timestamp, third) == (1, 2, None)
    assert backlog.dropped_for_key == 1


def test_full_means_all_of_it_goes_until_a_key_frame() -> None:
    backlog = Backlog()
    asked = [backlog.add(picture(number, number == 0), 0.0) for number in range(MOST_PICTURES + 1)]
    assert [why is not None for why in asked] == [False] * MOST_PICTURES + [True]
    assert len(backlog) == 0
    assert backlog.dropped_full == MOST_PICTURES + 1
    assert backlog.add(picture(99), 0.0) is not None, "worthless without the ones before"
    assert backlog.add(picture(100, True), 0.0) is None
    assert len(backlog) == 1


def test_a_key_frame_overtakes_what_waits() -> None:
    backlog = Backlog()
    for number in range(4):
        backlog.add(picture(number, number in (0, 3)), 0.0)
    taken = backlog.take()
    assert taken is not None
    assert taken.rtp_timestamp == 3
    assert backlog.skipped == 3


def test_what_a_packet_sent_again_sets_free_is_kept() -> None:
    """Twenty pictures that waited for it for 0.7 s come at once: all of them can be decoded, so no key frame is asked
    for (with a round trip of 200 ms that would take longer than decoding all of them)."""
    backlog = Backlog()
    freed = [picture(number, number == 0, at_s=5.0 + number / 30) for number in range(20)]
    assert [backlog.add(one, 5.7) for one in freed] == [None] * 20
    assert [one.rtp_timestamp for one in iter(backlog.take, None)] == list(range(20))


def test_bytes_and_waiting_are_bounded_too() -> None:
    backlog = Backlog()
    backlog.add(picture(0, True, size=MOST_BYTES // 2), 0.0)
    assert backlog.add(picture(1, size=MOST_BYTES // 2 + 1), 0.0) is not None
    backlog.add(picture(2, True, at_s=5.0), 5.0)
    assert backlog.add(picture(3, at_s=5.1), 5.0 + MOST_WAIT_S) is None
    assert backlog.add(picture(4, at_s=5.3), 5.01 + MOST_WAIT_S) is not None
    assert backlog.overflows == 2
    assert backlog.add(picture(5, True, size=MOST_BYTES + 1), 6.0) is not None
    assert backlog.take() is None


def test_after_a_reset_only_a_key_frame_helps() -> None:
    backlog = Backlog()
    backlog.add(picture(0, True), 0.0)
    backlog.reset()
    assert (backlog.take(), backlog.wants_key, backlog.dropped_for_key) == (None, True, 1)
