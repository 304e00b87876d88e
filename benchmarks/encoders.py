"""What coding a picture costs, and what it looks like: our encoders, aiortc's, AV1, and a graphics card's where one is.

    python -m benchmarks.encoders              1280x720 and 640x480, a test pattern and a person: 3 min
    python -m benchmarks.encoders --quick      1280x720, the pattern, fewer pictures: 25 s
    python -m benchmarks.encoders --write

Each encoder gets the same pictures, thirty a second, and one rate (2.5 Mbit/s at 1280x720, 1 at 640x480); in the last
third the rate falls to 800 and 400 kbit/s. wall, cpu: of coding one picture (cpu of all its threads). late: pictures
that the encoder holds back. PSNR-Y: against the pictures that went in, before the rate falls. keys: key frames, where
one is right. after: the rate of the last 15 pictures. The encoders take turns picture by picture, so that whatever
else the machine does meets them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import av
import click
import numpy as np
from aiortc.codecs import depayload
from aiortc.codecs.base import Encoder as StockEncoder
from aiortc.codecs.h264 import H264Encoder as StockH264
from aiortc.codecs.vpx import Vp8Encoder as StockVp8
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame

from benchmarks.corpus import DATA
from benchmarks.report import machine, table, write_report
from streamer.encoding import libav
from streamer.encoding.h264 import H264Encoder
from streamer.encoding.native import NotUsable
from streamer.encoding.settings import EncodingSettings
from streamer.encoding.vp8 import Vp8Encoder
from streamer.transport.types import Encoder

CLIP = "clips/single_face.mp4"
CLOCK = Fraction(1, 90_000)
FPS = 30
SKIP = 10  # pictures until the rate control has settled
SIZES = {(1280, 720): (2_500_000, 800_000), (640, 480): (1_000_000, 400_000)}
TRIALS = (*((size, *rates) for size, rates in SIZES.items()), ((640, 480), 200_000, 100_000))  # and the slowest lines
COUNT, QUICK_COUNT = 180, 60
LAST = 15
DECODERS = {"VP8": "vp8", "H264": "h264", "AV1": "libdav1d"}
HEAD = ("encoder", "wall p50", "p95", "cpu ms", "late", "kbit/s", "PSNR-Y dB", "first key kB", "keys", "after kbit/s")


class Coder(Protocol):
    """One picture in, its access unit out (empty: nothing yet)."""

    codec: str

    def code(self, frame: VideoFrame) -> bytes: ...

    def set_rate(self, bits_per_s: int) -> None: ...

    def rest(self) -> bytes:
        """What was held back to the end."""


class Ours:
    def __init__(self, encoder: Encoder) -> None:
        self.codec: str = encoder.codec
        self._encoder = encoder

    def code(self, frame: VideoFrame) -> bytes:
        unit = self._encoder.encode(frame, force_key=False)
        return b"" if unit is None else unit.payload

    def set_rate(self, bits_per_s: int) -> None:
        self._encoder.set_rate(bits_per_s)

    def rest(self) -> bytes:
        return b""


class Stock:
    def __init__(self, codec: str, encoder: StockVp8 | StockH264, bits_per_s: int) -> None:
        self.codec = codec
        self._encoder: StockEncoder = encoder
        self._parameters = RTCRtpCodecParameters(mimeType=f"video/{codec}", clockRate=90_000, payloadType=97)
        self.set_rate(bits_per_s)

    def code(self, frame: VideoFrame) -> bytes:
        payloads, _ = self._encoder.encode(frame)
        return b"".join(depayload(self._parameters, payload) for payload in payloads)

    def set_rate(self, bits_per_s: int) -> None:
        assert isinstance(self._encoder, StockVp8 | StockH264)
        self._encoder.target_bitrate = bits_per_s

    def rest(self) -> bytes:
        return b""


@dataclass
class Trial:
    """One encoder on one film."""

    name: str
    coder: Coder
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    units: list[bytes] = field(default_factory=list)
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    encoder: str
    film: str
    size: str
    wall_p50_ms: float
    wall_p95_ms: float
    cpu_ms: float
    late: int
    kbit_s: float
    psnr_db: float
    first_key_kb: float
    keys: int
    after_kbit_s: float

    def row(self) -> tuple[str, ...]:
        return (
            self.encoder, f"{self.wall_p50_ms:.1f}", f"{self.wall_p95_ms:.1f}", f"{self.cpu_ms:.1f}", str(self.late),
            f"{self.kbit_s:.0f}", f"{self.psnr_db:.1f}", f"{self.first_key_kb:.0f}", str(self.keys),
            f"{self.after_kbit_s:.0f}",
        )  # fmt: skip


def pattern(width_px: int, height_px: int, count: int) -> list[VideoFrame]:
    """FFmpeg's moving test picture with a camera's noise."""
    graph = av.filter.Graph()
    chain = [
        graph.add("testsrc2", f"size={width_px}x{height_px}:rate={FPS}"),
        graph.add("noise", "alls=6:allf=t"),
        graph.add("format", "pix_fmts=yuv420p"),
        graph.add("buffersink"),
    ]
    for left, right in pairwise(chain):
        left.link_to(right)
    graph.configure()
    frames = [graph.pull() for _ in range(count)]
    return [frame for frame in frames if isinstance(frame, VideoFrame)]


def person(clip: Path, width_px: int, height_px: int, count: int) -> list[VideoFrame]:
    """A person who talks, enlarged or reduced to the size; the clip runs forth and back."""
    with av.open(clip) as media:
        seen = [frame.reformat(width_px, height_px, "yuv420p") for frame in media.decode(video=0)][:count]
    path = [*range(len(seen)), *range(len(seen) - 2, 0, -1)]
    planes = [frame.to_ndarray() for frame in seen]
    return [VideoFrame.from_ndarray(planes[path[at % len(path)]], format="yuv420p") for at in range(count)]


def trials(bits_per_s: int) -> list[Trial]:
    """Every encoder that runs here."""
    found: list[Trial] = []

    def offer(name: str, make: Callable[[], Coder]) -> None:
        try:
            found.append(Trial(name, make()))
        except NotUsable as error:
            click.echo(f"{name}: {error}", err=True)

    offer("aiortc VP8", lambda: Stock("VP8", StockVp8(), bits_per_s))
    for speed in (4, 8, 12, 16):
        settings = EncodingSettings(vp8_speed=speed)
        offer(f"libvpx speed {speed}", partial(_ours, Vp8Encoder, settings, bits_per_s))
    offer("aiortc H.264", lambda: Stock("H264", StockH264(), bits_per_s))
    for preset in ("veryfast", "superfast", "ultrafast"):
        settings = EncodingSettings.read({"h264_preset": preset})
        offer(f"x264 {preset}", partial(_ours, H264Encoder, settings, bits_per_s))
    offer("SVT-AV1 preset 12", lambda: Ours(libav.LibavEncoder(libav.AV1, bits_per_s)))
    if libav.works(libav.NVENC):
        offer("NVENC H.264 p2", lambda: Ours(libav.LibavEncoder(libav.NVENC, bits_per_s)))
    return found


def _ours(make: Callable[[EncodingSettings, int], Encoder], settings: EncodingSettings, bits_per_s: int) -> Coder:
    return Ours(make(settings, bits_per_s))


def run(frames: Sequence[VideoFrame], these: Sequence[Trial], rate_after: int) -> None:
    """All encoders in turn, picture by picture."""
    for index, frame in enumerate(frames):
        for trial in these:
            frame.pts, frame.time_base, frame.pict_type = index * 90_000 // FPS, CLOCK, PictureType.NONE
            if index == change_at(len(frames)):
                trial.coder.set_rate(rate_after)
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            try:
                unit = b"" if trial.broken else trial.coder.code(frame)
            except NotUsable as error:
                trial.broken, unit = str(error), b""
            trial.wall_ms.append((time.perf_counter() - began_s) * 1e3)
            trial.cpu_ms.append((time.process_time() - began_cpu_s) * 1e3)
            trial.units.append(unit)


def change_at(count: int) -> int:
    return count * 2 // 3


def figures(trial: Trial, frames: Sequence[VideoFrame], film: str) -> Figures:
    change = change_at(len(frames))
    decoded, keys = _decoded(trial)
    pairs = list(zip(frames, decoded, strict=False))[SKIP:change]
    sizes = [len(unit) for unit in trial.units]
    return Figures(
        trial.name, film, f"{frames[0].width}x{frames[0].height}",
        float(np.percentile(trial.wall_ms[SKIP:], 50)), float(np.percentile(trial.wall_ms[SKIP:], 95)),
        float(np.median(trial.cpu_ms[SKIP:])), sum(not size for size in sizes),
        8e-3 * sum(sizes[SKIP:change]) * FPS / (change - SKIP),
        float(np.mean([_psnr_db(one, other) for one, other in pairs])) if pairs else float("nan"),
        next((size for size in sizes if size), 0) / 1e3, keys, 8e-3 * sum(sizes[-LAST:]) * FPS / LAST,
    )  # fmt: skip


def _decoded(trial: Trial) -> tuple[list[VideoFrame], int]:
    """(what a receiver sees, how many of it are key frames)."""
    decoder = av.CodecContext.create(DECODERS[trial.coder.codec], "r")
    assert isinstance(decoder, VideoCodecContext)
    seen = [frame for unit in trial.units if unit for frame in decoder.decode(av.Packet(unit))]
    seen += decoder.decode(None)
    return seen, sum(frame.key_frame for frame in seen)


def _psnr_db(one: VideoFrame, other: VideoFrame) -> float:
    difference = one.to_ndarray(format="gray").astype(np.int16) - other.to_ndarray(format="gray")
    return float(10 * np.log10(255**2 / max(float(np.mean(np.square(difference, dtype=np.float64))), 1e-6)))


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="one size, the pattern only")
@click.option("--write", is_flag=True, help="writes docs/benchmarks")
@click.option("--data", type=click.Path(path_type=Path), default=DATA, help="where the clips are")
def main(quick: bool, write: bool, data: Path) -> None:
    began_s = time.monotonic()
    count = QUICK_COUNT if quick else COUNT
    found: list[Figures] = []
    text = [f"# Encoders\n\n{machine()}. {count} pictures. `python -m benchmarks.encoders`\n"]
    for (width_px, height_px), rate, after in TRIALS[: 1 if quick else None]:
        films = {"pattern": pattern(width_px, height_px, count)}
        if not quick and (data / CLIP).exists():
            films["person"] = person(data / CLIP, width_px, height_px, count)
        for film, frames in films.items():
            these = trials(rate)
            run(frames, these, after)
            rows = [figures(trial, frames, film) for trial in these if not trial.broken]
            found += rows
            text.append(f"\n## {width_px}x{height_px}, {film}, {rate // 1000} then {after // 1000} kbit/s\n")
            text.append(table(HEAD, [row.row() for row in rows]))
            click.echo("\n".join(text[-2:]))
    text.append(f"\nTook {time.monotonic() - began_s:.0f} s.")
    if write:
        click.echo(write_report("encoders", "\n".join(text), {"runs": [asdict(row) for row in found]}))


if __name__ == "__main__":
    main()
