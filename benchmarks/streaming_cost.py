"""What a stream saves: one frame with remembered keys and values, against the whole window anew for every frame.

    python -m benchmarks.streaming_cost                      the denoiser, four ways, in one run
    python -m benchmarks.streaming_cost --long 10000         also: does frame 10,000 cost what frame 100 cost?
    python -m benchmarks.streaming_cost --write

The denoiser is SD1.5's plan with AnimateDiff's motion modules in small, because that is what diffusers has too
(`UNetMotionModel`, its own code): tests prove both equal, weight for weight. Ways to make one new frame:

    ring          this project: one frame in, one out, keys and values of the past from a ring
    recomputed    this project's window form over all W frames, for one new frame
    diffusers     the same with diffusers' network
    chunks        diffusers' network as PersonaLive's pipeline runs it: W frames in four chunks at four noise levels, a
                  quarter of them done with every call, so that four steps cost W / (W / 4) = 4 frames' work a frame

The last has four steps and a delay of three chunks; beside it stands a ring of four steps, without a delay. A rival of
another kind is a network as large as inswapper_128, one call a frame (174.7 GFLOP), on the same runtime as `tiny`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.report import PRIVATE, REPORTS, machine, median, table, write_report
from engines.graph import Clock
from engines.models.attention import Ring, Together
from engines.models.config import DenoiserConfig
from engines.models.denoiser import Denoiser
from engines.models.presets import tiny
from engines.models.step import SwapStep
from engines.models.swapper import Swapper
from engines.runtimes.base import Array, State
from engines.runtimes.torch_eager import TorchRuntime
from engines.runtimes.torch_graph import resolve_precision
from engines.window import Window

WIDTHS, TOKEN_WIDTH, TEXT_TOKENS, HEADS = (64, 128, 256), 256, 77, 8
LATENT_PX, CHANNELS, FACE_TOKENS = 32, 4, 16
LEVELS = 4  # noise levels of PersonaLive's window
RIVAL_GFLOP = 174.7  # inswapper_128, one frame


@dataclass(frozen=True, slots=True)
class Way:
    """One way to make frames. frames: new ones of each call."""

    name: str
    steps: int
    frames: int
    delay_frames: int
    call: Callable[[], object]


def denoiser(config: DenoiserConfig) -> Denoiser:
    torch.manual_seed(0)
    made = Denoiser(config)
    made.initialise(torch.Generator().manual_seed(0))
    return made.eval()


def plan() -> DenoiserConfig:
    return DenoiserConfig(
        widths=WIDTHS,
        attention=(True, True, False),
        temporal=(True, True, True),
        heads=HEADS,
        token_width=TOKEN_WIDTH,
        text_tokens=TEXT_TOKENS,
        face_scale=0.0,
    )


def theirs() -> nn.Module:
    """diffusers' network of the same plan, with motion modules, and 13 channels in."""
    diffusers: Any = import_module("diffusers")  # untyped, and heavy
    spatial = diffusers.UNet2DConditionModel(
        in_channels=plan().in_channels,
        block_out_channels=WIDTHS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TOKEN_WIDTH,
        attention_head_dim=HEADS,  # diffusers' name for the number of heads
    )
    motion = diffusers.MotionAdapter(block_out_channels=WIDTHS)
    made: nn.Module = diffusers.UNetMotionModel.from_unet2d(spatial, motion).eval()
    return made


def ways(frames: int) -> list[Way]:
    """The contestants, each a function that makes frames from rubbish: what they cost does not depend on it."""
    ours, other = denoiser(plan()), theirs()
    channels = plan().in_channels
    window = torch.randn(1, frames, channels, LATENT_PX, LATENT_PX)
    tokens = torch.randn(1, frames, FACE_TOKENS, TOKEN_WIDTH)
    text = torch.randn(frames, TEXT_TOKENS, TOKEN_WIDTH)
    times = torch.full((1, frames), 981.0)
    stream = Stream(ours, frames)

    def recomputed() -> Tensor:
        return ours.window(window, times, tokens, Together(frames))

    def diffusers_window() -> object:
        return other(window.transpose(1, 2), times[0, :1], text).sample

    def ring(steps: int) -> Callable[[], Tensor]:
        return lambda: stream.step(window[:, 0], times[:, 0], tokens[:, 0], steps)

    chunk = frames // LEVELS
    return [
        Way("ring", 1, 1, 0, ring(1)),
        Way("recomputed", 1, 1, 0, recomputed),
        Way("diffusers", 1, 1, 0, diffusers_window),
        Way("ring, four steps", LEVELS, 1, 0, ring(LEVELS)),
        Way("chunks (diffusers)", LEVELS, chunk, (LEVELS - 1) * chunk + chunk - 1, diffusers_window),
    ]


