"""What the runtimes share that compute or remember with torch: precisions, memories, a frame on the CPU."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.errors import EngineFault, EngineUnavailable
from engines.graph import Clock, GraphSpec
from engines.runtimes.base import Array
from engines.runtimes.checks import batch_of, check_finite, check_spec

Precision = Literal["auto", "float32", "bfloat16", "float16"]

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
}


NAMES: Mapping[torch.dtype, Precision] = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}

Graph = nn.Module | Callable[[torch.dtype], nn.Module]


class TorchState:
    """The memories of one batch as torch tensors; see engines.runtimes.base.State."""

    def __init__(self, spec: GraphSpec, device: torch.device) -> None:
        self.kept = {
            memory.kept.name: torch.zeros(memory.kept.shape, dtype=DTYPES[memory.kept.dtype], device=device)
            for memory in spec.memories
        }

    @property
    def size_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.kept.values())

    def reset(self, rows: tuple[int, ...] | None) -> None:
        """Zeros in the rows (all, if None), where they lie."""
        for tensor in self.kept.values():
            for row in range(tensor.shape[0]) if rows is None else rows:
                tensor[row].zero_()


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware; elsewhere torch emulates it, slower than float32.

    x86: the flags avx512_bf16 or amx_bf16. ARM: bf16. torch.cpu.get_capabilities (2.13) and /proc/cpuinfo (Linux) agree
    on them; torch.ops.mkldnn._is_mkldnn_bf16_supported is no help, it is true for any AVX-512.
    """
    ask = getattr(torch.cpu, "get_capabilities", None)
    if ask is not None:
        flags = ask()
        return any(bool(flags.get(flag)) for flag in ("avx512_bf16", "amx_bf16", "bf16"))
    listed = Path("/proc/cpuinfo")
    if not listed.exists():
        return False
    words = set(listed.read_text(encoding="utf-8").split())
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def resolve_precision(precision: Precision, device: torch.device) -> tuple[torch.dtype, str]:
    """The dtype to compute in, and why. Raises EngineUnavailable where the device cannot."""
    if precision not in ("auto", "float32", "bfloat16", "float16"):
        raise ValueError(f'no precision is called "{precision}"; valid: auto, bfloat16, float16, float32')
    if device.type == "cpu":
        if precision == "float16":
            raise EngineUnavailable("CPUs compute in float32 or bfloat16, not in float16; choose one of those")
        if precision != "auto":
            return DTYPES[precision], "asked for"
        if cpu_has_bfloat16():
            return torch.bfloat16, "auto: the CPU multiplies bfloat16 in hardware"
        return torch.float32, "auto: the CPU has no bfloat16"
    if precision != "auto":
        return DTYPES[precision], "asked for"
    return torch.float16, "auto: float16 on a GPU; bfloat16 where a network leaves its range"


def open_device(name: str) -> torch.device:
    """The device, if it is there. Raises EngineUnavailable with the command that mends it."""
    device = torch.device(name)
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise EngineUnavailable(f'no runtime computes on "{name}"; valid: cpu, cuda, cuda:1 and so on')
    if not torch.cuda.is_available():
        raise EngineUnavailable(
            "no CUDA device: torch sees none; with an NVIDIA GPU and driver, pip install vividstream[gpu]"
        )
    index = device.index if ":" in name else 0
    if index >= torch.cuda.device_count():
        raise EngineUnavailable(f'no device "{name}"; there are {torch.cuda.device_count()}, counted from cuda:0')
    return torch.device("cuda", index)


def spec_of(module: nn.Module) -> GraphSpec:
    """The module's own description, checked. Raises ValueError where it has none."""
    spec = getattr(module, "spec", None)
    if not isinstance(spec, GraphSpec):
        raise ValueError(f"{type(module).__name__} is no graph: it has no spec (engines.graph.GraphSpec)")
    check_spec(spec)
    return spec


def precision_of(module: nn.Module) -> torch.dtype:
    """The dtype that a module computes in: that of its weights."""
    floats = (one.dtype for one in module.parameters() if one.is_floating_point())
    return next(floats, torch.float32)


