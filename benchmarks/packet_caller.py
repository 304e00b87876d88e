"""A caller for measurements: sends pictures that were encoded beforehand, and notes when packets leave and come.

Stock aiortc in a process of its own, without encoding or decoding while it measures: what is timed is the other side.
`time.monotonic` is one clock for all processes of a machine.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any, cast

import aiohttp
import av
import numpy as np
import numpy.typing as npt
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
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
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
FLASH_PART = 5  # of the picture's height
FLASH_PICTURES = 8  # as long as one lasts: some of them may be dropped on the way
FLASH_LUMA = 128
SOUND_CLOCK, SOUND_SAMPLES = 48_000, 960  # 20 ms
BEEP_EVERY = 50  # sounds: once a second
BEEP_HZ, BEEP_LEVEL, SILENT_LEVEL = 1_000, 12_000, 1_000
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
    flash: bool = False


@dataclass(frozen=True, slots=True)
class Sound:
    """One packet of Opus, and when it left or came."""

    payload: bytes
    at_s: float


def pictures(clip: Path, height_px: int, width_px: int) -> tuple[Rgb, ...]:
    """The clip's pictures, forward and back so that there is no jump, scaled to fit and padded."""
    frames = read_clip(clip).frames
    there_and_back = [*frames, *frames[-2:0:-1]]
    fitted = [
        np.array(ImageOps.pad(Image.fromarray(rgb), (width_px, height_px), Image.Resampling.BILINEAR, GREY))
        for rgb in there_and_back
    ]
    return tuple(fitted)


