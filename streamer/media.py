"""Reading video files: upright RGB pictures with their exact times, sound and subtitles as they were stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container import InputContainer
from av.error import FFmpegError
from av.sidedata.sidedata import SideData, Type
from av.stream import Disposition
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream
from PIL import Image

from engines import MediaError, Rgb
from streamer.colour import Colour
from streamer.errors import no_file
from streamer.frame import Frame

LEAST_MISSING_S = 0.5  # a file that ends this much before it promised to is called cut off
JUMP_BACK_S = 1.0  # a clock that falls back this far was restarted; less is a disordered stamp
FALLBACK_RATE = Fraction(25)
LEAST_STRETCHED = 0.03  # of a pixel's aspect; no face looks another for less
MOST_STRETCHED = 4  # what says more is damaged
# Containers whose header says how long they are; others guess it from the bit rate.
PROMISES_DURATION = {"mov", "matroska", "avi"}


@dataclass(frozen=True, slots=True)
class Companion:
    """A stored packet of a stream that is not swapped: sound or subtitles. Its times are already moved."""

    packet: av.Packet[Any]
    index: int  # of its stream in the input


@dataclass(frozen=True, slots=True)
class Turn:
    """How stored pictures are brought upright: swap the axes, then mirror along x, then along y."""

    swap: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def of(cls, picture: av.VideoFrame) -> Turn:
        """Reads the display matrix: x' = a x + c y, y' = b x + d y; phones store only quarter turns and mirrors.

        Beside facts of a kind that PyAV has no name for (the EXIF of a JPEG) the matrix cannot be reached; its angle
        can, a mirror cannot.
        """
        try:
            side_data = picture.side_data.get(Type.DISPLAYMATRIX.name)
        except ValueError:
            quarters = round(picture.rotation / 90) % 4
            return cls(quarters % 2 == 1, quarters in (2, 3), quarters in (1, 2))
        if not isinstance(side_data, SideData):
            return cls()
        a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(side_data), np.int32)[:5])
        if abs(b) > abs(a):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    def upright(self, rgb_HW3: Rgb) -> Rgb:
        """A contiguous picture with its top at the top."""
        if self.swap:
            rgb_HW3 = rgb_HW3.transpose(1, 0, 2)
        if self.mirror_x:
            rgb_HW3 = rgb_HW3[:, ::-1]
        if self.mirror_y:
            rgb_HW3 = rgb_HW3[::-1]
        return np.ascontiguousarray(rgb_HW3)


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What is known of a video before all of it was read. Sizes are of the upright picture."""

    width_px: int
    height_px: int
    rate: Fraction  # average pictures a second
    time_base: Fraction
    pixel_aspect: Fraction | None
    colour: Colour
    turned: bool
    frames: int  # 0 where the file does not say and nothing can be computed
    duration_s: float  # 0 where the file does not say