def prepared(graph: Graph, device: torch.device, precision: Precision) -> tuple[nn.Module, str]:
    """A module that only computes: on the device, in the precision, convolutions channels-last, nothing of training.
    And why this precision.

    A function of the dtype is asked for the module in the precision that suits the device; the module is the runtime's
    then. A module is copied and stays in the precision that it has, unless another one is named.
    Raises ValueError where the module's description does not follow its weights into that one.
    """
    if not isinstance(graph, nn.Module):
        dtype, why = resolve_precision(precision, device)
        module = graph(dtype)
    else:
        own = NAMES[precision_of(graph)]
        dtype, why = resolve_precision(own if precision == "auto" else precision, device)
        if precision == "auto":
            why = "the precision it was given in"
        module = copy.deepcopy(graph).to(dtype)
    spec = spec_of(module)
    stray = [one.kept for one in spec.memories if DTYPES[one.kept.dtype] != dtype]
    if stray or getattr(module, "dtype", dtype) != dtype:
        raise ValueError(
            f'graph "{spec.name}" does not follow its weights to {NAMES[dtype]}: give a function of the dtype'
        )
    module = module.requires_grad_(False).eval().to(device)
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module, why


def default_threads() -> int:
    """Threads of one operation: every core, since a frame's stages follow each other and the tracker is idle while the
    network runs. Where other programs share the cores, fewer are better: threads wait for the slowest.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(threads: int) -> None:
    """Sets how many threads an operation takes: the process's number, set again when others changed it."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def borrowed(array: Array) -> Tensor:
    """The array as a tensor, without a copy where torch allows it. Whole rows in order: a package of compiled code
    reads its inputs by address and never asks for strides.
    """
    whole = np.ascontiguousarray(array)
    return torch.from_numpy(whole if whole.flags.writeable else whole.copy())


def check_results(spec: GraphSpec, results: Sequence[Tensor]) -> None:
    """Refuses what is not described: ValueError names the output."""
    wanted = [*spec.outputs, *(memory.new for memory in spec.memories)]
    if len(results) != len(wanted):
        raise ValueError(f'graph "{spec.name}" gave {len(results)} tensors, its description has {len(wanted)}')
    for tensor, result in zip(wanted, results):
        if tuple(result.shape) != tensor.shape or result.dtype != DTYPES[tensor.dtype]:
            given = f"{result.dtype} {list(result.shape)}"
            raise ValueError(f'output "{tensor.name}" is {given}, described as {tensor.dtype} {list(tensor.shape)}')


def run_on_cpu(
    call: Callable[..., tuple[Tensor, ...]],
    spec: GraphSpec,
    state: TorchState,
    inputs: Mapping[str, Array],
    slots: Mapping[Clock, NDArray[np.int64]],
) -> dict[str, Array]:
    """One frame. Nothing is written into the memories unless all of it is numbers."""
    given = [borrowed(inputs[tensor.name]) for tensor in spec.inputs]
    with torch.inference_mode():
        try:
            results = call(*given, *state.kept.values())
        except RuntimeError as error:
            raise EngineFault(f'graph "{spec.name}" failed on the CPU: {error}') from error
        check_results(spec, results)
        check_finite(spec, rows_finite(results, batch_of(spec)).tolist())
        outputs, new = results[: len(spec.outputs)], results[len(spec.outputs) :]
        for memory, slices in zip(spec.memories, new):
            kept = state.kept[memory.kept.name]
            for row, slot in enumerate(slots[memory.clock].tolist()):
                if slot >= 0:
                    kept[row].select(memory.axis - 1, slot).copy_(slices[row])
        return {tensor.name: output.clone().numpy() for tensor, output in zip(spec.outputs, outputs)}


def rows_finite(results: Sequence[Tensor], batch: int) -> Tensor:
    """bool [B]: whether all values of a row are numbers. A sum says so in one pass: NaN and inf survive it."""
    sums = [result.reshape(batch, -1).sum(1, dtype=torch.float32) for result in results]
    return torch.isfinite(torch.stack(sums)).all(0)
