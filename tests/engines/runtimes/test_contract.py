"""One contract, held against every runtime that can run here; see engines.runtimes.base.Runtime.

Tolerances, against eager float32 on outputs of size 1: float32 1e-5 (eager), 1e-4 (compiled and ONNX Runtime, which
order sums differently), 1e-3 on a GPU, bfloat16 0.06: 8 bits of mantissa over a dozen layers and a ring.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, cast

import numpy as np
import pytest
import torch
from torch import nn

from engines.build.compiled_package import build_package
from engines.build.export_onnx import export_onnx
from engines.build.tensorrt_plan import build_plan
from engines.errors import EngineFault
from engines.graph import Clock, GraphSpec
from engines.runtimes.base import Array, Runtime
from engines.runtimes.compiled import CompiledRuntime, PackageRuntime
from engines.runtimes.fixed_frame import FixedFrame
from engines.runtimes.ort import OrtRuntime
from engines.runtimes.torch_eager import TorchRuntime
from engines.runtimes.torch_graph import TorchState, open_device
from engines.runtimes.trt import TensorrtRuntime, check_engine, places
from tests.engines.runtimes import fake_tensorrt
from tests.engines.runtimes.ring_graph import Clip, Reference, RingGraph

Slots = dict[Clock, "np.ndarray[tuple[int], np.dtype[np.int64]]"]


class Made(NamedTuple):
    graph: RingGraph
    runtime: Runtime
    tolerance: float


class FixedOnCpu(TorchRuntime):
    """The GPU's way of a frame (fixed buffers, branch-free ring write, one wait), on the CPU, without capture."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module, precision="float32", threads=1)
        self._frame = FixedFrame(self.spec, open_device("cpu"), self._call)


class TensorrtOnCpu(TensorrtRuntime):
    """TensorRT's runtime over a pretended TensorRT that sees addresses only."""

    def __init__(self, graph: RingGraph) -> None:
        self.spec = graph.spec
        self._places = places(self.spec)
        self._engine = fake_tensorrt.FakeEngine(graph, fake_tensorrt.tensors_of(self.spec))
        check_engine(cast(ModuleType, fake_tensorrt.module), self._engine, self._places)
        self._frame = FixedFrame(self.spec, open_device("cpu"), None, self._enqueue)


RUNTIMES = ("torch", "torch-bfloat16", "fixed", "compiled", "ort", "tensorrt")
ON_A_GPU = ("torch-cuda", "compiled-cuda", "graphs-cuda", "ort-cuda", "tensorrt-cuda")  # never run: docs/status.md
CASES = [
    *((name, batch) for name in RUNTIMES for batch in (1, 3)),
    pytest.param(("package", 3), marks=[pytest.mark.long, pytest.mark.timeout(1200)]),
    *(pytest.param((name, batch), marks=pytest.mark.gpu) for name in ON_A_GPU for batch in (1, 3)),
]


@pytest.fixture(scope="module", params=CASES, ids=str)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    name, batch = request.param
    graph = RingGraph(batch).eval().requires_grad_(False)
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("graph")
    runtime, tolerance = on_a_gpu(name, graph, folder) if name in ON_A_GPU else on_the_cpu(name, graph, folder)
    yield Made(graph, runtime, tolerance)
    runtime.close()


def on_the_cpu(name: str, graph: RingGraph, folder: Path) -> tuple[Runtime, float]:
    if name == "torch":
        return TorchRuntime(graph, precision="float32", threads=1), 1e-5
    if name == "torch-bfloat16":
        return TorchRuntime(graph, precision="bfloat16", threads=1), 0.06
    if name == "fixed":
        return FixedOnCpu(graph), 1e-5
    if name == "tensorrt":
        return TensorrtOnCpu(graph), 1e-5
    if name in ("compiled", "package"):
        if not shutil.which("g++"):
            pytest.skip("torch.compile needs g++")
        if name == "compiled":
            return CompiledRuntime(graph, precision="float32", threads=1), 1e-4
        build_package(graph, folder / "ring.pt2")
        return PackageRuntime(folder / "ring.pt2", graph.spec, threads=1), 1e-4
    export_onnx(graph, folder / "ring.onnx")
    return OrtRuntime(folder / "ring.onnx", graph.spec, threads=1), 1e-4


def on_a_gpu(name: str, graph: RingGraph, folder: Path) -> tuple[Runtime, float]:
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    if name == "torch-cuda":
        return TorchRuntime(graph, "cuda", "float32"), 1e-3
    if name == "compiled-cuda":
        return CompiledRuntime(graph, "cuda", "float32"), 1e-3
    if name == "graphs-cuda":
        return CompiledRuntime(graph, "cuda", "float32", fused=False), 1e-3
    if name == "ort-cuda":
        export_onnx(graph, folder / "ring.onnx")
        return OrtRuntime(folder / "ring.onnx", graph.spec, "cuda", "cuda"), 1e-3
    build_plan(graph, folder / "ring.plan", "cuda", folder / "timing.cache")
    return TensorrtRuntime(folder / "ring.plan", graph.spec, "cuda"), 1e-3


