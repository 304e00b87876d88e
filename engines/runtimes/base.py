"""What executes a graph: torch, compiled torch, ONNX Runtime or TensorRT, all behind one contract.

A graph is a pure function of named tensors with fixed shapes. What it remembers from frame to frame (the rings of
keys and values, the causal convolutions' past) are ordinary inputs, by name; for each it gives back only the slice
that is new. The runtime owns the memory of such a `State`, writes the slices where `engines.window` says, and never
copies a ring out (docs/decisions, architecture section 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

DType = Literal["float32", "float16", "bfloat16", "int64"]
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor of a graph. The first dimension of every tensor is the batch B: one row per session."""

    name: str
    shape: tuple[int, ...]
    dtype: DType = "float32"


@dataclass(frozen=True, slots=True)
class Memory:
    """A tensor that is remembered between frames, and the output that is written into it after a frame.

    kept   the whole, an input of the graph: [B, ..., slots, ...]
    new    the slice of this frame, an output: as `kept` without the axis `axis`
    axis   the axis of `kept` that counts slots
    clock  which slot is written: `window` follows the ring of the temporal window (sinks stay), `recent` keeps the
           last `slots` frames in a plain ring
    """

    kept: TensorSpec
    new: TensorSpec
    axis: int
    clock: Literal["window", "recent"]


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """Everything that a caller must know of a graph. Names are unique across inputs, memories and outputs."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    memories: tuple[Memory, ...] = ()


class State(Protocol):
    """The memories of the sessions in one batch, in the runtime's own memory. Fixed addresses for life."""

    @property
    def size_bytes(self) -> int: ...


class Runtime(Protocol):
    """Executes one graph on one device. Not thread safe: one thread owns the accelerator."""

    name: str  # "torch", "compiled", "ort", "tensorrt"
    device: str  # "cpu", "cuda:0"
    spec: GraphSpec

    def init(self) -> State:
        """Memories of zeros for one batch: nothing seen yet."""

    def reset(self, state: State, rows: tuple[int, ...] | None = None) -> None:
        """Forgets what the rows (all, if None) saw; addresses stay. A reset row equals a fresh one."""

    def run(
        self, state: State, inputs: Mapping[str, Array], slots: Mapping[str, NDArray[np.int64]]
    ) -> dict[str, Array]:
        """One frame of every row.

        inputs  by name, as the spec says, without the memories
        slots   per clock ("window", "recent") int64 [B]: where this frame's slices are written; -1 leaves a row's
                memories as they were (its session has no frame now)

        Returns the outputs by name, owned by the caller. Raises EngineFault where the device fails.
        """

    def close(self) -> None:
        """Frees the device. The runtime must not run again."""
