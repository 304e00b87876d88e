"""What receivers tell senders about packets, in RTCP: transport-wide feedback and REMB, written and read.

aiortc writes REMB only, and throws a whole RTCP datagram away when a transport-wide feedback is in it.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import aiortc.rtcdtlstransport
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_RTPFB,
    AnyRtcpPacket,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    RtpPacket,
    pack_remb_fci,
    unpack_remb_fci,
)

from streamer.transport.changes import Changes
from streamer.transport.rate import DelayRate, PacketFate, RateLimits

TRANSPORT_FEEDBACK = 15  # its format among the transport layer's feedback messages
TICK_S = 0.000_250
REFERENCE_S = 0.064
REFERENCES = 1 << 24
NOT_RECEIVED, SMALL_DELTA, LARGE_DELTA = 0, 1, 2
LONGEST_RUN = (1 << 13) - 1
SYMBOLS_PER_CHUNK = 7
MOST_STATUSES = 2_048  # in one message, read or written
SEQUENCES = 1 << 16
FEEDBACK_EVERY_S = 0.080
MOST_ARRIVALS = 1_024
REMB_EVERY_S = 0.5
REMB_NEWS = 0.97  # a fall below this share of what was said last is said at once
SEND_TIME_UNITS_PER_S = 1 << 18
SEND_TIMES = 1 << 24  # 64 s
MOST_SENT = 4_096
SENT_HOLDS_S = 10.0


@dataclass
class TransportFeedback(RtcpRtpfbPacket):
    """Which packets arrived when. `arrivals`: (sequence number, seconds by the receiver's clock or None if lost)."""

    arrivals: list[tuple[int, float | None]] = field(default_factory=list)
    count: int = 0


class TolerantRtcp:
    """Takes the place of aiortc's `RtcpPacket`: knows transport-wide feedback, and never raises but ValueError.

    A message that cannot be read is left out; the others of the datagram count.
    """

    @classmethod
    def parse(cls, data: bytes) -> list[AnyRtcpPacket]:
        packets: list[AnyRtcpPacket] = []
        position = 0
        while position < len(data):
            if len(data) < position + 4 or data[position] >> 6 != 2:
                raise ValueError("RTCP packet is truncated or of another version")
            end = position + 4 + 4 * int.from_bytes(data[position + 2 : position + 4], "big")
            if len(data) < end:
                raise ValueError("RTCP packet is truncated")
            with suppress(ValueError, struct.error, IndexError):  # it is left out
                packets += _read(data[position:end])
            position = end
        return packets


def install(changes: Changes) -> None:
    """Lets aiortc's transports read RTCP with `TolerantRtcp`."""
    changes.replace(aiortc.rtcdtlstransport, "RtcpPacket", TolerantRtcp)


def _read(packet: bytes) -> list[AnyRtcpPacket]:
    if packet[1] == RTCP_RTPFB and packet[0] & 0x1F == TRANSPORT_FEEDBACK:
        return [read_transport_feedback(packet)]
    found = RtcpPacket.parse(packet)
    for message in found:
        if isinstance(message, RtcpPsfbPacket) and message.fmt == RTCP_PSFB_APP and message.fci[:4] == b"REMB":
            unpack_remb_fci(message.fci)  # raises what the router would raise
        if isinstance(message, RtcpPsfbPacket) and message.fmt == RTCP_PSFB_FIR and len(message.fci) >= 4:
            # RFC 5104: the media source is named inside; aiortc's router looks outside only.
            message.media_ssrc = int.from_bytes(message.fci[:4], "big")
    return found


def read_transport_feedback(packet: bytes) -> TransportFeedback:
    """One RTCP message. Raises ValueError, struct.error or IndexError for one that is malformed."""
    body = packet[4:]
    if packet[0] & 0x20:
        body = body[: len(body) - body[-1]]
    sender, media, base, count, reference = struct.unpack_from("!LLHHL", body)
    if not 0 < count <= MOST_STATUSES:
        raise ValueError("a transport-wide feedback of no or too many packets")
    feedback = TransportFeedback(TRANSPORT_FEEDBACK, sender, media, count=reference & 0xFF)
    symbols, position = _symbols(body, 16, count)
    ticks = 0
    start_s = (reference >> 8) * REFERENCE_S
    for offset, symbol in enumerate(symbols):
        sequence = (base + offset) % SEQUENCES
        if symbol == SMALL_DELTA:
            ticks, position = ticks + body[position], position + 1
        elif symbol == LARGE_DELTA:
            ticks, position = ticks + struct.unpack_from("!h", body, position)[0], position + 2
        arrived = symbol in (SMALL_DELTA, LARGE_DELTA)
        feedback.arrivals.append((sequence, start_s + ticks * TICK_S if arrived else None))
    return feedback


def _symbols(body: bytes, position: int, count: int) -> tuple[list[int], int]:
    """The packets' statuses, and where their times begin."""
    symbols: list[int] = []
    while len(symbols) < count:
        (chunk,) = struct.unpack_from("!H", body, position)
        position += 2
        if not chunk & 0x8000:
            symbols += [(chunk >> 13) & 3] * min(chunk & LONGEST_RUN, count - len(symbols))
            if not chunk & LONGEST_RUN:
                raise ValueError("an empty run in a transport-wide feedback")
        elif chunk & 0x4000:
            symbols += [(chunk >> shift) & 3 for shift in range(12, -1, -2)]
        else:
            symbols += [(chunk >> shift) & 1 for shift in range(13, -1, -1)]
    return symbols[:count], position


def write_transport_feedback(
    arrivals: Sequence[float | None], base: int, count: int, sender_ssrc: int, media_ssrc: int
) -> bytes:
    """One RTCP message on the packets from sequence number `base` on; the first of `arrivals` must be one.

    Consecutive arrivals must be within 8 s of each other (`ArrivalLog` sees to it).
    """
    first_s = next(arrived for arrived in arrivals if arrived is not None)
    reference = int(first_s / REFERENCE_S)
    before_ticks = round(reference * REFERENCE_S / TICK_S)
    symbols: list[int] = []
    deltas = b""
    for arrived_s in arrivals:
        if arrived_s is None:
            symbols.append(NOT_RECEIVED)
            continue
        ticks = round(arrived_s / TICK_S)
        delta, before_ticks = ticks - before_ticks, ticks
        small = 0 <= delta <= 0xFF
        symbols.append(SMALL_DELTA if small else LARGE_DELTA)
        deltas += bytes([delta]) if small else struct.pack("!h", delta)
    head = struct.pack(
        "!LLHHL", sender_ssrc, media_ssrc, base, len(arrivals), reference % REFERENCES << 8 | count & 0xFF
    )
    body = head + _chunks(symbols) + deltas
    padding = -len(body) % 4
    if padding:
        body += bytes(padding - 1) + bytes([padding])
    flags = 0x80 | (0x20 if padding else 0) | TRANSPORT_FEEDBACK
    return struct.pack("!BBH", flags, RTCP_RTPFB, len(body) // 4) + body


def _chunks(symbols: Sequence[int]) -> bytes:
    found = b""
    position = 0
    while position < len(symbols):
        run = 1
        while position + run < len(symbols) and symbols[position + run] == symbols[position] and run < LONGEST_RUN:
            run += 1
        if run >= SYMBOLS_PER_CHUNK or position + run == len(symbols):
            found += struct.pack("!H", symbols[position] << 13 | run)
            position += run
            continue
        chunk = 0xC000
        for index, symbol in enumerate(symbols[position : position + SYMBOLS_PER_CHUNK]):
            chunk |= symbol << (12 - 2 * index)
        found += struct.pack("!H", chunk)
        position += SYMBOLS_PER_CHUNK
    return found


@dataclass(slots=True)
class ArrivalLog:
    """The receiver's side of transport-wide feedback: when the packets arrived that were not reported yet."""

    dropped: int = 0  # arrivals that could not be reported: too many at once, or from long ago
    _arrived_s: dict[int, float] = field(default_factory=dict)  # by unwrapped sequence number
    _next: int | None = None  # the first that was not reported
    _newest: int = 0
    _due_s: float | None = None
    _count: int = 0

    def add(self, sequence: int, arrived_s: float) -> None:
        """A packet arrived that carries this transport-wide number (16 bits)."""
        if self._next is None:
            self._next = self._newest = sequence
        unwrapped = self._newest + ((sequence - self._newest + SEQUENCES // 2) % SEQUENCES - SEQUENCES // 2)
        if unwrapped < self._next or len(self._arrived_s) >= MOST_ARRIVALS:
            self.dropped += 1
            return
        self._newest = max(self._newest, unwrapped)
        self._arrived_s.setdefault(unwrapped, arrived_s)
        if self._due_s is None:
            self._due_s = arrived_s + FEEDBACK_EVERY_S

    def due_s(self) -> float | None:
        """When `take` should be called next; None while there is nothing to report."""
        return self._due_s

    def take(self, now_s: float, sender_ssrc: int, media_ssrc: int) -> list[bytes]:
        """The RTCP messages that are due, ready to be sent."""
        if self._next is None or not self._arrived_s or self._due_s is None or now_s < self._due_s:
            return []
        messages: list[bytes] = []
        while self._arrived_s:
            messages.append(self._one(sender_ssrc, media_ssrc))
        self._due_s = None
        return messages

    def _one(self, sender_ssrc: int, media_ssrc: int) -> bytes:
        assert self._next is not None
        first = min(self._arrived_s)
        if first - self._next >= MOST_STATUSES // 2:
            self._next = first  # a jump of the sender's numbers
        arrivals: list[float | None] = []
        before_s = self._arrived_s[first]
        number = self._next
        while number <= self._newest and len(arrivals) < MOST_STATUSES:
            arrived_s = self._arrived_s.get(number)
            if arrived_s is not None and abs(arrived_s - before_s) > 8:
                break
            arrivals.append(arrived_s)
            before_s = before_s if arrived_s is None else arrived_s
            number += 1
        for reported in range(self._next, number):
            self._arrived_s.pop(reported, None)
        message = write_transport_feedback(arrivals, self._next % SEQUENCES, self._count, sender_ssrc, media_ssrc)
        self._next, self._count = number, self._count + 1
        return message


@dataclass(slots=True)
class ReceiveRate:
    """The receiver's estimate of what the way to it carries, for REMB: by abs-send-time, or capped by ourselves."""

    limits: RateLimits = field(default_factory=lambda: RateLimits(100_000, 2_000_000, 6_000_000))
    rate: DelayRate = field(default_factory=DelayRate)
    _cap_bps: int | None = None
    _unwrapped: int | None = None
    _arrived_s: float | None = None
    _said_s: float | None = None
    _said_bps: int = 0
    _ssrcs: OrderedDict[int, None] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.rate = DelayRate(self.limits)

    def add(self, abs_send_time: int, arrived_s: float, size_bytes: int, ssrc: int) -> None:
        """A packet arrived. `abs_send_time`: the 24 bits of its header extension."""
        if self._unwrapped is None:
            self._unwrapped = abs_send_time
        half = SEND_TIMES // 2
        self._unwrapped += (abs_send_time - self._unwrapped + half) % SEND_TIMES - half
        self.rate.packet(self._unwrapped / SEND_TIME_UNITS_PER_S, arrived_s, size_bytes)
        self._arrived_s = arrived_s
        self.seen(ssrc)

    def seen(self, ssrc: int) -> None:
        """A stream that the estimate is for; the last four are named."""
        self._ssrcs[ssrc] = None
        self._ssrcs.move_to_end(ssrc)
        while len(self._ssrcs) > 4:
            self._ssrcs.popitem(last=False)

    def cap(self, bps: int | None) -> None:
        """Quality under pressure: the sender is asked for no more than this. None: no such limit."""
        self._cap_bps = bps

    def bps(self) -> int:
        """The rate that the sender is asked to keep."""
        if self._arrived_s is not None:
            self.rate.update(self._arrived_s)
        bps = round(self.rate.bps) if self._arrived_s is not None else self.limits.most_bps
        return bps if self._cap_bps is None else min(bps, self._cap_bps)

    def due_s(self) -> float | None:
        """When `take` will have something at the latest; None while nothing has arrived."""
        if not self._ssrcs:
            return None
        return 0.0 if self._said_s is None else self._said_s + REMB_EVERY_S

    def take(self, now_s: float, sender_ssrc: int) -> bytes | None:
        """The REMB that is due, ready to be sent: twice a second, and at once when the rate falls."""
        if not self._ssrcs:
            return None
        bps = self.bps()
        if self._said_s is not None and now_s - self._said_s < REMB_EVERY_S and bps >= REMB_NEWS * self._said_bps:
            return None
        self._said_s, self._said_bps = now_s, bps
        fci = pack_remb_fci(bps, list(self._ssrcs))
        return bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=sender_ssrc, media_ssrc=0, fci=fci))


class ReceiverFeedback:
    """All that one receiver of video reports for its sender's rate. See `receiver.Feedback`."""

    def __init__(self, own_ssrc: Callable[[], int | None]) -> None:
        self._own_ssrc = own_ssrc
        self._log = ArrivalLog()
        self._rate = ReceiveRate()
        self._media_ssrc = 0
        self._numbered = False  # by the other side, for the whole transport: it reckons the rate itself

    @property
    def bps(self) -> int:
        """The rate that the sender is asked to keep, as far as it is reckoned here."""
        return self._rate.bps()

    def packet(self, packet: RtpPacket, size_bytes: int, arrived_s: float) -> None:
        """A packet arrived."""
        self._media_ssrc = packet.ssrc
        number = packet.extensions.transport_sequence_number
        if number is not None:
            self._numbered = True
            self._log.add(number, arrived_s)
        if packet.extensions.abs_send_time is not None and not self._numbered:
            self._rate.add(packet.extensions.abs_send_time, arrived_s, size_bytes, packet.ssrc)
        else:
            self._rate.seen(packet.ssrc)

    def cap(self, bits_per_s: int | None) -> None:
        """Asks the sender for no more than this; None: for what the way carries."""
        self._rate.cap(bits_per_s)

    def take(self, now_s: float) -> list[bytes]:
        """RTCP packets that are due now."""
        own_ssrc = self._own_ssrc()
        if own_ssrc is None:
            return []
        messages = self._log.take(now_s, own_ssrc, self._media_ssrc)
        remb = self._rate.take(now_s, own_ssrc)
        return messages if remb is None else [*messages, remb]

    def next_s(self, now_s: float) -> float | None:
        """When `take` will have something at the latest."""
        times_s = [time_s for time_s in (self._log.due_s(), self._rate.due_s()) if time_s is not None]
        return min(times_s, default=None)


def make_feedback(own_ssrc: Callable[[], int | None]) -> ReceiverFeedback:
    """`own_ssrc`: under which number the reports are sent; None while that is not known."""
    return ReceiverFeedback(own_ssrc)


@dataclass(slots=True)
class SentLog:
    """The sender's side of transport-wide feedback: when each packet left, by its number. Bounded; oldest first out."""

    _sent: OrderedDict[int, tuple[float, int]] = field(default_factory=OrderedDict)

    def add(self, sequence: int, now_s: float, size_bytes: int) -> None:
        self._sent[sequence] = (now_s, size_bytes)
        while len(self._sent) > MOST_SENT:
            self._sent.popitem(last=False)

    def fates(self, feedback: TransportFeedback, now_s: float) -> list[PacketFate]:
        """What became of the packets that the feedback is about; each is told once."""
        found = []
        for sequence, arrived_s in feedback.arrivals:
            sent = self._sent.pop(sequence, None)
            if sent is not None and now_s - sent[0] < SENT_HOLDS_S:
                found.append(PacketFate(sent[0], arrived_s, sent[1]))
        return found