def far(one: dict[str, Array], other: dict[str, Array]) -> float:
    """The largest difference of two frames' outputs."""
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def addresses(state: object) -> list[int]:
    kept = state.kept  # type: ignore[attr-defined]
    return [one.data_ptr() if isinstance(one, torch.Tensor) else one.ctypes.data for one in kept.values()]


def contents(state: object) -> list[Array]:
    """Copies of all memories."""
    kept = state.kept  # type: ignore[attr-defined]
    return [one.float().cpu().numpy().copy() if isinstance(one, torch.Tensor) else one.copy() for one in kept.values()]


def test_a_clip_of_three_windows_equals_eager_float32(made: Made) -> None:
    """The ring wraps twice, rows pause and begin anew each at its own time."""
    clip, state, reference = Clip(made.graph, 1), made.runtime.init(), Reference(made.graph)
    for number in range(3 * made.graph.window.frames):
        if number == 7:
            clip.restart(0)
            made.runtime.reset(state, (0,))
            reference.restart(0)
        live = tuple((number + row) % 4 != 3 for row in range(made.graph.batch))
        inputs, slots = clip.frame(live)
        assert far(made.runtime.run(state, inputs, slots), reference.step(inputs, slots)) < made.tolerance, number


def test_state_is_written_only_in_the_slot_told(made: Made) -> None:
    clip, state = Clip(made.graph, 2), made.runtime.init()
    for _ in range(5):
        made.runtime.run(state, *clip.frame())
    before = contents(state)
    inputs, slots = clip.frame(tuple(row != 1 for row in range(made.graph.batch)))
    made.runtime.run(state, inputs, slots)
    for memory, old, new in zip(made.graph.spec.memories, before, contents(state)):
        changed = (old != new).any(tuple(axis for axis in range(old.ndim) if axis not in (0, memory.axis)))
        for row, slot in enumerate(slots[memory.clock]):
            expected = np.arange(changed.shape[1]) == slot
            assert (changed[row] == expected).all(), (memory.kept.name, row)


def test_minus_one_writes_nothing(made: Made) -> None:
    clip, state = Clip(made.graph, 3), made.runtime.init()
    made.runtime.run(state, *clip.frame())
    before = contents(state)
    made.runtime.run(state, *clip.frame((False,) * made.graph.batch))
    assert all((old == new).all() for old, new in zip(before, contents(state)))


def test_addresses_never_move(made: Made) -> None:
    clip, state = Clip(made.graph, 4), made.runtime.init()
    first = addresses(state)
    for _ in range(3):
        made.runtime.run(state, *clip.frame())
    made.runtime.reset(state)
    made.runtime.run(state, *clip.frame())
    assert addresses(state) == first


def test_reset_equals_fresh(made: Made) -> None:
    used, fresh = made.runtime.init(), made.runtime.init()
    clip = Clip(made.graph, 5)
    for _ in range(4):
        made.runtime.run(used, *clip.frame())
    made.runtime.reset(used)
    one, other = Clip(made.graph, 6), Clip(made.graph, 6)
    for _ in range(3):
        assert far(made.runtime.run(used, *one.frame()), made.runtime.run(fresh, *other.frame())) == 0


def test_a_reset_row_equals_a_fresh_one_and_others_go_on(made: Made) -> None:
    state, clip = made.runtime.init(), Clip(made.graph, 7)
    for _ in range(4):
        made.runtime.run(state, *clip.frame())
    before = contents(state)
    made.runtime.reset(state, (0,))
    for old, new in zip(before, contents(state)):
        assert not new[0].any()
        assert (old[1:] == new[1:]).all()


def test_two_states_never_mix(made: Made) -> None:
    def alone(seed: int) -> list[dict[str, Array]]:
        clip, state = Clip(made.graph, seed), made.runtime.init()
        return [made.runtime.run(state, *clip.frame()) for _ in range(6)]

    expected = alone(8), alone(9)
    clips, states = (Clip(made.graph, 8), Clip(made.graph, 9)), (made.runtime.init(), made.runtime.init())
    for number in range(6):
        for which in (0, 1):
            result = made.runtime.run(states[which], *clips[which].frame())
            assert far(result, expected[which][number]) == 0


def test_outputs_belong_to_the_caller(made: Made) -> None:
    clip, state = Clip(made.graph, 10), made.runtime.init()
    first = made.runtime.run(state, *clip.frame())
    copies = {name: array.copy() for name, array in first.items()}
    for _ in range(3):
        made.runtime.run(state, *clip.frame())
    assert far(first, copies) == 0
    assert all(array.flags.writeable and array.dtype == np.float32 for array in first.values())
    first["face"][:] = 7  # and what the caller does with them touches nobody
    again = Clip(made.graph, 10)
    fresh = made.runtime.init()
    assert far(made.runtime.run(fresh, *again.frame()), copies) == 0


