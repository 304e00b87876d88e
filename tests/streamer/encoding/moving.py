"""Pictures with motion and a little noise, as a camera would give them."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from streamer.transport.types import EncodedUnit

CLOCK = Fraction(1, 90_000)


def pictures(width_px: int, height_px: int, count: int, every_s: float = 1 / 30) -> list[VideoFrame]:
    """Coarse blocks that wander, in planar 4:2:0, `every_s` apart."""
    dice = np.random.default_rng(3)
    blocks = dice.integers(0, 256, (height_px // 8, width_px // 8), np.uint8).repeat(8, 0).repeat(8, 1)
    grey = np.full((height_px // 2, width_px), 128, np.uint8)
    frames = []
    for index in range(count):
        noise = dice.integers(-4, 5, blocks.shape, np.int16)
        luma = np.clip(np.roll(blocks, index * 3, axis=1) + noise, 0, 255).astype(np.uint8)
        frame = VideoFrame.from_ndarray(np.concatenate([luma, grey]), format="yuv420p")
        frame.pts, frame.time_base = round(index * every_s / CLOCK), CLOCK
        frames.append(frame)
    return frames


def decode(units: list[EncodedUnit]) -> list[VideoFrame]:
    """What a receiver sees."""
    decoder = av.CodecContext.create({"VP8": "vp8", "H264": "h264"}[units[0].codec], "r")
    assert isinstance(decoder, VideoCodecContext)
    return [frame for unit in units for frame in decoder.decode(av.Packet(unit.payload))]


def psnr_db(one: VideoFrame, other: VideoFrame) -> float:
    """Of the luma."""
    difference = one.to_ndarray(format="gray").astype(np.int16) - other.to_ndarray(format="gray")
    return float(10 * np.log10(255**2 / np.mean(np.square(difference, dtype=np.float64))))
