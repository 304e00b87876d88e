"""Eager torch: the runtime that every other one is compared with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engines.graph import Clock
from engines.runtimes.base import Array, State
from engines.runtimes.checks import check_inputs, check_slots
from engines.runtimes.fixed_frame import FixedFrame, FixedState
from engines.runtimes.torch_graph import (
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


class TorchRuntime:
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
        self._module, self.why_precision = prepared(graph, self._device, precision)
        self.spec = spec_of(self._module)
        self._frame = None if self._device.type == "cpu" else FixedFrame(self.spec, self._device, self._module)

    def init(self) -> State:
        return TorchState(self.spec, self._device) if self._frame is None else self._frame.init()

    def reset(self, state: State, rows: tuple[int, ...] | None = None) -> None:
        assert isinstance(state, TorchState)
        if isinstance(state, FixedState) and self._frame is not None:
            self._frame.reset(state, rows)
        else:
            state.reset(rows)

    def run(
        self, state: State, inputs: Mapping[str, Array], slots: Mapping[Clock, NDArray[np.int64]]
    ) -> dict[str, Array]:
        check_inputs(self.spec, inputs)
        check_slots(self.spec, slots)
        if self._frame is not None:
            assert isinstance(state, FixedState)
            return self._frame.run(state, inputs, slots)
        assert isinstance(state, TorchState)
        use_threads(self.threads)
        return run_on_cpu(self._module, self.spec, state, inputs, slots)

    def close(self) -> None:
        self._module = nn.Module()
        self._frame = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