def encode_loop(
    rgbs: Sequence[Rgb], codec: str, fps: float, bits_per_s: int, flash_every: int = 0, count: int = LOOP_PICTURES
) -> tuple[Coded, ...]:
    """`count` pictures with their number burnt in. A key frame every KEY_EVERY, the first one included.

    flash_every  every so many pictures the lower fifth is white for a while, else it is black; 0: it stays as it is
    """
    height_px, width_px = rgbs[0].shape[:2]
    name, options = ENCODERS[codec]
    context = cast(VideoCodecContext, VideoCodecContext.create(name, "w"))
    context.width, context.height, context.pix_fmt = width_px, height_px, "yuv420p"
    context.bit_rate, context.options = bits_per_s, options
    context.framerate, context.time_base = Fraction(fps).limit_denominator(1000), Fraction(1, CLOCK)
    context.gop_size, context.thread_count = 10_000, 1  # threads of libvpx wait for each other on a busy machine
    coded: list[Coded] = []
    for number, rgb in enumerate(islice(cycle(rgbs), count)):
        marked = rgb.copy()
        burn(marked, number)
        if flash_every:
            marked[-height_px // FLASH_PART :] = 255 if number % flash_every < FLASH_PICTURES else 0
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

    def __init__(self, loop: Sequence[Coded], fps: float, since_s: float) -> None:
        super().__init__()
        self.sent: list[Sent] = []
        self.key_wanted = False
        self._pictures, self._fps = loop, fps
        self._since_s = since_s
        self._ticks = itertools.count()
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


def encode_beeps() -> tuple[bytes, ...]:
    """A second of sound that may be played round and round: a beep of 100 ms at its beginning, else silence."""
    context = AudioCodecContext.create("libopus", "w")
    context.sample_rate, context.layout, context.format = SOUND_CLOCK, "stereo", "s16"
    context.options = {"application": "lowdelay"}
    packets: list[bytes] = []
    for number in range(2 * BEEP_EVERY + 5):
        times_s = (np.arange(SOUND_SAMPLES) + number * SOUND_SAMPLES) / SOUND_CLOCK
        wave = BEEP_LEVEL * np.sin(2 * np.pi * BEEP_HZ * times_s) * (number % BEEP_EVERY < 5)
        frame = AudioFrame.from_ndarray(np.repeat(wave.astype(np.int16), 2)[None, :], format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_CLOCK, number * SOUND_SAMPLES, Fraction(1, SOUND_CLOCK)
        packets += [bytes(packet) for packet in context.encode(frame)]
    return tuple(packets[BEEP_EVERY : 2 * BEEP_EVERY])


class BeepTrack(MediaStreamTrack):
    """Plays the beeps in real time, on the clock of the pictures."""

    kind = "audio"

    def __init__(self, beeps: Sequence[bytes], since_s: float) -> None:
        super().__init__()
        self.sent: list[Sound] = []
        self._beeps, self._since_s = beeps, since_s

    async def recv(self) -> Any:
        number = len(self.sent)
        await asyncio.sleep(max(self._since_s + number * SOUND_SAMPLES / SOUND_CLOCK - time.monotonic(), 0))
        if self.readyState != "live":
            raise MediaStreamError
        packet = av.Packet(self._beeps[number % BEEP_EVERY])
        packet.pts, packet.time_base = number * SOUND_SAMPLES, Fraction(1, SOUND_CLOCK)
        self.sent.append(Sound(self._beeps[number % BEEP_EVERY], time.monotonic()))
        return packet


class SoundTap:
    """Notes every packet of sound that comes back, and keeps aiortc from decoding it."""

    def __init__(self, receiver: RTCRtpReceiver) -> None:
        self.back: list[Sound] = []
        receiver.__dict__["_handle_rtp_packet"] = self._note

    async def _note(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        self.back.append(Sound(packet.payload, time.monotonic()))


def beeps_at(sounds: Sequence[Sound]) -> list[float]:
    """When each packet left or came in which a beep begins, monotonic seconds."""
    context = AudioCodecContext.create("opus", "r")
    found: list[float] = []
    quiet = 0
    for sound in sounds:
        frames = context.decode(av.Packet(sound.payload))
        loud = bool(frames) and max(float(np.abs(_samples(frame)).max()) for frame in frames) > SILENT_LEVEL
        if loud and quiet >= BEEP_EVERY // 5:
            found.append(sound.at_s)
        quiet = 0 if loud else quiet + 1
    return found


def _samples(frame: AudioFrame) -> npt.NDArray[np.float64]:
    """Of any format, as 16-bit samples would be."""
    samples = np.asarray(frame.to_ndarray(), np.float64)
    return samples * 32_768 if frame.format.name.startswith("flt") else samples


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
        return [back for arrival in list(self.arrivals.values()) if (back := self._read(context, arrival)) is not None]

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
        if not frames:
            return Back(None, arrival.first_s, arrival.last_s, len(payload))
        luma = np.asarray(frames[0].to_ndarray(format="gray"), np.uint8)
        flash = float(luma[-luma.shape[0] // (2 * FLASH_PART) :].mean()) > FLASH_LUMA
        return Back(read(luma), arrival.first_s, arrival.last_s, len(payload), flash)


class _Discard:
    """In place of the decoder's queue: no picture goes through, only the end."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def put(self, item: object) -> None:
        if item is None:
            self._real.put(None)

    def get(self) -> object:
        return self._real.get()

    def get_nowait(self) -> object:
        return self._real.get_nowait()

    def empty(self) -> bool:
        return bool(self._real.empty())


@dataclass(slots=True)
class Measured:
    """What one call gave."""

    sent: list[Sent]
    back: list[Back]
    reports: list[dict[str, Any]]  # what a server of ours says of itself, once a second
    sounds_sent: list[Sound] = field(default_factory=list)
    sounds_back: list[Sound] = field(default_factory=list)


async def call(
    address: str, loop: Sequence[Coded], codec: str, fps: float, seconds: float, choice: dict[str, str] | None = None,
    beeps: Sequence[bytes] = (),
) -> Measured:  # fmt: skip
    """Calls the server at `address` (http://host:port/?token=...) for so long, with sound where there are beeps."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    since_s = time.monotonic()
    track, taps, reports = LoopTrack(loop, fps, since_s), list[PacketTap](), list[dict[str, Any]]()
    sound, sound_taps = BeepTrack(beeps, since_s), list[SoundTap]()
    if beeps:
        sound_line = connection.addTransceiver(sound, direction="sendrecv")
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

    @connection.on("track")
    def came(one: MediaStreamTrack) -> None:
        if one.kind == "video":
            taps.append(PacketTap(transceiver.receiver))
        else:
            sound_taps.append(SoundTap(sound_line.receiver))

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
    sounds_back = [one for tap in sound_taps for one in tap.back]
    return Measured(track.sent, taps[0].read_all() if taps else [], reports, sound.sent, sounds_back)


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
