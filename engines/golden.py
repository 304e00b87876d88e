"""The golden check: an engine draws stored inputs, frame after frame, and is held against eager fp32 torch.

Only the first frame's inputs are stored. The later ones follow from them by moving every picture sideways, so a rollout
of 100 frames, in which errors of the rolling window grow, costs no disk. Outputs are stored for a few frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from engines.engine_manifest import ROLLOUT_FRAMES, FaceLimits, FaceResult, GoldenResult, Precision, Tolerance
from engines.errors import EngineFault, EngineRefused
from engines.face_error import face_error, first_too_far
from engines.graph import Clock, GraphSpec
from engines.runtimes.base import Array, Runtime
from engines.window import Window, recent_order, recent_slot

SHIFT_PX = 2  # pictures move that far sideways from frame to frame
FROM_WINDOW = ("positions", "bias", "recent_order")  # inputs that follow from the frame's number
FORMAT = "1"

# Frames of a video build on each other, so what rounding does grows with them; the first frame is held more tightly.
# Seen on `tiny` with random weights: 1.6e-6 in float32, 0.012 in bfloat16 (docs/log.md); float16 has eight times finer
# steps than bfloat16 and is allowed a fifth.
TOLERANCES: Mapping[Precision, Tolerance] = MappingProxyType(
    {
        "float32": Tolerance(first_rms=2e-5, first_worst=2e-4, rollout_rms=1e-4, rollout_worst=1e-3),
        "float16": Tolerance(first_rms=6e-3, first_worst=3e-2, rollout_rms=1e-2, rollout_worst=6e-2),
        "bfloat16": Tolerance(first_rms=3e-2, first_worst=1.5e-1, rollout_rms=5e-2, rollout_worst=3e-1),
        "int8": Tolerance(first_rms=8e-2, first_worst=4e-1, rollout_rms=1e-1, rollout_worst=5e-1),
    }
)
# 8 bits are held to this, too: what an eye may see of it. Seen on a student: 1.2 levels, 3.9, 0.9 (docs/log.md).
FACE_LIMITS = FaceLimits(rms=2.5, most=8.0, colour=2.3, tone=0.7, growth=1.5)


@dataclass(frozen=True, slots=True)
class Golden:
    """Inputs of the first frame, and what the reference drew: {frame: {output: array}}, of one graph."""

    inputs: Mapping[str, Array]
    outputs: Mapping[int, Mapping[str, Array]]
    frames: int
    sinks: int


@dataclass(slots=True)
class Rollout:
    """How an engine did against a golden."""

    results: list[GoldenResult] = field(default_factory=list)
    faces: list[FaceResult] = field(default_factory=list)
    frame_ms: list[float] = field(default_factory=list)


def checked_frames(window: int, frames: int) -> tuple[int, ...]:
    """Frames whose outputs are stored: the first two, the window filled, rolled over twice, half way and at the end."""
    wanted = {0, 1, window - 1, 2 * window, frames // 2, frames - 1}
    return tuple(sorted(frame for frame in wanted if 0 <= frame < frames))


def window_of(spec: GraphSpec, sinks: int) -> Window:
    """The rolling window of a graph, from its ring's size; W = 1 where it has none."""
    for memory in spec.memories:
        if memory.clock == "window":
            return Window(memory.kept.shape[memory.axis] + 1, sinks)
    return Window(1, 0)


def frame_inputs(spec: GraphSpec, golden: Golden, frame: int) -> dict[str, Array]:
    """All inputs of frame number `frame`, by name."""
    window = window_of(spec, golden.sinks)
    made: dict[str, Array] = {}
    for tensor in spec.inputs:
        if tensor.name in FROM_WINDOW:
            made[tensor.name] = np.broadcast_to(
                _from_window(tensor.name, tensor.shape, window, frame), tensor.shape
            ).copy()
        elif len(tensor.shape) >= 4:
            made[tensor.name] = np.roll(golden.inputs[tensor.name], SHIFT_PX * frame, axis=-1)
        else:
            made[tensor.name] = golden.inputs[tensor.name]
    return made


def _from_window(name: str, shape: tuple[int, ...], window: Window, frame: int) -> Array:
    if name == "positions":
        return window.positions(frame)
    if name == "bias":
        return window.bias(frame)
    return recent_order(frame, shape[1])


def frame_slots(spec: GraphSpec, sinks: int, frame: int) -> dict[Clock, NDArray[np.int64]]:
    """Where the slices of frame number `frame` are written, for every row."""
    slots: dict[Clock, NDArray[np.int64]] = {}
    for memory in spec.memories:
        batch, size = memory.kept.shape[0], memory.kept.shape[memory.axis]
        here = window_of(spec, sinks).slot_of(frame) if memory.clock == "window" else recent_slot(frame, size)
        slots[memory.clock] = np.full(batch, here, np.int64)
    return slots


