"""What runtimes say where something is missing or wrong: one line, with the command that mends it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import cast

import onnxruntime
import pytest
import torch
from torch import nn

from engines.build.compiled_package import build_package
from engines.build.export_onnx import export_onnx
from engines.errors import EngineFault, EngineUnavailable, UnknownEngine
from engines.graph import GraphSpec, Memory, TensorSpec
from engines.runtimes import compiled, ort, trt
from engines.runtimes.checks import check_spec
from engines.runtimes.choose import open_runtime
from engines.runtimes.compiled import CompiledRuntime
from engines.runtimes.ort import OrtRuntime
from engines.runtimes.torch_eager import TorchRuntime
from engines.runtimes.torch_graph import cpu_has_bfloat16, open_device, resolve_precision
from engines.runtimes.trt import TensorrtRuntime, check_engine, places
from tests.engines.runtimes import fake_tensorrt
from tests.engines.runtimes.ring_graph import Clip, RingGraph

CPU = torch.device("cpu")
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")


@pytest.fixture(scope="module")
def graph() -> RingGraph:
    torch.set_num_threads(1)
    return RingGraph(1).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def onnx_file(graph: RingGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "ring.onnx"
    export_onnx(graph, path)
    return path


@NO_GPU
@pytest.mark.parametrize("runtime", [TorchRuntime, CompiledRuntime])
def test_without_a_gpu_the_extra_is_named(runtime: type[TorchRuntime], graph: RingGraph) -> None:
    with pytest.raises(EngineUnavailable, match=r"no CUDA device.*pip install vividstream\[gpu\]"):
        runtime(graph, device="cuda")


def test_numpy_has_nothing_to_say_of_flushed_denormals(onnx_file: Path) -> None:
    code = (
        "import numpy; from pathlib import Path; from engines.runtimes import ort\n"
        f"session = ort._open(Path({str(onnx_file)!r}), ort._options(1, 0), ['CPUExecutionProvider'])\n"
        "print(numpy.finfo(numpy.float64).smallest_subnormal)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() != "0.0"


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(EngineUnavailable, match='no runtime computes on "meta"'):
        open_device("meta")


def test_the_cpu_computes_in_bfloat16_only_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = torch.bfloat16 if cpu_has_bfloat16() else torch.float32
    assert resolve_precision("auto", CPU)[0] == expected
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True}, raising=False)
    assert resolve_precision("auto", CPU) == (torch.float32, "auto: the CPU has no bfloat16")
    assert resolve_precision("bfloat16", CPU)[0] == torch.bfloat16  # asked for by name it is emulated
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    assert resolve_precision("auto", CPU)[0] == torch.bfloat16
    with pytest.raises(EngineUnavailable, match="float32 or bfloat16, not in float16"):
        resolve_precision("float16", CPU)
    assert resolve_precision("auto", torch.device("cuda"))[0] == torch.float16


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs /proc/cpuinfo")
def test_both_ways_of_asking_for_bfloat16_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = cpu_has_bfloat16()
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)  # torch 2.11
    assert cpu_has_bfloat16() == asked


def test_without_a_compiler_the_command_is_named(graph: RingGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(EngineUnavailable, match=r"neither g\+\+ nor clang\+\+ is there: apt-get install g\+\+"):
        CompiledRuntime(graph)
    monkeypatch.setenv("CXX", "my-compiler")
    with pytest.raises(EngineUnavailable, match="CXX=my-compiler is not there"):
        compiled.require_compiler()


class Branching(nn.Module):
    """Looks at a value: cannot be one graph."""

    spec = GraphSpec("branching", (TensorSpec("x", (1, 2)),), (TensorSpec("y", (1, 2)),))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (x + 1,) if float(x.sum()) > 0 else (x - 1,)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX compiler")
def test_a_break_in_the_graph_is_an_error() -> None:
    with pytest.raises(EngineUnavailable, match=r'(?s)graph "branching" failed on the CPU.*use the runtime torch'):
        CompiledRuntime(Branching(), threads=1)


@pytest.mark.parametrize(("provider", "more"), [("cuda", "onnxruntime-gpu==1.31.1"), ("tensorrt", "tensorrt-cu13")])
def test_a_missing_provider_names_the_package_and_its_conflict(
    provider: ort.Provider, more: str, graph: RingGraph, onnx_file: Path
) -> None:
    if ort.PROVIDERS[provider] in onnxruntime.get_available_providers():
        pytest.skip("the provider is here")
    with pytest.raises(EngineUnavailable, match="cannot stand beside onnxruntime.*pip uninstall onnxruntime.*" + more):
        OrtRuntime(onnx_file, graph.spec, provider, "cuda")


def test_a_provider_that_does_not_start_is_no_silent_cpu(
    graph: RingGraph, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime warns and goes on with the CPU; we do not."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(EngineUnavailable, match="CUDAExecutionProvider did not start"),
    ):
        ort._open(onnx_file, options, [("CUDAExecutionProvider", {}), "CPUExecutionProvider"])


def test_ort_on_a_cpu_wants_float32(graph: RingGraph, onnx_file: Path) -> None:
    spec = RingGraph(1).to(torch.bfloat16).spec
    with pytest.raises(EngineUnavailable, match=r'"key_00" is bfloat16: export the graph in float32'):
        OrtRuntime(onnx_file, spec)


def test_a_damaged_file_is_refused(graph: RingGraph, onnx_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(onnx_file.read_bytes()[:5000])
    with pytest.raises(EngineUnavailable, match=r"cannot open cut\.onnx"):
        OrtRuntime(cut, graph.spec)


def test_a_file_of_another_graph_is_refused(graph: RingGraph, onnx_file: Path) -> None:
    with pytest.raises(ValueError, match=r'input "positions" is .* in the file, not'):
        OrtRuntime(onnx_file, RingGraph(1, frames=6).spec)
    fewer = replace(graph.spec, outputs=graph.spec.outputs[:1])
    with pytest.raises(ValueError, match="outputs that are not described: mean"):
        OrtRuntime(onnx_file, fewer)


def test_without_tensorrt_the_whole_set_is_named(
    graph: RingGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    for open_it in (
        lambda: TensorrtRuntime(tmp_path / "step.plan", graph.spec),
        lambda: open_runtime("tensorrt", tmp_path / "step.plan", "cuda", spec=graph.spec),
    ):
        with pytest.raises(EngineUnavailable) as refused:
            open_it()
        for part in (r"vividstream[gpu]", "tensorrt==11.0.*", "torch-tensorrt==2.13.0", "torch==2.13.0"):
            assert part in str(refused.value)


def test_tensorrt_needs_a_gpu(graph: RingGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", cast(ModuleType, fake_tensorrt.module))
    with pytest.raises(EngineUnavailable, match=r"no CUDA device|does not compute"):
        TensorrtRuntime(tmp_path / "step.plan", graph.spec, "cpu" if torch.cuda.is_available() else "cuda")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing", "differ in past_00"),
        ("shape", r'"tokens" is float32 \(1, 9, 8\) in the engine'),
        ("dtype", '"bias" is float16'),
        ("way", '"picture" goes the wrong way'),
    ],
)
def test_an_engine_of_another_graph_is_refused(graph: RingGraph, change: str, words: str) -> None:
    tensors = fake_tensorrt.tensors_of(graph.spec)
    if change == "missing":
        del tensors["past_00"]
    elif change == "shape":
        tensors["tokens"] = ("INPUT", TensorSpec("tokens", (1, 9, 8)))
    elif change == "dtype":
        tensors["bias"] = ("INPUT", TensorSpec("bias", (1, 3), "float16"))
    else:
        tensors["picture"] = ("OUTPUT", tensors["picture"][1])
    engine = fake_tensorrt.FakeEngine(graph, tensors)
    with pytest.raises(ValueError, match=words):
        check_engine(cast(ModuleType, fake_tensorrt.module), engine, places(graph.spec))


def test_a_module_that_is_no_graph_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear is no graph"):
        TorchRuntime(nn.Linear(2, 2))


class Stubborn(RingGraph):
    """A description that stays float32 whatever the weights are."""

    @property
    def spec(self) -> GraphSpec:
        return RingGraph(1).spec


def test_a_description_that_does_not_follow_its_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="does not follow its weights to bfloat16: give a function of the dtype"):
        TorchRuntime(Stubborn(1), precision="bfloat16")


def test_a_function_of_the_dtype_is_asked_for_what_suits_the_device() -> None:
    asked: list[torch.dtype] = []

    def make(dtype: torch.dtype) -> nn.Module:
        asked.append(dtype)
        return RingGraph(1).to(dtype)

    runtime = TorchRuntime(make, threads=1)
    assert asked == [resolve_precision("auto", CPU)[0]]
    assert runtime.why_precision.startswith("auto: the CPU")
    given = TorchRuntime(RingGraph(1), threads=1)
    assert given.spec.memories[0].kept.dtype == "float32"
    assert given.why_precision == "the precision it was given in"


class Untrue(RingGraph):
    """Gives one tensor too few, or one of another shape."""

    lost = True

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = super().forward(*tensors)
        return results[:-1] if self.lost else (results[0][..., :1], *results[1:])


def test_results_that_are_not_described_are_refused() -> None:
    graph = Untrue(1)
    runtime = TorchRuntime(graph, threads=1)
    inputs, slots = Clip(graph, 0).frame()
    with pytest.raises(ValueError, match="gave 4 tensors, its description has 5"):
        runtime.run(runtime.init(), inputs, slots)
    graph.lost = False
    other = TorchRuntime(graph, threads=1)
    with pytest.raises(ValueError, match=r'output "face" is .* described as float32 \[1, 3, 4, 4\]'):
        other.run(other.init(), inputs, slots)


class Failing(RingGraph):
    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise RuntimeError("out of memory")


def test_a_failing_device_is_a_fault() -> None:
    runtime = TorchRuntime(Failing(1), threads=1)
    with pytest.raises(EngineFault, match='graph "ring" failed on the CPU: out of memory'):
        runtime.run(runtime.init(), *Clip(RingGraph(1), 0).frame())


PAST = TensorSpec("past", (1, 2, 4))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (GraphSpec("g", (TensorSpec("x", (1,)), TensorSpec("x", (1,))), ()), "names used twice: x"),
        (GraphSpec("g", (TensorSpec("x", (1,)), TensorSpec("y", (2, 3))), ()), "not of batch 1"),
        (
            GraphSpec("g", (TensorSpec("x", (1,)),), (), (Memory(PAST, TensorSpec("n", (1, 3)), 1, "recent"),)),
            "no slice",
        ),
        (
            GraphSpec("g", (TensorSpec("x", (1,)),), (), (Memory(PAST, TensorSpec("n", (1, 2)), 0, "recent"),)),
            "no slice",
        ),
        (
            GraphSpec(
                "g", (TensorSpec("x", (1,)),), (), (Memory(PAST, TensorSpec("n", (1, 4), "int64"), 1, "recent"),)
            ),
            "is int64, not float32",
        ),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(spec: GraphSpec, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_spec(spec)


def test_choosing_says_why(graph: RingGraph, onnx_file: Path) -> None:
    auto = open_runtime("auto", graph, threads=1)
    assert (auto.runtime.name, auto.why.split(";")[0]) == (
        "torch",
        "torch, auto: on a CPU it needs no compiler and starts at once",
    )
    named = open_runtime("torch", graph, precision="float32", threads=1)
    assert named.why == "torch, asked for by name; asked for"
    file = open_runtime("auto", onnx_file, threads=1, spec=graph.spec)
    assert (file.runtime.name, file.why) == ("ort", "ort, auto: ring.onnx is for it; provider cpu")


def test_choosing_never_falls_back(graph: RingGraph, onnx_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownEngine, match='did you mean "tensorrt"'):
        open_runtime("tensort", graph)  # type: ignore[arg-type]
    with pytest.raises(EngineUnavailable, match=r"opens files.*engines build --runtime ort"):
        open_runtime("ort", graph)
    with pytest.raises(EngineUnavailable, match=r"ring\.onnx is for the runtime ort, and tensorrt was asked for"):
        open_runtime("tensorrt", onnx_file, spec=graph.spec)
    with pytest.raises(EngineUnavailable, match="was built in float32, and bfloat16 was asked for"):
        open_runtime("ort", onnx_file, precision="bfloat16", spec=graph.spec)
    with pytest.raises(ValueError, match="its spec is needed"):
        open_runtime("ort", onnx_file)
    with pytest.raises(ValueError, match="no file of a runtime"):
        open_runtime("auto", tmp_path / "weights.safetensors")


def test_a_package_that_cannot_be_opened_is_refused(graph: RingGraph, tmp_path: Path) -> None:
    damaged = tmp_path / "step.pt2"
    damaged.write_bytes(b"no package")
    with pytest.raises(EngineUnavailable, match=r"step\.pt2 cannot be opened here .*engines build"):
        open_runtime("compiled", damaged, spec=graph.spec)
    with pytest.raises(EngineUnavailable, match="is code for a CPU, and cuda was asked for"):
        open_runtime("auto", damaged, "cuda", spec=graph.spec)
    with pytest.raises(ValueError, match=r"a package's name ends in \.pt2"):
        build_package(graph, tmp_path / "step.so")


def test_engine_names_outputs_as_torch_tensorrt_does(graph: RingGraph) -> None:
    """`output{i}`, read in torch_tensorrt 2.13.0's _TRTInterpreter.output."""
    assert [name for name, (where, _) in places(graph.spec).items() if where in ("outputs", "new")] == [
        f"output{number}" for number in range(5)
    ]
    assert trt._OUTPUT.format(3) == "output3"
