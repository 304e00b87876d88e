"""Runtimes by name: what each needs, and which one is taken where nobody asked for one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from engines.errors import EngineUnavailable, UnknownEngine, nearest
from engines.graph import GraphSpec
from engines.runtimes.base import Runtime

if TYPE_CHECKING:
    import torch
    from torch import nn

Asked = Literal["auto", "float32", "bfloat16", "float16", "int8"]  # of engines; torch's own have no int8
RuntimeName = Literal["auto", "torch", "compiled", "ort", "tensorrt"]
RUNTIMES = ("torch", "compiled", "ort", "tensorrt")
_SUFFIXES = {".onnx": "ort", ".pt2": "compiled", ".plan": "tensorrt", ".engine": "tensorrt"}


class Opened(NamedTuple):
    """A runtime, and in words why this one and this precision."""

    runtime: Runtime
    why: str


def open_runtime(
    name: RuntimeName,
    graph: nn.Module | Callable[[torch.dtype], nn.Module] | Path,
    device: str = "cpu",
    precision: Asked = "auto",
    threads: int | None = None,
    spec: GraphSpec | None = None,
) -> Opened:
    """Opens a graph: a module, a function that makes one in a dtype, or a file (with its `spec`).

    `auto` takes what a file is for; for a module, torch on the CPU and compiled on a GPU. It never falls back: what it
    takes and cannot have is an error too.

    Raises UnknownEngine for a name that is none, EngineUnavailable with the command that mends it, ValueError for a
    graph that the runtime does not take.
    """
    if name != "auto" and name not in RUNTIMES:
        raise UnknownEngine(f'unknown runtime "{name}"; {nearest(name, (*RUNTIMES, "auto"))}')
    if isinstance(graph, Path):
        return _open_file(name, graph, device, precision, threads, spec)
    if name in ("ort", "tensorrt"):
        command = "vividstream engines build --runtime " + name
        raise EngineUnavailable(f"the runtime {name} opens files, and this graph is in memory: {command}")
    if precision == "int8":
        raise EngineUnavailable(
            f"the runtime {name} does not compute in int8; ONNX Runtime does, of a built engine: "
            "vividstream engines build NAME --runtime ort --precision int8"
        )
    if importlib.util.find_spec("torch") is None:
        raise EngineUnavailable("torch is not installed: pip install vividstream[train], or vividstream[gpu] for a GPU")
    on_cpu = device == "cpu"
    if name == "torch" or (name == "auto" and on_cpu):
        from engines.runtimes.torch_eager import TorchRuntime

        eager = TorchRuntime(graph, device, precision, threads)
        reason = "asked for by name" if name == "torch" else "auto: on a CPU it needs no compiler and starts at once"
        return Opened(eager, f"torch, {reason}; {eager.why_precision}")
    from engines.runtimes.compiled import CompiledRuntime

    compiled = CompiledRuntime(graph, device, precision, threads)
    reason = "asked for by name" if name == "compiled" else "auto: on a GPU, one CUDA graph a frame"
    return Opened(compiled, f"compiled, {reason}; {compiled.why_precision}")


def _open_file(
    name: RuntimeName, path: Path, device: str, precision: Asked, threads: int | None, spec: GraphSpec | None
) -> Opened:
    kind = _SUFFIXES.get(path.suffix)
    if kind is None:
        raise ValueError(f"{path.name} is no file of a runtime; those end in {', '.join(_SUFFIXES)}")
    if name not in ("auto", kind):
        raise EngineUnavailable(f"{path.name} is for the runtime {kind}, and {name} was asked for")
    if spec is None:
        raise ValueError(f"{path.name} says nothing of its memories: its spec is needed")
    floats = {memory.kept.dtype for memory in spec.memories}
    stored = "float32" if precision == "int8" else precision  # products are of 8 bits, what is kept of a frame is not
    if precision == "int8" and kind != "ort":
        raise EngineUnavailable(f"int8 is for ONNX Runtime on a CPU, and {path.name} is for the runtime {kind}")
    if precision != "auto" and floats - {stored}:
        raise EngineUnavailable(f"{path.name} was built in {', '.join(sorted(floats))}, and {precision} was asked for")
    reason = "asked for by name" if name == kind else f"auto: {path.name} is for it"
    if kind == "tensorrt":
        from engines.runtimes.trt import TensorrtRuntime

        return Opened(TensorrtRuntime(path, spec, device), f"tensorrt, {reason}; types as built")
    if kind == "compiled":
        from engines.runtimes.compiled import PackageRuntime

        if device != "cpu":
            raise EngineUnavailable(f"{path.name} is code for a CPU, and {device} was asked for")
        return Opened(
            PackageRuntime(path, spec, threads), f"compiled, {reason}; {', '.join(sorted(floats)) or 'float32'}"
        )
    if importlib.util.find_spec("onnxruntime") is None:
        raise EngineUnavailable("onnxruntime is not installed: pip install onnxruntime")
    from engines.runtimes.ort import OrtRuntime

    provider: Literal["cpu", "cuda"] = "cpu" if device == "cpu" else "cuda"
    return Opened(OrtRuntime(path, spec, provider, device, threads), f"ort, {reason}; provider {provider}")
