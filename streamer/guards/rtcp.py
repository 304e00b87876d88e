"""A look at RTCP in clear before it is parsed: what one packet may ask for. RFC 3550, 4585."""

from __future__ import annotations

from struct import unpack_from

MOST_MESSAGES = 32
MOST_NACK_WORDS = 128  # each names up to 17 packets, and is looked up packet by packet
HEADER = 4
RTPFB, NACK = 205, 1
UNIT_BYTES = 100


def rtcp_fault(packet: bytes) -> str | None:
    """Why the packet must not be parsed, or None where it may be."""
    at, messages, words = 0, 0, 0
    while at < len(packet):
        if len(packet) < at + HEADER:
            return "short"
        first, kind, length = unpack_from("!BBH", packet, at)
        if first >> 6 != 2 or len(packet) < at + HEADER + 4 * length:
            return "length"
        messages += 1
        if kind == RTPFB and first & 31 == NACK:
            words += max(0, length - 2)
        if messages > MOST_MESSAGES or words > MOST_NACK_WORDS:
            return "messages" if messages > MOST_MESSAGES else "nack"
        at += HEADER + 4 * length
    return None if messages else "short"


def cost(packet: bytes) -> float:
    """How much of a call's allowance of RTCP the packet takes."""
    return 1 + len(packet) / UNIT_BYTES
