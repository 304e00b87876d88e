"""Real messages to start from: what a real call sends, taken where it is still, or again, in clear."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from struct import pack
from typing import Any

from aiortc import RTCPeerConnection
from aiortc.rtp import RtcpByePacket, RtcpPsfbPacket, RtcpRtpfbPacket, RtcpSdesPacket, RtcpSourceInfo, is_rtcp
from aiortc.rtp import RtpPacket as Rtp

from tests.attacks import attacker as moves
from tests.streamer.guards.test_sdp import CHROMIUM

MOST_OF_A_KIND = 200


@dataclass
class Corpus:
    """Packets in clear, by kind."""

    sdp: list[str] = field(default_factory=lambda: [CHROMIUM])
    rtp: list[bytes] = field(default_factory=list)
    rtcp: list[bytes] = field(default_factory=list)
    sctp: list[bytes] = field(default_factory=list)
    datagrams: list[bytes] = field(default_factory=lambda: [moves.STRANGERS[name][:1_500] for name in moves.STRANGERS])

    @property
    def candidates(self) -> list[str]:
        return [line[2:] for sdp in self.sdp for line in sdp.splitlines() if line.startswith("a=candidate:")]

    @property
    def fragments(self) -> list[str]:
        wanted = ("a=ice-", "a=candidate", "a=end", "m=", "a=mid")
        return ["\r\n".join(line for line in sdp.splitlines() if line.startswith(wanted)) + "\r\n" for sdp in self.sdp]

    async def listen(self, connection: RTCPeerConnection, for_s: float) -> None:
        """Takes what the connection sends for a while."""
        dtls: Any = connection.getTransceivers()[0].sender.transport
        ice = dtls.transport
        send_rtp, send_data, send = dtls._send_rtp, dtls._send_data, ice._send

        async def on_rtp(data: bytes) -> None:
            keep(self.rtcp if is_rtcp(data) else self.rtp, data)
            await send_rtp(data)

        async def on_data(data: bytes) -> None:
            keep(self.sctp, data)
            await send_data(data)

        async def on_datagram(data: bytes) -> None:
            keep(self.datagrams, data)
            await send(data)

        dtls._send_rtp, dtls._send_data, ice._send = on_rtp, on_data, on_datagram
        await asyncio.sleep(for_s)
        dtls._send_rtp, dtls._send_data, ice._send = send_rtp, send_data, send

    def add_rare_ones(self, video_payload_type: int) -> None:
        """What a short and undisturbed call does not send."""
        self.rtcp += [
            bytes(RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=2, lost=[1, 2, 3, 40, 65_535])),
            bytes(RtcpRtpfbPacket(fmt=15, ssrc=1, media_ssrc=2)) + pack("!HHLHHBB", 1, 3, 0x100, 0x2003, 0xD000, 1, 2),
            bytes(RtcpPsfbPacket(fmt=1, ssrc=1, media_ssrc=2)),
            bytes(RtcpPsfbPacket(fmt=4, ssrc=1, media_ssrc=0, fci=pack("!LL", 2, 1 << 24))),
            bytes(RtcpPsfbPacket(fmt=15, ssrc=1, media_ssrc=0, fci=b"REMB\x01\x10\xff\xff" + pack("!L", 2))),
            bytes(RtcpByePacket(sources=[1, 2])),
            bytes(RtcpSdesPacket(chunks=[RtcpSourceInfo(ssrc=1, items=[(1, b"name")])])),
        ]
        extended = Rtp(payload_type=video_payload_type, ssrc=7, payload=b"\x90\x80\x00\x01" + bytes(20)).serialize()
        self.rtp += [
            bytes([extended[0] | 0x10]) + extended[1:12] + pack("!HH", 0xBEDE, 2) + b"\x10\x30\x22\x01\x02\x03\x00\x00"
        ]
        self.sctp += [
            moves.sctp_packet(0, moves.sctp_chunk(1, pack("!LLHHL", 1, 100_000, 10, 10, 1) + pack("!HH", 0xC000, 4))),
            moves.sctp_packet(0, moves.sctp_chunk(3, pack("!LLHHHHL", 1, 1_000, 1, 1, 2, 3, 9))),
            moves.sctp_packet(0, moves.sctp_chunk(4, pack("!HHL", 1, 8, 5))),
            moves.sctp_packet(0, moves.sctp_chunk(6)),
            moves.sctp_packet(0, moves.sctp_chunk(9, pack("!HHHH", 1, 8, 1, 0))),
            moves.sctp_packet(0, moves.sctp_chunk(7, bytes(4))), moves.sctp_packet(0, moves.sctp_chunk(10, bytes(24))),
            moves.sctp_packet(0, moves.sctp_chunk(130, pack("!HHLLLH", 13, 18, 1, 2, 3, 1))),
            moves.sctp_packet(0, moves.sctp_chunk(192, pack("!LHH", 9, 1, 1))),
            moves.sctp_packet(0, moves.data_chunk(1, 5, pack("!BBHLHH", 3, 0, 0, 0, 1, 0) + b"x", protocol=50)),
        ]  # fmt: skip


def keep(packets: list[bytes], packet: bytes) -> None:
    if len(packets) < MOST_OF_A_KIND:
        packets.append(bytes(packet))
