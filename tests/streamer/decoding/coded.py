"""Coded pictures for tests, made by real encoders."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from aiortc.codecs.h264 import H264Encoder, h264_depayload
from aiortc.codecs.vpx import Vp8Encoder, vp8_depayload
from av.video.frame import VideoFrame

from streamer.decoding.link import DecoderLink
from streamer.decoding.parent import Nursery
from streamer.decoding.picture import DecodedPicture
from streamer.transport.types import CodedPicture, VideoCodec

STEP = 3_000  # of 90 kHz


def coded(
    codec: VideoCodec, count: int, height_px: int = 120, width_px: int = 160, first: int = 0
) -> list[CodedPicture]:
    """A key frame and what follows it: noise that moves. `last_packet_s` is now; see `fresh`."""
    encoder = Vp8Encoder() if codec == "VP8" else H264Encoder()
    depayload = vp8_depayload if codec == "VP8" else h264_depayload
    noise = np.random.default_rng(7).integers(0, 255, (height_px, width_px, 3), np.uint8)
    pictures = []
    for number in range(count):
        frame = VideoFrame.from_ndarray(np.roll(noise, number, 1), format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number * STEP, Fraction(1, 90_000)
        payloads, _ = encoder.encode(frame, number == 0)
        data = b"".join(map(depayload, payloads))
        now_s = time.monotonic()
        pictures.append(CodedPicture(codec, data, (first + number) * STEP, number == 0, now_s, now_s))
    return pictures


def fresh(picture: CodedPicture) -> CodedPicture:
    """The same picture, arriving now."""
    now_s = time.monotonic()
    return CodedPicture(picture.codec, picture.payload, picture.rtp_timestamp, picture.is_key, now_s, now_s)


def bomb(declared_px: int = 16_383) -> CodedPicture:
    """A small VP8 key frame whose header claims a square of that size."""
    key = coded("VP8", 1, 64, 64)[0]
    data = bytearray(key.payload)
    struct.pack_into("<HH", data, 6, declared_px, declared_px)
    return CodedPicture("VP8", bytes(data), 0, True, time.monotonic(), time.monotonic())


class Call:
    """A link with ears: what it delivers, asks and says."""

    def __init__(self, nursery: Nursery, keep: bool = False) -> None:
        self.pictures: list[DecodedPicture] = []
        self.pts: list[int] = []
        self.wanted: list[str] = []
        self.failures: list[str] = []
        self._keep = keep
        self.link = DecoderLink(nursery, self._deliver, self.wanted.append, self.failures.append, "test")

    def _deliver(self, picture: DecodedPicture) -> None:
        self.pts.append(picture.pts)
        if self._keep:
            self.pictures.append(picture)

    async def until(self, what: Callable[[], bool], timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not what():  # noqa: ASYNC110  anything can be asked
                await asyncio.sleep(0.005)

    async def feed(self, pictures: list[CodedPicture]) -> None:
        """One after the other, each when the one before has been answered."""
        for picture in pictures:
            before = self.answered()
            self.link.coded(fresh(picture))
            await self.until(lambda before=before: self.answered() > before or bool(self.failures))  # type: ignore[misc]

    def answered(self) -> int:
        counters = self.link.counters()
        dropped = counters.dropped_behind + counters.dropped_for_key + counters.dropped_skipped
        return counters.decoded + counters.refused + counters.dropped_no_slot + dropped + counters.restarts

    def pid(self) -> int:
        """The decoder process."""
        child = self.link._child
        assert child is not None
        with open(f"/proc/self/fdinfo/{child.pidfd}", encoding="utf-8") as info:
            return int(next(line.split()[1] for line in info if line.startswith("Pid:")))
