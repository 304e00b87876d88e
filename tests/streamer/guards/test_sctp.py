"""The look at SCTP packets: all that a browser and aiortc send passes, what aiortc's parser cannot bear does not."""

from __future__ import annotations

from struct import pack

import pytest
from aiortc import rtcsctptransport as sctp
from google_crc32c import value as crc32c
from hypothesis import given
from hypothesis import strategies as st

from streamer.guards.sctp import MOST_GAPS, sctp_fault

HEADER = pack("!HHLL", 5000, 5000, 0, 0)


def packet(*chunks: bytes) -> bytes:
    return HEADER + b"".join(chunks)


def chunk(kind: int, body: bytes = b"", length: int | None = None) -> bytes:
    return pack("!BBH", kind, 0, 4 + len(body) if length is None else length) + body + bytes(-len(body) % 4)


def parameter(name: int, value: bytes = b"", length: int | None = None) -> bytes:
    return pack("!HH", name, 4 + len(value) if length is None else length) + value + bytes(-len(value) % 4)


def sack(gaps: list[tuple[int, int]], duplicates: int = 0, said: int | None = None) -> bytes:
    body = pack("!LLHH", 1, 1_000, len(gaps) if said is None else said, duplicates)
    return chunk(3, body + b"".join(pack("!HH", *gap) for gap in gaps) + bytes(4 * duplicates))


def forward(*streams: int) -> bytes:
    return chunk(192, pack("!L", 7) + b"".join(pack("!HH", stream, 0) for stream in streams))


INIT = pack("!LLHHL", 1, 1_000_000, 65535, 65535, 1)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "short"),
        (HEADER, "short"),
        (packet(chunk(11)), None),
        (packet(chunk(11, length=0)), "length"),
        (packet(chunk(11, length=3)), "length"),
        (packet(chunk(11, length=100)), "length"),
        (packet(chunk(99, b"unknown")), None),
        (packet(chunk(4, parameter(1, b"beat"))), None),
        (packet(chunk(4, parameter(1, b"", length=0))), "parameter"),
        (packet(chunk(6, parameter(1, b"", length=3))), "parameter"),
        (packet(chunk(9, parameter(1, b"", length=9))), "parameter"),
        (packet(chunk(4, parameter(1) * 33)), "parameters"),
        (packet(chunk(1, INIT + parameter(0x8008, b"\x82\xc0"))), None),
        (packet(chunk(1, INIT + parameter(0x8008, b"", length=0))), "parameter"),
        (packet(chunk(1, INIT[:-1])), "body"),
        (packet(chunk(1, INIT), chunk(11)), "init"),
        (packet(chunk(11), chunk(1, INIT)), "init"),
        (packet(chunk(0, pack("!LHHL", 1, 0, 0, 51) + b"x")), None),
        (packet(chunk(0, pack("!LHHL", 1, 0, 0, 51))), "body"),
        (packet(chunk(0, pack("!LHHL", 1, 1_024, 0, 51) + b"x")), "stream"),
        (packet(sack([])), None),
        (packet(sack([(2, 3), (5, 5)], 3)), None),
        (packet(sack([(2, 3)], said=2)), "sack"),
        (packet(sack([(3, 2)])), "sack"),
        (packet(sack([(0, 2)])), "sack"),
        (packet(sack([(1, 65_535)])), "sack"),
        (packet(sack([(2, 2)] * (MOST_GAPS + 1))), "sack"),
        (packet(chunk(3, b"short")), "body"),
        (packet(forward()), None),
        (packet(forward(1, 2)), None),
        (packet(forward(5_000)), "stream"),
        (packet(forward(*range(33))), "skipped"),
        (packet(chunk(192, pack("!LH", 7, 1))), "skipped"),
        (packet(chunk(7)), "body"),
        (packet(chunk(130, parameter(13, pack("!LLLH", 1, 2, 3, 4)))), None),
        (packet(chunk(130, parameter(13, pack("!LL", 1, 2)))), "parameter"),
        (packet(chunk(130, parameter(13, pack("!LLL", 1, 2, 3) + b"x"))), "parameter"),
        (packet(chunk(130, parameter(16, b"1234"))), "parameter"),
        (packet(*[chunk(11)] * 65), "chunks"),
    ],
)
def test_packets(data: bytes, fault: str | None) -> None:
    assert sctp_fault(data) == fault


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=60), st.integers(0, 80) | st.none()), max_size=6))
def test_what_passes_is_parsed_by_aiortc_in_no_time_and_without_anything_but_its_own_error(
    parts: list[tuple[int, bytes, int | None]],
) -> None:
    data = packet(*(chunk(*part) for part in parts))
    if sctp_fault(data) is not None:
        return
    checksum = crc32c(data[:8] + bytes(4) + data[12:])
    sctp.parse_packet(data[:8] + pack("<L", checksum) + data[12:])


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    sctp_fault(data)
    sctp_fault(HEADER + data)
