"""Missing packets are asked for on time, key frames not too often, and round trips and clocks are what they were."""

from __future__ import annotations

import pytest
from aiortc.rtcrtpreceiver import NackGenerator as StockNack
from aiortc.rtp import RtpPacket

from streamer.transport.key_requests import KeyAsker
from streamer.transport.nack import MOST_MISSING, Missing, Wanted, answered_in_s
from streamer.transport.payload import PADDING, read_part
from streamer.transport.round_trip import ASSUMED_S, MOST_S, RoundTrip
from streamer.transport.timeline import Timeline
from streamer.transport.watchdog import Silence, SilenceWatch


def test_a_gap_is_asked_for_at_once_and_again_every_half_round_trip() -> None:
    missing = Missing()
    missing.notice(10, 12, now_s=1.0)
    assert missing.due(1.0, rtt_s=0.1) == [10, 11]
    assert missing.due(1.049, rtt_s=0.1) == []
    assert missing.next_s == pytest.approx(1.05)
    missing.arrived(10, resent=True, now_s=1.05)
    assert missing.due(1.05, rtt_s=0.1) == [11]
    assert missing.requests == 3
    assert missing.arrived(11, resent=True, now_s=1.1) is not None
    assert missing.next_s is None


def test_aiortc_asks_only_when_another_gap_shows() -> None:
    stock = StockNack()
    asked = [stock.add(RtpPacket(sequence_number=number)) for number in (1, 3, 4, 5, 6, 7)]
    assert asked == [False, True, False, False, False, False]


def test_the_list_is_bounded_and_the_oldest_go_first() -> None:
    missing = Missing(most=8)
    missing.notice(0, 100_000, now_s=0.0)
    missing.notice(100_001, 100_004, now_s=0.0)
    assert len(missing) == 8
    assert missing.oldest is not None
    assert missing.oldest[0] == 99_995
    assert len(Missing()._wanted) == 0 < MOST_MISSING


def test_what_nobody_needs_is_not_asked_for() -> None:
    missing = Missing()
    missing.notice(1, 5, now_s=0.0)
    missing.forget_below(4)
    assert missing.due(0.0, 0.05) == [4]
    missing.forget_below(9)
    assert missing.next_s is None


def test_packets_that_overtake_each_other_teach_it_to_wait() -> None:
    missing = Missing()
    missing.notice(1, 2, now_s=0.0)
    missing.arrived(1, resent=False, now_s=0.004)
    missing.notice(5, 6, now_s=1.0)
    assert missing.due(1.0, 0.05) == []
    assert missing.due(1.005, 0.05) == [5]
    for number in range(7, 300, 2):  # it forgets that again
        missing.notice(number, number + 1, now_s=2.0)
    missing.clear()
    missing.notice(400, 401, now_s=3.0)
    assert missing.due(3.0005, 0.05) == [400]


def test_an_answer_measures_the_round_trip_from_the_first_request() -> None:
    assert answered_in_s(Wanted(0, 0, 1, 1.0, 1.0), 1.08) == pytest.approx(0.08)
    assert answered_in_s(Wanted(0, 0, 2, 1.0, 1.05), 1.4) == pytest.approx(0.4)
    assert answered_in_s(Wanted(0, 0, 0), 1.12) is None


def test_an_answer_that_comes_too_late_still_measures_the_round_trip() -> None:
    missing = Missing()
    missing.notice(1, 3, now_s=0.0)
    missing.due(0.0, 0.05)
    missing.forget_below(3)
    wanted = missing.arrived(1, resent=True, now_s=0.4)
    assert wanted is not None
    assert answered_in_s(wanted, 0.4) == pytest.approx(0.4)
    assert missing.arrived(1, resent=True, now_s=0.5) is None


def test_no_more_is_asked_for_than_comes_in() -> None:
    missing = Missing()
    missing.notice(0, 500, now_s=0.0)
    assert len(missing.due(0.0, 0.05)) == 64
    assert missing.held_back == 436
    for number in range(500, 600):
        missing.arrived(number, resent=False, now_s=0.1)
    assert len(missing.due(0.1, 0.05)) == pytest.approx(30, abs=1)


def test_the_round_trip_rises_faster_than_it_falls() -> None:
    trip = RoundTrip()
    assert trip.rtt_s == ASSUMED_S
    trip.add(0.02)
    assert trip.rtt_s == 0.02
    trip.add(0.2)
    high_s = trip.rtt_s
    assert high_s >= 0.1
    trip.add(0.02)
    assert high_s - 0.02 < trip.rtt_s < high_s
    for _ in range(50):
        trip.add(1e9)
    assert trip.rtt_s <= MOST_S


