"""What a build will need, before it begins: memory, disk, time. Estimates, and said to be estimates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from engines.engine_manifest import EngineManifest
from engines.errors import NoRoom
from engines.golden import checked_frames
from engines.graph import GraphSpec, TensorSpec
from engines.machine import free_memory_bytes, gigabytes
from engines.models.config import SwapperConfig

if TYPE_CHECKING:
    from engines.models.describe import Description

STAGES = ("construct", "export", "compile", "reference", "rollout", "seal")
ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8}

# How often all weights lie in memory at the same time, in float32, while they are exported: the module, the exported
# program, the ONNX protobuf and its bytes. Held against `tiny` and `base` (docs/log.md).
COPIES: Mapping[str, float] = MappingProxyType({"torch": 3.0, "compiled": 3.0, "ort": 6.5, "tensorrt": 6.5})
COPIES_DRAWING = 3.5  # while frames are drawn: the module, the reference's copy, the engine's and what it packs
LIBRARIES_BYTES: Mapping[str, int] = MappingProxyType(
    {"torch": 600_000_000, "compiled": 900_000_000, "ort": 800_000_000, "tensorrt": 3_000_000_000}
)
ACTIVATIONS = 2  # the tensors of one frame, and the same again for what the libraries pack and keep
STATES = 1.5  # one session's memories, and the new slices
SLACK_BYTES = 20_000_000

# Where nothing like it was built here before: seconds at least, and for a million weights; from `tiny`, `base` on two
# busy cores. Frames are drawn at so many FLOP a second.
GUESSED_S: Mapping[str, tuple[float, float]] = MappingProxyType({"construct": (0.2, 0.02), "seal": (0.1, 0.01)})
EXPORT_S: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"torch": (10, 0.1), "compiled": (10, 0.1), "ort": (18, 0.15), "tensorrt": (30, 0.3)}
)
COMPILE_S: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"torch": (0.1, 0.01), "compiled": (120, 1), "ort": (0.3, 0.01), "tensorrt": (120, 0.5)}
)
DRAWN_FLOP_PER_S: Mapping[str, float] = MappingProxyType({"cpu": 80e9, "cuda": 5e12})


@dataclass(frozen=True, slots=True)
class Needs:
    """What a build is expected to need, and how that is known."""

    parameters: int
    memory_bytes: int
    disk_bytes: int
    stage_s: Mapping[str, float]
    why_s: str


def needs(
    config: SwapperConfig,
    cost: Description,
    specs: Iterable[GraphSpec],
    runtime: str,
    device: str,
    frames: int,
    earlier: Iterable[EngineManifest],
) -> Needs:
    """What building needs. specs: of the graphs. earlier: manifests of engines that were built here, newest first."""
    weights = 4 * cost.parameters
    remembered = cost.ring_bytes + cost.past_bytes
    exporting = int(COPIES[runtime] * weights) + remembered
    drawing = int(COPIES_DRAWING * weights + STATES * remembered) + ACTIVATIONS * cost.activation_bytes
    memory = LIBRARIES_BYTES[runtime] + max(exporting, drawing)
    golden = sum(golden_bytes(spec, config.window.frames, frames) for spec in specs)
    disk = 2 * weights + golden + SLACK_BYTES
    stage_s, why = _stage_times(cost, runtime, device, frames, earlier)
    return Needs(cost.parameters, memory, disk, stage_s, why)


def golden_bytes(spec: GraphSpec, window: int, frames: int) -> int:
    """Of the stored inputs and outputs of one graph."""
    inputs = sum(_bytes(tensor) for tensor in spec.inputs)
    return inputs + len(checked_frames(window, frames)) * sum(_bytes(tensor) for tensor in spec.outputs)


def _bytes(tensor: TensorSpec) -> int:
    size = ITEM_BYTES[tensor.dtype]
    for side in tensor.shape:
        size *= side
    return size


def _stage_times(
    cost: Description, runtime: str, device: str, frames: int, earlier: Iterable[EngineManifest]
) -> tuple[Mapping[str, float], str]:
    kind = device.partition(":")[0]
    for manifest in earlier:
        key = manifest.key
        like = (key.name, key.runtime, key.device, key.steps, key.size_px, manifest.golden.frames)
        if like == (cost.name, runtime, kind, cost.steps, cost.size_px, frames):
            return {name: manifest.timings_s[name] for name in STAGES}, f"as on {manifest.created[:10]}"
    guesses = {**GUESSED_S, "export": EXPORT_S[runtime], "compile": COMPILE_S[runtime]}
    stage_s = {name: least + each * cost.parameters / 1e6 for name, (least, each) in guesses.items()}
    stage_s["reference"] = stage_s["rollout"] = frames * cost.flop_per_frame / DRAWN_FLOP_PER_S[kind]
    return {name: stage_s[name] for name in STAGES}, "a guess: none like it was built here before"


def check_memory(needed: Needs, runtime: str, name: str) -> None:
    """Raises NoRoom, with figures, where the machine has less memory free than the build is expected to need."""
    free = free_memory_bytes()
    if free and free < needed.memory_bytes:
        raise NoRoom(
            f"building {name} for {runtime} needs about {gigabytes(needed.memory_bytes)} of memory "
            f"({needed.parameters / 1e6:.1f} million weights), and {gigabytes(free)} are free; "
            "--force builds all the same"
        )
