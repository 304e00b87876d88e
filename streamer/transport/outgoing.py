"""One packet on its way out: what the pacer holds, how large it is on the line, and its RTP header."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from streamer.transport.history import SentPacket
from streamer.transport.types import EncodedPicture

PACKET_OVERHEAD_BYTES = 44  # SRTP 16, UDP 8, IPv4 20: what the link carries beside the RTP packet
HEADER_BYTES = 12


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One packet in the pacer. `last_of`: the picture that is out with it. `again`: as a retransmission."""

    packet: SentPacket
    last_of: EncodedPicture | None = None
    again: bool = False

    @property
    def size_bytes(self) -> int:
        return len(self.packet.payload) + HEADER_BYTES + PACKET_OVERHEAD_BYTES


def rtp_header(*, payload_type: int, marker: int, sequence: int, timestamp: int, ssrc: int, extension: bytes) -> bytes:
    first = 0x90 if extension else 0x80
    return struct.pack("!BBHLL", first, marker << 7 | payload_type, sequence, timestamp, ssrc) + extension
