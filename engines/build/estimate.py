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

# How often all weights lie in memory at the same time, in float32, at the worst moment. Measured on `tiny` and on wider
# ones (docs/log.md): exporting holds the module, the exported program, the ONNX protobuf and its bytes.
COPIES: Mapping[str, float] = MappingProxyType({"torch": 3.5, "compiled": 3.5, "ort": 6.0, "tensorrt": 6.0})
LIBRARIES_BYTES: Mapping[str, int] = MappingProxyType(
    {"torch": 600_000_000, "compiled": 900_000_000, "ort": 800_000_000, "tensorrt": 3_000_000_000}
)
ACTIVATIONS = 2  # the tensors of one frame, and the same again for what the libraries pack and keep
SLACK_BYTES = 20_000_000

# Seconds for a million parameters, where nothing like it was built here before; guesses from `tiny` on two cores.
GUESSED_S: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "torch": {"construct": 0.1, "export": 2.0, "compile": 0.1, "reference": 1.5, "rollout": 1.5, "seal": 0.01},
        "compiled": {"construct": 0.1, "export": 2.0, "compile": 10.0, "reference": 1.5, "rollout": 1.5, "seal": 0.01},
        "ort": {"construct": 0.1, "export": 4.0, "compile": 0.5, "reference": 1.5, "rollout": 1.0, "seal": 0.02},
        "tensorrt": {"construct": 0.1, "export": 4.0, "compile": 20.0, "reference": 0.5, "rollout": 0.2, "seal": 0.02},
    }
)


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
    frames: int,
    earlier: Iterable[EngineManifest],
) -> Needs:
    """What building needs. specs: of the graphs. earlier: manifests of engines that were built here, newest first."""
    weights = 4 * cost.parameters
    working = cost.activation_bytes + 2 * (cost.ring_bytes + cost.past_bytes)
    memory = LIBRARIES_BYTES[runtime] + int(COPIES[runtime] * weights) + ACTIVATIONS * working
    golden = sum(golden_bytes(spec, config.window.frames, frames) for spec in specs)
    disk = 2 * weights + golden + SLACK_BYTES
    stage_s, why = _stage_times(config, cost.parameters, runtime, earlier)
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
    config: SwapperConfig, parameters: int, runtime: str, earlier: Iterable[EngineManifest]
) -> tuple[Mapping[str, float], str]:
    for manifest in earlier:
        key = manifest.key
        same = (key.name, key.runtime, key.steps, key.size_px) == (config.name, runtime, config.steps, config.size_px)
        if same and set(manifest.timings_s) == set(STAGES):
            return {name: manifest.timings_s[name] for name in STAGES}, f"as on {manifest.created[:10]}"
    millions = max(parameters / 1e6, 0.1)
    return {name: GUESSED_S[runtime][name] * millions for name in STAGES}, "a guess: none like it was built here before"


def check_memory(needed: Needs, runtime: str, name: str) -> None:
    """Raises NoRoom, with figures, where the machine has less memory free than the build is expected to need."""
    free = free_memory_bytes()
    if free and free < needed.memory_bytes:
        raise NoRoom(
            f"building {name} for {runtime} needs about {gigabytes(needed.memory_bytes)} of memory "
            f"({needed.parameters / 1e6:.1f} million weights), and {gigabytes(free)} are free; "
            "--force builds all the same"
        )