def test_packets_that_wait_in_a_queue_lengthen_the_round_trip_at_once() -> None:
    trip = RoundTrip()
    trip.add(0.05)
    for at in range(100):
        trip.transit(1000.0 + 0.002 * (at % 3), at * 0.01)
    assert trip.rtt_s == pytest.approx(0.05, abs=0.005)
    trip.transit(1000.3, 1.0)
    assert trip.rtt_s == pytest.approx(0.35, abs=0.01)
    trip.transit(1000.0, 1.1)
    assert trip.rtt_s == pytest.approx(0.05, abs=0.005)
    trip.transit(2000.0, 1.2)  # the other clock was set
    assert trip.rtt_s == pytest.approx(1.05)
    for at in range(30):
        trip.transit(2000.0, 2.0 + at)
    assert trip.rtt_s == pytest.approx(0.05)


def test_key_frames_are_asked_for_at_once_then_at_most_every_300_ms_and_ever_less() -> None:
    asker = KeyAsker()
    asked = []
    for ms in range(0, 3000, 10):
        asker.want("lost")  # aiortc sends a request for each of these
        if asker.due(ms / 1e3, arriving=False):
            asked.append(ms)
    assert asked == [0, 300, 750, 1430, 2430]
    asker.got()
    assert not asker.due(10.0, arriving=False)
    asker.want("lost again")
    assert asker.due(10.0, arriving=False)
    assert not asker.due(10.29, arriving=False)


def test_no_key_frame_is_asked_for_while_one_comes_in() -> None:
    asker = KeyAsker()
    asker.want("lost")
    assert asker.due(0.0, arriving=True)  # the first time in any case
    assert not asker.due(0.5, arriving=True)
    assert asker.due(0.5, arriving=False)


def test_a_reason_that_is_gone_is_withdrawn() -> None:
    asker = KeyAsker()
    asker.want("late")
    asker.withdraw("late")
    assert asker.next_s() is None
    asker.want("late")
    asker.want("the decoder failed")
    asker.withdraw("late")
    assert asker.wanted


def test_the_timeline_goes_on_where_a_stream_begins_anew() -> None:
    timeline = Timeline()
    assert [timeline(900 + 3000 * n, n / 30) for n in range(3)] == [900, 3900, 6900]
    assert timeline(2**31, 3 / 30) == 9900
    assert timeline(2**31 + 3000, 4 / 30) == 12900
    assert timeline(2**31 + 3000 + 90_000 * 60, 4 / 30 + 60) == 12900 + 90_000 * 60  # a pause that both share
    assert timeline.leaps == 1


def test_parts_of_vp8() -> None:
    assert read_part("VP8", b"\x10\x00\x9d\x01\x2a").begins_key
    delta = read_part("VP8", b"\x10\x01\x00")
    assert (delta.begins, delta.key, delta.data) == (True, False, b"\x01\x00")
    rest = read_part("VP8", b"\x00\x00\x9d")
    assert (rest.begins, rest.key) == (False, False)
    extended = read_part("VP8", b"\x90\x80\x81\x23\x00")
    assert (extended.begins_key, extended.data) == (True, b"\x00")
    assert not read_part("VP8", b"\x10").key
    assert read_part("VP8", b"") is PADDING
    with pytest.raises(ValueError, match="truncated"):
        read_part("VP8", b"\x90")


def test_parts_of_h264() -> None:
    sps, idr, slice_ = b"\x67\x42\x00\x1f", b"\x65\x88\x84", b"\x41\x9a"
    assert read_part("H264", sps).begins_key
    stap = b"\x78" + len(sps).to_bytes(2, "big") + sps + len(idr).to_bytes(2, "big") + idr
    part = read_part("H264", stap)
    assert part.begins_key
    assert part.data == b"\0\0\0\1" + sps + b"\0\0\0\1" + idr
    first = read_part("H264", b"\x7c\x85\xaa")
    assert (first.begins, first.key, first.data) == (False, True, b"\0\0\0\1\x65\xaa")
    assert read_part("H264", b"\x7c\x05\xbb").data == b"\xbb"
    assert not read_part("H264", slice_).key
    assert read_part("H264", b"\x09\xf0").begins
    for wrong in (b"\x67", b"\x78\xff\xff\x00", b"\x7e\x00"):
        with pytest.raises(ValueError, match=r"too short|truncated|not supported"):
            read_part("H264", wrong)
    with pytest.raises(ValueError, match="nobody"):
        read_part("AV1", b"\x00")


def test_silence_is_noticed_and_named() -> None:
    watch = SilenceWatch(begun_s=0.0, limit_s=5.0)
    assert watch.look(4.9) is None
    assert watch.look(5.0) == Silence("nothing has come from the camera yet", 5.0)
    watch.packet(10.9)
    assert watch.look(11.0) == Silence("packets come from the camera, but no whole picture", 11.0)
    watch.picture(11.0)
    watch.packet(11.0)
    assert watch.look(15.9) is None
    assert watch.look(16.5) == Silence("nothing comes from the camera any more", 5.5)
    assert watch.next_s == 16.0
    watch.packet(17.0)
    watch.picture(17.0)
    assert watch.look(17.0) is None
    assert watch.spells == 2
