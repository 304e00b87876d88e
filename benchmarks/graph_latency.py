"""What one frame of a learned engine costs without camera, tracker and paste: the graph alone, in each runtime.

    python -m benchmarks.graph_latency                                         tiny on this CPU: torch, compiled
    python -m benchmarks.graph_latency --preset full --device cuda --steps 1 --steps 2 --batch 1 --batch 4
    python -m benchmarks.graph_latency --preset full --small-autoencoder --device cuda --write

Weights are random. Runtimes take turns, frame by frame. On a GPU it also counts what must be one or nothing in a frame:
replays of the CUDA graph, memory made, waits of the host. `sessions at 25` is how many people one such machine serves
at 25 frames a second each, by this graph's work alone.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import click
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.report import PRIVATE, REPORTS, machine, table, write_report
from engines.bench.peak import measure_peaks
from engines.errors import EngineUnavailable
from engines.graph import Clock, GraphSpec
from engines.models import presets
from engines.models.config import AutoencoderConfig, SwapperConfig
from engines.models.describe import describe
from engines.models.step import SwapStep
from engines.models.swapper import Swapper
from engines.runtimes.base import Array, Runtime, State
from engines.runtimes.compiled import CompiledRuntime
from engines.runtimes.torch_eager import TorchRuntime
from engines.runtimes.torch_graph import NAMES, Graph, open_device, resolve_precision
from engines.window import Window, recent_order, recent_slot

RUNTIMES: Mapping[str, Callable[[Graph, str], Runtime]] = {
    "torch": TorchRuntime,
    "compiled": CompiledRuntime,
    "graphs": partial(CompiledRuntime, fused=False),  # CUDA graphs of eager kernels
}
SETTLE_FRAMES = 12  # the window fills
FPS = 25


@dataclass(slots=True)
class Contestant:
    """One runtime of one configuration."""

    label: str
    runtime: Runtime
    state: State
    window: Window
    batch: int
    flop: float
    arrays: dict[str, Array]
    load_s: float
    frame: int = 0
    frame_ms: list[float] = field(default_factory=list)
    made: int = 0  # device allocations in the frames measured
    waits: int = 0  # host synchronisations in one frame that was watched

    def step(self) -> float:
        inputs, slots = self._places()
        since_ns = time.perf_counter_ns()
        self.runtime.run(self.state, inputs, slots)
        self.frame += 1
        return (time.perf_counter_ns() - since_ns) / 1e6

    def _places(self) -> tuple[dict[str, Array], dict[Clock, NDArray[np.int64]]]:
        places: dict[str, Array] = {
            "positions": self.window.positions(self.frame),
            "bias": self.window.bias(self.frame),
            "recent_order": recent_order(self.frame, 2),
        }
        inputs = {
            spec.name: np.repeat(places[spec.name][None], self.batch, 0)
            if spec.name in places
            else self.arrays[spec.name]
            for spec in self.runtime.spec.inputs
        }
        slots: dict[Clock, NDArray[np.int64]] = {
            "window": np.full(self.batch, self.window.slot_of(self.frame)),
            "recent": np.full(self.batch, recent_slot(self.frame, 2)),
        }
        return inputs, slots


def rubbish(spec: GraphSpec) -> dict[str, Array]:
    """Inputs of the right shapes: what a frame costs does not depend on what it shows."""
    rng = np.random.default_rng(0)
    floats = [one for one in spec.inputs if one.dtype == "float32"]
    return {one.name: np.clip(rng.normal(0, 0.4, one.shape), -1, 1).astype(np.float32) for one in floats}


def open_one(config: SwapperConfig, name: str, device: str, batch: int, flop: float) -> Contestant:
    since_s = time.perf_counter()
    runtime: Runtime = RUNTIMES[name](
        lambda dtype: SwapStep(Swapper(config).initialise(0), batch, dtype),
        device,
    )
    label = f"{config.name}, {config.steps} step{'s' * (config.steps > 1)}, B = {batch}, {name}"
    window = Window(config.window.frames, config.window.sinks)
    state = runtime.init()
    load_s = time.perf_counter() - since_s
    return Contestant(label, runtime, state, window, batch, flop, rubbish(runtime.spec), load_s)


def with_small_autoencoder(config: SwapperConfig) -> SwapperConfig:
    """The same UNet between small ends: a KL autoencoder at 512 px is five times the UNet's work."""
    small = AutoencoderConfig(
        kind="tiny",
        latent_channels=config.denoiser.latent_channels,
        widths=(64, 96, 128),
        blocks=2,
        temporal_encoder=False,
        temporal_decoder=True,
    )
    return config.model_copy(update={"autoencoder": small, "name": f"{config.name}, small ends"})


def run(contestants: Sequence[Contestant], frames: int, device: str) -> None:
    """Frames of all, in turns."""
    on_gpu = device.startswith("cuda")
    for one in contestants:
        for _ in range(SETTLE_FRAMES):
            one.step()
        if on_gpu:
            one.waits = waits_of(one)
    for _ in range(frames):
        for one in contestants:
            before = allocations(device) if on_gpu else 0
            one.frame_ms.append(one.step())
            one.made += (allocations(device) if on_gpu else 0) - before


