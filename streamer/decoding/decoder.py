"""FFmpeg's own decoders, with bounds: the code that touches a stranger's bytes. Runs in a decoder process.

libvpx allocates whatever a header declares; the native `vp8` and `h264` refuse a picture over `max_pixels` at once.
"""

from __future__ import annotations

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from streamer.decoding.wire import CODECS, MOST_PIXELS

NATIVE = {"VP8": "vp8", "H264": "h264"}
FORMATS = ("yuv420p", "yuvj420p")
FULL_RANGE = 2  # AVCOL_RANGE_JPEG


class Refused(Exception):
    """The picture cannot be decoded, or is none that a camera sends."""


class PictureDecoder:
    """Decodes pictures of one call, one after the other; a picture of another codec begins anew."""

    def __init__(self) -> None:
        self._codec = -1
        self._context: VideoCodecContext | None = None

    def decode(self, codec: int, payload: bytes, number: int) -> list[VideoFrame]:
        """Pictures that are whole, with their job's number as `pts`. Raises Refused."""
        if self._context is None or codec != self._codec:
            self._codec, self._context = codec, _open(CODECS[codec])
        packet = av.Packet(payload)
        packet.pts = number
        try:
            frames = self._context.decode(packet)
        except (av.FFmpegError, MemoryError) as error:
            raise Refused(str(error)) from error
        whole = [frame for frame in frames if not frame.is_corrupt and frame.format.name in FORMATS]
        if len(whole) < len(frames):
            raise Refused("a picture is damaged, or of a kind that no camera sends")
        return whole


def _open(codec: str) -> VideoCodecContext:
    context = av.CodecContext.create(NATIVE[codec], "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1  # threads cost latency (frames) or a start of their own (slices), and are forbidden here
    context.flags |= Flags.low_delay
    context.options = {"max_pixels": str(MOST_PIXELS)}
    return context


def even_size(frame: VideoFrame) -> tuple[int, int]:
    """(width, height) of what is kept: an odd last column or row is cut off, as 4:2:0 encoders want it."""
    return frame.width & ~1, frame.height & ~1


def copy_planes(frame: VideoFrame, into: npt.NDArray[np.uint8]) -> None:
    """Writes the picture as planar 4:2:0 without padding into a flat array. Of `even_size`, which must not be 0."""
    width_px, height_px = even_size(frame)
    at = 0
    for plane, divisor in zip(frame.planes, (1, 2, 2)):
        rows, columns = height_px // divisor, width_px // divisor
        pixels = np.frombuffer(memoryview(plane), np.uint8)[: plane.line_size * plane.height].reshape(
            -1, plane.line_size
        )
        into[at : at + rows * columns].reshape(rows, columns)[:] = pixels[:rows, :columns]
        at += rows * columns