def test_size_of_a_state_is_its_memories(made: Made) -> None:
    width = {"float32": 4, "bfloat16": 2}
    kept = [memory.kept for memory in made.runtime.spec.memories]
    assert made.runtime.init().size_bytes == sum(int(np.prod(one.shape)) * width[one.dtype] for one in kept)


def test_read_only_and_strided_inputs_are_taken(made: Made) -> None:
    inputs, slots = Clip(made.graph, 11).frame()
    expected = made.runtime.run(made.runtime.init(), inputs, slots)
    for array in inputs.values():
        array.flags.writeable = False
    inputs["picture"] = np.repeat(inputs["picture"], 2, axis=3)[..., ::2]
    assert far(made.runtime.run(made.runtime.init(), inputs, slots), expected) == 0


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("pictures", "add", 'has no input "pictures"; did you mean "picture"'),
        ("key_00", "add", 'has no input "key_00"'),
        ("tokens", "drop", 'needs input "tokens", float32'),
        ("picture", "shape", r'input "picture" is \[.*\]; graph "ring" takes \[.*\]'),
        ("picture", "dtype", 'input "picture" is float64; graph "ring" takes float32'),
        ("positions", "dtype", 'input "positions" is float64; graph "ring" takes int64'),
    ],
)
def test_wrong_inputs_are_refused_in_words(made: Made, name: str, change: str, words: str) -> None:
    inputs, slots = Clip(made.graph, 12).frame()
    state = made.runtime.init()
    if change == "add":
        inputs[name] = inputs["picture"]
    elif change == "drop":
        del inputs[name]
    else:
        inputs[name] = inputs[name][..., :-1] if change == "shape" else inputs[name].astype(np.float64)
    with pytest.raises(ValueError, match=words):
        made.runtime.run(state, inputs, slots)
    assert not any(kept.any() for kept in contents(state))


def test_wrong_slots_are_refused_in_words(made: Made) -> None:
    inputs, slots = Clip(made.graph, 13).frame()
    state, batch = made.runtime.init(), made.graph.batch
    wrong: list[tuple[Slots, str]] = [
        ({"recent": slots["recent"]}, 'needs the slots of clock "window"'),
        ({**slots, "window": np.full(batch, 3)}, "there are 3, and -1 for none"),
        ({**slots, "recent": np.full(batch, -2)}, "there are 2, and -1 for none"),
        ({**slots, "window": np.zeros(batch + 1, np.int64)}, rf"not int64 \[{batch}\]"),
        ({**slots, "window": np.zeros(batch, np.int32)}, "not int64"),
    ]
    for given, words in wrong:
        with pytest.raises(ValueError, match=words):
            made.runtime.run(state, inputs, given)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_is_no_number_is_a_fault_and_is_not_remembered(made: Made, poison: float) -> None:
    """The last row is poisoned; it is named, and the frame leaves no trace in any row."""
    clip, state = Clip(made.graph, 14), made.runtime.init()
    made.runtime.run(state, *clip.frame())
    before = contents(state)
    inputs, slots = clip.frame()
    inputs["picture"][-1, 0, 0, 0] = poison
    with pytest.raises(EngineFault, match=rf"no numbers \(row {made.graph.batch - 1}\)"):
        made.runtime.run(state, inputs, slots)
    assert all((old == new).all() for old, new in zip(before, contents(state)))
    made.runtime.run(state, *clip.frame())  # and the next frame is drawn


def test_the_image_model_has_no_ring(tmp_path: Path) -> None:
    graph = RingGraph(1, frames=1).eval().requires_grad_(False)
    export_onnx(graph, tmp_path / "image.onnx")
    runtimes: tuple[Runtime, ...] = (
        TorchRuntime(graph, precision="float32", threads=1),
        OrtRuntime(tmp_path / "image.onnx", graph.spec, threads=1),
    )
    for runtime in runtimes:
        clip, state, reference = Clip(graph, 15), runtime.init(), Reference(graph)
        for _ in range(4):
            inputs, slots = clip.frame()
            assert far(runtime.run(state, inputs, slots), reference.step(inputs, slots)) < 1e-4


def test_memory_is_constant(made: Made) -> None:
    state, clip = made.runtime.init(), Clip(made.graph, 16)
    assert isinstance(made.runtime.spec, GraphSpec)
    size = state.size_bytes
    for _ in range(10):
        made.runtime.run(state, *clip.frame())
    assert state.size_bytes == size
    if isinstance(state, TorchState):
        assert len(state.kept) == len(made.runtime.spec.memories)