def allocations(device: str) -> int:
    """Blocks that torch has taken from the driver or its own pool so far."""
    return int(torch.cuda.memory_stats(device)["allocation.all.allocated"])


def waits_of(one: Contestant) -> int:
    """How often the host waits in one frame: torch's own warnings of implicit waits, and the one that is meant."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            one.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return 1 + sum("synchron" in str(each.message) for each in seen)


def figures_of(one: Contestant, peak_gflops: float) -> dict[str, object]:
    p50, p95, p99 = (float(value) for value in np.percentile(one.frame_ms, (50, 95, 99)))
    rate = one.flop * one.batch / 1e6 / p50
    return {
        "label": one.label,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "frames_per_s": 1000 * one.batch / p50,
        "gflop_per_frame": one.flop / 1e9,
        "gflops": rate,
        "share_of_peak": rate / peak_gflops,
        "sessions_at_25": int(1000 * one.batch / p50 / FPS),
        "state_mb": one.state.size_bytes / one.batch / 1e6,
        "load_s": one.load_s,
        "replays": getattr(one.state, "replays", 0),
        "frames_run": getattr(one.state, "frames", 0),
        "allocations_a_frame": one.made / len(one.frame_ms),
        "waits_a_frame": one.waits,
    }


HEAD = ("graph", "p50 ms", "p95 ms", "frames/s", "GFLOP", "GFLOP/s", "of peak", "sessions at 25", "state MB")
COLUMNS = ("label", "p50_ms", "p95_ms", "frames_per_s", "gflop_per_frame", "gflops", "share_of_peak")
GPU_HEAD = ("graph", "replays / frames", "allocations a frame", "waits a frame", "load s")


def report(figures: Sequence[dict[str, object]], peaks: dict[str, float], precision: str, device: str) -> str:
    rows = [[one[name] for name in (*COLUMNS, "sessions_at_25", "state_mb")] for one in figures]
    held = f"Peaks of this run, GFLOP/s: {', '.join(f'{name} {rate:.0f}' for name, rate in peaks.items())}; "
    text = f"# One frame's graph\n\n{machine()}, torch {torch.__version__}, {device_name(device)}\n\n"
    text += f"{held}held against torch {precision}. Random weights.\n\n{table(HEAD, rows)}\n"
    if device.startswith("cuda"):
        names = ("label", "allocations_a_frame", "waits_a_frame", "load_s")
        counted = [[one[name] for name in names] for one in figures]
        for row, one in zip(counted, figures, strict=True):
            row.insert(1, f"{one['replays']} / {one['frames_run']}")
        text += f"\n{table(GPU_HEAD, counted)}\n"
    return text


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{torch.get_num_threads()} threads"


@click.command(help=__doc__)
@click.option("--preset", type=click.Choice(presets.preset_names()), default="tiny", show_default=True)
@click.option("--small-autoencoder", is_flag=True, help="small ends instead of the preset's autoencoder")
@click.option("--steps", "all_steps", type=click.IntRange(1, 8), multiple=True, default=[1], show_default=True)
@click.option("--batch", "batches", type=click.IntRange(1, 64), multiple=True, default=[1], show_default=True)
@click.option("--runtime", "runtimes", type=click.Choice(list(RUNTIMES)), multiple=True, help="[default: all here]")
@click.option("--device", default="cpu", show_default=True)
@click.option("--frames", type=click.IntRange(3), default=60, show_default=True)
@click.option("--write", is_flag=True, help="into docs/benchmarks; else into out/")
def main(
    preset: str,
    small_autoencoder: bool,
    all_steps: Sequence[int],
    batches: Sequence[int],
    runtimes: Sequence[str],
    device: str,
    frames: int,
    write: bool,
) -> None:
    on_gpu = device.startswith("cuda")
    peaks = measure_peaks(device)
    precision = NAMES[resolve_precision("auto", open_device(device))[0]]
    figures: list[dict[str, object]] = []
    for steps in all_steps:
        config = presets.of(preset, steps)
        config = with_small_autoencoder(config) if small_autoencoder else config
        flop = float(describe(config).flop_per_frame)
        for batch in batches:
            contestants = []
            for name in runtimes or (list(RUNTIMES) if on_gpu else ["torch", "compiled"]):
                try:
                    contestants.append(open_one(config, name, device, batch, flop))
                except EngineUnavailable as error:
                    click.echo(f"{name}: {error}", err=True)
            run(contestants, frames, device)
            figures += [figures_of(one, peaks[f"torch {precision}"]) for one in contestants]
            for one in contestants:
                one.runtime.close()
    text = report(figures, peaks, precision, device)
    click.echo(text)
    where = REPORTS if write else PRIVATE
    name = f"graph-latency-{preset}-{device.replace(':', '')}"
    click.echo(f"written: {write_report(name, text, {'peaks': peaks, 'figures': figures}, where)}")


if __name__ == "__main__":
    main()
