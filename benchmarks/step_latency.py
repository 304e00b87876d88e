"""How long `Session.step` takes, tracking included: p50, p95, p99, frames a second, and each stage.

    python -m benchmarks.step_latency                           proxy, 640x480, a webcam-like and a signing clip
    python -m benchmarks.step_latency --engine passthrough --size 1280x720 --frames 300
    python -m benchmarks.step_latency --write

Frames are stepped as fast as they go, one after the other, in one thread; clips run forward and back so that there is
no jump. The first step and the warm-up are reported apart.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageOps

from benchmarks.corpus import DATA, NOMINAL_FPS, enrol_people, people, read_clip
from benchmarks.report import PRIVATE, REPORTS, machine, read_settings, table, write_report
from engines import Session, StepResult, VividError, load
from engines.types import Rgb

LATENCY_CLIPS = ("clips/single_face.mp4", "clips/asl/asl_eat.mkv")
GREY = (114, 114, 114)
SETTLE_STEPS = 30  # after warm-up: caches, clocks of the processor and filters come to rest


@dataclass(frozen=True, slots=True)
class Timing:
    """One clip's figures, milliseconds."""

    clip: str
    warm_up_s: float
    first_step_ms: float
    step_ms: tuple[float, ...]
    stage_ms: dict[str, tuple[float, ...]]
    cpu_share: float  # processor time over wall time: how many cores a session keeps busy
    statuses: dict[str, int]

    @property
    def frames_per_s(self) -> float:
        return 1000.0 * len(self.step_ms) / sum(self.step_ms)

    @property
    def cpu_ms(self) -> float:
        """Processor time per frame, all threads: steady where other programs take turns."""
        return self.cpu_share * sum(self.step_ms) / len(self.step_ms)


def fitted(rgb_HW3: Rgb, width_px: int, height_px: int) -> Rgb:
    """The picture scaled to fit and padded with grey to exactly that size."""
    image = ImageOps.pad(Image.fromarray(rgb_HW3), (width_px, height_px), Image.Resampling.BILINEAR, GREY)
    return np.array(image)


def there_and_back(frames: Sequence[Rgb], count: int) -> list[Rgb]:
    """`count` frames, forward and backward in turn, so that no frame is followed by a jump."""
    if len(frames) < 2:
        return list(frames) * count
    loop = [*frames, *frames[-2:0:-1]]
    return [loop[index % len(loop)] for index in range(count)]


def time_clip(session: Session, clip: str, frames: Sequence[Rgb], count: int) -> Timing:
    """Steps `count` frames after warm-up, each timed."""
    height_px, width_px = frames[0].shape[:2]
    warm_up_since_s = time.perf_counter()
    session.warm_up(height_px, width_px)
    warm_up_s = time.perf_counter() - warm_up_since_s
    state = session.init()
    step_ms: list[float] = []
    results: list[StepResult] = []
    cpu_since_s = wall_since_s = 0.0
    for index, rgb in enumerate(there_and_back(frames, 1 + SETTLE_STEPS + count)):
        if index == 1 + SETTLE_STEPS:
            cpu_since_s, wall_since_s = time.process_time(), time.perf_counter()
        since_ns = time.perf_counter_ns()
        result = session.step(state, rgb, index / NOMINAL_FPS)
        step_ms.append((time.perf_counter_ns() - since_ns) / 1e6)
        results.append(StepResult(rgb[:0], result.status, result.faces_found, result.stage_ms))
    cpu_share = (time.process_time() - cpu_since_s) / (time.perf_counter() - wall_since_s)
    measured = list(islice(results, 1 + SETTLE_STEPS, None))
    return Timing(
        clip,
        warm_up_s,
        step_ms[0],
        tuple(step_ms[1 + SETTLE_STEPS :]),
        stages_of(measured),
        cpu_share,
        dict(Counter(str(result.status) for result in measured)),
    )


def stages_of(results: Sequence[StepResult]) -> dict[str, tuple[float, ...]]:
    """Milliseconds per stage over the frames that ran it, in the order the stages ran."""
    names = list(dict.fromkeys(name for result in results for name in result.stage_ms))
    return {name: tuple(result.stage_ms[name] for result in results if name in result.stage_ms) for name in names}


