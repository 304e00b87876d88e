"""What passes between transport, decoders, encoders and the call: pictures with their times, and who takes them.

All times are monotonic seconds (`time.monotonic`) of this machine. All bit rates are bits per second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

from av.video.frame import VideoFrame

VideoCodec = Literal["VP8", "H264", "AV1"]

RTP_CLOCK_HZ = 90_000  # of every video codec


@dataclass(frozen=True, slots=True)
class PictureTimes:
    """When one picture was where, monotonic seconds; None for what has not happened (yet)."""

    first_packet_s: float
    last_packet_s: float
    decoded_s: float | None = None
    taken_s: float | None = None  # by the worker
    drawn_s: float | None = None
    encoded_s: float | None = None
    sent_s: float | None = None  # the last packet of it was handed to the socket

    def at(self, **times_s: float) -> PictureTimes:
        """The same picture, later: `times.at(decoded_s=now_s)`."""
        return replace(self, **times_s)


@dataclass(frozen=True, slots=True)
class CodedPicture:
    """One whole picture as it came over the wire, ready for a decoder.

    payload         the access unit as a decoder takes it: a VP8 frame, or H.264 NAL units with start codes
    rtp_timestamp   90 kHz, unwrapped: grows beyond 32 bits, the first one of a call is as the sender chose it
    is_key          can be decoded without any picture before it
    last_packet_s   when the packet that made it whole arrived, a retransmitted one included
    """

    codec: VideoCodec
    payload: bytes
    rtp_timestamp: int
    is_key: bool
    first_packet_s: float
    last_packet_s: float

    @property
    def times(self) -> PictureTimes:
        return PictureTimes(self.first_packet_s, self.last_packet_s)


class PictureSink(Protocol):
    """Takes whole pictures from a receiver, on the event loop. Must not block; must bound what it keeps.

    Pictures come in order, and only pictures that can be decoded: after a loss nothing comes until the next key frame.
    """

    def coded(self, picture: CodedPicture) -> None: ...

    def ended(self) -> None:
        """The track is over: nothing more comes. May be called more than once."""


class KeyRequests(Protocol):
    """Asks the sender of a camera for a key frame. Ask as often as you like: the limit (1 in 300 ms) is kept here."""

    def request_key(self, why: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ReceiveCounters:
    """What one receiver has counted since it began."""

    packets: int = 0  # that were of use or too late, retransmissions included
    bytes: int = 0  # payload
    duplicates: int = 0
    late: int = 0  # packets that came after their picture was given up
    recovered: int = 0  # packets that came after they had been asked for
    nacks: int = 0  # packets asked for, repetitions included
    plis: int = 0
    pictures: int = 0  # handed on
    key_pictures: int = 0
    dropped_incomplete: int = 0  # pictures given up because packets were missing at the deadline
    dropped_undecodable: int = 0  # whole pictures dropped because one before them is missing
    dropped_full: int = 0  # pictures dropped because the buffer's bound was reached
    malformed: int = 0  # packets whose payload is not what the codec says


@dataclass(frozen=True, slots=True)
class SendCounters:
    """What one sender has counted since it began."""

    packets: int = 0
    bytes: int = 0  # payload, retransmissions not included
    retransmitted: int = 0
    pictures: int = 0
    key_pictures: int = 0
    key_requests: int = 0  # PLI and FIR that came in
    key_requests_held: int = 0  # of them, that came too soon after another one
    nacks: int = 0  # packets the other side asked for
    nacks_unknown: int = 0  # of them, that the history no longer had
    dropped_late: int = 0  # pictures dropped before encoding because the pacer was behind


@dataclass(frozen=True, slots=True)
class SendNumbers:
    """One sender now, for the panel and /metrics."""

    target_bps: int
    encoder_bps: int
    rtt_s: float | None
    loss: float  # of the last interval, 0..1
    queue_ms: float
    encode_ms: float  # median
    encoder: str
    has_feedback: bool  # the other side reports on every packet


@dataclass(frozen=True, slots=True)
class EncodedUnit:
    """What an encoder made of one picture: an access unit (VP8 frame, Annex B H.264, AV1 temporal unit)."""

    codec: VideoCodec
    payload: bytes
    is_key: bool


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """One picture cut into RTP payloads, ready for the pacer.

    payloads        one per packet, in order, each at most the packetiser's limit
    rtp_timestamp   90 kHz, not wrapped, without the sender's random origin
    """

    payloads: tuple[bytes, ...]
    rtp_timestamp: int
    is_key: bool
    times: PictureTimes


@runtime_checkable
class TimedTrack(Protocol):
    """What a track may know beside its frames: when a picture was where, and that it has gone out."""

    def times_of(self, frame: VideoFrame) -> PictureTimes | None:
        """Asked right after `recv` gave the frame."""

    def sent(self, picture: EncodedPicture) -> None:
        """The last packet of the picture was handed to the socket. On the event loop."""


class Encoder(Protocol):
    """One encoder of one sender. `encode` runs in a thread, never two at once; the setters may be called from the loop.

    Setters take effect with the next picture, without a new codec (and so without a key frame) wherever the codec can.
    """

    codec: VideoCodec
    name: str  # for people

    def encode(self, frame: VideoFrame, force_key: bool) -> EncodedUnit | None:
        """The coded picture; None where the encoder keeps it back (none of ours does while live)."""

    def set_rate(self, bits_per_s: int) -> None: ...

    def set_size(self, height_px: int, width_px: int) -> None:
        """Says which size comes next; a picture of another size than the last one is a key frame."""

    def close(self) -> None: ...
