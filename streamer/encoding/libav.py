"""Encoders of FFmpeg through PyAV: graphics cards, AV1, and everything where the libraries cannot be driven directly.

FFmpeg's wrappers take another bit rate only in parts (x264 its average, libvpx not at all), so a codec whose rate is to
change is opened anew, which costs a key frame: only for changes that matter, and not often.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame

from streamer.encoding.base import LockedEncoder
from streamer.encoding.native import NotUsable
from streamer.transport.types import EncodedUnit, VideoCodec

REOPEN_UP, REOPEN_DOWN = 1.5, 0.8  # of the rate that it was opened with
LEAST_BETWEEN_PICTURES = 60  # two seconds of a camera
TIME_BASE = Fraction(1, 90_000)
FRAMES_PER_S = 30
PICTURE_TICKS = 3_000


@dataclass(frozen=True, slots=True)
class Recipe:
    """A codec of FFmpeg's and how it is told to hurry. `{kbps}` in an option is replaced by the rate."""

    codec: VideoCodec
    encoder: str
    options: tuple[tuple[str, str], ...]
    profile: str | None = None
    in_place: bool = False  # whether the codec follows a change of `bit_rate` while it runs

    def opened(self, width_px: int, height_px: int, bits_per_s: int, threads: int) -> VideoCodecContext:
        context = av.CodecContext.create(self.encoder, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = width_px, height_px, "yuv420p"
        context.bit_rate = bits_per_s
        context.framerate, context.time_base = Fraction(FRAMES_PER_S, 1), TIME_BASE
        context.gop_size = 100_000
        context.max_b_frames = 0
        context.thread_count = threads
        context.options = {name: value.replace("{bps}", str(bits_per_s)) for name, value in self.options}
        if self.profile is not None:
            context.profile = self.profile
        return context


CBR = (("maxrate", "{bps}"), ("minrate", "{bps}"))
VP8 = Recipe(
    "VP8",
    "libvpx",
    (*CBR, ("bufsize", "{bps}"), ("deadline", "realtime"), ("cpu-used", "-8"), ("lag-in-frames", "0")),
)
H264 = Recipe(
    "H264",
    "libx264",
    (("maxrate", "{bps}"), ("bufsize", "{bps}"), ("preset", "superfast"), ("tune", "zerolatency"), ("forced-idr", "1")),
    "Baseline",
)
NVENC = Recipe(
    "H264",
    "h264_nvenc",
    (
        *CBR,
        ("bufsize", "{bps}"),
        ("preset", "p2"),
        ("tune", "ull"),
        ("rc", "cbr"),
        ("delay", "0"),
        ("zerolatency", "1"),
        ("forced-idr", "1"),
        ("repeat-headers", "1"),
    ),
    in_place=True,
)
AV1 = Recipe("AV1", "libsvtav1", (("preset", "12"), ("svtav1-params", "pred-struct=1:rc=2:rtc=1:scd=0:keyint=-1")))


class LibavEncoder(LockedEncoder):
    """See `types.Encoder`."""

    def __init__(self, recipe: Recipe, bits_per_s: int, threads: int = 1) -> None:
        super().__init__(recipe.encoder, bits_per_s)
        self.codec = recipe.codec
        self._recipe = recipe
        self._threads = threads
        self._opened_bps = 0
        self._since_opened = 0
        self._context: VideoCodecContext | None = None
        self._pts = 0

    def _encode(self, frame: VideoFrame, force_key: bool) -> EncodedUnit | None:
        context = self._context
        if context is None or (context.width, context.height) != (frame.width, frame.height) or self._rate_is_far():
            context = self._open(frame.width, frame.height)
        elif self._recipe.in_place and context.bit_rate != self._wanted_bps:
            context.bit_rate = self._wanted_bps
        self._since_opened += 1
        if frame.format.name != "yuv420p":
            frame = frame.reformat(format="yuv420p")
        pts, time_base, kind = frame.pts, frame.time_base, frame.pict_type
        frame.pts, frame.time_base = self._pts, TIME_BASE
        frame.pict_type = PictureType.I if force_key else PictureType.NONE
        self._pts += PICTURE_TICKS
        try:
            packets = context.encode(frame)
        except av.FFmpegError as error:
            self._context = None
            raise NotUsable(f"{self.name} cannot code the picture: {error}") from error
        finally:
            frame.pts, frame.pict_type = pts, kind
            if time_base is not None:
                frame.time_base = time_base
        payload = b"".join(bytes(packet) for packet in packets)
        return EncodedUnit(self.codec, payload, any(p.is_keyframe for p in packets)) if payload else None

    def _free(self) -> None:
        self._context = None

    def _rate_is_far(self) -> bool:
        share = self._wanted_bps / max(self._opened_bps, 1)
        far = not REOPEN_DOWN <= share <= REOPEN_UP
        return far and not self._recipe.in_place and self._since_opened >= LEAST_BETWEEN_PICTURES

    def _open(self, width_px: int, height_px: int) -> VideoCodecContext:
        try:
            self._context = self._recipe.opened(width_px, height_px, self._wanted_bps, self._threads)
            self._context.open()
        except (av.FFmpegError, ValueError) as error:
            self._context = None
            raise NotUsable(f"{self.name} cannot be opened: {error}") from error
        self._opened_bps, self._since_opened = self._wanted_bps, 0
        return self._context


@cache
def refusal(recipe: Recipe) -> str | None:
    """Why no session of it opens and codes a picture here; None where one did. The name alone says nothing: a wheel
    lists NVENC on every machine, and data centre cards have none. Takes up to a second."""
    encoder = LibavEncoder(recipe, 1_000_000)
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)  # else the error has a number and no words
    try:
        grey = VideoFrame.from_ndarray(np.full((360, 320), 128, np.uint8), format="yuv420p")
        with av.logging.Capture():  # it is told below, once
            unit = encoder.encode(grey, force_key=True)
    except NotUsable as error:
        return _reason(error)
    finally:
        av.logging.set_level(level)
        encoder.close()
    return None if unit is not None and unit.is_key else "it opens, and gives no picture"


def works(recipe: Recipe) -> bool:
    """Whether a session of it really opens here."""
    return refusal(recipe) is None


def _reason(error: NotUsable) -> str:
    """In a few words: what FFmpeg logged last says more than its number."""
    logged = str(error).partition("last error log: ")[2]
    said = logged.split("] ", 1)[-1] or getattr(error.__cause__, "strerror", None) or str(error)
    return " ".join(said.split())[:120]
