"""Exported graphs: equal to eager torch, static, whole, with nothing of training in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from engines.build.export_onnx import (
    OPSET,
    ExportError,
    check_model,
    export_onnx,
    exported_program,
    names_in,
    operators,
)
from engines.build.operators import unknown_to_parser
from engines.graph import GraphSpec, Memory, TensorSpec
from engines.models import presets
from engines.models.step import IdentityGraph, SwapStep
from engines.models.swapper import Swapper
from engines.runtimes.ort import OrtRuntime
from engines.runtimes.torch_eager import TorchRuntime
from tests.engines.runtimes.ring_graph import Clip, RingGraph

TOLERANCE = 1e-4


def swap_graphs() -> tuple[nn.Module, nn.Module]:
    torch.set_num_threads(1)
    swapper = Swapper(presets.tiny())
    swapper.initialise(0)
    return SwapStep(swapper), IdentityGraph(swapper)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("which", [0, 1], ids=["step", "identity"])
def test_tiny_in_onnx_runtime_equals_eager_torch(which: int, tmp_path: Path) -> None:
    graph = swap_graphs()[which]
    path = tmp_path / "graph.onnx"
    model = export_onnx(graph, path)
    eager, exported = TorchRuntime(graph, threads=1), OrtRuntime(path, eager_spec(graph), threads=1)
    one, other = eager.init(), exported.init()
    random = np.random.default_rng(which)
    window = presets.tiny().window.frames
    for frame in range(3):
        inputs = {
            tensor.name: random.uniform(-1, 1, tensor.shape).astype(np.float32)
            if tensor.dtype == "float32"
            else np.full(tensor.shape, window - 2, np.int64)
            for tensor in eager.spec.inputs
        }
        inputs |= {"bias": np.zeros_like(inputs["bias"])} if "bias" in inputs else {}
        slots = np.array([frame], np.int64)
        expected = eager.run(one, inputs, {"window": slots, "recent": slots % 2})
        result = exported.run(other, inputs, {"window": slots, "recent": slots % 2})
        for name, array in expected.items():
            assert np.abs(array - result[name]).max() < TOLERANCE * max(1, np.abs(array).max()), (name, frame)
    assert unknown_to_parser(model) == {}


def eager_spec(graph: nn.Module) -> GraphSpec:
    spec = graph.spec
    assert isinstance(spec, GraphSpec)
    return spec


def test_a_file_says_nothing_of_the_machine(tmp_path: Path) -> None:
    export_onnx(RingGraph(1), tmp_path / "ring.onnx")
    contents = (tmp_path / "ring.onnx").read_bytes()
    for word in (b".py", b"site-packages", b"/work", b"home", b"stack_trace"):
        assert word not in contents, word
    model = onnx.load(tmp_path / "ring.onnx")
    assert [opset.version for opset in model.opset_import] == [OPSET]


def test_the_same_module_gives_the_same_file(tmp_path: Path) -> None:
    export_onnx(RingGraph(1), tmp_path / "one.onnx")
    export_onnx(RingGraph(1), tmp_path / "other.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()


def test_the_module_is_left_as_it_was(tmp_path: Path) -> None:
    graph = RingGraph(1).train()
    export_onnx(graph, tmp_path / "ring.onnx")
    assert graph.training
    assert all(parameter.requires_grad for parameter in graph.parameters())


class Dropping(RingGraph):
    """Drops out, as in training: the export puts it into its inference form."""

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        face, *others = super().forward(*tensors)
        return nn.functional.dropout(face, 0.5, self.training), *others


def test_dropout_is_gone(tmp_path: Path) -> None:
    assert "Dropout" not in operators(export_onnx(Dropping(1).train(), tmp_path / "ring.onnx"))


class Copying(RingGraph):
    """Turns its ring over, whole, in every frame."""

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        at = names_in(self.spec).index("key_00")
        tensors = (*tensors[:at], tensors[at].transpose(1, 2).contiguous().transpose(1, 2), *tensors[at + 1 :])
        face, *others = super().forward(*tensors)
        return face + tensors[at].permute(0, 3, 1, 2, 4).flatten(1).sum() * 0 + self.turned(tensors[at]), *others

    def turned(self, ring: torch.Tensor) -> torch.Tensor:
        return torch.softmax(ring.permute(0, 4, 2, 1, 3).flatten(2), 1).mean()


def test_a_ring_that_is_turned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match='Transpose copies the ring "key_00" whole'):
        export_onnx(Copying(1), tmp_path / "ring.onnx")
    assert not (tmp_path / "ring.onnx").exists()


class Remembering(RingGraph):
    """Keeps something on itself."""

    def __init__(self) -> None:
        super().__init__(1)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        assert isinstance(self.seen, torch.Tensor)
        self.seen.view(-1).add_(1)
        return super().forward(*tensors)


class Growing(nn.Module):
    """Its output's shape depends on values."""

    spec = GraphSpec("growing", (TensorSpec("x", (1, 4)),), (TensorSpec("y", (1, 4)),))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (x[x > 0][None],)


