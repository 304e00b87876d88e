"""The graphs have only operators that TensorRT takes, by its own tables; nothing is known from memory."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import onnx
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from engines.build import operators
from engines.build.export_onnx import exported_program
from engines.build.operators import (
    lowered,
    operators_of,
    read_parser_table,
    read_wheel,
    rewrites,
    tables,
    unknown_to_parser,
    without_converter,
)
from engines.graph import GraphSpec, TensorSpec
from engines.models import presets
from engines.models.step import IdentityGraph, SwapStep
from engines.models.swapper import Swapper
from tests.engines.runtimes.ring_graph import RingGraph


def on_meta(preset: str, steps: int = 1) -> tuple[nn.Module, nn.Module]:
    """Both graphs without a single weight in memory."""
    with torch.device("meta"):
        swapper = Swapper(presets.of(preset, steps))
        return SwapStep(swapper), IdentityGraph(swapper)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("preset", "steps"), [("tiny", 2), ("base", 1), ("full", 1), ("full", 2)])
def test_every_operator_of_both_graphs_has_a_converter(preset: str, steps: int) -> None:
    """Every day's run looks at tiny with one step: test_tensorrt_plan.py."""
    for graph in on_meta(preset, steps):
        program = lowered(exported_program(graph))
        assert without_converter(program) == {}
        assert len(operators_of(program)) > 10  # and there was something to look at


def test_lowering_does_not_change_what_is_computed() -> None:
    torch.set_num_threads(1)
    graph = RingGraph(2).eval()
    spec = graph.spec
    tensors = [*spec.inputs, *(memory.kept for memory in spec.memories)]
    torch.manual_seed(0)
    given = [torch.randn(one.shape) if one.dtype == "float32" else torch.randint(0, 2, one.shape) for one in tensors]
    with torch.no_grad():
        expected = graph(*given)
        results = lowered(exported_program(graph)).module()(*given)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(expected, results))


class One(nn.Module):
    """One operation as a graph."""

    spec = GraphSpec("one", (TensorSpec("x", (2, 4)),), (TensorSpec("y", (2, 4)),))

    def __init__(self, operation: object) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        assert callable(self.operation)
        return (self.operation(x),)


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        (lambda x: torch.special.bessel_j0(x), "aten.special_bessel_j0.default"),
        (lambda x: x.to(torch.float64).float(), "aten._to_copy.default"),
        (lambda x: torch.linalg.cholesky(x @ x.T)[:, :1].expand(2, 4), "aten.linalg_cholesky_ex.default"),
    ],
    ids=["bessel", "double", "cholesky"],
)
def test_what_has_no_converter_is_found(operation: object, fault: str) -> None:
    assert fault in without_converter(lowered(exported_program(One(operation))))


class Attending(nn.Module):
    """Keys and values of different widths, which torch_tensorrt's attention does not take."""

    spec = GraphSpec("a", (TensorSpec("q", (1, 2, 4, 8)),), (TensorSpec("y", (1, 2, 4, 6)),))

    def forward(self, query: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (nn.functional.scaled_dot_product_attention(query, query, query[..., :6]),)


def test_a_converter_that_refuses_the_arguments_is_found() -> None:
    faults = without_converter(lowered(exported_program(Attending())))
    assert "scaled_dot_product_attention_validator" in faults["aten.scaled_dot_product_attention.default"]


def test_what_the_parser_does_not_take_is_found() -> None:
    node = onnx.helper.make_node("DFT", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [], [])
    newer = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 99)])
    assert unknown_to_parser(newer) == {
        "DFT": "is not in the parser's table",
        "opset 99": f"the parser reads up to {tables().largest_opset}",
    }


def test_the_tables_say_where_they_are_from() -> None:
    written = json.loads(operators.TABLES.read_text(encoding="utf-8"))
    assert written["torch_tensorrt"]["version"] == "2.13.0"
    assert len(written["torch_tensorrt"]["sha256"]) == 64
    assert written["onnx_tensorrt"]["version"] == "10.15"
    assert tables().largest_opset == 24
    assert "aten.scaled_dot_product_attention.default" in tables().converters
    assert "aten.linear.default" in tables().undecomposed
    assert {"Conv", "Attention", "RMSNormalization"} <= set(tables().onnx)
    assert "DFT" not in tables().onnx


def test_only_what_torch_tensorrt_rewrites_is_rewritten_here() -> None:
    named = {name.removesuffix(".default") for name in tables().rewritten}
    assert {name.removesuffix(".default") for name in rewrites()} <= named


REGISTRY = """
@dynamo_tensorrt_converter(torch.ops.aten.add.Tensor, supports_dynamic_shapes=True)
@dynamo_tensorrt_converter(torch.ops.aten.cat.default, capability_validator=cat_validator)
@dynamo_tensorrt_converter(torch.ops.aten.sum.default, capability_validator=first)
@dynamo_tensorrt_converter(torch.ops.aten.sum.default, capability_validator=lambda n, s: not second(n))
@dynamo_tensorrt_converter(torch.ops.aten.mean.dim, capability_validator=first)
@dynamo_tensorrt_converter(key=torch.ops.aten.mean.dim)
def convert(ctx): pass
"""
GROUPS = """
torch_enabled_decompositions: Set = {aten.addcmul, aten.stack}
torch_disabled_decompositions: Set = {aten.linear.default}
"""
OWN = """
replace_inplace_op(aten.relu_, aten.relu)
@register_torch_trt_decomposition(torch.ops.aten.silu.default, registry=R)
def silu(x): pass
"""


def test_tables_are_made_from_a_wheel_and_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel, page = tmp_path / "torch_tensorrt-9.9.9-py3.whl", tmp_path / "operators.md"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("torch_tensorrt/dynamo/conversion/aten_ops_converters.py", REGISTRY)
        archive.writestr("torch_tensorrt/dynamo/lowering/_decomposition_groups.py", GROUPS)
        archive.writestr("torch_tensorrt/dynamo/lowering/_decompositions.py", OWN)
        archive.writestr("torch_tensorrt-9.9.9.dist-info/METADATA", "Name: torch_tensorrt\nVersion: 9.9.9\n")
    page.write_text(
        "TensorRT 99.1 supports operators in the inclusive range of opset 9 to opset 30. More\n"
        "| Operator | Supported |\n|---|---|\n| Abs | Y | FP32 |\n| DFT   | N          |\n"
    )
    read = read_wheel(wheel)
    assert read["version"] == "9.9.9"
    assert read["converters"] == {
        "aten.add.Tensor": "",
        "aten.cat.default": "cat_validator",
        "aten.mean.dim": "",
        "aten.sum.default": "first | not second(n)",
    }
    assert (read["decomposed"], read["undecomposed"]) == (["aten.addcmul", "aten.stack"], ["aten.linear.default"])
    assert read["rewritten"] == ["aten.relu_", "aten.silu.default"]
    assert read_parser_table(page)["operators"] == ["Abs"]
    monkeypatch.setattr(operators, "TABLES", tmp_path / "operators.json")
    done = CliRunner().invoke(operators.generate, [str(wheel), str(page)])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "operators.json").read_text())["onnx_tensorrt"]["version"] == "99.1"


def test_a_page_of_unknown_version_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "operators.md"
    page.write_text("| Abs | Y |")
    with pytest.raises(ValueError, match="does not say which TensorRT"):
        read_parser_table(page)
