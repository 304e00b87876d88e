"""All that one stream of pictures needs between packets and decoder: arithmetic only, `now_s` is passed in.

Joins the jitter buffer, the list of missing packets and the limit on key-frame requests, and says when to look again.
`receiver` gives it packets and a timer; the tests give it a simulated line.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from streamer.transport.jitter import LATE, JitterBuffer, Out
from streamer.transport.key_requests import FRESH_S, KeyAsker
from streamer.transport.payload import read_part
from streamer.transport.round_trip import RoundTrip
from streamer.transport.timeline import Timeline
from streamer.transport.types import CodedPicture, ReceiveCounters, VideoCodec

SILENT_S = 0.5  # after which another stream (SSRC) may take a silent one's place
HELD_BACK_S = 0.02  # until what is due and may not be done yet is looked at again


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done now. `nacks` are packets' numbers modulo 2^16, in order."""

    pictures: tuple[CodedPicture, ...] = ()
    nacks: tuple[int, ...] = ()
    key: bool = False


class Reception:
    """The stream that a track shows: of one SSRC and codec at a time, one clock through all of them."""

    def __init__(self) -> None:
        self.round_trip = RoundTrip()
        self.ssrc: int | None = None
        self.last_packet_s: float | None = None
        self.last_picture_s: float | None = None
        self._codec: VideoCodec | None = None
        self._buffer: JitterBuffer | None = None
        self._before = ReceiveCounters()  # of buffers that another has replaced
        self._asker = KeyAsker()
        self._timeline = Timeline()

    @property
    def counters(self) -> ReceiveCounters:
        counted = _sum(self._before, self._buffer.counters if self._buffer is not None else ReceiveCounters())
        return replace(counted, plis=self._asker.asked)

    @property
    def held(self) -> int:
        """Packets in the jitter buffer."""
        return self._buffer.held if self._buffer is not None else 0

    def follows(self, ssrc: int, codec: VideoCodec) -> bool:
        """Whether this is the stream, as far as is known."""
        return self.ssrc == ssrc and self._codec == codec

    def begin(self, ssrc: int, codec: VideoCodec, round_trip: RoundTrip, now_s: float) -> bool:
        """Another stream. False where the one before it still goes on: then nothing changes."""
        last_s = self.last_picture_s
        if self.ssrc not in (None, ssrc) and last_s is not None and now_s - last_s < SILENT_S:
            return False
        self._before = self.counters
        self.round_trip, self.ssrc, self._codec = round_trip, ssrc, codec
        self._buffer = JitterBuffer(codec, round_trip)
        return True

    def packet(
        self, sequence_number: int, timestamp: int, marker: bool, payload: bytes, now_s: float, resent: bool = False
    ) -> tuple[CodedPicture, ...]:
        """Takes one packet of the stream that has begun. Ask `due` afterwards."""
        assert self._buffer is not None
        assert self._codec is not None
        self.last_packet_s = now_s
        try:
            part = read_part(self._codec, payload)
        except ValueError:
            self._buffer.count_malformed()
            return ()
        return self._note(self._buffer.add(sequence_number, timestamp, marker, part, now_s, resent))

    def want_key(self, why: str) -> None:
        """A key frame is needed: `due` says when to ask for it."""
        self._asker.want(why)

    def due(self, now_s: float) -> Due:
        """What is due by now; what is to be sent counts as sent."""
        buffer = self._buffer
        if buffer is None:
            return Due()
        next_s = buffer.next_s
        pictures = self._note(buffer.poll(now_s)) if next_s is not None and next_s <= now_s else ()
        nacks = sorted(number & 0xFFFF for number in buffer.missing.due(now_s, self.round_trip.rtt_s))
        key = self._is_fresh(now_s) and self._asker.due(now_s, buffer.is_key_arriving(now_s))
        return Due(pictures, tuple(nacks), key)

    def next_s(self, now_s: float) -> float | None:
        """When to ask `due` again at the latest, later than `now_s`; None: with the next packet."""
        due = [self._buffer.next_s if self._buffer is not None else None]
        due.append(self._asker.next_s() if self._buffer is not None and self._is_fresh(now_s) else None)
        return min(
            (due_s if due_s > now_s else now_s + HELD_BACK_S for due_s in due if due_s is not None), default=None
        )

    def _note(self, out: Out) -> tuple[CodedPicture, ...]:
        pictures = tuple(
            replace(coded, rtp_timestamp=self._timeline(coded.rtp_timestamp, coded.last_packet_s))
            for coded in out.pictures
        )
        if pictures:
            self.last_picture_s = pictures[-1].last_packet_s
        if any(picture.is_key for picture in pictures):
            self._asker.got()
        if out.key_wanted:
            self._asker.want(out.key_wanted)
        elif pictures:
            self._asker.withdraw(LATE)
        return pictures

    def _is_fresh(self, now_s: float) -> bool:
        return self.last_packet_s is not None and now_s - self.last_packet_s < FRESH_S


def _sum(one: ReceiveCounters, other: ReceiveCounters) -> ReceiveCounters:
    names = [field.name for field in fields(ReceiveCounters)]
    return ReceiveCounters(**{name: getattr(one, name) + getattr(other, name) for name in names})