class Branching(nn.Module):
    """Looks at a value."""

    spec = Growing.spec

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (x + 1,) if float(x.sum()) > 0 else (x - 1,)


def test_state_on_a_module_is_refused() -> None:
    with pytest.raises(ExportError, match='graph "ring" writes in place: b_seen; state is an argument'):
        exported_program(Remembering())


def test_a_shape_that_depends_on_values_is_refused() -> None:
    with pytest.raises(ExportError, match=r'graph "growing": .* has no fixed shape'):
        exported_program(Growing())


def test_a_look_at_a_value_is_refused() -> None:
    with pytest.raises(ExportError, match='graph "growing" cannot be exported'):
        exported_program(Branching())


SPEC = GraphSpec(
    "g",
    (TensorSpec("x", (1, 2)),),
    (TensorSpec("y", (1, 2)),),
    (Memory(TensorSpec("ring", (1, 3, 2)), TensorSpec("slice", (1, 2)), 1, "window"),),
)


def model_of(op: str, domain: str = "", side: int | str = 2, name: str = "x") -> onnx.ModelProto:
    kind = TensorProto.FLOAT
    nodes = [
        helper.make_node(op, [name], ["y"], domain=domain),
        helper.make_node("ReduceSum", ["ring"], ["slice"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, kind, [1, side]),
        helper.make_tensor_value_info("ring", kind, [1, 3, 2]),
    ]
    outputs = [helper.make_tensor_value_info(one, kind, [1, 2]) for one in ("y", "slice")]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, outputs))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (model_of("Dropout"), "operator Dropout: a leftover of training"),
        (model_of("Loop"), "operator Loop: control flow"),
        (model_of("RandomNormalLike"), "noise is an input"),
        (model_of("FusedConv", "com.microsoft"), r"operator com\.microsoft\.FusedConv, not one of ONNX"),
        (model_of("Relu", side="n"), '"x" is .*None.*, its description says'),
        (model_of("Relu", name="z"), r"has inputs \['z', 'ring'\], its description has \['x', 'ring'\]"),
    ],
)
def test_what_no_runtime_wants_is_refused(model: onnx.ModelProto, words: str) -> None:
    check_model(model_of("Relu"), SPEC)
    with pytest.raises(ExportError, match=words):
        check_model(model, SPEC)


def test_a_batch_of_three_is_exported_as_such(tmp_path: Path) -> None:
    graph = RingGraph(3)
    export_onnx(graph, tmp_path / "ring.onnx")
    runtime = OrtRuntime(tmp_path / "ring.onnx", graph.spec, threads=1)
    result = runtime.run(runtime.init(), *Clip(graph, 0).frame())
    assert result["face"].shape[0] == 3
