"""Cuts coded pictures into RTP payloads: RFC 7741 (VP8) and RFC 6184 (H.264, packetisation mode 1)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from streamer.transport.types import EncodedUnit

# With 12 of RTP header, about 40 of extensions, 16 of SRTP, 36 of TURN and 48 of IPv6 and UDP: under 1,280.
MOST_BYTES = 1_120
VP8_FIRST, VP8_EXTENDED, VP8_HAS_ID = 0x10, 0x80, 0x80
PICTURE_IDS = 1 << 15
STAP_A, FU_A = 24, 28
FU_START, FU_END = 0x80, 0x40


@dataclass(slots=True)
class Packetiser:
    """One stream's way into packets; remembers VP8's picture number."""

    most_bytes: int = MOST_BYTES
    picture_id: int = field(default_factory=lambda: random.randrange(PICTURE_IDS))

    def payloads(self, unit: EncodedUnit) -> tuple[bytes, ...]:
        """The payloads of one coded picture, in order, at least one, each at most `most_bytes` long."""
        if unit.codec == "VP8":
            self.picture_id = (self.picture_id + 1) % PICTURE_IDS
            return tuple(vp8(unit.payload, self.picture_id, self.most_bytes))
        if unit.codec == "H264":
            return tuple(h264(unit.payload, self.most_bytes))
        raise ValueError(f"{unit.codec} is not sent")


def vp8(frame: bytes, picture_id: int, most_bytes: int) -> Iterator[bytes]:
    """RFC 7741: a descriptor with a 15 bit picture number before each piece; the first one is marked."""
    number = (0x8000 | picture_id).to_bytes(2, "big")
    step = _even_step(len(frame), most_bytes - 4)
    for start in range(0, len(frame), step):
        first = VP8_FIRST if start == 0 else 0
        yield bytes([VP8_EXTENDED | first, VP8_HAS_ID]) + number + frame[start : start + step]


def h264(access_unit: bytes, most_bytes: int) -> Iterator[bytes]:
    """RFC 6184: small units share a packet (STAP-A), large ones are cut (FU-A), others travel alone."""
    together: list[bytes] = []
    size = 1
    for unit in nal_units(access_unit):
        if together and size + 2 + len(unit) > most_bytes:
            yield _together(together)
            together, size = [], 1
        if len(unit) + 3 > most_bytes:
            if together:
                yield _together(together)
                together, size = [], 1
            yield from _cut_nal(unit, most_bytes)
        else:
            together.append(unit)
            size += 2 + len(unit)
    if together:
        yield _together(together)


def nal_units(access_unit: bytes) -> Iterator[bytes]:
    """The units between the start codes of an Annex B stream."""
    start = access_unit.find(b"\0\0\1")
    while start >= 0:
        start += 3
        after = access_unit.find(b"\0\0\1", start)
        unit = access_unit[start : after if after >= 0 else len(access_unit)]
        if after >= 0:
            unit = unit.rstrip(b"\0")  # the first zero of a four byte start code; a unit never ends in a zero
        if unit:
            yield unit
        start = after


def _together(units: list[bytes]) -> bytes:
    if len(units) == 1:
        return units[0]
    importance = max(unit[0] & 0x60 for unit in units)
    return bytes([importance | STAP_A]) + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


def _cut_nal(unit: bytes, most_bytes: int) -> Iterator[bytes]:
    indicator, kind = unit[0] & 0xE0 | FU_A, unit[0] & 0x1F
    step = _even_step(len(unit) - 1, most_bytes - 2)
    for start in range(1, len(unit), step):
        flags = (FU_START if start == 1 else 0) | (FU_END if start + step >= len(unit) else 0)
        yield bytes([indicator, flags | kind]) + unit[start : start + step]


def _even_step(length: int, most: int) -> int:
    """Pieces of about the same length: a last packet of a few bytes costs as much as a full one."""
    return -(-length // -(-length // most)) if length else 1
