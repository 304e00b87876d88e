"""Eager torch: the runtime that every other one is compared with."""

from __future__ import annotations

from engines.runtimes.fixed_frame import FixedFrame, NetworkRuntime
from engines.runtimes.torch_graph import (
    Graph,
    Precision,
    default_threads,
    open_device,
    prepared,
    spec_of,
)


class TorchRuntime(NetworkRuntime):
    """Runs a graph module as it is written. See engines.runtimes.base.Runtime.

    CPU: bfloat16 where the CPU has it, else float32, channels-last. CUDA: float16, with fixed addresses, pinned
    transfers and one wait of the host a frame.
    """

    name = "torch"

    def __init__(
        self, graph: Graph, device: str = "cpu", precision: Precision = "auto", threads: int | None = None
    ) -> None:
        """`graph`: a module, of which a copy is taken, or a function that makes one in a dtype.
        `threads`: of one operation, CPU only; every core if None.

        Raises EngineUnavailable where the device or the precision is not to be had.
        """
        self._device = open_device(device)
        self.device = str(self._device)
        self.threads = default_threads() if threads is None else threads
        module, self.why_precision = prepared(graph, self._device, precision)
        self.spec, self._call = spec_of(module), module
        self._frame = None if self._device.type == "cpu" else FixedFrame(self.spec, self._device, module)
