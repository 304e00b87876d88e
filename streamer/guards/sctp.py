"""A look at an SCTP packet before aiortc parses it.

aiortc 1.16's parser loops for ever, allocating, over a parameter of length 0, walks 65,535 numbers for every gap block
of an acknowledgement, and takes what has no end. One caller could so stop the calls of all. RFC 9260, 3758, 6525.
"""

from __future__ import annotations

from struct import unpack_from

HEADER, CHUNK_HEADER, PARAMETER_HEADER = 12, 4, 4
MOST_CHUNKS = 64
MOST_PARAMETERS = 32
MOST_GAPS = 128
MOST_GAP_SPAN = 4_096  # TSNs after the acknowledged one: far more than we ever have on the way
MOST_STREAM = 1_023  # the highest stream that a browser uses
MOST_SKIPPED = 32  # streams that one FORWARD-TSN names

DATA, INIT, INIT_ACK, SACK, HEARTBEAT, HEARTBEAT_ACK, ABORT, SHUTDOWN, SHUTDOWN_ACK, ERROR = range(10)
COOKIE_ECHO, COOKIE_ACK, SHUTDOWN_COMPLETE = 10, 11, 14
RECONFIG, FORWARD_TSN = 130, 192

LEAST_BODY = {DATA: 13, INIT: 16, INIT_ACK: 16, SACK: 12, SHUTDOWN: 4, FORWARD_TSN: 4}
PARAMETERS_FROM = {INIT: 16, INIT_ACK: 16, HEARTBEAT: 0, HEARTBEAT_ACK: 0, ABORT: 0, ERROR: 0, RECONFIG: 0}
RESET_OUT, RESET_ANSWER, ADD_OUT = 13, 16, 17
LEAST_RECONFIG = {RESET_OUT: 12, RESET_ANSWER: 8, ADD_OUT: 8}


def sctp_fault(packet: bytes) -> str | None:
    """Why the packet must not be parsed, or None where it may be."""
    if len(packet) < HEADER + CHUNK_HEADER:
        return "short"
    at, count = HEADER, 0
    kinds: list[int] = []
    while at <= len(packet) - CHUNK_HEADER:
        kind, _, length = unpack_from("!BBH", packet, at)
        if length < CHUNK_HEADER or at + length > len(packet):
            return "length"
        fault = _chunk_fault(kind, packet[at + CHUNK_HEADER : at + length])
        if fault is not None:
            return fault
        kinds.append(kind)
        at += length + -length % 4
        count += 1
        if count > MOST_CHUNKS:
            return "chunks"
    return "init" if INIT in kinds and len(kinds) > 1 else None


def _chunk_fault(kind: int, body: bytes) -> str | None:
    if len(body) < LEAST_BODY.get(kind, 0):
        return "body"
    if kind == DATA and unpack_from("!H", body, 4)[0] > MOST_STREAM:
        return "stream"
    if kind == SACK:
        return _sack_fault(body)
    if kind == FORWARD_TSN:
        return "skipped" if (len(body) - 4) % 4 or (len(body) - 4) // 4 > MOST_SKIPPED else _skipped_fault(body)
    if kind in PARAMETERS_FROM:
        return _parameters_fault(kind, body, PARAMETERS_FROM[kind])
    return None


def _sack_fault(body: bytes) -> str | None:
    gaps, duplicates = unpack_from("!HH", body, 8)
    if gaps > MOST_GAPS or len(body) < 12 + 4 * (gaps + duplicates):
        return "sack"
    for at in range(12, 12 + 4 * gaps, 4):
        first, last = unpack_from("!HH", body, at)
        if not 0 < first <= last <= MOST_GAP_SPAN:
            return "sack"
    return None


def _skipped_fault(body: bytes) -> str | None:
    streams = (unpack_from("!H", body, at)[0] for at in range(4, len(body), 4))
    return "stream" if any(stream > MOST_STREAM for stream in streams) else None


def _parameters_fault(kind: int, body: bytes, at: int) -> str | None:
    count = 0
    while at <= len(body) - PARAMETER_HEADER:
        name, length = unpack_from("!HH", body, at)
        if length < PARAMETER_HEADER or at + length > len(body):
            return "parameter"
        if kind == RECONFIG and length - PARAMETER_HEADER < LEAST_RECONFIG.get(name, 0):
            return "parameter"
        if kind == RECONFIG and name == RESET_OUT and length % 2:
            return "parameter"
        at += length + -length % 4
        count += 1
        if count > MOST_PARAMETERS:
            return "parameters"
    return None