class _Deinterlacer:
    """One whole picture for each two fields: a face that is combed can be neither tracked nor drawn well."""

    def __init__(self, like: av.VideoFrame, time_base: Fraction) -> None:
        self._time_base = time_base
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=time_base)
        fields_to_frames = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        self._graph.link_nodes(source, fields_to_frames, self._graph.add("buffersink")).configure()

    def whole(self, picture: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """Pictures come out one later than they go in; None ends them. Their times stay their own."""
        self._graph.vpush(picture)
        while True:
            try:
                whole = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert whole.time_base is not None
            ticks = whole.time_base / self._time_base  # bwdif counts in halves
            whole.pts = None if whole.pts is None else round(whole.pts * ticks)
            whole.duration = round(whole.duration * ticks)
            whole.time_base = self._time_base
            yield whole


class MediaReader:
    """One video stream of a file with all its companions, from front to back.

    any_size: pictures may change their size on the way, as in what a browser recorded of a call; else that is an error.
    square_pixels: pictures that players stretch come stretched: a head that is pressed together is drawn wrongly.

    Raises MediaError, naming the file, for what cannot be read. Use in one thread, then `close`.
    After the last item: `broke_off` says where and why a cut file ended, `damaged` counts packets that could not be
    decoded, `retimed` counts pictures whose time stamp was not later than the one before.
    """

    def __init__(self, path: Path, any_size: bool = False, square_pixels: bool = False) -> None:
        self.path = path
        self._any_size, self._square_pixels = any_size, square_pixels
        self.broke_off: str | None = None
        self.damaged = self.retimed = 0
        self._deinterlacer: _Deinterlacer | None = None
        self._container = _open(path)
        try:
            self._video = _choose_video(self._container, path)
            self.sounds = [s for s in self._container.streams.audio if _can_be_read(s)]
            self.subtitles = [s for s in self._container.streams.subtitles if _can_be_read(s)]
            self.left_out = _describe_left_out(self._container, self._video, self.sounds, self.subtitles)
            self._time_base = _time_base(self._video)
            self._origin_s = self._find_origin_s()
            self._rate = self._video.average_rate or self._video.guessed_rate or FALLBACK_RATE
            self._video.thread_type = "AUTO"
            self._last_pts: int | None = None
            self._reached_s = 0.0
            self._jumped_s = Fraction(0)
            self._before_first: list[Companion] = []
            self._pictures = self._decode()
            self._first = self._read_first()
            self._stored = self._find_facts(self._first)
            self.facts = _stretched(self._stored) if square_pixels else self._stored
        except BaseException:
            self._container.close()
            raise

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self._container.metadata)

    @property
    def video_metadata(self) -> dict[str, str]:
        return dict(self._video.metadata)

    @property
    def chapters(self) -> list[Any]:
        """Chapters as PyAV gives them, moved like everything else."""
        chapters = []
        for chapter in self._container.chapters():
            ticks = round(self._origin_s / (chapter["time_base"] or Fraction(1, av.time_base)))
            chapters.append({**chapter, "start": chapter["start"] - ticks, "end": chapter["end"] - ticks})
        return chapters

    @property
    def interlaced(self) -> bool:
        """Whether pictures were stored as two fields, and were made whole."""
        return self._deinterlacer is not None

    @property
    def moved_s(self) -> float:
        """How much earlier everything is than it was stored, so that the earliest stream starts at 0."""
        return float(self._origin_s)

    def close(self) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[Frame | Companion]:
        """Everything, in the order of the file. Raises MediaError where the picture changes its size."""
        yield from self._before_first
        self._before_first.clear()
        yield self._convert(self._first)
        for item in self._pictures:
            yield item if isinstance(item, Companion) else self._convert(item)
        self._see_whether_whole()

    def _read_first(self) -> av.VideoFrame:
        for item in self._pictures:
            if not isinstance(item, Companion):
                return item
            self._before_first.append(item)
        cut = f" ({self.broke_off})" if self.broke_off else ""
        if _is_animated_webp(self.path):
            raise MediaError(f"{self.path}: an animated WebP cannot be read here; save it as GIF or MP4")
        raise MediaError(f"{self.path}: no picture in it can be decoded{cut}")

    def _decode(self) -> Iterator[av.VideoFrame | Companion]:
        """Demuxes and decodes; remembers instead of raising where the file turns out to be damaged."""
        streams = [self._video, *self.sounds, *self.subtitles]
        packets = self._container.demux(*streams)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except FFmpegError as error:
                self._break_off(error.strerror or "unreadable")
                yield from self._decode_packet(None)
                break
            if packet.stream is self._video:
                if packet.is_corrupt and packet.size:
                    self.damaged += 1
                yield from self._decode_packet(cast("av.Packet[VideoStream]", packet))
            elif packet.size and packet.dts is not None:
                yield self._move(packet)
        if self._deinterlacer is not None:
            yield from self._deinterlacer.whole(None)

    def _decode_packet(self, packet: av.Packet[VideoStream] | None) -> Iterator[av.VideoFrame]:
        try:
            pictures = self._video.decode(packet)
        except FFmpegError:
            self.damaged += 1
            return
        for picture in pictures:
            if self._deinterlacer is None and picture.interlaced_frame:
                self._deinterlacer = _Deinterlacer(picture, self._time_base)
            yield from self._deinterlacer.whole(picture) if self._deinterlacer else (picture,)

    def _move(self, packet: av.Packet[Any]) -> Companion:
        ticks = round((self._origin_s + self._jumped_s) / packet.time_base)
        packet.dts = packet.dts - ticks if packet.dts is not None else None
        packet.pts = packet.pts - ticks if packet.pts is not None else None
        end = (packet.pts or 0) + (packet.duration or 0)
        self._reached_s = max(self._reached_s, float(end * packet.time_base))
        return Companion(packet, packet.stream.index)

    def _convert(self, picture: av.VideoFrame) -> Frame:
        pts = self._pts_of(picture)
        turn = Turn.of(picture)
        upright = (picture.height, picture.width) if turn.swap else (picture.width, picture.height)
        at_s = float(pts * self._time_base)
        if upright != (self._stored.width_px, self._stored.height_px) and not self._any_size:
            first = f"{self._stored.width_px}x{self._stored.height_px}"
            raise MediaError(
                f"{self.path}: the picture changes its size from {first} to {upright[0]}x{upright[1]} at {at_s:.2f} s;"
                " bring it to one size first"
            )
        self._reached_s = max(self._reached_s, at_s + float(picture.duration * self._time_base))
        rgb_HW3 = turn.upright(self.facts.colour.to_rgb(picture))
        if self.facts is not self._stored:
            size_px = self.facts.width_px, self.facts.height_px
            rgb_HW3 = np.array(Image.fromarray(rgb_HW3).resize(size_px, Image.Resampling.BICUBIC))
        return Frame(rgb_HW3, pts, self._time_base, round(pts * self._time_base * 10**9), picture.duration)

    def _pts_of(self, picture: av.VideoFrame) -> int:
        """The picture's own time, moved; always later than the one before, as encoders and filters demand."""
        step = picture.duration or max(round(1 / (self._rate * self._time_base)), 1)
        last = self._last_pts
        pts = last + step if last is not None else 0
        if picture.pts is not None:
            pts = picture.pts - round((self._origin_s + self._jumped_s) / self._time_base)
        if last is not None and pts <= last:
            self.retimed += 1
            if (last - pts) * self._time_base > JUMP_BACK_S:
                self._jumped_s -= (last + step - pts) * self._time_base
                pts = last + step
            else:
                pts = last + 1
        self._last_pts = pts
        return pts

    def _find_origin_s(self) -> Fraction:
        """When the earliest stream starts, in whole ticks of the video; 0 where that is not after 0."""
        streams: list[VideoStream | AudioStream] = [self._video, *self.sounds]
        starts = [s.start_time * s.time_base for s in streams if s.start_time is not None and s.time_base]
        ticks = min(starts, default=Fraction(0)) // self._time_base
        return max(ticks, 0) * self._time_base

    def _find_facts(self, picture: av.VideoFrame) -> VideoFacts:
        turn = Turn.of(picture)
        width_px, height_px = picture.width, picture.height
        aspect = self._video.sample_aspect_ratio
        if turn.swap:
            width_px, height_px = height_px, width_px
            aspect = 1 / aspect if aspect else None
        duration_s = self._promised_s()
        frames = self._video.frames or round(duration_s * self._rate)
        return VideoFacts(
            width_px=width_px,
            height_px=height_px,
            rate=self._rate,
            time_base=self._time_base,
            pixel_aspect=aspect,
            colour=Colour.of(picture),
            turned=turn != Turn(),
            frames=frames,
            duration_s=duration_s,
        )

    def _promised_s(self) -> float:
        if self._video.duration:
            return float(self._video.duration * self._time_base)
        return (self._container.duration or 0) / av.time_base

    def _see_whether_whole(self) -> None:
        promises = PROMISES_DURATION & set(self._container.format.name.split(","))
        if self.broke_off or not promises or not self._container.duration:
            return
        missing_s = self._container.duration / av.time_base - self._reached_s
        if missing_s > LEAST_MISSING_S:
            self._break_off(f"{missing_s:.1f} s are missing")

    def _break_off(self, why: str) -> None:
        self.broke_off = f"broke off at {self._reached_s:.2f} s: {why}"


