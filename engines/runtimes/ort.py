"""ONNX Runtime: the CPU, CUDA and TensorRT providers, with the state bound where it lies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from engines.errors import EngineFault, EngineUnavailable
from engines.graph import Clock, GraphSpec, TensorSpec
from engines.runtimes.base import Array, State
from engines.runtimes.checks import (
    NUMPY,
    batch_of,
    check_finite,
    check_inputs,
    check_slots,
    check_spec,
    every_tensor,
    finite_rows,
)

Provider = Literal["cpu", "cuda", "tensorrt"]

PROVIDERS: Mapping[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(int64)": "int64",
}
_ORT_TYPES = {"float32": 1, "float16": 10, "bfloat16": 16, "int64": 7}  # onnx.TensorProto.DataType
_GPU_COMMAND = "pip uninstall onnxruntime && pip install onnxruntime-gpu==1.31.1"


# From one operation to the next: a thread that sleeps is woken too late, one that spins on takes the core from tracker
# and codecs (decision 029).
SPIN_US = 20


class ArrayState:
    """The memories of one batch as arrays, and the binding that reads them where they lie."""

    def __init__(self, spec: GraphSpec, session: ort.InferenceSession) -> None:
        self.kept = {one.kept.name: np.zeros(one.kept.shape, NUMPY[one.kept.dtype]) for one in spec.memories}
        self.new = {one.new.name: np.zeros(one.new.shape, NUMPY[one.new.dtype]) for one in spec.memories}
        self.binding = session.io_binding()
        for name, array in self.kept.items():
            self.binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in self.new.items():
            self.binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    @property
    def size_bytes(self) -> int:
        return sum(array.nbytes for array in self.kept.values())

    def reset(self, rows: tuple[int, ...] | None) -> None:
        for array in self.kept.values():
            array[... if rows is None else list(rows)] = 0


class OrtRuntime:
    """Runs an ONNX file of engines.build.export_onnx. See engines.runtimes.base.Runtime.

    CPU: memories are arrays that the session reads in place; the caller's inputs are bound without a copy, and each
    frame's outputs are written into arrays of their own. CUDA and TensorRT: torch holds the memories, bound by address.
    """

    name = "ort"

    def __init__(
        self,
        path: Path,
        spec: GraphSpec,
        provider: Provider = "cpu",
        device: str = "cpu",
        threads: int | None = None,
        spin_us: int = SPIN_US,
    ) -> None:
        """`threads` of one operation and `spin_us` (how long a thread waits busily for the next operation of a frame; 0
        never) concern the CPU only.

        Raises EngineUnavailable where the provider or the device is not to be had, ValueError where the file is not the
        graph that the spec describes.
        """
        check_spec(spec)
        _require(provider)
        self.spec = spec
        self.device = device
        self.provider = provider
        self._frame: Any = None
        if provider == "cpu":
            if device != "cpu":
                raise EngineUnavailable(f'the provider "cpu" does not compute on "{device}"')
            _require_float32(spec)
            self._session = _open(path, _options(threads, spin_us), [PROVIDERS["cpu"]])
        else:
            self._session, self._frame = _on_device(path, spec, provider, device)
        _check_file(self._session, spec)

    def init(self) -> State:
        if self._frame is not None:
            state: State = self._frame.init()
            return state
        return ArrayState(self.spec, self._session)

    def reset(self, state: State, rows: tuple[int, ...] | None = None) -> None:
        if self._frame is not None:
            self._frame.reset(state, rows)
        else:
            assert isinstance(state, ArrayState)
            state.reset(rows)

    def run(
        self, state: State, inputs: Mapping[str, Array], slots: Mapping[Clock, NDArray[np.int64]]
    ) -> dict[str, Array]:
        check_inputs(self.spec, inputs)
        check_slots(self.spec, slots)
        if self._frame is not None:
            results: dict[str, Array] = self._frame.run(state, inputs, slots)
            return results
        assert isinstance(state, ArrayState)
        given = {tensor.name: np.ascontiguousarray(inputs[tensor.name]) for tensor in self.spec.inputs}
        outputs = {tensor.name: np.empty(tensor.shape, NUMPY[tensor.dtype]) for tensor in self.spec.outputs}
        for name, array in given.items():
            state.binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            state.binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        _run(self._session, state.binding, self.spec)
        check_finite(self.spec, finite_rows([*outputs.values(), *state.new.values()], batch_of(self.spec)))
        for memory in self.spec.memories:
            by_slot = np.moveaxis(state.kept[memory.kept.name], memory.axis, 1)
            for row, slot in enumerate(slots[memory.clock].tolist()):
                if slot >= 0:
                    by_slot[row, slot] = state.new[memory.new.name][row]
        return outputs

    def close(self) -> None:
        del self._session
        self._frame = None


@dataclass(frozen=True, slots=True)
class NothingKept:
    """The state of a graph without memories."""

    size_bytes: int = 0

    def reset(self, rows: tuple[int, ...] | None) -> None:
        """There is nothing to forget."""


class OrtFile:
    """Runs an ONNX file of somebody else's, without memories. See engines.runtimes.base.Runtime.

    The spec says what is fed and fetched, in float32 whatever the file computes in; sides that the file leaves open are
    as in the spec, and outputs that the spec does not name are not computed.
    """

    name = "ort"

    def __init__(
        self,
        path: Path,
        spec: GraphSpec,
        provider: Provider = "cpu",
        device: str = "cpu",
        threads: int | None = None,
        spin_us: int = SPIN_US,
    ) -> None:
        """Raises EngineUnavailable where the file cannot be opened, or the provider is not to be had."""
        check_spec(spec)
        if spec.memories or any(tensor.dtype != "float32" for tensor in every_tensor(spec)):
            raise ValueError(f'graph "{spec.name}": a plain file has float32 inputs and outputs and no memories')
        _require(provider)
        self.spec = spec
        self.device = device
        self.provider = provider
        chosen = PROVIDERS["cpu"] if provider == "cpu" else (PROVIDERS[provider], _plain_options(device))
        self._session = _open(path, _options(threads, spin_us), [chosen])
        self._types = {value.name: _TYPES.get(value.type) for value in self._session.get_inputs()}
        self._shapes = {tensor.name: tensor.shape for tensor in spec.outputs}

    def init(self) -> State:
        return NothingKept()

    def reset(self, state: State, rows: tuple[int, ...] | None = None) -> None:
        """There is nothing to forget."""

    def run(
        self, state: State, inputs: Mapping[str, Array], slots: Mapping[Clock, NDArray[np.int64]]
    ) -> dict[str, Array]:
        check_inputs(self.spec, inputs)
        given = {
            name: np.ascontiguousarray(array, np.float16 if self._types.get(name) == "float16" else np.float32)
            for name, array in inputs.items()
        }
        try:
            results = self._session.run(list(self._shapes), given)
        except Exception as error:  # as in _open
            raise EngineFault(f'graph "{self.spec.name}" failed in ONNX Runtime: {error}') from error
        outputs: dict[str, Array] = {}
        for (name, shape), result in zip(self._shapes.items(), results, strict=True):
            if not isinstance(result, np.ndarray) or result.shape != shape or result.dtype.kind != "f":
                seen = f"{result.dtype} {list(result.shape)}" if isinstance(result, np.ndarray) else "no tensor"
                raise EngineFault(f'graph "{self.spec.name}" gave {seen} as "{name}", not float32 {list(shape)}')
            outputs[name] = result.astype(np.float32, copy=False)
        if not finite_rows(outputs.values(), batch_of(self.spec)).all():
            raise EngineFault(f'graph "{self.spec.name}" gave values that are no numbers')
        return outputs

    def close(self) -> None:
        del self._session


def _plain_options(device: str) -> dict[str, str]:
    index = device.partition(":")[2] or "0"
    return {"device_id": index, "cudnn_conv_algo_search": "EXHAUSTIVE", "use_tf32": "0"}


def has_provider(provider: Provider) -> bool:
    """Whether the onnxruntime that is installed knows the provider."""
    return PROVIDERS[provider] in ort.get_available_providers()


def _require(provider: Provider) -> None:
    if provider not in PROVIDERS:
        raise ValueError(f'no provider is called "{provider}"; valid: {", ".join(PROVIDERS)}')
    if PROVIDERS[provider] in ort.get_available_providers():
        return
    here = f"onnxruntime {ort.__version__} here has {', '.join(ort.get_available_providers())}"
    both = " (both packages are installed and own the same folder: uninstall both first)" if _both_installed() else ""
    raise EngineUnavailable(
        f"no {PROVIDERS[provider]}: {here}. It is in onnxruntime-gpu, which cannot stand beside onnxruntime{both}: "
        f"{_GPU_COMMAND}" + (" && pip install tensorrt-cu13" if provider == "tensorrt" else "")
    )


def _both_installed() -> bool:
    names = {(found.metadata["Name"] or "").lower() for found in metadata.distributions()}
    return {"onnxruntime", "onnxruntime-gpu"} <= names


def _require_float32(spec: GraphSpec) -> None:
    for tensor in every_tensor(spec):
        if tensor.dtype not in ("float32", "int64"):
            raise EngineUnavailable(
                f'ONNX Runtime computes in float32 on a CPU; "{tensor.name}" is {tensor.dtype}: '
                "export the graph in float32, or use the runtime torch"
            )


def _options(threads: int | None, spin_us: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    options.intra_op_num_threads = cores if threads is None else threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin_us else "0")
    if spin_us:
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin_us))
        options.add_session_config_entry("session.force_spinning_stop", "1")  # between frames the core is the tracker's
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return options


def _know_numbers() -> None:
    """Opening a session makes this thread flush denormals, and NumPy would warn when it first measures its types."""
    for dtype in (np.float32, np.float64):
        np.finfo(dtype)


def _open(path: Path, options: ort.SessionOptions, providers: list[Any]) -> ort.InferenceSession:
    """Raises EngineUnavailable where the provider did not start: ONNX Runtime itself would go on without it."""
    _know_numbers()
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime raises a dozen unrelated types, none of them exported
        raise EngineUnavailable(f"ONNX Runtime cannot open {path.name}: {error}") from error
    wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if session.get_providers()[0] != wanted:
        raise EngineUnavailable(
            f"{wanted} did not start, ONNX Runtime offers {', '.join(session.get_providers())} instead: its libraries "
            "(CUDA 13, cuDNN 9, TensorRT) are not found; pip install vividstream[gpu]"
        )
    return session


def _run(session: ort.InferenceSession, binding: Any, spec: GraphSpec, options: ort.RunOptions | None = None) -> None:
    try:
        session.run_with_iobinding(binding, options)
    except Exception as error:  # as in _open
        raise EngineFault(f'graph "{spec.name}" failed in ONNX Runtime: {error}') from error


def _check_file(session: ort.InferenceSession, spec: GraphSpec) -> None:
    """Holds a file's inputs and outputs against the description."""
    memories = spec.memories
    for what, values, tensors in (
        ("input", session.get_inputs(), [*spec.inputs, *(one.kept for one in memories)]),
        ("output", session.get_outputs(), [*spec.outputs, *(one.new for one in memories)]),
    ):
        found = {value.name: (tuple(value.shape), _TYPES.get(value.type, value.type)) for value in values}
        for tensor in tensors:
            if found.get(tensor.name) != (tensor.shape, tensor.dtype):
                given = found.get(tensor.name, "missing")
                raise ValueError(f'{what} "{tensor.name}" is {given} in the file, not {(tensor.shape, tensor.dtype)}')
        surplus = set(found) - {tensor.name for tensor in tensors}
        if surplus:
            raise ValueError(f"the file has {what}s that are not described: {', '.join(sorted(surplus))}")


