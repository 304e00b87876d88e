"""A graph module to ONNX: static shapes, names as in its spec, weights folded, nothing of training. Checked before it
leaves this file.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from engines.graph import GraphSpec

if TYPE_CHECKING:
    import onnx

# 23 has RMSNormalization and Gelu as one operator each, which ONNX Runtime's CPU provider computes two to three times
# as fast as their parts (docs/log.md); TensorRT 10.15's parser reads up to 24, TensorRT 11's up to 25.
OPSET = 23

_FORBIDDEN = {
    "Dropout": "a leftover of training",
    "If": "control flow",
    "Loop": "control flow",
    "Scan": "control flow",
    "NonZero": "its result has no fixed shape",
    "Unique": "its result has no fixed shape",
    "Compress": "its result has no fixed shape",
    "RandomNormal": "noise is an input",
    "RandomNormalLike": "noise is an input",
    "RandomUniform": "noise is an input",
    "RandomUniformLike": "noise is an input",
}
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int64": torch.int64}
_LARGEST_FILE = 2_000_000_000  # protobuf's limit is 2 GiB; weights of larger graphs go into a file beside it


class ExportError(ValueError):
    """A module that cannot be a graph file; says which tensor or operator is at fault."""


def names_in(spec: GraphSpec) -> list[str]:
    """Names of a graph's inputs: its inputs, then what each memory kept."""
    return [*(tensor.name for tensor in spec.inputs), *(memory.kept.name for memory in spec.memories)]


def names_out(spec: GraphSpec) -> list[str]:
    """Names of a graph's outputs: its outputs, then each memory's new slice."""
    return [*(tensor.name for tensor in spec.outputs), *(memory.new.name for memory in spec.memories)]


def example_inputs(spec: GraphSpec, device: torch.device) -> tuple[Tensor, ...]:
    """Zeros of every input's shape and dtype, in order."""
    tensors = [*spec.inputs, *(memory.kept for memory in spec.memories)]
    return tuple(torch.zeros(tensor.shape, dtype=_DTYPES[tensor.dtype], device=device) for tensor in tensors)


def exported_program(module: nn.Module, by_name: bool = False) -> torch.export.ExportedProgram:
    """The whole module as one program of ATen operators, in inference form. Works on the meta device too.

    by_name: the module takes its inputs as keywords, and the program's inputs are called so.
    Raises ExportError where a part cannot be traced (a graph break) or a shape is not fixed.
    """
    graph = copy.deepcopy(module).requires_grad_(False).eval()
    spec: GraphSpec = graph.spec  # type: ignore[assignment]
    inputs = example_inputs(spec, _device_of(graph))
    keywords = dict(zip(names_in(spec), inputs))
    try:
        with torch.no_grad(), quiet():
            given = ((), keywords) if by_name else (inputs, None)
            program = torch.export.export(graph, *given, strict=False)
    except Exception as error:  # torch.export raises a dozen types of its own, and whatever the module raises
        raise ExportError(f'graph "{spec.name}" cannot be exported: {error}') from error
    _check_static(program, spec)
    return program


