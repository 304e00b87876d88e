"""What executes a graph: torch, compiled torch, ONNX Runtime or TensorRT, all behind one contract.

A runtime owns the memories of a graph (engines.graph) in a `State`, writes the slices that the graph returns where
`engines.window` says, and never copies a ring out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.graph import Clock, GraphSpec

Array = NDArray[Any]


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
        self, state: State, inputs: Mapping[str, Array], slots: Mapping[Clock, NDArray[np.int64]]
    ) -> dict[str, Array]:
        """One frame of every row.

        inputs  by name, as the spec says, without the memories
        slots   per clock ("window", "recent") int64 [B]: where this frame's slices are written; -1 leaves a row's
                memories as they were (its session has no frame now)

        Returns the outputs by name, owned by the caller. Raises EngineFault where the device fails.
        """

    def close(self) -> None:
        """Frees the device. The runtime must not run again."""
