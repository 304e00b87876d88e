"""Compiled torch: on the CPU a package built ahead or torch.compile; on a GPU CUDA graphs, captured here, with static
addresses and counted replays.
"""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn

from engines.errors import EngineFault, EngineUnavailable
from engines.graph import GraphSpec
from engines.runtimes.base import Array
from engines.runtimes.checks import check_spec
from engines.runtimes.fixed_frame import FixedFrame, NetworkRuntime
from engines.runtimes.torch_graph import (
    DTYPES,
    Graph,
    Precision,
    TorchState,
    default_threads,
    open_device,
    prepared,
    run_on_cpu,
    spec_of,
    use_threads,
)

# For a CPU: products of one and the same input (query, key and value) become one product.
JOINED: Mapping[str, bool] = MappingProxyType({"cpp.enable_concat_linear": True})


class PackageRuntime(NetworkRuntime):
    """A package of engines.build.compiled_package, on the CPU. See engines.runtimes.base.Runtime.

    The same code that CompiledRuntime makes, but made before: opened in a moment, and no compiler is needed.
    """

    name = "compiled"
    device = "cpu"

    def __init__(self, path: Path, spec: GraphSpec, threads: int | None = None) -> None:
        """Raises EngineUnavailable where the package was made for another machine or another torch."""
        check_spec(spec)
        self.spec, self._device, self._frame = spec, torch.device("cpu"), None
        self.threads = default_threads() if threads is None else threads
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._call = torch._inductor.aoti_load_package(str(path))
        except (RuntimeError, OSError) as error:
            raise EngineUnavailable(
                f"{path.name} cannot be opened here ({error}): build it on this machine, vividstream engines build"
            ) from error


class CompiledRuntime(NetworkRuntime):
    """A graph module, compiled. See engines.runtimes.base.Runtime.

    CPU: Inductor writes C++ for it, weights frozen in; the first frame's work is done here, before a call needs it.
    CUDA: Inductor's kernels (or eager ones, with `fused` off) in one CUDA graph per state, ring write included; a frame
    that was no replay is a fault.
    """

    name = "compiled"

    def __init__(
        self,
        graph: Graph,
        device: str = "cpu",
        precision: Precision = "auto",
        threads: int | None = None,
        fused: bool = True,
        tuned: bool = False,
    ) -> None:
        """Takes a copy of the module, or has one made in a dtype, and compiles it: up to minutes.

        fused   let Inductor write kernels; off: CUDA graphs of eager kernels alone
        tuned   let Inductor try several kernels for each operation (max-autotune)

        Raises EngineUnavailable where the device, the precision or the C++ compiler is not to be had, or where the
        module cannot be compiled whole.
        """
        self._device = open_device(device)
        self.device = str(self._device)
        self.threads = default_threads() if threads is None else threads
        on_cpu = self._device.type == "cpu"
        if on_cpu:
            if not fused:
                raise ValueError("fused=False means CUDA graphs alone, and a CPU has none")
            require_compiler()
            use_threads(self.threads)
        module, self.why_precision = prepared(graph, self._device, precision)
        self.spec = spec_of(module)
        self._call = _compile(module, on_cpu, tuned) if fused else module
        self._frame = None if on_cpu else FixedFrame(self.spec, self._device, self._call, captured=True)
        self._warm_up()

    def _warm_up(self) -> None:
        """Compiles, with zeros; on a GPU captures too, so that what cannot be captured is known before a call."""
        if self._frame is not None:
            try:
                self._frame.init()
            except (EngineFault, RuntimeError) as error:
                raise EngineUnavailable(f"{error}; use the runtime torch") from error
            return
        state = TorchState(self.spec, self._device)
        zeros: dict[str, Array] = {
            tensor.name: torch.zeros(tensor.shape, dtype=DTYPES[tensor.dtype]).numpy() for tensor in self.spec.inputs
        }
        rows = np.full(self.spec.inputs[0].shape[0], -1, np.int64)
        try:
            with warnings.catch_warnings():  # of torch about its own parts
                warnings.simplefilter("ignore")
                run_on_cpu(self._call, self.spec, state, zeros, {"window": rows, "recent": rows})
        except EngineFault as error:
            raise EngineUnavailable(f"{error}; use the runtime torch") from error


def require_compiler() -> None:
    """Raises EngineUnavailable where Inductor would not find a C++ compiler."""
    named = os.environ.get("CXX")
    names = (named,) if named else ("g++", "clang++")
    if sys.platform != "win32" and not any(name and shutil.which(name) for name in names):
        found = f"CXX={named} is not there" if named else "neither g++ nor clang++ is there"
        raise EngineUnavailable(f"torch.compile needs a C++ compiler, and {found}: apt-get install g++")


def _compile(module: nn.Module, freeze: bool, tuned: bool) -> Callable[..., tuple[Tensor, ...]]:
    """fullgraph: a break in the graph is an error. No CUDA graphs of Inductor's own: it copies inputs into them."""
    compiled: Callable[..., tuple[Tensor, ...]] = torch.compile(
        module,
        fullgraph=True,
        dynamic=False,
        options={"freezing": freeze, "max_autotune": tuned, "triton.cudagraphs": False, **JOINED},
    )
    return compiled
