"""Small video files for tests, made with PyAV: pictures that say which one they are, sound that says when it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from engines import Rgb

BURST_S = 0.02
BURST_EVERY_S = 0.25
MILLI = Fraction(1, 1000)


@dataclass(frozen=True)
class Sound:
    """Bursts of a tone every quarter of a second of the film's time. `gap_s`: from and to where nothing is stored."""

    codec: str = "aac"
    rate_hz: int = 48_000
    start_s: float = 0.0
    end_s: float = 2.0
    gap_s: tuple[float, float] | None = None
    language: str = "eng"


@dataclass(frozen=True)
class Clip:
    """What `make` writes."""

    stamps: Sequence[int] = tuple(range(0, 2000, 100))
    time_base: Fraction = MILLI
    size_px: tuple[int, int] = (64, 48)
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    sounds: Sequence[Sound] = ()
    pixel_aspect: Fraction | None = None
    turn_deg: float | None = None
    mirror: bool = False
    options: dict[str, str] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)


def picture(index: int, size_px: tuple[int, int] = (64, 48)) -> Rgb:
    """uint8 [H, W, 3]: dark below, brighter to the right, and the upper left quarter's grey says which one it is."""
    width_px, height_px = size_px
    rgb_HW3 = np.zeros((height_px, width_px, 3), np.uint8)
    rgb_HW3[..., 0] = np.linspace(20, 120, width_px, dtype=np.uint8)[None]
    rgb_HW3[..., 2] = np.linspace(90, 30, height_px, dtype=np.uint8)[:, None]
    rgb_HW3[: height_px // 2, : width_px // 2] = 20 + 8 * (index % 28)
    return rgb_HW3


def index_of(rgb_HW3: Rgb) -> int:
    """Which picture it is, modulo 28."""
    height_px, width_px = rgb_HW3.shape[:2]
    patch = rgb_HW3[height_px // 8 : height_px * 3 // 8, width_px // 8 : width_px * 3 // 8]
    return round((float(patch.mean()) - 20) / 8)


def make(path: Path, clip: Clip | None = None) -> Path:
    """Writes the clip and returns its path."""
    clip = clip or Clip()
    with av.open(str(path), "w", container_options=clip.container_options) as container:
        container.metadata.update(clip.metadata)
        video = container.add_stream(
            clip.codec, rate=Fraction(10), width=clip.size_px[0], height=clip.size_px[1], time_base=clip.time_base
        )
        assert isinstance(video, VideoStream)
        video.codec_context.pix_fmt = clip.pix_fmt
        for name, value in clip.tags.items():
            setattr(video.codec_context, name, value)
        if clip.pixel_aspect:
            video.codec_context.sample_aspect_ratio = clip.pixel_aspect
        if clip.turn_deg is not None:
            video.set_display_rotation(clip.turn_deg, hflip=clip.mirror)
        video.options = dict(clip.options)
        if clip.codec.startswith("libvpx"):
            video.options = {"deadline": "realtime", "cpu-used": "8"}
        sounds = [(sound, _sound_stream(container, sound)) for sound in clip.sounds]
        packets: list[av.Packet[Any]] = []
        for index, stamp in enumerate(clip.stamps):
            frame = av.VideoFrame.from_ndarray(picture(index, clip.size_px), format="rgb24")
            frame = frame.reformat(
                format=clip.pix_fmt, dst_colorspace=5, dst_color_range=clip.tags.get("color_range", 1)
            )
            frame.pts, frame.time_base = stamp, clip.time_base
            following = clip.stamps[index + 1] if index + 1 < len(clip.stamps) else stamp + (stamp - clip.stamps[-2])
            frame.duration = following - stamp
            packets += video.encode(frame)
        packets += video.encode(None)
        for sound, stream in sounds:
            packets += _encode_sound(stream, sound)
        container.mux(interleaved(packets))
    return path


def interleaved(packets: Sequence[av.Packet[Any]]) -> list[av.Packet[Any]]:
    """In the order of time, as recorders write them."""
    return sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base)


def _sound_stream(container: Any, sound: Sound) -> AudioStream:
    stream = container.add_stream(sound.codec, rate=sound.rate_hz)
    assert isinstance(stream, AudioStream)
    stream.codec_context.layout = "mono"
    stream.codec_context.time_base = Fraction(1, sound.rate_hz)
    stream.metadata["language"] = sound.language
    return stream


def _encode_sound(stream: AudioStream, sound: Sound) -> list[av.Packet[Any]]:
    """The codec context is used bare, so that a gap in the stamps stays a gap."""
    stream.codec_context.open()
    packets: list[av.Packet[Any]] = []
    chunk = stream.codec_context.frame_size or 1024
    layout, sample_format = stream.codec_context.layout.name, stream.codec_context.format.name
    for start in range(round(sound.start_s * sound.rate_hz), round(sound.end_s * sound.rate_hz), chunk):
        times_s = (start + np.arange(chunk)) / sound.rate_hz
        if sound.gap_s and sound.gap_s[0] <= times_s[0] < sound.gap_s[1]:
            continue
        tone = np.where(times_s % BURST_EVERY_S < BURST_S, 0.5 * np.sin(2 * np.pi * 1000 * times_s), 0)
        if "flt" in sample_format:
            samples: NDArray[Any] = tone.astype(np.float32)
        else:
            samples = (tone * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format=sample_format, layout=layout)
        frame.pts, frame.time_base, frame.sample_rate = start, Fraction(1, sound.rate_hz), sound.rate_hz
        packets += stream.encode(frame)
    return packets + stream.encode(None)


@dataclass(frozen=True)
class Seen:
    """What a player would show: times in seconds from the start of the file's clock."""

    times_s: list[Fraction]
    pictures: list[Rgb]
    end_s: Fraction

    @property
    def indices(self) -> list[int]:
        return [index_of(rgb_HW3) for rgb_HW3 in self.pictures]


def play(path: Path) -> Seen:
    """Decodes the video stream."""
    times_s, pictures, end_s = [], [], Fraction(0)
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            times_s.append(frame.pts * frame.time_base)
            end_s = max(end_s, (frame.pts + frame.duration) * frame.time_base)
            pictures.append(frame.to_ndarray(format="rgb24").astype(np.uint8))
    return Seen(times_s, pictures, end_s)


def burst_times_s(path: Path, stream: int = 0) -> list[float]:
    """When the tone sets in, by the stamps of the decoded sound: what is heard, and when."""
    onsets: list[float] = []
    last_loud_s = -1.0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=stream):
            assert frame.time is not None
            samples = frame.to_ndarray().astype(np.float64)
            if not frame.format.is_planar:
                samples = samples.reshape(-1, frame.layout.nb_channels).T
            level = np.abs(samples[0]) / (32768 if samples[0].size and np.abs(samples[0]).max() > 2 else 1)
            for offset in np.flatnonzero(level > 0.15):
                at_s = frame.time + offset / frame.sample_rate
                if at_s - last_loud_s > BURST_EVERY_S / 3:
                    onsets.append(float(at_s))
                last_loud_s = at_s
    return onsets