class Stream:
    """The denoiser over a ring, without the rest of an engine."""

    def __init__(self, of: Denoiser, frames: int) -> None:
        self._denoiser, self._window, self._frame = of, Window(frames, 2), 0
        shapes = [
            (1, (LATENT_PX >> ring.level) ** 2, ring.heads, self._window.slots, ring.head_width) for ring in of.rings()
        ]
        self._keys, self._values = ([torch.zeros(shape) for shape in shapes] for _ in range(2))

    def step(self, x_BCHW: Tensor, times_B: Tensor, tokens_BLD: Tensor, steps: int) -> Tensor:
        """One frame; the last of its steps leaves the keys and values."""
        positions = torch.from_numpy(self._window.positions(self._frame))[None]
        bias = torch.from_numpy(self._window.bias(self._frame))[None]

        def look() -> tuple[Tensor, Ring]:
            ring = Ring(positions, bias, tuple(self._keys), tuple(self._values), self._window.frames - 1)
            return self._denoiser.frame(x_BCHW, times_B, tokens_BLD, ring), ring

        for _ in range(steps - 1):
            look()
        out, ring = look()
        slot = self._window.slot_of(self._frame)
        for (key, value), keys, values in zip(ring.kept, self._keys, self._values, strict=True):
            keys[:, :, :, slot], values[:, :, :, slot] = key, value
        self._frame += 1
        return out