def _device_of(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def _check_static(program: torch.export.ExportedProgram, spec: GraphSpec) -> None:
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and any(not isinstance(side, int) for side in value.shape):
            raise ExportError(f'graph "{spec.name}": {node.name} has no fixed shape: {tuple(value.shape)}')
    written = {str(_origin(node.args[0])) for node in program.graph.nodes if _writes(node)}
    kept = {node.name for node in program.graph.nodes if node.op == "placeholder"}
    if written & kept:
        names = ", ".join(sorted(written & kept))
        raise ExportError(f'graph "{spec.name}" writes in place: {names}; state is an argument')


def _writes(node: torch.fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _origin(node: Any) -> Any:
    """What a view is a view of."""
    while getattr(node, "op", "") == "call_function" and hasattr(node.target, "_schema"):
        if not any(argument.alias_info for argument in node.target._schema.arguments):
            return node
        node = node.args[0]
    return node


def export_onnx(module: nn.Module, path: Path, opset: int = OPSET) -> onnx.ModelProto:
    """Writes the module as `path`; weights beyond 2 GB go to `path` + ".data" beside it. Returns what was written.

    Raises ExportError, and leaves no file, where the result is not what a runtime needs (see `check_model`).
    """
    import onnx

    spec: GraphSpec = module.spec  # type: ignore[assignment]
    program = exported_program(module)
    with quiet():
        made = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=opset,
            input_names=names_in(spec),
            output_names=names_out(spec),
            optimize=True,
            verbose=False,
        )
    assert made is not None
    model = made.model_proto
    _strip(model)
    check_model(model, spec)
    if model.ByteSize() < _LARGEST_FILE:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=path.name + ".data")
    onnx.checker.check_model(str(path), full_check=True)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Takes out what names the machine or the source: stack traces in metadata and documentation strings."""
    model.doc_string = ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]


def check_model(model: onnx.ModelProto, spec: GraphSpec) -> None:
    """Holds a model against what runtimes need. Raises ExportError that names the fault.

    Inputs and outputs as the spec has them; static shapes throughout; no control flow, training, randomness or local
    functions; and no ring is transposed, joined or copied as a whole.
    """
    shapes = _shapes(model)
    _check_interface(model, spec, shapes)
    for name, shape in shapes.items():
        if any(side is None for side in shape):
            raise ExportError(f'graph "{spec.name}": {name} has no fixed shape: {shape}')
    if model.functions:
        raise ExportError(f'graph "{spec.name}" has local functions: {", ".join(one.name for one in model.functions)}')
    for node in model.graph.node:
        if node.op_type in _FORBIDDEN:
            raise ExportError(f'graph "{spec.name}" has operator {node.op_type}: {_FORBIDDEN[node.op_type]}')
        if node.domain not in ("", "ai.onnx"):
            raise ExportError(f'graph "{spec.name}" has operator {node.domain}.{node.op_type}, not one of ONNX')
    _check_rings(model, spec)


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Shape of every tensor that the model describes; None where a side is a symbol."""
    values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    return {
        value.name: tuple(
            side.dim_value if side.HasField("dim_value") else None for side in value.type.tensor_type.shape.dim
        )
        for value in values
    }


def _check_interface(model: onnx.ModelProto, spec: GraphSpec, shapes: dict[str, tuple[int | None, ...]]) -> None:
    for what, values, names in (
        ("inputs", model.graph.input, names_in(spec)),
        ("outputs", model.graph.output, names_out(spec)),
    ):
        given = [value.name for value in values]
        if given != names:
            raise ExportError(f'graph "{spec.name}" has {what} {given}, its description has {names}')
    memories = [tensor for memory in spec.memories for tensor in (memory.kept, memory.new)]
    for tensor in (*spec.inputs, *spec.outputs, *memories):
        if shapes[tensor.name] != tensor.shape:
            raise ExportError(f'"{tensor.name}" is {shapes[tensor.name]}, its description says {tensor.shape}')


def _check_rings(model: onnx.ModelProto, spec: GraphSpec) -> None:
    """A ring is read where it lies: whoever takes it computes with it. Nodes come in the order of computation."""
    rings = {memory.kept.name: memory.kept.name for memory in spec.memories if memory.clock == "window"}
    for node in model.graph.node:
        taken = [rings[name] for name in node.input if name in rings]
        if not taken:
            continue
        if node.op_type in ("Transpose", "Concat", "Expand", "Tile", "Cast"):
            raise ExportError(f'graph "{spec.name}": {node.op_type} copies the ring "{taken[0]}" whole')
        if node.op_type in ("Identity", "Reshape", "Squeeze", "Unsqueeze"):
            rings |= dict.fromkeys(node.output, taken[0])


def operators(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(node.op_type for node in model.graph.node)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter warns of its own deprecations and of torchvision, which is not needed."""
    exporter = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        exporter.setLevel(level)
