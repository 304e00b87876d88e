"""A caller for measurements: sends pictures that were encoded beforehand, and notes when packets leave and come.

Stock aiortc in a process of its own, without encoding or decoding while it measures: what is timed is the other side.
`time.monotonic` is one clock for all processes of a machine.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any, cast

import aiohttp
import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.codecs import depayload
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from PIL import Image, ImageOps

from benchmarks.burnt_ids import burn, read
from benchmarks.corpus import read_clip
from engines.types import Rgb

CLOCK = 90_000
LOOP_PICTURES = 300  # ten seconds: far longer than any picture stays away
KEY_EVERY = 60
GREY = (114, 114, 114)
ENCODERS = {
    "VP8": ("libvpx", {"deadline": "realtime", "cpu-used": "-6", "lag-in-frames": "0", "error-resilient": "1"}),
    "H264": ("libx264", {"preset": "superfast", "tune": "zerolatency", "profile": "baseline"}),
}
DECODERS = {"VP8": "vp8", "H264": "h264"}


@dataclass(frozen=True, slots=True)
class Coded:
    """An encoded picture of the loop; its burnt id is its place in it."""

    payload: bytes
    is_key: bool


@dataclass(frozen=True, slots=True)
class Sent:
    """A picture that left: when its first packet was made, and when its last one was handed to the socket."""

    number: int
    first_s: float
    last_s: float


@dataclass(slots=True)
class Arrival:
    """The packets of one picture that came back."""

    first_s: float
    last_s: float = 0.0
    packets: dict[int, RtpPacket] = field(default_factory=dict)
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Back:
    """A picture that came back whole, and the id that could be read in it, if any."""

    number: int | None
    first_s: float
    last_s: float
    size_bytes: int


def pictures(clip: Path, height_px: int, width_px: int) -> tuple[Rgb, ...]:
    """The clip's pictures, forward and back so that there is no jump, scaled to fit and padded."""
    frames = read_clip(clip).frames
    there_and_back = [*frames, *frames[-2:0:-1]]
    fitted = [
        np.array(ImageOps.pad(Image.fromarray(rgb), (width_px, height_px), Image.Resampling.BILINEAR, GREY))
        for rgb in there_and_back
    ]
    return tuple(fitted)