def record(
    runtime: Runtime,
    inputs: Mapping[str, Array],
    sinks: int,
    frames: int = ROLLOUT_FRAMES,
    tell: Callable[[int, int], None] | None = None,
) -> Golden:
    """Lets the reference draw. tell: takes how many frames of how many are done.

    Raises EngineFault where it draws anything that is no number.
    """
    spec = runtime.spec
    bare = Golden(inputs, {}, frames, sinks)
    keep = checked_frames(window_of(spec, sinks).frames, frames)
    state, outputs = runtime.init(), {}
    for frame in range(frames):
        drawn = runtime.run(state, frame_inputs(spec, bare, frame), frame_slots(spec, sinks, frame))
        _finite(spec.name, frame, drawn)
        if frame in keep:
            outputs[frame] = {name: np.array(value, np.float32) for name, value in drawn.items()}
        if tell is not None:
            tell(frame + 1, frames)
    return Golden(inputs, outputs, frames, sinks)


def replay(
    runtime: Runtime, golden: Golden, frames: int | None = None, tell: Callable[[int, int], None] | None = None
) -> Rollout:
    """Lets an engine draw the same and measures how far off it is. frames: at most that many; tell: as for `record`.

    Raises EngineFault where the engine fails or draws anything that is no number.
    """
    spec, rollout = runtime.spec, Rollout()
    state = runtime.init()
    for frame in range(min(frames or golden.frames, golden.frames)):
        inputs, slots = frame_inputs(spec, golden, frame), frame_slots(spec, golden.sinks, frame)
        since_s = time.perf_counter()
        drawn = runtime.run(state, inputs, slots)
        rollout.frame_ms.append((time.perf_counter() - since_s) * 1e3)
        _finite(spec.name, frame, drawn)
        for name, truth in golden.outputs.get(frame, {}).items():
            rollout.results.append(compare(spec.name, name, frame, drawn[name], truth))
            if name == "face" and "mask" in inputs:
                rollout.faces.append(face_error(frame, drawn[name], truth, inputs["mask"]))
        if tell is not None:
            tell(frame + 1, golden.frames)
    return rollout


def _finite(graph: str, frame: int, drawn: Mapping[str, Array]) -> None:
    for name, value in drawn.items():
        if not np.isfinite(value).all():
            raise EngineFault(f"{graph}: {name} has values that are no numbers in frame {frame} of the golden check")


def compare(graph: str, output: str, frame: int, drawn: Array, truth: Array) -> GoldenResult:
    """How far `drawn` is from `truth`."""
    off = np.asarray(drawn, np.float64) - np.asarray(truth, np.float64)
    size = max(float(np.sqrt(np.mean(np.square(truth, dtype=np.float64)))), 1e-12)
    most = max(float(np.abs(truth).max()), 1e-12)
    rms, worst = float(np.sqrt(np.mean(np.square(off)))) / size, float(np.abs(off).max()) / most
    return GoldenResult(graph=graph, output=output, frame=frame, rms=_short(rms), worst=_short(worst))


def _short(value: float) -> float:
    """Three digits are enough of an error."""
    return float(f"{value:.3g}")


def first_beyond(results: Iterable[GoldenResult], tolerance: Tolerance) -> str:
    """The first result that is out of tolerance, in words; empty if there is none."""
    for result in results:
        first = result.frame == 0
        rms = tolerance.first_rms if first else tolerance.rollout_rms
        worst = tolerance.first_worst if first else tolerance.rollout_worst
        where = f"{result.graph}: {result.output} of frame {result.frame}"
        if not result.rms <= rms:
            return f"{where} is {result.rms:.2g} off eager fp32 torch (rms), and {rms:.2g} is allowed"
        if not result.worst <= worst:
            return f"{where} is {result.worst:.2g} off eager fp32 torch (worst value), and {worst:.2g} is allowed"
    return ""


def fault_of(
    results: Iterable[GoldenResult],
    tolerance: Tolerance,
    faces: Sequence[FaceResult] = (),
    limits: FaceLimits | None = None,
) -> str:
    """What is wrong with an engine's numbers, in words; empty if nothing is."""
    fault = first_beyond(results, tolerance)
    return fault or ("" if limits is None else first_too_far(tuple(faces), limits))


def write_golden(path: Path, goldens: Mapping[str, Golden]) -> None:
    """All graphs' goldens in one safetensors file. Raises OSError or SafetensorError."""
    tensors: dict[str, Array] = {}
    header = {"format": FORMAT}
    for graph, golden in goldens.items():
        header[f"{graph}.frames"], header[f"{graph}.sinks"] = str(golden.frames), str(golden.sinks)
        for name, value in golden.inputs.items():
            tensors[f"{graph}/in/{name}"] = np.ascontiguousarray(value)
        for frame, drawn in golden.outputs.items():
            tensors |= {f"{graph}/out/{frame}/{name}": np.ascontiguousarray(value) for name, value in drawn.items()}
    save_file(tensors, path, header)


def read_golden(path: Path, graph: str) -> Golden:
    """The golden of one graph. Raises EngineRefused for a file that is not whole."""
    inputs: dict[str, Array] = {}
    outputs: dict[int, dict[str, Array]] = {}
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118
                match name.split("/"):
                    case [found, "in", tensor] if found == graph:
                        inputs[tensor] = file.get_tensor(name)
                    case [found, "out", frame, tensor] if found == graph:
                        outputs.setdefault(int(frame), {})[tensor] = file.get_tensor(name)
        return Golden(inputs, outputs, int(header[f"{graph}.frames"]), int(header[f"{graph}.sinks"]))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise EngineRefused(f"{path}: no golden file of {graph}, or a damaged one: {error}") from error
