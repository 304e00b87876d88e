"""What reports say of the clock, the way and the loss. No clock, no socket."""

from __future__ import annotations

import pytest
from aiortc.rtp import RtcpReceiverInfo, RtcpSdesPacket, RtcpSrPacket

from streamer.transport.reports import MOST_REPORTS, SenderReports

UNIX_S = 1_700_000_000.0


def made(reports: SenderReports, now_s: float) -> RtcpSrPacket:
    report, names = reports.make(7, "us", 10, 1_000, now_s, UNIX_S + now_s)
    assert isinstance(report, RtcpSrPacket)
    assert isinstance(names, RtcpSdesPacket)
    return report


def answer(lsr: int, dlsr_s: float, highest: int = 100, lost: int = 0) -> RtcpReceiverInfo:
    return RtcpReceiverInfo(
        ssrc=7, fraction_lost=lost, packets_lost=0, highest_sequence=highest, jitter=0, lsr=lsr,
        dlsr=round(dlsr_s * 65_536),
    )  # fmt: skip


def test_nothing_is_said_before_the_first_packet() -> None:
    assert SenderReports().make(7, "us", 0, 0, 0.0, UNIX_S) == []


def test_the_rtp_clock_is_told_for_now_and_not_for_the_packet() -> None:
    reports = SenderReports()
    reports.sent(2**32 - 45_000, UNIX_S)
    info = made(reports, 2.0).sender_info
    assert info.rtp_timestamp == 135_000  # half a second before the wrap, two seconds later
    assert (info.packet_count, info.octet_count) == (10, 1_000)


def test_a_round_trip_is_what_the_other_side_did_not_wait() -> None:
    reports = SenderReports()
    reports.sent(0, UNIX_S)
    lsr = made(reports, 1.0).sender_info.ntp_timestamp >> 16 & 0xFFFF_FFFF
    answered = reports.answered(answer(lsr, 0.25, lost=64), 1.33)
    assert answered.rtt_s == pytest.approx(0.08, abs=1e-3)
    assert answered.loss == 0.25


def test_an_answer_to_nothing_of_ours_says_nothing_of_the_way() -> None:
    reports = SenderReports()
    reports.sent(0, UNIX_S)
    first = made(reports, 1.0).sender_info.ntp_timestamp >> 16 & 0xFFFF_FFFF
    assert reports.answered(answer(first + 1, 0.25), 2.0).rtt_s is None
    assert reports.answered(answer(first, 0.0), 2.0).rtt_s is None
    for later in range(MOST_REPORTS):
        made(reports, 2.0 + later)
    assert reports.answered(answer(first, 0.25), 20.0).rtt_s is None  # too long ago to be remembered


def test_packets_are_counted_from_answer_to_answer() -> None:
    reports = SenderReports()
    expected = [reports.answered(answer(0, 0.0, highest), 1.0).expected for highest in (1_000, 1_150, 1_100, 2**31)]
    assert expected == [0, 150, 0, 10_000]
