"""TensorRT: an engine file, run with the memories bound by reference, the ring written in the same CUDA graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engines.errors import EngineFault, EngineUnavailable
from engines.graph import Clock, GraphSpec, TensorSpec
from engines.runtimes.base import Array, State
from engines.runtimes.checks import check_inputs, check_slots, check_spec
from engines.runtimes.fixed_frame import FixedFrame, FixedState
from engines.runtimes.torch_graph import open_device

# torch_tensorrt names a network's outputs so; its inputs have the names of the program (engines.build.tensorrt_plan).
_OUTPUT = "output{}"


class TensorrtRuntime:
    """Runs an engine file. See engines.runtimes.base.Runtime.

    The engine reads the rings where they lie and gives back slices; the slices are written by the same CUDA graph that
    runs the engine. One execution context for each state, since its addresses are fixed in it.
    """

    name = "tensorrt"

    def __init__(self, path: Path, spec: GraphSpec, device: str = "cuda:0", captured: bool = True) -> None:
        """`captured`: in a CUDA graph; off for looking for faults.

        Raises EngineUnavailable where TensorRT or the device is missing or the file is another version's or GPU's,
        ValueError where the engine is not the graph that the spec describes.
        """
        check_spec(spec)
        trt = require_tensorrt()
        self._device = open_device(device)
        if self._device.type != "cuda":
            raise EngineUnavailable(f'TensorRT does not compute on "{device}"; valid: cuda, cuda:1 and so on')
        self.device = str(self._device)
        self.spec = spec
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        with torch.cuda.device(self._device):
            self._engine: Any = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise EngineUnavailable(
                f"TensorRT {trt.__version__} cannot read {path.name}: another version or another GPU made it; "
                "build it here: vividstream engines build"
            )
        self._places = places(spec)
        check_engine(trt, self._engine, self._places)
        self._frame: FixedFrame | None = FixedFrame(spec, self._device, None, self._enqueue, captured)

    def _enqueue(self, state: FixedState) -> None:
        if state.engine is None:
            state.engine = bound_context(self._engine, self._places, state)
        assert self._frame is not None
        if not state.engine.execute_async_v3(self._frame.stream_address):
            raise EngineFault(f'graph "{self.spec.name}" was not started by TensorRT')

    def init(self) -> State:
        assert self._frame is not None
        return self._frame.init()

    def reset(self, state: State, rows: tuple[int, ...] | None = None) -> None:
        assert isinstance(state, FixedState)
        assert self._frame is not None
        self._frame.reset(state, rows)

    def run(
        self, state: State, inputs: Mapping[str, Array], slots: Mapping[Clock, NDArray[np.int64]]
    ) -> dict[str, Array]:
        check_inputs(self.spec, inputs)
        check_slots(self.spec, slots)
        assert isinstance(state, FixedState)
        assert self._frame is not None
        return self._frame.run(state, inputs, slots)

    def close(self) -> None:
        self._frame = None
        self._engine = None
        torch.cuda.empty_cache()


def require_tensorrt() -> ModuleType:
    """TensorRT's Python package with its libraries. Raises EngineUnavailable with the command that installs them."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:  # the package alone raises ImportError, a missing library OSError
        raise EngineUnavailable(
            f"TensorRT is not installed ({error}): pip install vividstream[gpu]; by hand: pip install tensorrt==11.0.* "
            "torch-tensorrt==2.13.0 torch==2.13.0 --extra-index-url https://download.pytorch.org/whl/cu130"
        ) from error
    found: ModuleType = tensorrt
    return found


def places(spec: GraphSpec) -> dict[str, tuple[str, TensorSpec]]:
    """Name in an engine to where it is bound (a dictionary of FixedState) and what it is there."""
    bound: dict[str, tuple[str, TensorSpec]] = {one.name: ("inputs", one) for one in spec.inputs}
    bound |= {memory.kept.name: ("kept", memory.kept) for memory in spec.memories}
    results = [("outputs", one) for one in spec.outputs] + [("new", memory.new) for memory in spec.memories]
    return bound | {_OUTPUT.format(number): place for number, place in enumerate(results)}


def check_engine(trt: ModuleType, engine: Any, bound: Mapping[str, tuple[str, TensorSpec]]) -> None:
    """Holds an engine's tensors against the description. Raises ValueError that names the first that differs."""
    types = {trt.float32: "float32", trt.float16: "float16", trt.bfloat16: "bfloat16", trt.int64: "int64"}
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    strange = set(names).symmetric_difference(bound)
    if strange:
        raise ValueError(f"the engine and its description differ in {', '.join(sorted(strange))}")
    for name, (where, tensor) in bound.items():
        shape, dtype = tuple(engine.get_tensor_shape(name)), types.get(engine.get_tensor_dtype(name), "another type")
        if (shape, dtype) != (tensor.shape, tensor.dtype):
            raise ValueError(
                f'"{tensor.name}" is {dtype} {shape} in the engine, described as {tensor.dtype} {tensor.shape}'
            )
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        if is_input != (where in ("inputs", "kept")):
            raise ValueError(f'"{tensor.name}" goes the wrong way in the engine')


def bound_context(engine: Any, bound: Mapping[str, tuple[str, TensorSpec]], state: FixedState) -> Any:
    """An execution context with every address of the state in it, for life."""
    context = engine.create_execution_context()
    if context is None:
        raise EngineFault("TensorRT made no execution context: the device is out of memory")
    for name, (where, tensor) in bound.items():
        if not context.set_tensor_address(name, getattr(state, where)[tensor.name].data_ptr()):
            raise EngineFault(f'TensorRT refused the address of "{tensor.name}"')
    return context
