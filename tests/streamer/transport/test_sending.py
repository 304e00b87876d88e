"""What is decided about packets that leave: their pace, what is sent again, key frames, header extensions."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator

import pytest
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpSendParameters
from aiortc.rtp import RTP_HISTORY_SIZE, unpack_header_extensions

from streamer.transport import extensions
from streamer.transport.extensions import FirstPacket, SendExtensions, header_block
from streamer.transport.history import BURST_S, KEPT_S, MOST_KEPT, History, KeyLimit, SentPacket
from streamer.transport.pacer import LEAST_BURST_BYTES, LONGEST_WAIT_S, MOST_PACKETS, SHORT_WAIT_S, Pacer

PACKET = 1_000


def leave(pacer: Pacer[int], begin_s: float) -> Iterator[tuple[float, int]]:
    """(when, which) until nothing waits."""
    now_s = begin_s
    while True:
        for packet in pacer.due(now_s):
            yield now_s, packet
        next_s = pacer.next_s(now_s)
        if next_s is None:
            return
        assert next_s > now_s
        now_s = next_s


def filled(count: int, bps: int) -> Pacer[int]:
    pacer: Pacer[int] = Pacer(bps)
    pacer.due(0.0)
    pacer.due(1.0)
    for packet in range(count):
        assert pacer.add(packet, PACKET, 1.0)
    return pacer


def test_an_average_picture_leaves_at_once() -> None:
    assert {at_s for at_s, _ in leave(filled(8, 2_000_000), 1.0)} == {1.0}


def test_a_key_frame_is_spread_out_but_does_not_wait_for_long() -> None:
    left = list(leave(filled(60, 2_000_000), 1.0))
    assert [packet for _, packet in left] == list(range(60))
    assert sum(at_s == 1.0 for at_s, _ in left) <= 13
    assert 0.03 < left[-1][0] - 1.0 <= LONGEST_WAIT_S + 0.005
    gaps = [after - before for (before, _), (after, _) in itertools.pairwise(left[13:])]
    assert max(gaps) < 0.01


def test_where_the_link_carries_more_nothing_waits_for_more_than_ten_milliseconds() -> None:
    pacer: Pacer[int] = Pacer(2_000_000, longest_wait_s=SHORT_WAIT_S)
    for packet in range(60):
        pacer.add(packet, PACKET, 1.0)
    assert list(leave(pacer, 1.0))[-1][0] - 1.0 <= SHORT_WAIT_S + 0.003


def test_on_a_slow_link_a_few_packets_leave_at_once() -> None:
    left = list(leave(filled(10, 200_000), 1.0))
    assert sum(at_s == 1.0 for at_s, _ in left) <= LEAST_BURST_BYTES // PACKET + 1
    assert 0.02 < left[-1][0] - 1.0 <= LONGEST_WAIT_S


def test_retransmissions_go_first() -> None:
    pacer = filled(40, 1_000_000)
    gone = len(pacer.due(1.0))
    pacer.add(99, PACKET, 1.001, urgent=True)
    assert [packet for _, packet in leave(pacer, 1.001)][:2] == [99, gone]


def test_the_queue_is_bounded_and_says_how_long_it_is() -> None:
    pacer: Pacer[int] = Pacer(1_000_000)
    for packet in range(MOST_PACKETS):
        assert pacer.add(packet, PACKET, 1.0)
    assert not pacer.add(9, PACKET, 1.0)
    assert (pacer.refused, pacer.waiting) == (1, MOST_PACKETS)
    assert 0 < pacer.wait_s() <= LONGEST_WAIT_S
    pacer.clear()
    assert pacer.wait_s() == 0.0
    assert pacer.next_s(1.0) is None


def sent(sequence: int, at_s: float, size: int = 1_000) -> SentPacket:
    return SentPacket(sequence, 0, 0, bytes(size), [], at_s)


def test_packets_are_kept_for_seconds_where_stock_keeps_128() -> None:
    history = History()
    for index in range(1_000):
        history.keep(sent((65_000 + index) % 65_536, index * 0.002))
    assert RTP_HISTORY_SIZE == 128
    assert history.again(65_000, 4_000_000, 0.2, 2.0) is not None
    assert history.again(65_000 + 65_536 + 900, 4_000_000, 0.2, 2.0) is not None  # as aiortc reads it: not wrapped
    assert history.again(12_345, 4_000_000, 0.2, 2.0) is None
    assert (history.asked, history.unknown) == (3, 1)


def test_the_history_is_bounded_in_number_and_time() -> None:
    history = History()
    for index in range(5_000):
        history.keep(sent(index, index * 1e-4))
    assert len(history) == MOST_KEPT
    history.keep(sent(5_000, 10.0))
    assert len(history) == 1
    assert history.again(5_000, 4_000_000, 0.2, 10.1 + KEPT_S) is None


def test_a_receiver_that_asks_too_often_or_for_too_much_gets_what_the_budget_allows() -> None:
    history = History()
    for index in range(2_000):
        history.keep(sent(index, 1.0))
    assert history.again(7, 1_000_000, 0.1, 1.0) is not None
    assert history.again(7, 1_000_000, 0.1, 1.05) is None  # the first answer is still on its way
    assert history.again(7, 1_000_000, 0.1, 1.09) is not None
    granted = sum(history.again(index, 1_000_000, 0.1, 1.1) is not None for index in range(2_000))
    assert 0 < granted <= BURST_S * 1_000_000 / 8 / 1_000
    later = sum(history.again(index, 1_000_000, 0.1, 2.1) is not None for index in range(2_000))
    assert later <= 0.25 * 1_000_000 / 8 / 1_000 + 1
    assert history.over_budget > 3_000


def test_copies_are_paid_for() -> None:
    once, twice = History(), History()
    for history, copies in ((once, 1), (twice, 2)):
        for index in range(100):
            history.keep(sent(index, 1.0))
        assert sum(history.again(index, 100_000, 0.1, 1.1, copies) is not None for index in range(100)) == 10 // copies


def test_key_frames_are_limited_and_no_request_is_forgotten() -> None:
    limit = KeyLimit()
    assert not limit.due(0.0)
    for index in range(30):
        limit.ask(0.05, 1.0 + index * 1e-3)
    assert limit.due(1.03)
    limit.made(1.03)
    assert not limit.due(1.04)
    limit.ask(0.05, 1.06)  # made before the key frame can have arrived: it is the answer
    assert not limit.due(2.0)
    limit.ask(0.05, 2.0)
    limit.made(2.01)
    limit.ask(0.05, 2.2)  # the key frame was lost as well
    assert not limit.due(2.2)
    assert limit.due(2.32)
    assert (limit.asked, limit.held) == (33, 2)


def test_header_extensions_are_written_as_aiortc_reads_them() -> None:
    uris = (extensions.MID, extensions.ABS_SEND_TIME, extensions.TRANSPORT_SEQUENCE, extensions.ABS_CAPTURE_TIME,
            extensions.PLAYOUT_DELAY)  # fmt: skip
    ids = [RTCRtpHeaderExtensionParameters(id=at + 3, uri=uri) for at, uri in enumerate(uris)]
    agreed = SendExtensions.agreed(RTCRtpSendParameters(headerExtensions=ids))
    assert agreed == SendExtensions(3, 4, 5, 6, 7)
    values = agreed.of_packet(mid=b"0", sent_unix_s=64.0 * 1000 + 0.5, transport_sequence=258)
    block = header_block([*values, *agreed.of_picture(FirstPacket(1_000_000.25, (0, 500)))])
    profile, words = struct.unpack_from("!HH", block)
    assert len(block) == 4 + 4 * words
    found = dict(unpack_header_extensions(profile, block[4:]))
    assert (found[3], found[5], found[7]) == (b"0", b"\x01\x02", bytes([0, 0, 50]))
    assert extensions.read_capture_time(found[6]) == pytest.approx(1_000_000.25, abs=1e-6)
    assert extensions.read_playout_delay(found[7]) == (0, 500)
    assert int.from_bytes(found[4], "big") / (1 << 18) == pytest.approx((extensions.NTP_FROM_UNIX_S + 0.5) % 64)


def test_what_was_not_agreed_is_not_sent() -> None:
    nothing = SendExtensions()
    assert nothing.of_packet(mid=b"0", sent_unix_s=0.0, transport_sequence=1) == []
    assert nothing.of_picture(FirstPacket(1.0, (0, 500))) == []
    assert header_block([]) == b""


def test_values_that_are_not_what_they_claim_are_refused() -> None:
    assert extensions.read_capture_time(b"123") is None
    assert extensions.read_playout_delay(b"12") is None
    with pytest.raises(ValueError, match="cannot be said"):
        extensions.playout_delay(500, 100)
