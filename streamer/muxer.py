"""Writing video files: pictures with their exact times, sound copied where the container takes it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Stream
from av.subtitles.stream import SubtitleStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from engines import MediaError, Rgb
from streamer.frame import Frame
from streamer.media import Companion, MediaReader, VideoFacts

GIF_TIME_BASE = Fraction(1, 100)
GIF_LEAST_TICKS = 2  # browsers play anything shorter at a tenth of a second
AAC_RATES_HZ = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}
# What describes the file that was read, not the one that is written.
PLACE_METADATA = ("location", "gps", "geo")  # parts of keys, as phones and cameras write them
STALE_METADATA = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "rotate", "vendor_id"}
H264 = {"crf": "18", "preset": "veryfast"}
# Matroska would move everything by the 21 ms that an AAC encoder starts early; a player knows what to do with them.
CONTAINER_OPTIONS = {
    "mp4": {"movflags": "+faststart"},
    "mov": {"movflags": "+faststart"},
    "matroska": {"avoid_negative_ts": "disabled"},
}
# Measured on a 640x480 clip: a fifth of the time of `good` at the same PSNR (41.9 dB) for a third more bytes.
VP9 = {"crf": "24", "deadline": "realtime", "cpu-used": "8", "row-mt": "1"}


@dataclass(frozen=True, slots=True)
class Kind:
    """What a container takes: `sounds` and `subtitles` are the codecs that are copied as they are."""

    format: str
    video: str
    options: dict[str, str]
    sounds: frozenset[str] = frozenset()
    subtitles: frozenset[str] = frozenset()
    sound_encoder: str | None = None


_MP4_SOUNDS = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
_PCM = frozenset({"pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le", "pcm_u8"})
_MP4 = Kind("mp4", "libx264", H264, _MP4_SOUNDS, frozenset({"mov_text"}), "aac")
KINDS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Kind("mov", "libx264", H264, (_MP4_SOUNDS - {"opus", "flac"}) | _PCM, frozenset({"mov_text"}), "aac"),
    ".mkv": Kind(
        "matroska",
        "libx264",
        H264,
        _MP4_SOUNDS | _PCM | {"vorbis", "dts", "truehd", "mp2"},
        frozenset({"subrip", "ass", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle"}),
        "aac",
    ),
    ".webm": Kind("webm", "libvpx-vp9", VP9, frozenset({"opus", "vorbis"}), frozenset({"webvtt"}), "libopus"),
    ".gif": Kind("gif", "gif", {}),
}


def kind_of(path: Path) -> Kind:
    """The container that a file name asks for. Raises MediaError naming the valid ones."""
    kind = KINDS.get(path.suffix.lower())
    if path.is_dir():
        raise MediaError(f"{path}: is a folder; name a file in it")
    if kind is None:
        raise MediaError(f"{path}: cannot write {path.suffix or 'such'} files, only {', '.join(sorted(KINDS))}")
    return kind


class _Track(Protocol):
    def write(self, packet: av.Packet[Any]) -> Iterator[av.Packet[Any]]: ...

    def finish(self) -> Iterator[av.Packet[Any]]: ...


class _Copied:
    """A stream whose packets go over as they are."""

    def __init__(self, container: OutputContainer, source: AudioStream | SubtitleStream) -> None:
        self._stream: Stream = container.add_stream_from_template(source)
        _copy_stream_metadata(source, self._stream)
        self._last_dts: int | None = None

    def write(self, packet: av.Packet[Any]) -> Iterator[av.Packet[Any]]:
        if self._last_dts is not None and packet.dts is not None and packet.dts <= self._last_dts:
            return  # a container refuses packets out of order; such a file repeats a moment
        self._last_dts = packet.dts
        packet.stream = self._stream
        yield packet

    def finish(self) -> Iterator[av.Packet[Any]]:
        yield from ()


class _Encoded:
    """Sound that the container does not take as it is: decoded, gaps filled with silence, encoded."""

    def __init__(self, container: OutputContainer, source: AudioStream, encoder: str) -> None:
        self._source = source
        rate_hz = source.rate if encoder == "aac" and source.rate in AAC_RATES_HZ else 48_000
        channels = source.codec_context.channels
        layout = {1: "mono", 6: "5.1"}.get(channels, "stereo")
        per_channel = 96_000 if encoder == "aac" else 64_000
        bit_rate = per_channel * {"mono": 1, "stereo": 2, "5.1": 6}[layout]
        stream = container.add_stream(encoder, rate=rate_hz, bit_rate=bit_rate)
        assert isinstance(stream, AudioStream)
        stream.codec_context.layout = layout
        stream.codec_context.time_base = Fraction(1, rate_hz)
        _copy_stream_metadata(source, stream)
        self._stream = stream
        self._graph: av.filter.Graph | None = None

    def write(self, packet: av.Packet[Any] | None) -> Iterator[av.Packet[Any]]:
        try:
            frames = self._source.decode(packet)
        except FFmpegError:
            return  # a damaged packet of sound is silence
        for frame in frames:
            for filled in self._fill_gaps(frame):
                yield from self._stream.encode(filled)

    def finish(self) -> Iterator[av.Packet[Any]]:
        yield from self.write(None)
        if self._graph is not None:
            for filled in self._fill_gaps(None):
                yield from self._stream.encode(filled)
            yield from self._stream.encode(None)

    def _fill_gaps(self, frame: AudioFrame | None) -> Iterator[AudioFrame]:
        """The encoder numbers samples one after the other, so a gap must become silence or all after it is early."""
        if self._graph is None:
            assert frame is not None
            self._graph = av.filter.Graph()
            source = self._graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format.name,
                layout=frame.layout.name,
                time_base=frame.time_base,
            )
            resample = self._graph.add("aresample", "async=1:min_hard_comp=0.02")
            self._graph.link_nodes(source, resample, self._graph.add("abuffersink")).configure()
        self._graph.push(frame)
        while True:
            try:
                filled = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(filled, AudioFrame)
            yield filled


class _Pictures:
    """The video stream of every container but gif. yuv420p wants even sides: an odd one repeats its last pixels."""

    def __init__(self, container: OutputContainer, kind: Kind, facts: VideoFacts, metadata: dict[str, str]) -> None:
        self._colour = facts.colour
        stream = container.add_stream(
            kind.video,
            rate=facts.rate,
            options=dict(kind.options),
            width=facts.width_px + facts.width_px % 2,
            height=facts.height_px + facts.height_px % 2,
            time_base=facts.time_base,
        )
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        if facts.pixel_aspect:
            context.sample_aspect_ratio = facts.pixel_aspect
        context.colorspace, context.color_range = facts.colour.space, facts.colour.range
        context.color_primaries, context.color_trc = facts.colour.primaries, facts.colour.transfer
        stream.metadata.update(_fresh(metadata))
        self._stream = stream
        self.left_out = 0

    def write(self, frame: Frame) -> Iterator[av.Packet[Any]]:
        picture = self._colour.to_yuv420p(_even(frame.rgb_HW3))
        picture.pts, picture.time_base, picture.duration = frame.pts, frame.time_base, frame.duration
        yield from self._stream.encode(picture)

    def finish(self) -> Iterator[av.Packet[Any]]:
        yield from self._stream.encode(None)


class _GifPictures:
    """Pictures of 256 colours each. Those that follow too soon for a gif's clock are left out and counted."""

    def __init__(self, container: OutputContainer, facts: VideoFacts) -> None:
        stream = container.add_stream(
            "gif",
            rate=min(facts.rate, Fraction(50)),
            width=facts.width_px,
            height=facts.height_px,
            time_base=GIF_TIME_BASE,
        )
        assert isinstance(stream, VideoStream)
        stream.codec_context.pix_fmt = "pal8"
        self._stream = stream
        self._last_pts: int | None = None
        self.left_out = 0

    def write(self, frame: Frame) -> Iterator[av.Packet[Any]]:
        pts = round(frame.pts * frame.time_base / GIF_TIME_BASE)
        if self._last_pts is not None and pts - self._last_pts < GIF_LEAST_TICKS:
            self.left_out += 1
            return
        self._last_pts = pts
        picture = _with_palette(frame.rgb_HW3)
        picture.pts, picture.time_base = pts, GIF_TIME_BASE
        picture.duration = max(round(frame.duration * frame.time_base / GIF_TIME_BASE), GIF_LEAST_TICKS)
        yield from self._stream.encode(picture)

    def finish(self) -> Iterator[av.Packet[Any]]:
        yield from self._stream.encode(None)


