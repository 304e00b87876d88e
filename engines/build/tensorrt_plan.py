"""A graph module to a TensorRT engine file, through torch_tensorrt: strongly typed, whole or not at all."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from engines.build.export_onnx import ExportError, example_inputs, exported_program, names_in
from engines.build.operators import lowered, without_converter
from engines.errors import EngineUnavailable
from engines.graph import GraphSpec
from engines.runtimes.torch_graph import open_device

OLDEST = "2.11.0"


class _ByName(nn.Module):
    """The graph with its inputs by name: an engine's inputs are called as the program's are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.spec: GraphSpec = network.spec  # type: ignore[assignment]

    def forward(self, **tensors: Tensor) -> tuple[Tensor, ...]:
        results: tuple[Tensor, ...] = self.network(*tensors.values())
        return results


def named_program(module: nn.Module) -> torch.export.ExportedProgram:
    """The module as a program whose inputs are called as in its spec, proved to be whole for TensorRT.

    Raises ExportError where a part cannot be traced, a shape is not fixed, an operator has no converter, or two outputs
    are one tensor (torch_tensorrt gives such an engine one output for both).
    """
    program = exported_program(_ByName(module), by_name=True)
    spec: GraphSpec = module.spec  # type: ignore[assignment]
    given = list(program.graph_signature.user_inputs)
    if given != names_in(spec):
        raise ExportError(f'graph "{spec.name}" has inputs {given} after export, its description has {names_in(spec)}')
    results = list(program.graph_signature.user_outputs)
    if len(set(results)) != len(results) or set(results) & set(given):
        raise ExportError(
            f'graph "{spec.name}" gives one tensor twice, or an input back: {", ".join(map(str, results))}'
        )
    faults = without_converter(lowered(program))
    if faults:
        said = "; ".join(f"{name} {why}" for name, why in faults.items())
        raise ExportError(f'graph "{spec.name}" is not whole for TensorRT: {said}')
    return program


def build_options(
    parameters: Mapping[str, object], device: object, timing_cache: Path, exact: bool, sum_in_float32: bool = False
) -> dict[str, Any]:
    """Options of torch_tensorrt's builder, by name, held against the parameters that this version has.

    An option that a version does not know would vanish in its **kwargs unseen.

    exact           float32 multiplies in float32 and not in TF32
    sum_in_float32  casts about each product of float16, so that sums are surely in float32; the golden check says
                    whether an engine needs it

    Raises EngineUnavailable where the version lacks one that the result depends on.
    """
    needed: dict[str, Any] = {
        "device": device,
        "require_full_compilation": True,
        "min_block_size": 1,
        "attn_bias_is_causal": False,  # its default drops a bias on square attention without a word
        "decompose_attention": False,
        "immutable_weights": True,
        "hardware_compatible": False,
        "version_compatible": False,
        "cache_built_engines": False,  # its key lacks weights, GPU and version: engines.store keeps engines
        "reuse_cached_engines": False,
        "timing_cache_path": str(timing_cache),
        "use_fp32_acc": sum_in_float32,
        "disable_tf32": exact,
        "truncate_double": False,
        "offload_module_to_cpu": False,
    }
    lacking = sorted(set(needed) - set(parameters))
    if lacking:
        raise EngineUnavailable(
            f"this torch_tensorrt has no {', '.join(lacking)}; {OLDEST} or later has: pip install vividstream[gpu]"
        )
    if "use_explicit_typing" in parameters:  # up to 2.12; later ones know no other way
        needed["use_explicit_typing"] = True
    return needed


def require_builder() -> ModuleType:
    """torch_tensorrt with TensorRT below it. Raises EngineUnavailable with the command that installs them."""
    try:
        import tensorrt  # noqa: F401 - torch_tensorrt's own message about it is a page long
        import torch_tensorrt
    except (ImportError, OSError) as error:
        raise EngineUnavailable(
            f"building a TensorRT engine needs torch-tensorrt and TensorRT ({error}): pip install vividstream[gpu]; by "
            "hand: pip install torch==2.13.0 torch-tensorrt==2.13.0 tensorrt==11.0.* "
            "--extra-index-url https://download.pytorch.org/whl/cu130"
        ) from error
    found: ModuleType = torch_tensorrt
    return found


def build_plan(module: nn.Module, path: Path, device: str, timing_cache: Path, sum_in_float32: bool = False) -> None:
    """Writes the engine of a module (in its own precision: TensorRT takes the types as they stand) to `path`.

    Minutes, on the GPU that will run it. Raises ExportError for a graph that is not whole, EngineUnavailable where the
    libraries or the GPU are missing.
    """
    named_program(module)  # refuse before the libraries are asked for
    torch_tensorrt = require_builder()
    place = open_device(device)  # an engine is built on the GPU that will run it
    graph = module.to(place)
    spec: GraphSpec = graph.spec  # type: ignore[assignment]
    program = exported_program(_ByName(graph), by_name=True)
    convert: Callable[..., bytes] = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine
    floats = {memory.kept.dtype for memory in spec.memories} or {"float32"}
    options = build_options(
        inspect.signature(convert).parameters,
        torch_tensorrt.Device(f"cuda:{place.index or 0}"),
        timing_cache,
        floats == {"float32"},
        sum_in_float32,
    )
    inputs = dict(zip(names_in(spec), example_inputs(spec, place)))
    path.write_bytes(convert(program, arg_inputs=(), kwarg_inputs=inputs, **options))
