"""How a microphone's packets become sounds: takes the place of aiortc's receiver for audio.

aiortc holds four packets back (80 ms, more than a picture takes through the whole server) and decodes what a stranger
sent in this process. Here each packet is handed on as it came, still coded: nobody in the server listens to it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import aiortc.rtcpeerconnection
from aiortc import codecs
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters
from aiortc.rtp import RtpPacket

from streamer.transport.changes import Changes
from streamer.transport.incoming import StreamReceiver, get
from streamer.transport.timeline import Timeline

SOUND_CLOCK_HZ = 48_000  # of Opus in RTP, whatever it carries
MOST_BYTES = 1_500
HALF = 1 << 31
REMEMBERED = 64  # packets, to know one that comes twice


@dataclass(frozen=True, slots=True)
class CodedSound:
    """One packet of Opus, as it came. `pts` counts 1/48,000 s and does not wrap."""

    payload: bytes
    pts: int
    arrived_s: float  # monotonic seconds


@dataclass(slots=True)
class SoundCounters:
    """What one receiver has counted since it began."""

    packets: int = 0
    duplicates: int = 0
    refused: int = 0  # empty, too long, or of another codec


class SoundReceiver(StreamReceiver):
    """aiortc's receiver for audio. With `attach` packets go to `heard`; without, to aiortc's decoder and track."""

    def __init__(self, transport: RTCDtlsTransport) -> None:
        super().__init__("audio", transport)
        self.counters = SoundCounters()
        self._heard: Callable[[CodedSound], None] | None = None
        self._timeline = Timeline(SOUND_CLOCK_HZ)
        self._seen: deque[int] = deque(maxlen=REMEMBERED)
        self._ssrc: int | None = None
        self._unwrapped: int | None = None

    def attach(self, heard: Callable[[CodedSound], None]) -> None:
        """From now on `heard` gets the packets, on the event loop. Call it when the track is announced."""
        self._heard = heard

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Begins; without aiortc's decoder thread where nobody needs it."""
        if self._heard is None:
            await super().receive(parameters)
            return
        await self._begin(parameters)

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        if self._heard is None:
            await super()._handle_rtp_packet(packet, arrival_time_ms)
            return
        now_s = time.monotonic()
        codec = get(self, "codecs").get(packet.payload_type)
        whole = 0 < len(packet.payload) <= MOST_BYTES
        if not self._enabled or codec is None or codec.name.lower() != "opus" or not whole:
            self.counters.refused += 1
            return
        self._count(packet, codec)
        if packet.ssrc != self._ssrc:
            self._ssrc = packet.ssrc
            self._seen.clear()
        if packet.sequence_number in self._seen:
            self.counters.duplicates += 1
            return
        self._seen.append(packet.sequence_number)
        self.counters.packets += 1
        self._heard(CodedSound(packet.payload, self._timeline(self._unwrap(packet.timestamp), now_s), now_s))

    def _unwrap(self, timestamp: int) -> int:
        last = timestamp if self._unwrapped is None else self._unwrapped
        self._unwrapped = last + (timestamp - last + HALF) % (2 * HALF) - HALF
        return self._unwrapped

    def _finish(self) -> None:
        if self._heard is not None:
            self._end_track()


def install(changes: Changes) -> None:
    """Answers Opus only: what other codecs there are, a stranger's bytes must not reach."""
    known = dict(codecs.CODECS)
    known["audio"] = [codec for codec in known["audio"] if codec.name.lower() == "opus"]
    for module in (codecs, aiortc.rtcpeerconnection):  # the second has its own name for the same
        changes.replace(module, "CODECS", known)
