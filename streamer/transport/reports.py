"""What a sender tells of itself (RTCP sender reports), and what the reports that answer it mean. Arithmetic only."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from aiortc.rtp import (
    AnyRtcpPacket,
    RtcpReceiverInfo,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
)

from streamer.transport.extensions import ntp
from streamer.transport.types import RTP_CLOCK_HZ

MOST_REPORTS = 8  # of ours that an answer may refer to
MOST_EXPECTED = 10_000  # packets between two answers


@dataclass(frozen=True, slots=True)
class Answered:
    """What the other side's report says."""

    rtt_s: float | None  # None where it answers none of ours
    loss: float  # 0..1, since its report before
    expected: int  # packets, since its report before


class SenderReports:
    """Both directions of one sender's reports."""

    def __init__(self) -> None:
        self._made: deque[tuple[int, float]] = deque(maxlen=MOST_REPORTS)  # (middle of its NTP time, when)
        self._last: tuple[int, float] | None = None  # packet sent: (RTP timestamp, unix seconds)
        self._highest: int | None = None

    def sent(self, rtp_timestamp: int, unix_s: float) -> None:
        """A packet has left."""
        self._last = (rtp_timestamp, unix_s)

    def make(
        self, ssrc: int, cname: str | None, packets: int, octets: int, now_s: float, unix_s: float
    ) -> list[AnyRtcpPacket]:
        """Which moment of the wall clock the RTP clock stands for: the other side plays sound and picture by it.
        Nothing before the first packet."""
        if self._last is None:
            return []
        timestamp, sent_unix_s = self._last
        now_ntp = ntp(unix_s)
        elapsed = round((unix_s - sent_unix_s) * RTP_CLOCK_HZ)
        info = RtcpSenderInfo(
            ntp_timestamp=now_ntp,
            rtp_timestamp=(timestamp + elapsed) % (1 << 32),
            packet_count=packets % (1 << 32),
            octet_count=octets % (1 << 32),
        )
        report: list[AnyRtcpPacket] = [RtcpSrPacket(ssrc=ssrc, sender_info=info)]
        if cname is not None:
            source = RtcpSourceInfo(ssrc=ssrc, items=[(1, cname.encode("utf-8"))])
            report.append(RtcpSdesPacket(chunks=[source]))
        self._made.append(((now_ntp >> 16) & 0xFFFF_FFFF, now_s))
        return report

    def answered(self, report: RtcpReceiverInfo, now_s: float) -> Answered:
        """The other side's report on this sender's packets."""
        sent_s = next((at_s for middle, at_s in self._made if middle == report.lsr), None)
        rtt_s = now_s - sent_s - report.dlsr / 65_536 if sent_s is not None and report.dlsr else None
        before, self._highest = self._highest, report.highest_sequence
        expected = 0 if before is None else max(report.highest_sequence - before, 0)
        return Answered(rtt_s, report.fraction_lost / 256, min(expected, MOST_EXPECTED))
