"""Reports on packets: what is written is read again, what is malformed harms nobody, and what stock aiortc does."""

from __future__ import annotations

import contextlib
import struct

import pytest
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    HeaderExtensions,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtpPacket,
    pack_remb_fci,
    unpack_remb_fci,
)
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.transport.feedback import (
    FEEDBACK_EVERY_S,
    MOST_ARRIVALS,
    MOST_SENT,
    REMB_EVERY_S,
    ArrivalLog,
    ReceiveRate,
    SentLog,
    TolerantRtcp,
    TransportFeedback,
    make_feedback,
    write_transport_feedback,
)

OWN, MEDIA = 11, 22
PLI = bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=OWN, media_ssrc=MEDIA))
# Six packets, of which the third was lost: written by hand after draft-holmer-rmcat-transport-wide-cc-extensions-01.
BY_HAND = bytes.fromhex("afcd0006 0000000b 00000016 ffff 0006 000064 05 d450 0404 04ff 0002".replace(" ", ""))


def read(data: bytes) -> TransportFeedback:
    (packet,) = TolerantRtcp.parse(data)
    assert isinstance(packet, TransportFeedback)
    return packet


def test_a_message_written_by_hand_is_read() -> None:
    feedback = read(BY_HAND)
    assert (feedback.ssrc, feedback.media_ssrc, feedback.count) == (OWN, MEDIA, 5)
    assert [sequence for sequence, _ in feedback.arrivals] == [65_535, 0, 1, 2, 3, 4]
    assert [None if at_s is None else round(at_s - 6.4, 6) for _, at_s in feedback.arrivals] == [
        0.001, 0.002, None, 0.003, 0.06675, None,
    ]  # fmt: skip


def test_stock_aiortc_throws_away_all_that_comes_with_such_a_message() -> None:
    with pytest.raises(ValueError, match="length"):
        RtcpPacket.parse(PLI + BY_HAND)
    assert [type(packet) for packet in TolerantRtcp.parse(PLI + BY_HAND)] == [RtcpPsfbPacket, TransportFeedback]


@given(
    st.lists(st.none() | st.floats(-0.5, 6.0), min_size=1, max_size=300).filter(lambda times: any(times)),
    st.integers(0, 65_535),
    st.floats(100.0, 1e6),
)
@example([None] * 40 + [0.5] + [None] * 30 + [0.6] * 9, 65_530, 500.0)
def test_what_is_written_is_read(offsets_s: list[float | None], base: int, since_s: float) -> None:
    arrivals = [None if offset_s is None else since_s + offset_s for offset_s in offsets_s]
    data = write_transport_feedback(arrivals, base, 300, OWN, MEDIA)
    assert len(data) % 4 == 0
    feedback = read(data)
    assert [sequence for sequence, _ in feedback.arrivals] == [(base + i) % 65_536 for i in range(len(arrivals))]
    reference = int(next(at_s for at_s in arrivals if at_s is not None) / 0.064)
    turns_s = (reference - reference % (1 << 24)) * 0.064
    for (_, seen_s), at_s in zip(feedback.arrivals, arrivals, strict=True):
        assert (seen_s is None) == (at_s is None)
        if seen_s is not None and at_s is not None:
            assert seen_s + turns_s == pytest.approx(at_s, abs=0.000_3)


@given(st.binary(max_size=200))
@example(b"\x8f\xcd\x00\x04" + bytes(16))
@example(b"\xaf\xcd\x00\x00")
def test_no_bytes_do_harm(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        TolerantRtcp.parse(data)


@given(st.data())
def test_a_damaged_message_does_no_harm(data: st.DataObject) -> None:
    whole = bytearray(write_transport_feedback([1.0, None, 1.01, 1.5] * 10, 7, 0, OWN, MEDIA))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(4, len(whole) - 1))] = data.draw(st.integers(0, 255))
    for packet in TolerantRtcp.parse(bytes(whole) + PLI):
        assert isinstance(packet, TransportFeedback | RtcpPsfbPacket)


def test_an_estimate_that_names_more_streams_than_it_has_is_left_out() -> None:
    """Stock aiortc's router raises struct.error on it, which ends the whole call."""
    fci = bytearray(pack_remb_fci(1_000_000, [MEDIA]))
    fci[4] = 200
    damaged = bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=OWN, media_ssrc=0, fci=bytes(fci)))
    with pytest.raises(struct.error):
        unpack_remb_fci(bytes(fci))
    assert len(TolerantRtcp.parse(damaged + PLI)) == 1


def test_a_full_intra_request_reaches_the_stream_that_it_names_inside() -> None:
    fir = bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_FIR, ssrc=OWN, media_ssrc=0, fci=struct.pack("!LL", MEDIA, 0)))
    (packet,) = TolerantRtcp.parse(fir)
    assert isinstance(packet, RtcpPsfbPacket)
    assert packet.media_ssrc == MEDIA


def test_other_messages_are_read_as_before() -> None:
    report = RtcpRrPacket(ssrc=OWN, reports=[RtcpReceiverInfo(MEDIA, 3, 4, 5, 6, 7, 8)])
    assert TolerantRtcp.parse(bytes(report) + PLI) == RtcpPacket.parse(bytes(report) + PLI)


