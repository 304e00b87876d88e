"""One frame on an accelerator: every address fixed for life, one wait of the host, optionally one CUDA graph.

A frame is: inputs and slots from pinned host memory, the network, the check that all is numbers, the slices into their
rings, outputs to pinned host memory. All of it is enqueued on one stream without a look at a value, so that the whole
can be one CUDA graph, ring write included. On the CPU the same code runs in order; tests do that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.errors import EngineFault
from engines.graph import Clock, GraphSpec, TensorSpec
from engines.runtimes.base import Array, State
from engines.runtimes.checks import batch_of, check_finite, check_inputs, check_slots, clocks_of
from engines.runtimes.torch_graph import DTYPES, TorchState, check_results, rows_finite, run_on_cpu, use_threads

WARM_UPS = 3

Network = Callable[..., tuple[Tensor, ...]]


class FixedState(TorchState):
    """Memories, and the buffers through which frames pass, at addresses that never move."""

    def __init__(self, spec: GraphSpec, device: torch.device) -> None:
        super().__init__(spec, device)
        pinned = device.type == "cuda"
        self.inputs = {tensor.name: _zeros(tensor, device) for tensor in spec.inputs}
        self.outputs = {tensor.name: _zeros(tensor, device) for tensor in spec.outputs}
        self.new = {memory.new.name: _zeros(memory.new, device) for memory in spec.memories}
        self.slots: dict[Clock, Tensor] = {
            clock: torch.zeros(batch_of(spec), dtype=torch.int64, device=device) for clock in clocks_of(spec)
        }
        self.finite = torch.ones(batch_of(spec), dtype=torch.bool, device=device)
        self.rows = torch.arange(batch_of(spec), device=device)
        self.host_inputs = {name: _host(tensor, pinned) for name, tensor in self.inputs.items()}
        self.host_slots = {clock: _host(tensor, pinned) for clock, tensor in self.slots.items()}
        self.host_outputs = {name: _host(tensor, pinned) for name, tensor in self.outputs.items()}
        self.host_finite = _host(self.finite, pinned)
        self.engine: Any = None  # what a runtime's engine keeps per state: bindings, a context
        self.replay: Callable[[], None] | None = None
        self.frames = 0
        self.replays = 0


def _zeros(tensor: TensorSpec, device: torch.device) -> Tensor:
    return torch.zeros(tensor.shape, dtype=DTYPES[tensor.dtype], device=device)


def _host(like: Tensor, pinned: bool) -> Tensor:
    return torch.zeros(like.shape, dtype=like.dtype, pin_memory=pinned)


class FixedFrame:
    """Frames of one graph on one device.

    network   takes inputs, then memories' kept, returns outputs, then memories' new, as a graph module does; or None
              where `enqueue` puts the results into the state's own buffers
    enqueue   starts an engine that reads and writes the state's buffers by address
    captured  make one CUDA graph of the frame for each state; it must then be replayed in every frame
    """

    def __init__(
        self,
        spec: GraphSpec,
        device: torch.device,
        network: Network | None,
        enqueue: Callable[[FixedState], None] | None = None,
        captured: bool = False,
    ) -> None:
        assert (network is None) != (enqueue is None)
        self._spec = spec
        self._device = device
        self._network = network
        self._enqueue = enqueue
        self._capture = captured
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle() if captured and device.type == "cuda" else None

    @property
    def stream_address(self) -> int:
        """The CUDA stream that frames run on, as engines take it; 0 on the CPU."""
        return 0 if self._stream is None else int(self._stream.cuda_stream)

    def init(self) -> FixedState:
        """Memories of zeros. Warms up and captures, where a graph is wanted: seconds, with nothing written."""
        state = FixedState(self._spec, self._device)
        if self._stream is None:
            return state
        for slots in state.host_slots.values():
            slots.fill_(-1)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.inference_mode(), torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                self.enqueue(state)
            self._stream.synchronize()
        if self._capture:
            state.replay = self._captured(state)
        return state

    def reset(self, state: FixedState, rows: tuple[int, ...] | None) -> None:
        """Zeros in the rows (all, if None), in order with the frames."""
        with torch.cuda.stream(self._stream):
            state.reset(rows)

    def _captured(self, state: FixedState) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        # States share one pool: they never run at once, and what a frame leaves behind lies outside of it.
        try:
            with (
                torch.inference_mode(),
                torch.cuda.device(self._device),
                torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
            ):
                self.enqueue(state)
        except RuntimeError as error:
            raise EngineFault(f'graph "{self._spec.name}" cannot be captured as a CUDA graph: {error}') from error
        return graph.replay

    def enqueue(self, state: FixedState) -> None:
        """Everything of one frame between two visits of the host."""
        for name, tensor in state.inputs.items():
            tensor.copy_(state.host_inputs[name], non_blocking=True)
        for clock, slots in state.slots.items():
            slots.copy_(state.host_slots[clock], non_blocking=True)
        outputs, new = self._results(state)
        state.finite.copy_(rows_finite([*outputs, *new], batch_of(self._spec)))
        for memory, slices in zip(self._spec.memories, new):
            slots = state.slots[memory.clock]
            live = (slots >= 0) & state.finite.all()
            write_slices(state.kept[memory.kept.name], slices, memory.axis, state.rows, slots, live)
        for name, output in zip(state.outputs, outputs):
            state.host_outputs[name].copy_(output, non_blocking=True)
        state.host_finite.copy_(state.finite, non_blocking=True)

    def _results(self, state: FixedState) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        if self._network is None:
            assert self._enqueue is not None
            self._enqueue(state)
            return list(state.outputs.values()), list(state.new.values())
        results = self._network(*state.inputs.values(), *state.kept.values())
        check_results(self._spec, results)
        return results[: len(self._spec.outputs)], results[len(self._spec.outputs) :]

    def run(
        self, state: FixedState, inputs: Mapping[str, Array], slots: Mapping[Clock, NDArray[np.int64]]
    ) -> dict[str, Array]:
        """One frame, inputs and slots already checked. The host waits once."""
        for name, tensor in state.host_inputs.items():
            tensor.numpy()[...] = inputs[name]
        for clock, tensor in state.host_slots.items():
            tensor.numpy()[...] = slots[clock]
        try:
            self._start(state)
        except RuntimeError as error:
            raise EngineFault(f'graph "{self._spec.name}" failed on {self._device}: {error}') from error
        state.frames += 1
        if self._capture and self._stream is not None and state.replays != state.frames:
            raise EngineFault(f"{state.frames} frames, but {state.replays} replays of the CUDA graph")
        check_finite(self._spec, state.host_finite.tolist())
        return {name: tensor.numpy().copy() for name, tensor in state.host_outputs.items()}

    def _start(self, state: FixedState) -> None:
        if self._stream is None:
            with torch.inference_mode():
                self.enqueue(state)
            return
        with torch.inference_mode(), torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            if state.replay is None:
                self.enqueue(state)
            else:
                state.replay()
                state.replays += 1
            self._stream.synchronize()


class NetworkRuntime:
    """What every runtime of a torch network does with a frame. See engines.runtimes.base.Runtime.

    On a CPU memories are written in place; elsewhere everything has a fixed address, in a `FixedFrame`.
    """

    spec: GraphSpec
    threads: int
    _device: torch.device
    _call: Network
    _frame: FixedFrame | None

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
        return run_on_cpu(self._call, self.spec, state, inputs, slots)

    def close(self) -> None:
        self._call = nn.Module()
        self._frame = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def write_slices(kept: Tensor, new: Tensor, axis: int, rows: Tensor, slots: Tensor, live: Tensor) -> None:
    """Puts `new` into each row's slot of `kept`, where `live` says so; reads and writes nothing but that slot.

    Branch-free, and no value comes to the host: a row that is not live gets back what its first slot held.

    kept   [B, ..., slots, ...], counted along `axis`
    rows   int64 [B]: 0, 1, ...; slots int64 [B], -1 for none; live bool [B]
    """
    by_slot = kept.movedim(axis, 1)
    at = (rows, slots.clamp(min=0))
    chosen = live.reshape(-1, *[1] * (new.dim() - 1))
    by_slot.index_put_(at, torch.where(chosen, new, by_slot[at]))
