"""The look at RTCP packets."""

from __future__ import annotations

from struct import pack

import pytest
from aiortc.rtp import RtcpPacket, RtcpPsfbPacket, RtcpRrPacket, RtcpRtpfbPacket
from hypothesis import given
from hypothesis import strategies as st

from streamer.guards.rtcp import MOST_MESSAGES, MOST_NACK_WORDS, rtcp_fault


def nack(words: int) -> bytes:
    return bytes(RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=2, lost=[17 * number for number in range(words)]))


@pytest.mark.parametrize(
    ("packet", "fault"),
    [
        (bytes(RtcpRrPacket(ssrc=1)) + bytes(RtcpPsfbPacket(fmt=1, ssrc=1, media_ssrc=2)), None),
        (nack(MOST_NACK_WORDS), None),
        (nack(MOST_NACK_WORDS + 1), "nack"),
        (nack(65) + nack(65), "nack"),
        (bytes(RtcpRrPacket(ssrc=1)) * MOST_MESSAGES, None),
        (bytes(RtcpRrPacket(ssrc=1)) * (MOST_MESSAGES + 1), "messages"),
        (b"", "short"),
        (b"\x80\xc9\x00", "short"),
        (b"\x80\xc9\x00\x02" + bytes(4), "length"),
        (b"\x40\xc9\x00\x01" + bytes(4), "length"),
        (pack("!BBH", 0x81, 205, 0), None),
    ],
)
def test_packets(packet: bytes, fault: str | None) -> None:
    assert rtcp_fault(packet) == fault


@given(st.binary(max_size=300))
def test_what_is_refused_for_its_form_aiortc_refuses_too(packet: bytes) -> None:
    if rtcp_fault(packet) == "length":
        with pytest.raises(ValueError, match="RTCP"):
            RtcpPacket.parse(packet)