def percentiles(values_ms: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95 and p99."""
    p50, p95, p99 = np.percentile(values_ms, (50, 95, 99))
    return float(p50), float(p95), float(p99)


def figures_of(timings: Sequence[Timing]) -> dict[str, object]:
    """Everything that is reported, for JSON."""
    return {
        timing.clip: {
            "frames_per_s": timing.frames_per_s,
            "step_ms_p50_p95_p99": percentiles(timing.step_ms),
            "stage_ms_p50_p95_p99": {name: percentiles(values) for name, values in timing.stage_ms.items()},
            "warm_up_s": timing.warm_up_s,
            "first_step_ms": timing.first_step_ms,
            "cores_busy": timing.cpu_share,
            "cpu_ms_per_frame": timing.cpu_ms,
            "statuses": timing.statuses,
        }
        for timing in timings
    }


def load_of_others() -> str:
    """How busy the machine was before the run: figures of a shared machine are worth less."""
    if not hasattr(os, "getloadavg"):
        return "Load before the run unknown"
    return f"Load average before the run {os.getloadavg()[0]:.1f}"


def markdown(timings: Sequence[Timing], title: str, others: str) -> str:
    """The report for people."""
    head = (
        "clip",
        "frames/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "warm-up s",
        "first step ms",
        "cores busy",
        "cpu ms",
        "frames",
    )
    rows = [
        (
            timing.clip,
            timing.frames_per_s,
            *percentiles(timing.step_ms),
            timing.warm_up_s,
            timing.first_step_ms,
            timing.cpu_share,
            timing.cpu_ms,
            ", ".join(f"{count} {status}" for status, count in sorted(timing.statuses.items())),
        )
        for timing in timings
    ]
    parts = [f"# {title}", "", f"{machine()}. {others}.", "", table(head, rows)]
    for timing in timings:
        stages = [(name, *percentiles(values), len(values)) for name, values in timing.stage_ms.items()]
        parts += [
            "",
            f"## Stages on {timing.clip}",
            "",
            table(("stage", "p50 ms", "p95 ms", "p99 ms", "frames"), stages),
        ]
    return "\n".join(parts)


def _size(text: str) -> tuple[int, int]:
    width, by, height = text.partition("x")
    if not by or not (width.isdigit() and height.isdigit()):
        raise click.BadParameter(f'"{text}" is not WIDTHxHEIGHT')
    return int(width), int(height)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default=DATA, help="the data folder")
@click.option("--clips", multiple=True, default=LATENCY_CLIPS, help="clips under the data folder; may be repeated")
@click.option("--engine", default="proxy")
@click.option("--size", default="640x480")
@click.option("--frames", type=click.IntRange(1), default=600)
@click.option("--settings", multiple=True, help="key=value of the swap's settings; may be repeated")
@click.option("--write", is_flag=True, help="into docs/benchmarks; else into out/")
def main(
    data: Path,
    clips: tuple[str, ...],
    engine: str,
    size: str,
    frames: int,
    settings: tuple[str, ...],
    write: bool,
) -> None:
    """Runs the benchmark and prints its report."""
    width_px, height_px = _size(size)
    others = load_of_others()
    timings: list[Timing] = []
    try:
        swap_settings = read_settings(engine, settings)
        wearers = enrol_people(people(2), data)[0][-1:] if engine != "passthrough" else []
        for clip in clips:
            footage = [fitted(rgb, width_px, height_px) for rgb in read_clip(data / clip).frames]
            session = load(swap_settings, wearers[0].identity if wearers else None)
            try:
                timings.append(time_clip(session, Path(clip).stem, footage, frames))
            finally:
                session.close()
    except VividError as error:
        raise click.ClickException(str(error)) from error
    text = markdown(timings, f"Step latency: {engine} at {size} {' '.join(settings)}".rstrip(), others)
    click.echo(text)
    path = write_report(f"step-latency-{engine}-{size}", text, figures_of(timings), REPORTS if write else PRIVATE)
    click.echo(f"written: {path}")


if __name__ == "__main__":
    main()
