"""The fastest way to draw with `tiny` on a CPU: which runtime, in how many bits, and what the bits cost the face.

    python -m benchmarks.cpu_path --weights tiny.safetensors
    python -m benchmarks.cpu_path --weights tiny.safetensors --examples held-out/ --write
    python -m benchmarks.cpu_path --weights tiny.safetensors --quick

With GOMP_SPINCOUNT=3000 and OPENBLAS_NUM_THREADS=1 in the environment, as `vividstream` has them.

Engines are built into `--store` where they are not there yet (minutes). Three parts, each in turns within one run:

    graph   a frame's graph alone on one thread and on two, by the clock and by processor time. OpenVINO, which is no
            runtime of this project, is measured on the same files where it is installed
    step    whole `Session.step` at 640x480 on the puppet of `vividstream bench`
    face    with `--examples` (a folder of `vividstream examples`, people kept apart): each engine against float32 over
            a roll-out of 100 frames, in levels of 255 and Lab dE inside the mask, and the judge's distances

Ratios are medians of ratios frame by frame, so that other programs' weather falls on both sides.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.report import PRIVATE, REPORTS, machine, table, write_report
from engines import store
from engines.bench.measure import Subject, measure, percentiles
from engines.bench.puppet import Puppet
from engines.build.builder import build
from engines.build.calibration import FRAMES, Stream, record
from engines.build.settings import BuildSettings
from engines.face_error import FIGURES, face_error
from engines.golden import FROM_WINDOW, Golden, frame_inputs, frame_slots
from engines.graph import GraphSpec
from engines.identity_store import IdentityStore
from engines.runtimes.base import Array, Runtime
from engines.runtimes.compiled import PackageRuntime
from engines.runtimes.ort import OrtRuntime
from engines.settings import SwapSettings
from engines.store import Entry
from engines.types import Rgb
from engines.weights import inspect

BUILT = {"compiled": ("compiled", "auto"), "ort": ("ort", "float32"), "ort int8": ("ort", "int8")}
BASE = "compiled"  # what ratios are of
FULL = "ort"  # float32, what errors are against
SETTLE_FRAMES = 10
ROLLOUT = 100
FPS = 25.0
WEARER, WORN = "amara", "henrik"


class OpenVino:
    """An ONNX file in OpenVINO, behind as much of engines.runtimes.base.Runtime as is measured here."""

    name, device = "openvino", "cpu"

    def __init__(self, path: Path, spec: GraphSpec, precision: str, threads: int) -> None:
        self._openvino: Any = import_module("openvino")
        self.spec = spec
        hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
        more = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
        self._compiled = self._openvino.Core().compile_model(str(path), "CPU", hints | more)

    def init(self) -> Any:
        request, spec = self._compiled.create_infer_request(), self.spec
        kept = {one.kept.name: np.zeros(one.kept.shape, np.float32) for one in spec.memories}
        new = {one.new.name: np.zeros(one.new.shape, np.float32) for one in spec.memories}
        out = {one.name: np.zeros(one.shape, np.float32) for one in spec.outputs}
        for name, array in (kept | new | out).items():
            request.set_tensor(name, self._openvino.Tensor(array, shared_memory=True))
        return SimpleNamespace(request=request, kept=kept, new=new, out=out, size_bytes=0)

    def reset(self, state: Any, rows: tuple[int, ...] | None = None) -> None:
        for array in state.kept.values():
            array[:] = 0

    def run(self, state: Any, inputs: Mapping[str, Array], slots: Mapping[Any, NDArray[np.int64]]) -> dict[str, Array]:
        for name, array in inputs.items():
            state.request.set_tensor(name, self._openvino.Tensor(array, shared_memory=True))
        state.request.infer()
        for memory in self.spec.memories:
            by_slot = np.moveaxis(state.kept[memory.kept.name], memory.axis, 1)
            by_slot[0, slots[memory.clock][0]] = state.new[memory.new.name][0]
        return {name: array.copy() for name, array in state.out.items()}

    def close(self) -> None:
        del self._compiled


@dataclass(slots=True)
class Contestant:
    """One way to run the graph of a frame."""

    label: str
    runtime: Any
    open_s: float
    state: Any = None
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


def engines_of(weights: Path, folder: Path) -> dict[str, Entry]:
    """Each built engine, by the name that it has here; what is not there is built."""
    contents, found = inspect(weights), {}
    name = contents.card.config.name
    for label, (runtime, precision) in BUILT.items():
        there = [one for one in store.entries(folder)[0] if _fits(one, contents.sha256, runtime, precision)]
        if there:  # to find out by building takes an export
            found[label] = there[0]
            continue
        values = {"name": name, "runtime": runtime, "precision": precision, "weights": weights, "store": folder}
        found[label] = build(BuildSettings.read(values), lambda line: click.echo(line, err=True))
    return found


def _fits(entry: Entry, sha256: str, runtime: str, precision: str) -> bool:
    key = entry.manifest.key
    asked = (key.runtime, key.weights_sha256, key.device) == (runtime, sha256, "cpu")
    return asked and precision in ("auto", key.precision) and not store.misfit_of(entry.manifest)


def contestants(entries: Mapping[str, Entry], threads: int) -> list[Contestant]:
    """Every way that can be had here."""
    step = {label: (entry.folder, entry.manifest.key.graphs["step"]) for label, entry in entries.items()}

    def file(label: str) -> tuple[Path, GraphSpec]:
        folder, fact = step[label]
        return folder / fact.file, fact.spec

    ways: dict[str, Callable[[], Any]] = {
        "compiled": lambda: PackageRuntime(*file("compiled"), threads),
        "ort": lambda: OrtRuntime(*file("ort"), threads=threads),
        "ort int8": lambda: OrtRuntime(*file("ort int8"), threads=threads),
    }
    if threads > 1:
        ways["ort int8, sleeping"] = lambda: OrtRuntime(*file("ort int8"), threads=threads, spin_us=0)
        ways["ort int8, 200 us"] = lambda: OrtRuntime(*file("ort int8"), threads=threads, spin_us=200)
    if find_spec("openvino") is not None:
        ways["openvino bf16"] = lambda: OpenVino(*file("ort"), "bf16", threads)
        ways["openvino int8"] = lambda: OpenVino(*file("ort int8"), "bf16", threads)
    made = []
    for label, way in ways.items():
        since_s = time.process_time()
        runtime = way()
        made.append(Contestant(label, runtime, time.process_time() - since_s, runtime.init()))
    return made


def race(ways: list[Contestant], stream: Stream, sinks: int, frames: int) -> None:
    """Frames of all, in turns."""
    for frame in range(SETTLE_FRAMES + frames):
        for way in ways:
            shown = stream[frame % len(stream)]
            first = Golden(shown, {}, frames, sinks)
            inputs = shown | {
                name: value
                for name, value in frame_inputs(way.runtime.spec, first, frame).items()
                if name in FROM_WINDOW
            }
            slots = frame_slots(way.runtime.spec, sinks, frame)
            cpu_s, since_ns = time.process_time(), time.perf_counter_ns()
            way.runtime.run(way.state, inputs, slots)
            wall_ms, spent_ms = (time.perf_counter_ns() - since_ns) / 1e6, 1e3 * (time.process_time() - cpu_s)
            if frame >= SETTLE_FRAMES:
                way.wall_ms.append(wall_ms)
                way.cpu_ms.append(spent_ms)


HEAD = ("graph", "p25 ms", "p50", "p95", "cpu p25", "cpu p50", f"clock / {BASE}", f"cpu / {BASE}", "opened, cpu s")


def graph_rows(ways: list[Contestant]) -> list[tuple[object, ...]]:
    base = next(way for way in ways if way.label == BASE)

    def over(mine: list[float], theirs: list[float]) -> float:
        return float(np.median(np.array(mine) / np.array(theirs)))

    rows: list[tuple[object, ...]] = []
    for way in ways:
        wall, cpu = np.array(way.wall_ms), np.array(way.cpu_ms)
        figures = [np.percentile(wall, share) for share in (25, 50, 95)] + [
            np.percentile(cpu, share) for share in (25, 50)
        ]
        ratios = over(way.wall_ms, base.wall_ms), over(way.cpu_ms, base.cpu_ms)
        rows.append(
            (way.label, *(f"{value:.1f}" for value in figures), *(f"{one:.2f}" for one in ratios), f"{way.open_s:.1f}")
        )
    return rows


STEP_HEAD = (
    "step",
    "frames/s",
    "p25 ms",
    "p50",
    "p95",
    "cpu ms",
    "track",
    "occlusion",
    "proxy",
    "crop",
    "graph",
    "paste",
    "label",
)


def step_rows(name: str, folder: Path, frames: int) -> list[tuple[object, ...]]:
    """Whole steps, in turns."""
    os.environ[store.STORE_VARIABLE] = str(folder)
    subjects = [Subject("proxy", SwapSettings.read({"engine": "proxy"}))]
    for label, (runtime, precision) in BUILT.items():
        asked = {"engine": name, "runtime": runtime, "precision": precision}
        subjects.append(Subject(f"{name}, {label}", SwapSettings.read(asked)))
    people = IdentityStore(None)
    shown: list[Rgb] = list(Puppet(people.load(WEARER), 480, 640, FPS).frames(50))
    rows: list[tuple[object, ...]] = []
    for run in measure(subjects, people.load(WORN), shown, frames, FPS):
        drawn = run.statuses.get("drawn", 0) / max(len(run.step_ms), 1)
        whole = percentiles(run.step_ms)
        stages = [np.median(run.stage_ms[key]) if key in run.stage_ms else 0.0 for key in STEP_HEAD[6:]]
        figures = (np.percentile(run.step_ms, 25), whole["p50"], whole["p95"], run.cpu_ms / len(run.step_ms), *stages)
        label = run.subject.label + ("" if drawn == 1 else f" ({drawn:.0%} drawn)")
        rows.append((label, f"{1e3 * len(run.step_ms) / sum(run.step_ms):.1f}", *(f"{value:.1f}" for value in figures)))
    return rows


FACE_HEAD = ("face", *FIGURES, "rms, last ten", "changes", "judge: to float32", "judge: to the truth", "true rms")


def clips_of(examples: Path, weights: Path, clips: int) -> Iterator[tuple[Stream, list[Array]]]:
    """Inputs and true pictures of people who were kept apart."""
    from distill.evaluate.on_examples import _of_frame, _of_person
    from distill.evaluate.settings import StepsEvalConfig
    from distill.evaluate.steps_run import held_out, open_weights
    from engines.models.step import IdentityGraph
    from engines.noise import noise
    from engines.runtimes.torch_eager import TorchRuntime

    swapper, _ = open_weights(weights)
    identity = TorchRuntime(IdentityGraph(swapper, 1), "cpu", "float32", 1)
    config = StepsEvalConfig(examples=examples, student=weights, clips=1, batches=clips, frames=8)
    shape = (1, swapper.config.steps, swapper.config.denoiser.latent_channels, *[swapper.config.latent_px] * 2)
    for shown in held_out(config, swapper):
        lasting = _of_person(swapper, identity, shown) | {"noise": noise(0, 0, shape)}
        frames = range(shown.masked_BT3SS.shape[1])
        yield (
            [lasting | _of_frame(swapper, shown, frame) for frame in frames],
            [shown.truth_BT3SS[:, frame].numpy() for frame in frames],
        )


def there_and_back(length: int, count: int) -> list[int]:
    turn = [*range(length), *range(length - 2, 0, -1)]
    return [turn[index % len(turn)] for index in range(count)]


def rolled(runtime: Runtime, stream: Stream, sinks: int, frames: int) -> list[Array]:
    """The faces of a roll-out, forth and back over a clip."""
    state, faces = runtime.init(), []
    for frame, place in enumerate(there_and_back(len(stream), frames)):
        shown = stream[place]
        windows = frame_inputs(runtime.spec, Golden(shown, {}, frames, sinks), frame)
        inputs = {
            one.name: windows[one.name] if one.name in FROM_WINDOW else shown[one.name] for one in runtime.spec.inputs
        }
        faces.append(runtime.run(state, inputs, frame_slots(runtime.spec, sinks, frame))["face"])
    return faces


def face_rows(
    entries: Mapping[str, Entry], examples: Path, weights: Path, clips: int, frames: int
) -> list[tuple[object, ...]]:
    """Each engine against float32, on the same conditions."""
    from distill.evaluate.judge import Judge, distance, judge_is_available

    judge = Judge() if judge_is_available() else None
    sinks = inspect(weights).card.config.window.sinks
    found: dict[str, list[list[float]]] = {label: [] for label in BUILT}
    with ExitStack() as stack:
        opened = {label: store.open_engine(entry) for label, entry in entries.items()}
        for one in opened.values():
            stack.callback(one.close)
        for stream, truths in clips_of(examples, weights, clips):
            order = there_and_back(len(stream), frames)
            wanted = rolled(opened[FULL].step, stream, sinks, frames)
            seen = None if judge is None else judge.describe_photo(_rgb(truths[0]))
            for label, one in opened.items():
                faces = wanted if label == FULL else rolled(one.step, stream, sinks, frames)
                masks = [stream[place]["mask"] for place in order]
                errors = [face_error(i, *both) for i, both in enumerate(zip(faces, wanted, masks))]
                inside = [mask[0, 0] > 0.5 for mask in masks]
                off = [np.moveaxis(face[0] - truth[0], 0, -1) for face, truth in zip(faces, wanted)]
                moves = [127.5 * np.sqrt(np.mean((b - a)[m] ** 2)) for a, b, m in zip(off, off[1:], inside)]
                true = [
                    127.5 * np.sqrt(np.mean(np.moveaxis(face[0] - truths[place][0], 0, -1)[m] ** 2))
                    for face, place, m in zip(faces, order, inside)
                ]
                judged = [np.nan, np.nan]
                if judge is not None:
                    mine, theirs = (judge.describe_photo(_rgb(part[-1])) for part in (faces, wanted))
                    if mine is not None and theirs is not None and seen is not None:
                        judged = [distance(mine, theirs), distance(mine, seen)]
                means = [float(np.mean([getattr(error, figure) for error in errors])) for figure in FIGURES]
                late = float(np.mean([error.rms for error in errors[-10:]]))
                found[label].append([*means, late, float(np.mean(moves)), *judged, float(np.mean(true))])
    return [(label, *(f"{value:.3f}" for value in np.nanmean(rows, axis=0))) for label, rows in found.items()]


def _rgb(picture_13SS: Array) -> Rgb:
    picture: Rgb = np.clip(np.round((picture_13SS[0].transpose(1, 2, 0) + 1) * 127.5), 0, 255).astype(np.uint8)
    return picture


@click.command()
@click.option("--weights", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--examples", type=click.Path(path_type=Path, exists=True, file_okay=False), help="people kept apart")
@click.option("--store", "folder", type=click.Path(path_type=Path), help="folder of the built engines [default: out]")
@click.option("--frames", default=300, show_default=True, help="of each part")
@click.option("--quick", is_flag=True, help="few frames, for trying it")
@click.option("--write", is_flag=True, help="write to docs/benchmarks")
def main(weights: Path, examples: Path | None, folder: Path | None, frames: int, quick: bool, write: bool) -> None:
    """Which way is fastest, and what it costs the face."""
    folder = folder or PRIVATE / "cpu-path-engines"
    frames = 20 if quick else frames
    entries = engines_of(weights, folder)
    key = entries[FULL].manifest.key
    parts: dict[str, tuple[tuple[str, ...], list[tuple[object, ...]]]] = {}
    identity = OrtRuntime(entries[FULL].folder / key.graphs["identity"].file, key.graphs["identity"].spec)
    stream = record(key.config, key.graphs["step"].spec, identity, 3 if quick else FRAMES)[0]
    identity.close()
    for threads in (1, 2):
        click.echo(f"graph on {threads} of 2 threads ...", err=True)
        ways = contestants(entries, threads)
        race(ways, stream, key.config.window.sinks, frames)
        parts[f"Graph on {threads} thread{'s' * (threads > 1)}"] = (HEAD, graph_rows(ways))
        for way in ways:
            way.runtime.close()
    click.echo("whole step ...", err=True)
    parts["Whole step, 640x480"] = (STEP_HEAD, step_rows(key.name, folder, frames))
    if examples is not None:
        click.echo("faces ...", err=True)
        clips, rollout = (1, 12) if quick else (12, ROLLOUT)
        parts[f"Face against float32, {rollout} frames"] = (
            FACE_HEAD,
            face_rows(entries, examples, weights, clips, rollout),
        )
    load = f"load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    lines = [f"# `{key.name}` on a CPU", "", machine(), "", f"{frames} frames a part, in turns; {load}.", ""]
    for title, (head, rows) in parts.items():
        lines += [f"## {title}", "", table(head, rows), ""]
    made = entries["ort int8"].manifest.quantised
    assert made is not None
    lines += [f"8 bits: {made.in_8_bits} of {made.products} products. float32: {', '.join(made.kept)}.", ""]
    text = "\n".join(lines)
    click.echo(text)
    values = {title: [dict(zip(head, row)) for row in rows] for title, (head, rows) in parts.items()}
    written = write_report("cpu-path", text, {"machine": machine(), "parts": values}, REPORTS if write else PRIVATE)
    click.echo(f"written to {written}")


if __name__ == "__main__":
    main()
