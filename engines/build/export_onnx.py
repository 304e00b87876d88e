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
from typing import TYPE_CHECKING

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


def example_inputs(spec: GraphSpec) -> tuple[Tensor, ...]:
    """Zeros of every input's shape and dtype, in order."""
    tensors = [*spec.inputs, *(memory.kept for memory in spec.memories)]
    return tuple(torch.zeros(tensor.shape, dtype=_DTYPES[tensor.dtype]) for tensor in tensors)


def exported_program(module: nn.Module) -> torch.export.ExportedProgram:
    """The whole module as one program of ATen operators, in inference form.

    Raises ExportError where a part cannot be traced (a graph break) or a shape is not fixed.
    """
    graph = copy.deepcopy(module).requires_grad_(False).eval()
    spec: GraphSpec = graph.spec  # type: ignore[assignment]
    inputs = tuple(tensor.to(_device_of(graph)) for tensor in example_inputs(spec))
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(graph, inputs, strict=False)
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
    written = [*program.graph_signature.buffers_to_mutate, *program.graph_signature.user_inputs_to_mutate]
    if written:
        raise ExportError(f'graph "{spec.name}" writes in place: {", ".join(written)}; state is an argument')


def export_onnx(module: nn.Module, path: Path, opset: int = OPSET) -> onnx.ModelProto:
    """Writes the module as `path`; weights beyond 2 GB go to `path` + ".data" beside it. Returns what was written.

    Raises ExportError, and leaves no file, where the result is not what a runtime needs (see `check_model`).
    """
    import onnx

    spec: GraphSpec = module.spec  # type: ignore[assignment]
    program = exported_program(module)
    with _quiet():
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
    """A ring is read where it lies: whoever takes it as an input computes with it."""
    rings = {memory.kept.name for memory in spec.memories if memory.clock == "window"}
    for node in model.graph.node:
        taken = rings.intersection(node.input)
        if taken and node.op_type in ("Transpose", "Concat", "Expand", "Tile", "Cast"):
            raise ExportError(f'graph "{spec.name}": {node.op_type} copies the ring "{sorted(taken)[0]}" whole')


def operators(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(node.op_type for node in model.graph.node)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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
