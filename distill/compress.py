"""Compression in memory, there and back: what JPEG or a real H.264 encoder leaves of a clip."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray
from PIL import Image

Clip = NDArray[np.uint8]


CRF_BEST, CRF_WORST = 18, 42  # x264's constant rate factor for quality 90 and 20
QUALITY_BEST, QUALITY_WORST = 90, 20


def jpeg(clip_THW3: Clip, quality: int) -> Clip:
    """Each frame as JPEG of that quality (Pillow's scale, 1..95). uint8 [T, H, W, 3] -> the same shape."""
    return np.stack([_jpeg(rgb_HW3, quality) for rgb_HW3 in clip_THW3])


def _jpeg(rgb_HW3: Clip, quality: int) -> Clip:
    held = io.BytesIO()
    Image.fromarray(rgb_HW3).save(held, "JPEG", quality=quality)
    return np.asarray(Image.open(held))


def h264(clip_THW3: Clip, quality: int) -> Clip:
    """The clip as one H.264 stream, a key frame first, as fast encoders of calls make it. Shape stays.

    quality 20..90 on JPEG's scale is mapped to x264's rate factor 42..18. The same input gives the same output.
    """
    frames, height_px, width_px, _ = clip_THW3.shape
    even = (height_px + height_px % 2, width_px + width_px % 2)
    padded = np.pad(clip_THW3, ((0, 0), (0, even[0] - height_px), (0, even[1] - width_px), (0, 0)), mode="edge")
    out = np.stack(_decoded(_encoded(padded, quality)))
    if len(out) != frames:
        raise RuntimeError(f"H.264 gave {len(out)} of {frames} frames back")
    return np.ascontiguousarray(out[:, :height_px, :width_px])


def _encoded(clip_THW3: Clip, quality: int) -> list[av.Packet[Any]]:
    share = (QUALITY_BEST - quality) / (QUALITY_BEST - QUALITY_WORST)
    encoder = CodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.height, encoder.width = clip_THW3.shape[1:3]
    encoder.pix_fmt = "yuv420p"
    encoder.framerate = Fraction(25)
    encoder.thread_count = 1  # workers are processes already
    crf = round(CRF_BEST + share * (CRF_WORST - CRF_BEST))
    encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(crf), "g": "250"}
    packets = []
    for number, rgb_HW3 in enumerate(clip_THW3):
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb_HW3), format="rgb24")
        picture.pts = number
        packets += encoder.encode(picture)
    return packets + encoder.encode(None)


def _decoded(packets: list[av.Packet[Any]]) -> list[Clip]:
    decoder = CodecContext.create("h264", "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    pictures = [picture for packet in packets for picture in decoder.decode(packet)]
    pictures += decoder.decode(None)
    return [np.asarray(picture.to_ndarray(format="rgb24"), np.uint8) for picture in pictures]