def test_arrivals_are_reported_in_time_once_and_with_what_is_missing() -> None:
    log = ArrivalLog()
    assert log.due_s() is None
    for number, at_s in ((65_534, 5.0), (65_535, 5.001), (1, 5.004), (0, 5.005), (4, 5.020)):
        log.add(number, at_s)
    assert log.due_s() == pytest.approx(5.0 + FEEDBACK_EVERY_S)
    assert log.take(5.05, OWN, MEDIA) == []
    (data,) = log.take(5.081, OWN, MEDIA)
    assert [sequence for sequence, at_s in read(data).arrivals if at_s is not None] == [65_534, 65_535, 0, 1, 4]
    assert [sequence for sequence, at_s in read(data).arrivals if at_s is None] == [2, 3]
    log.add(3, 5.1)  # too late: it was reported as lost
    log.add(5, 5.11)
    assert log.dropped == 1
    (data,) = log.take(6.0, OWN, MEDIA)
    assert [sequence for sequence, _ in read(data).arrivals] == [5]
    assert read(data).count == 1


def test_a_pause_of_minutes_and_a_jump_of_numbers_are_survived() -> None:
    log = ArrivalLog()
    log.add(10, 5.0)
    log.add(11, 300.0)
    assert [len(read(data).arrivals) for data in log.take(301.0, OWN, MEDIA)] == [1, 1]
    log.add(30_000, 302.0)
    (data,) = log.take(303.0, OWN, MEDIA)
    assert [sequence for sequence, _ in read(data).arrivals] == [30_000]


def test_the_arrival_log_is_bounded() -> None:
    log = ArrivalLog()
    for number in range(3 * MOST_ARRIVALS):
        log.add(number, 5.0)
    assert log.dropped == 2 * MOST_ARRIVALS
    messages = log.take(6.0, OWN, MEDIA)
    assert sum(len(read(data).arrivals) for data in messages) == MOST_ARRIVALS


def test_the_receivers_estimate_is_said_twice_a_second_and_at_once_when_it_falls() -> None:
    rate = ReceiveRate()
    assert rate.take(0.0, OWN) is None  # no stream to name
    rate.add(0, 0.0, 1_000, MEDIA)
    assert rate.take(0.0, OWN) is not None
    assert rate.take(0.1, OWN) is None
    rate.cap(300_000)
    (packet,) = TolerantRtcp.parse(rate.take(0.1, OWN) or b"")
    assert isinstance(packet, RtcpPsfbPacket)
    bps, ssrcs = unpack_remb_fci(packet.fci)
    assert (round(bps, -4), ssrcs) == (300_000, [MEDIA])
    assert rate.take(0.1 + REMB_EVERY_S, OWN) is not None
    rate.cap(None)
    assert rate.bps() > 300_000


def test_a_queue_on_the_way_to_us_lowers_the_estimate() -> None:
    """By abs-send-time, whose 24 bits turn over once in 64 seconds."""
    rate = ReceiveRate()
    before_bps = bps = 0
    for index in range(600):
        sent_s = 60.0 + index / 30
        growing_s = max(index - 300, 0) * 0.004
        rate.add(round(sent_s * (1 << 18)) % (1 << 24), sent_s + growing_s, 4_000, MEDIA)
        bps = rate.bps()
        if index == 300:
            before_bps = bps
    assert before_bps > 1_200_000
    assert bps < 0.95 * 960_000


def arrived(number: int | None, send_time: int | None) -> RtpPacket:
    packet = RtpPacket(ssrc=MEDIA, payload=bytes(900))
    packet.extensions = HeaderExtensions(abs_send_time=send_time, transport_sequence_number=number)
    return packet


def test_a_sender_that_numbers_its_packets_gets_reports_on_each_and_no_estimate_of_ours() -> None:
    feedback = make_feedback(lambda: OWN)
    assert feedback.next_s(0.0) is None
    for index in range(30):
        feedback.packet(arrived(index, 40_000 * index), 900, 1.0 + index * 0.1)  # its time on the way grows
    messages = [TolerantRtcp.parse(data)[0] for data in feedback.take(5.0)]
    assert [type(message) for message in messages] == [TransportFeedback, RtcpPsfbPacket]
    assert feedback.bps == 6_000_000
    feedback.cap(250_000)
    assert feedback.bps == 250_000


def test_nothing_is_reported_before_we_have_a_number_of_our_own() -> None:
    feedback = make_feedback(lambda: None)
    feedback.packet(arrived(1, 1), 900, 1.0)
    assert feedback.take(9.0) == []
    assert feedback.next_s(9.0) is not None


def test_each_packets_fate_is_told_once_and_the_log_is_bounded() -> None:
    log = SentLog()
    for number in range(MOST_SENT + 10):
        log.add(number, number / 1_000, 1_000)
    feedback = TransportFeedback(15, OWN, MEDIA, arrivals=[(5, 1.0), (4_000, 9.0), (4_001, None), (60_000, 9.1)])
    fates = log.fates(feedback, 4.2)
    assert [(fate.sent_s, fate.arrived_s) for fate in fates] == [(4.0, 9.0), (4.001, None)]
    assert log.fates(feedback, 4.3) == []