def timed(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each call, in turns: a machine's speed wanders, and all meet the same weather."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    with torch.inference_mode():
        for call in contestants.values():
            call()
        for _ in range(rounds):
            for name, call in contestants.items():
                since_ns = time.perf_counter_ns()
                call()
                taken[name].append((time.perf_counter_ns() - since_ns) / 1e6)
    return taken


def compare(frames: int, rounds: int) -> tuple[str, dict[str, object]]:
    """All ways, milliseconds of work per new frame and what they are to the ring."""
    contestants = ways(frames)
    taken = timed({way.name: way.call for way in contestants}, rounds)
    per_frame = {way.name: median(taken[way.name]) / way.frames for way in contestants}
    rows = [
        (way.name, way.steps, way.delay_frames, per_frame[way.name], per_frame[way.name] / per_frame["ring"])
        for way in contestants
    ]
    head = ("way", "steps", "delay, frames", "ms a frame", "of the ring's")
    return table(head, rows), {"window": frames, "rounds": rounds, "ms_per_frame": per_frame}


class Tiny:
    """The shipped shape with random weights in its runtime, stepped over rubbish."""

    def __init__(self, runtime: TorchRuntime) -> None:
        self._runtime, self._window = runtime, Window(8, 2)
        rng = np.random.default_rng(0)
        self._arrays: dict[str, Array] = {
            spec.name: rng.normal(0, 0.5, spec.shape).astype(np.float32)
            for spec in runtime.spec.inputs
            if spec.dtype == "float32"
        }

    def step(self, state: State, frame: int) -> None:
        slots: dict[Clock, NDArray[np.int64]] = {"window": np.array([self._window.slot_of(frame)], np.int64)}
        slots["recent"] = np.array([frame % 2], np.int64)
        places: dict[str, Array] = {
            "positions": self._window.positions(frame)[None],
            "bias": self._window.bias(frame)[None],
            "recent_order": np.array([[frame % 2, (frame + 1) % 2]], np.int64),
        }
        inputs = {
            spec.name: self._arrays[spec.name]
            if spec.name in self._arrays and spec.name != "bias"
            else places[spec.name]
            for spec in self._runtime.spec.inputs
        }
        self._runtime.run(state, inputs, slots)


def tiny_runtime() -> TorchRuntime:
    return TorchRuntime(lambda dtype: SwapStep(Swapper(tiny()).initialise(0), 1, dtype))


def rival() -> tuple[Callable[[], object], float]:
    """A stack of convolutions with inswapper's work, in the precision of `tiny`, and its GFLOP."""
    dtype, _ = resolve_precision("auto", torch.device("cpu"))
    channels, side = 512, 32
    layers = round(RIVAL_GFLOP * 1e9 / (2 * 9 * channels**2 * side**2))
    stack = nn.Sequential(*(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(layers))).to(dtype).eval()
    stack = stack.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(1, channels, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
    return lambda: stack(x), 2 * 9 * channels**2 * side**2 * layers / 1e9


def against_rival(rounds: int) -> tuple[str, dict[str, object]]:
    runtime = tiny_runtime()
    stepped, state, count = Tiny(runtime), runtime.init(), iter(range(10**9))
    call, gflop = rival()
    taken = timed({"tiny": lambda: stepped.step(state, next(count)), "as large as inswapper": call}, rounds)
    ms = {name: median(values) for name, values in taken.items()}
    rows = [(name, value, value / ms["tiny"]) for name, value in ms.items()]
    figures: dict[str, object] = {"ms": ms, "rival_gflop": gflop}
    return table(("one frame, the same runtime", "ms", "of tiny's"), rows), figures


def long_run(frames: int, measured: int = 400) -> tuple[str, dict[str, object]]:
    """One stream run up to `frames`, then in turns with a young one that stands at frame 100."""
    runtime = tiny_runtime()
    stepped, old, young = Tiny(runtime), runtime.init(), runtime.init()
    with click.progressbar(range(frames), label="stepping") as steps:
        for frame in steps:
            stepped.step(old, frame)
    for frame in range(100):
        stepped.step(young, frame)
    late, early = iter(range(frames, 10**9)), iter(range(100, 10**9))
    taken = timed(
        {"old": lambda: stepped.step(old, next(late)), "young": lambda: stepped.step(young, next(early))}, measured
    )
    ms: dict[str, float] = {name: median(values) for name, values in taken.items()}
    figures: dict[str, object] = {"frames": frames, "ms": ms, "ratio": ms["old"] / ms["young"]}
    figures["state_bytes"] = [old.size_bytes, young.size_bytes]
    row = (f"frame {frames:,} on", ms["old"], "frame 100 on", ms["young"], ms["old"] / ms["young"])
    return table(("stream", "ms", "stream ", "ms ", "ratio"), [row]), figures


def report(sections: Sequence[tuple[str, str]]) -> str:
    head = f"# What a stream saves\n\n{machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads\n"
    return head + "".join(f"\n## {title}\n\n{text}\n" for title, text in sections)


@click.command(help=__doc__)
@click.option("--window", "frames", type=click.IntRange(8, 32), default=8, show_default=True)
@click.option("--rounds", type=click.IntRange(3), default=30, show_default=True)
@click.option("--long", "long_frames", type=click.IntRange(200), help="frames of the long run; none if not given")
@click.option("--write", is_flag=True, help="into docs/benchmarks; else into out/")
def main(frames: int, rounds: int, long_frames: int | None, write: bool) -> None:
    text, figures = compare(frames, rounds)
    sections, all_figures = [(f"The denoiser, W = {frames}", text)], {"ways": figures}
    text, figures = against_rival(rounds)
    sections.append(("A rival's work on the same runtime", text))
    all_figures["rival"] = figures
    if long_frames:
        text, figures = long_run(long_frames)
        sections.append(("As frames grow", text))
        all_figures["long"] = figures
    whole = report(sections)
    click.echo(whole)
    click.echo(f"written: {write_report('streaming-cost', whole, all_figures, REPORTS if write else PRIVATE)}")


if __name__ == "__main__":
    main()