def _stretched(facts: VideoFacts) -> VideoFacts:
    """With square pixels; no side gets shorter. The same object where they are square, or next to."""
    aspect = facts.pixel_aspect or Fraction(1)
    if abs(aspect - 1) < LEAST_STRETCHED or not 1 / MOST_STRETCHED <= aspect <= MOST_STRETCHED:
        return facts
    width_px = 2 * round(facts.width_px * max(aspect, Fraction(1)) / 2)
    height_px = 2 * round(facts.height_px * max(1 / aspect, Fraction(1)) / 2)
    return replace(facts, width_px=width_px, height_px=height_px, pixel_aspect=Fraction(1))


def _open(path: Path) -> InputContainer:
    if why := no_file(path, "a video file", pipes=True):
        raise MediaError(f"{path}: {why}")
    if path.is_file() and path.stat().st_size == 0:
        raise MediaError(f"{path}: the file is empty")
    try:
        return av.open(str(path), "r", metadata_errors="replace")
    except FFmpegError as error:
        hint = "it is no video, or was cut off before its index was written" if _is_invalid(error) else error.strerror
        raise MediaError(f"{path}: cannot be read: {hint}") from error


def _is_animated_webp(path: Path) -> bool:
    """FFmpeg takes it for a WebP without a picture."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        begins = file.read(64)
    return begins[:4] == b"RIFF" and begins[8:12] == b"WEBP" and b"ANIM" in begins


def _is_invalid(error: FFmpegError) -> bool:
    return isinstance(error, av.error.InvalidDataError | av.error.EOFError)


def _choose_video(container: InputContainer, path: Path) -> VideoStream:
    """The default video stream, else the first; a cover picture is none, nor an animation's first picture by itself."""
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        has = "only sound" if container.streams.audio else "no video"
        raise MediaError(f"{path}: there is {has} in it, and no pictures to swap a face in")
    readable = [s for s in videos if _can_be_read(s)]
    if not readable:
        raise MediaError(f"{path}: its video format is not known here, or its header is damaged")
    chosen = next((s for s in readable if s.disposition & Disposition.default), readable[0])
    moving = [s for s in readable if s.frames > 1]
    return moving[0] if chosen.frames == 1 and moving else chosen


def _can_be_read(stream: VideoStream | AudioStream | SubtitleStream) -> bool:
    context: CodecContext | None = stream.codec_context  # PyAV's stubs do not say that it may be missing
    if context is None:
        return False
    return not isinstance(stream, AudioStream) or stream.rate > 0


def _describe_left_out(
    container: InputContainer, video: VideoStream, sounds: list[AudioStream], subtitles: list[SubtitleStream]
) -> list[str]:
    used = {stream.index for stream in (video, *sounds, *subtitles)}
    return [f"{s.type} stream {s.index}" for s in container.streams if s.index not in used]


def _time_base(stream: VideoStream) -> Fraction:
    return stream.time_base or Fraction(1, 90_000)