def _on_device(path: Path, spec: GraphSpec, provider: Provider, device: str) -> tuple[ort.InferenceSession, Any]:
    """A session on a GPU in torch's stream, and frames whose buffers it reads and writes by address."""
    try:
        from engines.runtimes.fixed_frame import FixedFrame, FixedState
        from engines.runtimes.torch_graph import open_device
    except ModuleNotFoundError as error:
        raise EngineUnavailable(
            "ONNX Runtime on a GPU keeps its state in torch's memory: pip install vividstream[gpu]"
        ) from error

    place = open_device(device)
    frame = FixedFrame(spec, place, None, enqueue=lambda state: enqueue(state))
    session = _open(path, _options(1, 0), device_providers(provider, place.index, frame.stream_address))
    quiet = ort.RunOptions()
    quiet.add_run_config_entry("disable_synchronize_execution_providers", "1")  # the frame waits once, at its end

    def enqueue(state: FixedState) -> None:
        if state.engine is None:
            state.engine = bind_device(session, spec, state, place.index)
        _run(session, state.engine, spec, quiet)

    return session, frame


def device_providers(provider: Provider, index: int, stream: int) -> list[Any]:
    """Provider options of ONNX Runtime for a GPU: our stream, no copies, no silent second provider but CUDA."""
    cuda = {
        "device_id": str(index),
        "user_compute_stream": str(stream),
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "use_tf32": "0",
    }
    if provider == "cuda":
        return [(PROVIDERS["cuda"], cuda)]
    tensorrt = {
        "device_id": str(index),
        "user_compute_stream": str(stream),
        "trt_fp16_enable": "0",  # the graph's own types hold; TensorRT 11 knows no other way
        "trt_engine_cache_enable": "0",  # its key lacks what ours has: engines.store keeps engines
    }
    return [(PROVIDERS["tensorrt"], tensorrt), (PROVIDERS["cuda"], cuda)]


def bind_device(session: ort.InferenceSession, spec: GraphSpec, state: Any, index: int) -> Any:
    """Binds every buffer of a FixedState by address, for life."""
    binding = session.io_binding()

    def address(tensors: Mapping[str, Any], one: TensorSpec) -> tuple[str, str, int, int, tuple[int, ...], int]:
        return one.name, "cuda", index, _ORT_TYPES[one.dtype], one.shape, tensors[one.name].data_ptr()

    for one in spec.inputs:
        binding.bind_input(*address(state.inputs, one))
    for one in spec.outputs:
        binding.bind_output(*address(state.outputs, one))
    for memory in spec.memories:
        binding.bind_input(*address(state.kept, memory.kept))
        binding.bind_output(*address(state.new, memory.new))
    return binding