def encode_loop(rgbs: Sequence[Rgb], codec: str, fps: float, bits_per_s: int) -> tuple[Coded, ...]:
    """LOOP_PICTURES pictures with their number burnt in. A key frame every KEY_EVERY, the first one included."""
    height_px, width_px = rgbs[0].shape[:2]
    name, options = ENCODERS[codec]
    context = cast(VideoCodecContext, VideoCodecContext.create(name, "w"))
    context.width, context.height, context.pix_fmt = width_px, height_px, "yuv420p"
    context.bit_rate, context.options = bits_per_s, options
    context.framerate, context.time_base = Fraction(fps).limit_denominator(1000), Fraction(1, CLOCK)
    context.gop_size = 10_000
    coded: list[Coded] = []
    for number, rgb in enumerate(islice(cycle(rgbs), LOOP_PICTURES)):
        marked = rgb.copy()
        burn(marked, number)
        frame = VideoFrame.from_ndarray(marked, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = round(number * CLOCK / fps), Fraction(1, CLOCK)
        is_key = number % KEY_EVERY == 0
        frame.pict_type = av.video.frame.PictureType.I if is_key else av.video.frame.PictureType.NONE
        (packet,) = context.encode(frame)
        coded.append(Coded(bytes(packet), is_key))
    return tuple(coded)


class LoopTrack(MediaStreamTrack):
    """Plays the encoded loop in real time. The sender asks for the next picture once the last packet of one is out."""

    kind = "video"

    def __init__(self, loop: Sequence[Coded], fps: float) -> None:
        super().__init__()
        self.sent: list[Sent] = []
        self.key_wanted = False
        self._pictures, self._fps = loop, fps
        self._since_s = time.monotonic()
        self._ticks = count()
        self._at = 0
        self._leaving: tuple[int, float] | None = None

    def want_key(self) -> None:
        """The other side asked for a key frame."""
        self.key_wanted = True

    async def recv(self) -> Any:
        if self._leaving is not None:
            self.sent.append(Sent(*self._leaving, time.monotonic()))
            self._leaving = None
        tick = next(self._ticks)
        await asyncio.sleep(max(self._since_s + tick / self._fps - time.monotonic(), 0))
        if self.readyState != "live":
            raise MediaStreamError
        if self.key_wanted:  # the loop goes on from its next key frame
            self._at, self.key_wanted = -(-self._at // KEY_EVERY) * KEY_EVERY % len(self._pictures), False
        number, self._at = self._at, (self._at + 1) % len(self._pictures)
        packet = av.Packet(self._pictures[number].payload)
        packet.pts, packet.time_base = round(tick * CLOCK / self._fps), Fraction(1, CLOCK)
        packet.is_keyframe = self._pictures[number].is_key
        self._leaving = (number, time.monotonic())
        return packet


class PacketTap:
    """Notes every packet of a receiver by its RTP timestamp, and keeps aiortc from decoding."""

    def __init__(self, receiver: RTCRtpReceiver) -> None:
        self.arrivals: OrderedDict[int, Arrival] = OrderedDict()
        self.codec: RTCRtpCodecParameters | None = None
        self._parts = receiver.__dict__  # private ones: aiortc is pinned
        self._handle = receiver._handle_rtp_packet
        self._parts["_handle_rtp_packet"] = self._note
        queue = "_RTCRtpReceiver__decoder_queue"
        self._parts[queue] = _Discard(self._parts[queue])

    async def _note(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        now_s = time.monotonic()
        codec = self._parts["_RTCRtpReceiver__codecs"].get(packet.payload_type)
        if codec is not None and codec.name != "rtx" and packet.payload:
            self.codec = codec
            arrival = self.arrivals.setdefault(packet.timestamp, Arrival(now_s))
            arrival.packets[packet.sequence_number] = packet
            arrival.last_s = now_s
            arrival.whole = arrival.whole or bool(packet.marker)
        await self._handle(packet, arrival_time_ms)

    def read_all(self) -> list[Back]:
        """Decodes everything that came, in order, and reads the ids. After the call."""
        if self.codec is None:
            return []
        context = cast(VideoCodecContext, VideoCodecContext.create(DECODERS[self.codec.name], "r"))
        context.thread_count = 1
        return [back for arrival in self.arrivals.values() if (back := self._read(context, arrival)) is not None]

    def _read(self, context: VideoCodecContext, arrival: Arrival) -> Back | None:
        if not arrival.whole or self.codec is None:
            return None
        first = next(iter(arrival.packets))
        ordered = sorted(arrival.packets.items(), key=lambda item: (item[0] - first + 32_768) % 65_536)
        payload = b"".join(depayload(self.codec, packet.payload) for _, packet in ordered)
        try:
            frames = context.decode(av.Packet(payload))
        except av.FFmpegError:
            frames = []
        number = read(np.asarray(frames[0].to_ndarray(format="gray"), np.uint8)) if frames else None
        return Back(number, arrival.first_s, arrival.last_s, len(payload))


class _Discard:
    """In place of the decoder's queue: no picture goes through, only the end."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def put(self, item: object) -> None:
        if item is None:
            self._real.put(None)

    def get(self) -> object:
        return self._real.get()


@dataclass(slots=True)
class Measured:
    """What one call gave."""

    sent: list[Sent]
    back: list[Back]
    reports: list[dict[str, Any]]  # what a server of ours says of itself, once a second


async def call(
    address: str, loop: Sequence[Coded], codec: str, fps: float, seconds: float, choice: dict[str, str] | None = None
) -> Measured:
    """Calls the server at `address` (http://host:port/?token=...) for so long."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    track, taps, reports = LoopTrack(loop, fps), list[PacketTap](), list[dict[str, Any]]()
    transceiver = connection.addTransceiver(track, direction="sendrecv")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([one for one in codecs if one.name in (codec, "rtx")])
    transceiver.sender.__dict__["_send_keyframe"] = track.want_key  # private; the public way would be an encoder
    channel = connection.createDataChannel("numbers")

    @channel.on("message")
    def hear(message: str) -> None:
        said = json.loads(message)
        if "numbers" in said:
            reports.append(said["numbers"])

    connection.on("track", lambda _: taps.append(PacketTap(transceiver.receiver)))
    await connection.setLocalDescription(await connection.createOffer())
    query = address.partition("?")[2]
    url = f"{address.partition('?')[0]}session" + (f"?{query}" if query else "")
    try:
        async with aiohttp.ClientSession() as http:
            body = {"sdp": connection.localDescription.sdp, **({"choice": choice} if choice is not None else {})}
            async with http.post(url, json=body) as response:
                answer = await response.json()
                if response.status != 201:
                    raise RuntimeError(f"the server answered {response.status}: {answer}")
            await connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
            await asyncio.sleep(seconds)
            async with http.delete(f"{address.partition('?')[0]}session/{answer['call']}?{query}"):
                pass
    finally:
        await connection.close()
    return Measured(track.sent, taps[0].read_all() if taps else [], reports)


def matched(measured: Measured, settle_s: float) -> Iterator[tuple[Sent, Back]]:
    """Each picture that came back with the latest one of its id that was sent before, from `settle_s` on."""
    if not measured.sent:
        return
    since_s = measured.sent[0].first_s + settle_s
    latest: dict[int, Sent] = {}
    waiting = iter(measured.sent)
    coming = next(waiting, None)
    for back in measured.back:
        while coming is not None and coming.first_s <= back.first_s:
            latest[coming.number] = coming
            coming = next(waiting, None)
        if back.number in latest and back.last_s >= since_s:
            yield latest[back.number], back