def _with_palette(rgb_HW3: Rgb) -> VideoFrame:
    """pal8 with the picture's own best colours. One graph a picture: the filters look ahead, this must not."""
    graph = av.filter.Graph()
    height_px, width_px = rgb_HW3.shape[:2]
    source = graph.add_buffer(width=width_px, height=height_px, format=av.VideoFormat("rgb24"), time_base=GIF_TIME_BASE)
    split, palette, use = (
        graph.add("split"),
        graph.add("palettegen"),
        graph.add("paletteuse", "dither=bayer:bayer_scale=4"),
    )
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    picture = av.VideoFrame.from_ndarray(rgb_HW3, format="rgb24")
    picture.pts, picture.time_base = 0, GIF_TIME_BASE
    graph.vpush(picture)
    graph.vpush(None)
    return graph.vpull()


class MediaWriter:
    """Writes one file next to where it will lie, under another name; `finish` puts it there, `abandon` leaves nothing.

    Use in one thread. Raises MediaError in one line for a disk that is full, a folder that may not be written and the
    like; call `abandon` then.
    """

    def __init__(self, path: Path, reader: MediaReader) -> None:
        self.path = path
        kind = kind_of(path)
        self._part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
        self._tracks: dict[int, _Track] = {}
        self.sounds: list[str] = []
        self.left_out: list[str] = []
        self.pictures = 0
        self.refused = 0  # damaged packets of copied streams that the container does not take
        with self._explained(), _unlinked_on_error(self._part):
            self._part.touch()
            self._container = av.open(
                str(self._part), "w", format=kind.format, container_options=CONTAINER_OPTIONS.get(kind.format, {})
            )
            self._container.metadata.update(_fresh(reader.metadata))
            self._pictures: _Pictures | _GifPictures
            if kind.format == "gif":
                self._pictures = _GifPictures(self._container, reader.facts)
            else:
                self._pictures = _Pictures(self._container, kind, reader.facts, reader.video_metadata)
            self._add_tracks(kind, reader)
            if reader.chapters and kind.format != "gif":
                self._container.set_chapters(reader.chapters)
            self._container.start_encoding()

    @property
    def pictures_left_out(self) -> int:
        """Pictures for which the container's clock is too coarse (gif)."""
        return self._pictures.left_out

    def write(self, item: Frame | Companion) -> None:
        """Encodes one picture, or passes on one packet of a companion stream."""
        with self._explained():
            if isinstance(item, Frame):
                self.pictures += 1
                self._mux(self._pictures.write(item))
            elif item.index in self._tracks:
                self._mux(self._tracks[item.index].write(item.packet))

    def finish(self, seal: Callable[[Path], None] | None = None) -> None:
        """Completes the file and puts it in its place; until then nothing lies there.

        seal: is given the complete file before that, and may change it.
        """
        with self._explained():
            self._mux(self._pictures.finish())
            for track in self._tracks.values():
                self._mux(track.finish())
            with self._refusals_counted():
                self._container.close()
            with self._part.open("rb") as written:
                os.fsync(written.fileno())  # a disk may say only now that it is full
            if seal is not None:
                seal(self._part)
            self._part.replace(self.path)

    def abandon(self) -> None:
        """Leaves nothing behind. Harmless after `finish`."""
        with suppress(FFmpegError, OSError):  # the file is thrown away, whatever its end looks like
            self._container.close()
        self._part.unlink(missing_ok=True)

    def _mux(self, packets: Iterator[av.Packet[Any]]) -> None:
        for packet in packets:
            with self._refusals_counted():
                self._container.mux(packet)

    @contextmanager
    def _refusals_counted(self) -> Iterator[None]:
        """Damaged packets are noticed when they leave the interleaver, which may be at any other packet or at the end.

        Pictures come from our own encoder and are never damaged; a disk that is full is another error.
        """
        try:
            yield
        except (av.error.InvalidDataError, av.error.ArgumentError):
            if not any(isinstance(track, _Copied) for track in self._tracks.values()):
                raise
            self.refused += 1

    def _add_tracks(self, kind: Kind, reader: MediaReader) -> None:
        for sound in reader.sounds:
            name = sound.codec_context.codec.canonical_name
            if name in kind.sounds:
                self._tracks[sound.index] = _Copied(self._container, sound)
                self.sounds.append(f"{name}, copied")
            elif kind.sound_encoder:
                self._tracks[sound.index] = _Encoded(self._container, sound, kind.sound_encoder)
                self.sounds.append(f"{name}, encoded as {kind.sound_encoder.removeprefix('lib')}")
            else:
                self.left_out.append(f"sound stream {sound.index} ({kind.format} holds no sound)")
        for subtitle in reader.subtitles:
            name = subtitle.codec_context.codec.canonical_name
            if name in kind.subtitles:
                self._tracks[subtitle.index] = _Copied(self._container, subtitle)
            else:
                self.left_out.append(f"subtitle stream {subtitle.index} ({kind.format} holds no {name})")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (FFmpegError, OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise MediaError(f"{self.path}: cannot be written: {why}") from error


@contextmanager
def _unlinked_on_error(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _even(rgb_HW3: Rgb) -> Rgb:
    height_px, width_px = rgb_HW3.shape[:2]
    if height_px % 2 == 0 and width_px % 2 == 0:
        return rgb_HW3
    return np.pad(rgb_HW3, ((0, height_px % 2), (0, width_px % 2), (0, 0)), mode="edge")


def _fresh(metadata: dict[str, str]) -> dict[str, str]:
    """Without what described the file that was read, such as Matroska's statistics, and without where it was recorded.

    A place would tell who the person is whose face was exchanged.
    """
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in STALE_METADATA
        and not key.startswith(("_STATISTICS", "BPS", "NUMBER_OF_", "DURATION-"))
        and not any(word in key.lower() for word in PLACE_METADATA)
    }


def _copy_stream_metadata(source: Stream, target: Stream) -> None:
    target.metadata.update(_fresh(source.metadata))
    target.disposition = source.disposition
