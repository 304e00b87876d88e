"""Everything up to the call of TensorRT's builder, which is pretended; and what is said where it is missing."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn

from engines.build import tensorrt_plan
from engines.build.export_onnx import ExportError, names_in
from engines.build.tensorrt_plan import build_options, build_plan, named_program
from engines.errors import EngineUnavailable
from engines.graph import GraphSpec, TensorSpec
from engines.models import presets
from engines.models.step import IdentityGraph, SwapStep
from engines.models.swapper import Swapper
from tests.engines.runtimes.ring_graph import RingGraph

# Parameters of convert_exported_program_to_serialized_trt_engine, from the sources of these versions.
COMMON = (
    "exported_program inputs arg_inputs kwarg_inputs device disable_tf32 assume_dynamic_shape_support sparse_weights "
    "engine_capability num_avg_timing_iters workspace_size truncate_double require_full_compilation min_block_size "
    "torch_executed_ops max_aux_streams version_compatible optimization_level use_python_runtime hardware_compatible "
    "timing_cache_path cache_built_engines reuse_cached_engines use_fp32_acc immutable_weights offload_module_to_cpu "
    "decompose_attention attn_bias_is_causal kwargs"
).split()
V2_13 = dict.fromkeys(COMMON)
V2_11 = V2_13 | dict.fromkeys(["use_explicit_typing", "enabled_precisions"])


def test_a_program_has_the_names_and_order_of_its_description() -> None:
    graph = RingGraph(3)
    program = named_program(graph)
    assert list(program.graph_signature.user_inputs) == names_in(graph.spec)
    placeholders = [node.target for node in program.module().graph.nodes if node.op == "placeholder"]
    assert placeholders == names_in(graph.spec)  # what torch_tensorrt names an engine's inputs after


@pytest.mark.timeout(300)
def test_tiny_comes_as_far_as_the_builder() -> None:
    """Without a weight in memory: whole, static, every operator with a converter that takes its arguments."""
    with torch.device("meta"):
        swapper = Swapper(presets.tiny())
        graphs = SwapStep(swapper), IdentityGraph(swapper)
    for graph in graphs:
        named_program(graph)


def test_bfloat16_and_float16_are_typed_as_they_stand() -> None:
    for kind in (torch.bfloat16, torch.float16):
        program = named_program(RingGraph(1).to(kind))
        convolutions = [node for node in program.graph.nodes if "conv" in str(node.target)]
        assert convolutions
        assert {node.meta["val"].dtype for node in convolutions} == {kind}


class Twice(nn.Module):
    spec = GraphSpec("twice", (TensorSpec("x", (1, 2)),), (TensorSpec("y", (1, 2)), TensorSpec("z", (1, 2))))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = x + 1
        return y, y


class Unknown(nn.Module):
    spec = GraphSpec("unknown", (TensorSpec("x", (1, 2)),), (TensorSpec("y", (1, 2)),))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (torch.special.bessel_j0(x),)


def test_one_tensor_given_twice_is_refused() -> None:
    with pytest.raises(ExportError, match="gives one tensor twice"):
        named_program(Twice())


def test_an_operator_without_converter_is_refused_before_anything_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"not whole for TensorRT: aten\.special_bessel_j0\.default has no converter"):
        build_plan(Unknown(), tmp_path / "step.plan", "cuda", tmp_path / "timing.cache")


def test_without_the_libraries_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineUnavailable) as refused:
        build_plan(RingGraph(1), tmp_path / "step.plan", "cuda", tmp_path / "timing.cache")
    for part in ("vividstream[gpu]", "torch==2.13.0", "torch-tensorrt==2.13.0", "tensorrt==11.0.*"):
        assert part in str(refused.value)
    assert not (tmp_path / "step.plan").exists()


@pytest.mark.parametrize(("parameters", "typing"), [(V2_13, {}), (V2_11, {"use_explicit_typing": True})])
def test_options_by_version(parameters: dict[str, object], typing: dict[str, bool], tmp_path: Path) -> None:
    options = build_options(parameters, "cuda:0", tmp_path / "timing.cache", exact=False)
    assert set(options) <= set(parameters)
    assert options["attn_bias_is_causal"] is False
    assert options["require_full_compilation"] is True
    assert {name: value for name, value in options.items() if name == "use_explicit_typing"} == typing


def test_a_version_that_would_swallow_an_option_is_refused(tmp_path: Path) -> None:
    old = {name: None for name in V2_11 if name != "attn_bias_is_causal"}
    with pytest.raises(EngineUnavailable, match=r"has no attn_bias_is_causal; 2\.11\.0 or later has"):
        build_options(old, "cuda:0", tmp_path / "timing.cache", exact=False)


def test_the_builder_gets_the_program_the_inputs_and_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one call that needs TensorRT, pretended: its signature is 2.13's, and it sees what it would see."""
    seen: dict[str, Any] = {}

    def convert(
        exported_program: torch.export.ExportedProgram,
        inputs: object = None,
        *,
        arg_inputs: object = None,
        kwarg_inputs: dict[str, torch.Tensor] | None = None,
        **options: object,
    ) -> bytes:
        seen.update(program=exported_program, arg_inputs=arg_inputs, kwarg_inputs=kwarg_inputs, options=options)
        return b"plan"

    pretended = SimpleNamespace(
        Device=str, dynamo=SimpleNamespace(convert_exported_program_to_serialized_trt_engine=convert)
    )
    monkeypatch.setattr(tensorrt_plan, "require_builder", lambda: cast(ModuleType, pretended))
    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in V2_13]
    convert.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    graph = RingGraph(1)
    build_plan(graph, tmp_path / "step.plan", "cpu", tmp_path / "timing.cache")
    assert (tmp_path / "step.plan").read_bytes() == b"plan"
    assert list(seen["kwarg_inputs"]) == names_in(graph.spec)
    assert seen["arg_inputs"] == ()
    assert seen["options"]["device"] == "cuda:0"
    assert seen["options"]["disable_tf32"] is True  # a float32 graph
    seen["program"].module()(**seen["kwarg_inputs"])  # the program takes them
