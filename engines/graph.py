"""What is known of a graph from outside: names, shapes, and what is remembered between frames. No torch here.

A graph is a pure function of named tensors with fixed shapes. What it remembers from frame to frame (rings of keys and
values, the causal convolutions' past) are ordinary inputs, by name; for each it gives back only the slice that is new.
A torch module that is a graph has an attribute `spec`, takes tensors in the order of `spec.inputs`, then every memory's
`kept`, and returns a tuple in the order of `spec.outputs`, then every memory's `new`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DType = Literal["float32", "float16", "bfloat16", "int64"]
Clock = Literal["window", "recent"]


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
    clock: Clock


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """Everything that a caller must know of a graph. Names are unique across inputs, memories and outputs."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    memories: tuple[Memory, ...] = ()
