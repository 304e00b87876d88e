"""TensorRT's Python API as far as the runtime uses it, over memory of the CPU, with a graph module as the engine.

It sees addresses only, as TensorRT does: a buffer that moved, or was never bound, shows as wrong results or an error.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from types import SimpleNamespace

import torch
from torch import nn

from engines.graph import GraphSpec, TensorSpec
from engines.runtimes.torch_graph import DTYPES

TYPES = {name: f"DataType.{name}" for name in ("float32", "float16", "bfloat16", "int64")}
module = SimpleNamespace(
    __version__="11.0.0", TensorIOMode=SimpleNamespace(INPUT="INPUT", OUTPUT="OUTPUT"), **TYPES
)  # stands for `import tensorrt`


def tensors_of(spec: GraphSpec) -> dict[str, tuple[str, TensorSpec]]:
    """Names as torch_tensorrt gives them, in the order of the graph."""
    taken = [*spec.inputs, *(memory.kept for memory in spec.memories)]
    given = [*spec.outputs, *(memory.new for memory in spec.memories)]
    inputs = {tensor.name: ("INPUT", tensor) for tensor in taken}
    return inputs | {f"output{number}": ("OUTPUT", tensor) for number, tensor in enumerate(given)}


class FakeEngine:
    """ICudaEngine."""

    def __init__(self, graph: nn.Module, tensors: Mapping[str, tuple[str, TensorSpec]]) -> None:
        self.graph = graph
        self.tensors = dict(tensors)

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, number: int) -> str:
        return list(self.tensors)[number]

    def get_tensor_mode(self, name: str) -> str:
        return self.tensors[name][0]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name][1].shape

    def get_tensor_dtype(self, name: str) -> str:
        return TYPES[self.tensors[name][1].dtype]

    def create_execution_context(self) -> FakeContext:
        return FakeContext(self)


class FakeContext:
    """IExecutionContext."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.tensors

    def _at(self, name: str) -> torch.Tensor:
        tensor = self.engine.tensors[name][1]
        kind = DTYPES[tensor.dtype]
        memory = (ctypes.c_char * (math.prod(tensor.shape) * kind.itemsize)).from_address(self.addresses[name])
        return torch.frombuffer(memory, dtype=kind).reshape(tensor.shape)

    def execute_async_v3(self, stream: int) -> bool:
        names = {
            way: [one for one, (mode, _) in self.engine.tensors.items() if mode == way] for way in ("INPUT", "OUTPUT")
        }
        with torch.no_grad():
            results = self.engine.graph(*(self._at(name) for name in names["INPUT"]))
        for name, result in zip(names["OUTPUT"], results):
            self._at(name).copy_(result)
        return True
