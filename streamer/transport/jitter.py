"""From packets to whole pictures in order, with a deadline: arithmetic only, `now_s` is passed in.

aiortc hands a picture out when the next one begins, and waits for a lost packet until 512 newer ones lie behind it.
Here a picture leaves with its last packet (the one with the marker), and what is missing is waited for no longer than
`deadline_s`: then everything up to the next key frame is dropped, because nothing of it could be decoded.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from streamer.transport.nack import Missing, Wanted, answered_in_s
from streamer.transport.payload import Part
from streamer.transport.round_trip import RoundTrip
from streamer.transport.types import RTP_CLOCK_HZ, CodedPicture, ReceiveCounters, VideoCodec

LEAST_DEADLINE_S, MOST_DEADLINE_S = 0.1, 1.0
LATE = "a packet is late"
ASK_KEY_AT = 0.75  # of the deadline: by then a packet has been asked for twice in vain
MOST_PACKETS = 2048
MOST_BYTES = 8_000_000
MOST_REORDERED = 16  # packets before the first one that came, at the beginning
MOST_JUMP = 3000  # RFC 3550, appendix A.1: further ahead or behind is another stream, if two packets say so
OUTAGE_S, OUTAGE_PACKETS = 0.25, 3  # so many missing after so much silence: a key frame is as soon here, and newer
STORM_PACKETS = 24  # missing at once: the line is overrun, and sending all that again would overrun it more


@dataclass(frozen=True, slots=True)
class Out:
    """What adding a packet or looking at the clock led to."""

    pictures: tuple[CodedPicture, ...] = ()
    key_wanted: str = ""  # why a key frame should be asked for; empty: it should not


@dataclass(slots=True)
class _Piece:
    timestamp: int
    marker: bool
    part: Part
    first_s: float  # when it came or was first missed
    last_s: float  # when it came


class Unwrap:
    """Numbers that wrap at 2^bits to numbers that do not, each nearest to the one before."""

    def __init__(self, bits: int) -> None:
        self._half = 1 << (bits - 1)
        self._mask = (1 << bits) - 1
        self.last: int | None = None

    def __call__(self, value: int) -> int:
        if self.last is None:
            self.last = value
        else:
            self.last += ((value - self.last + self._half) & self._mask) - self._half
        return self.last


class JitterBuffer:
    """The packets of one stream of one codec. Bounded in packets and bytes; everything that is dropped is counted."""

    def __init__(self, codec: VideoCodec, round_trip: RoundTrip, most_packets: int = MOST_PACKETS) -> None:
        self.missing = Missing()
        self.needs_key = True  # until the first key frame, and after every loss
        self.markers_trusted = True
        self._codec: VideoCodec = codec
        self._round_trip = round_trip
        self._most_packets = most_packets
        self._counts = dict.fromkeys((field.name for field in fields(ReceiveCounters)), 0)
        self._pieces: dict[int, _Piece] = {}
        self._bytes = 0
        self._number = Unwrap(16)
        self._timestamp = Unwrap(32)
        self._head: int | None = None  # where the next picture begins
        self._clean_head = False  # a picture has just ended before the head, so one begins there
        self._seen_to = 0  # packets from the head up to this one are there and of one picture
        self._newest = 0
        self._key_start: int | None = None  # the newest place beyond the head where a decoder could start again
        self._key_seen_to = 0
        self._key_s = 0.0  # when a packet of that picture came last
        self._ended_timestamp: int | None = None  # of the picture that a marker ended last
        self._arrived_s = 0.0
        self._stray: int | None = None  # what follows a packet that was far away
        self._asked_for: int | None = None  # the missing packet for which a key frame was wanted before its time

    @property
    def deadline_s(self) -> float:
        """How long a missing packet is waited for."""
        return min(max(2 * self._round_trip.rtt_s, LEAST_DEADLINE_S), MOST_DEADLINE_S)

    @property
    def held(self) -> int:
        """Packets in the buffer."""
        return len(self._pieces)

    @property
    def held_bytes(self) -> int:
        return self._bytes

    @property
    def counters(self) -> ReceiveCounters:
        """What was counted here; requests for key frames are counted where they are sent."""
        return ReceiveCounters(**{**self._counts, "nacks": self.missing.requests})

    @property
    def next_s(self) -> float | None:
        """When to call `poll` or ask `missing.due` at the latest; None while everything is there."""
        oldest = self.missing.oldest
        if oldest is None:
            return None
        number, wanted = oldest
        share = 1.0 if self._asked_for == number else ASK_KEY_AT
        late_s = wanted.noticed_s + share * self.deadline_s
        if self._is_of_key(number):
            late_s = max(late_s, self._key_s + share * self.deadline_s)
        return late_s if self.missing.next_s is None else min(late_s, self.missing.next_s)

    def is_key_arriving(self, now_s: float) -> bool:
        """Whether parts of a key frame are here and more of it has just come, or may still come in time."""
        return self._key_start in self._pieces and now_s - self._key_s < self.deadline_s

    def count_malformed(self) -> None:
        """A packet came that `read_part` refused."""
        self._counts["malformed"] += 1

    def add(
        self, sequence_number: int, timestamp: int, marker: bool, part: Part, now_s: float, resent: bool = False
    ) -> Out:
        """Takes one packet. `resent`: it came as a retransmission (RFC 4588)."""
        self._counts["packets"] += 1
        self._counts["bytes"] += len(part.data)
        last = self._number.last
        number = self._number(sequence_number)
        if self._is_stray(number, now_s):
            self._number.last = last
            return Out()
        key_wanted = ""
        if self._head is None:
            self._start(number)
        elif number > self._newest:
            key_wanted = self._step_to(number, now_s)
        self._arrived_s = now_s
        wanted = self._note_arrival(number, resent, now_s)
        if number < (self._head or 0) and not self._may_begin_earlier(number):
            self._counts["late"] += 1
            return Out(key_wanted=key_wanted)
        if number in self._pieces:
            self._counts["duplicates"] += 1
            return Out(key_wanted=key_wanted)
        since_s = now_s if wanted is None else min(wanted.noticed_s, now_s)
        self._pieces[number] = _Piece(self._timestamp(timestamp), marker, part, since_s, now_s)
        if number == self._newest and not resent:
            self._round_trip.transit(now_s - self._pieces[number].timestamp / RTP_CLOCK_HZ, now_s)
        self._bytes += len(part.data)
        if part.begins_key and (self._key_start is None or number > self._key_start):
            self._key_start = self._key_seen_to = number
        key = self._pieces.get(self._key_start) if self._key_start is not None else None
        if key is not None and key.timestamp == self._timestamp.last:
            self._key_s = now_s
        if len(self._pieces) > self._most_packets or self._bytes > MOST_BYTES:
            key_wanted = self._overflow(number)
        pictures, why = self._drain()
        return Out(tuple(pictures), key_wanted or why)

    def poll(self, now_s: float) -> Out:
        """Gives up what has been missing for too long. Call it when `next_s` has come."""
        pictures: list[CodedPicture] = []
        key_wanted = ""
        # Lost parts of a key frame come behind the rest of it, so its deadline begins when its last packet has come.
        below = self._key_start if self.is_key_arriving(now_s) else None
        given_up = self.missing.noticed_until(now_s - self.deadline_s, below)
        if given_up is not None:
            pictures, key_wanted = self._give_up(given_up)
        oldest = self.missing.oldest
        if oldest is not None:
            number, wanted = oldest
            since_s = max(wanted.noticed_s, self._key_s) if self._is_of_key(number) else wanted.noticed_s
            if now_s >= since_s + ASK_KEY_AT * self.deadline_s and self._asked_for != number:
                self._asked_for, key_wanted = number, key_wanted or LATE
        return Out(tuple(pictures), key_wanted)

    def _is_of_key(self, number: int) -> bool:
        """Whether a missing packet is of the newest key frame, or behind it."""
        return self._key_start in self._pieces and number > (self._key_start or 0)

    def _start(self, number: int) -> None:
        self._head = self._seen_to = self._newest = number

    def _is_stray(self, number: int, now_s: float) -> bool:
        """Whether a packet is too far away to belong here. Two of them in a row begin a new stream."""
        if self._head is None or self._head - MOST_JUMP < number < self._newest + MOST_JUMP:
            self._stray = None
            return False
        if number == self._stray:
            self._stray = None
            self._forget_all(number)
            return False
        self._stray = number + 1
        self._counts["late"] += 1
        return True

    def _step_to(self, number: int, now_s: float) -> str:
        """A packet ahead of all others has come."""
        first, self._newest = self._newest + 1, number
        silent_s = now_s - self._arrived_s
        if number - first >= OUTAGE_PACKETS and silent_s > OUTAGE_S:
            self._forget_all(number)
            return "an outage"
        if number > first:
            self.missing.notice(first, number, now_s)
            if self.missing.asking > STORM_PACKETS:
                self.missing.mute()
                return "too much is missing"
        return ""

    def _note_arrival(self, number: int, resent: bool, now_s: float) -> Wanted | None:
        wanted = self.missing.arrived(number, resent, now_s)
        sample_s = answered_in_s(wanted, now_s) if wanted is not None else None
        if sample_s is not None:
            self._round_trip.add(sample_s)
            self._counts["recovered"] += number >= (self._head or 0)
        return wanted

    def _may_begin_earlier(self, number: int) -> bool:
        """At the very beginning packets may have overtaken the first one."""
        assert self._head is not None
        if self._counts["pictures"] or self._counts["dropped_undecodable"] or self._head - number > MOST_REORDERED:
            return False
        if self._clean_head or self._head not in self._pieces or len(self.missing):
            return False
        self.missing.notice(number + 1, self._head, self._arrived_s)
        self._head = self._seen_to = number
        return True

    def _drain(self) -> tuple[list[CodedPicture], str]:
        """Every whole picture from the head on, then, where a later key frame is whole, on from there."""
        pictures: list[CodedPicture] = []
        key_wanted = ""
        while True:
            end = self._end_of_head()
            if end is None:
                if not self._jump():
                    return pictures, key_wanted
                continue
            picture, why = self._take(end)
            key_wanted = key_wanted or why
            if picture is not None:
                pictures.append(picture)
                key_wanted = ""  # whatever was wanted before it, it is a key frame or follows one

    def _end_of_head(self) -> int | None:
        """Where the picture at the head ends (exclusive), or None while it is not whole."""
        head = self._head
        if head is None:
            return None
        while (piece := self._pieces.get(head)) is not None and self._is_leftover(piece):
            self._remove(head)
            head = self._head = self._seen_to = head + 1
        if head not in self._pieces:
            return None
        self._seen_to, end = self._walk(head, max(head, self._seen_to))
        return end

    def _is_leftover(self, piece: _Piece) -> bool:
        """Padding between pictures, or more of a picture that a marker had ended."""
        if not piece.part.data:
            return True
        if piece.timestamp != self._ended_timestamp:
            return False
        if self.markers_trusted:
            self.markers_trusted = False  # this sender marks packets inside a picture
            self.needs_key = True
        return True

    def _walk(self, start: int, at: int) -> tuple[int, int | None]:
        """(first packet that is not known to belong to the picture that begins at `start`, its end or None)."""
        timestamp = self._pieces[start].timestamp
        while (piece := self._pieces.get(at)) is not None:
            if piece.timestamp != timestamp and piece.part.data:
                return at, at
            if piece.marker and self.markers_trusted and piece.timestamp == timestamp:
                return at + 1, at + 1
            at += 1
        return at, None

    def _take(self, end: int) -> tuple[CodedPicture | None, str]:
        """Takes the picture from the head up to `end` out of the buffer."""
        assert self._head is not None
        pieces = [self._remove(number) for number in range(self._head, end)]
        is_key, begins = self._is_key(pieces), self._clean_head or pieces[0].part.begins
        self._move_head(end, clean=True)
        last = pieces[-1]
        self._ended_timestamp = last.timestamp if last.marker and self.markers_trusted else None
        if self.needs_key and not (is_key and begins):
            self._counts["dropped_undecodable"] += 1
            return None, "there is no key frame to start from"
        self.needs_key = False
        self._counts["pictures"] += 1
        self._counts["key_pictures"] += is_key
        return self._picture(pieces, is_key), ""

    def _is_key(self, pieces: list[_Piece]) -> bool:
        if self._codec == "VP8":
            return pieces[0].part.begins_key
        return any(piece.part.key for piece in pieces)

    def _picture(self, pieces: list[_Piece], is_key: bool) -> CodedPicture:
        return CodedPicture(
            codec=self._codec,
            payload=b"".join(piece.part.data for piece in pieces),
            rtp_timestamp=pieces[0].timestamp,
            is_key=is_key,
            first_packet_s=min(piece.first_s for piece in pieces),
            last_packet_s=max(piece.last_s for piece in pieces),
        )

    def _jump(self) -> bool:
        """On to a later key frame, if it is whole: nobody needs to wait for what lies before it."""
        start = self._key_start
        if start is None or self._head is None or start <= self._head or start not in self._pieces:
            return False
        self._key_seen_to, end = self._walk(start, max(start, self._key_seen_to))
        if end is None:
            return False
        self._drop_up_to(start, clean=False)
        return True

    def _give_up(self, number: int) -> tuple[list[CodedPicture], str]:
        """This packet will not come in time, nor any before it. Goes on at the next key frame or behind the gap.

        No whole key frame can lie before it: the buffer would have jumped there.
        """
        start = self._key_start
        if start is not None and start > number and start in self._pieces:
            self._drop_up_to(start, clean=False)
        else:
            self._drop_up_to(number + 1, clean=False)
        self.needs_key = True
        pictures, why = self._drain()
        return pictures, (why or "a packet was lost") if self.needs_key else ""

    def _overflow(self, number: int) -> str:
        self._counts["dropped_full"] += self._pictures_below(number + 1)
        self._clear_below(number + 1)
        self._move_head(number + 1, clean=False)
        self.needs_key = True
        return "the buffer was full"

    def _forget_all(self, number: int) -> None:
        """Everything before `number` is of no use."""
        self._drop_up_to(number, clean=False)
        for rest in list(self._pieces):
            self._remove(rest)  # of a stream that is over
        self.missing.clear()
        self._newest = number
        self._key_start = None
        self._ended_timestamp = None
        self.needs_key = True

    def _drop_up_to(self, number: int, clean: bool) -> None:
        self._counts["dropped_incomplete"] += max(self._pictures_below(number), 1)
        self._clear_below(number)
        self._move_head(number, clean)

    def _pictures_below(self, number: int) -> int:
        return len({piece.timestamp for at, piece in self._pieces.items() if at < number})

    def _clear_below(self, number: int) -> None:
        for at in [at for at in self._pieces if at < number]:
            self._remove(at)

    def _move_head(self, number: int, clean: bool) -> None:
        self._head = self._seen_to = number
        self._clean_head = clean
        self.missing.forget_below(number)

    def _remove(self, number: int) -> _Piece:
        piece = self._pieces.pop(number)
        self._bytes -= len(piece.part.data)
        return piece
