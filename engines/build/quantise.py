"""A graph file in float32 to one whose products are computed in 8 bits.

Weights int8, a scale for each output channel; what goes into a product uint8, one scale and zero for the tensor, from
the least and the largest value that calibration saw (U8S8: one instruction of VNNI multiplies four pairs and adds). The
file stays plain ONNX: QuantizeLinear and DequantizeLinear around every product (QDQ), which the runtime joins.

What stays float32 is told by the graph's structure, not by names:

    what is remembered      everything that only the memories' new slices need: errors there would come back frame after
                            frame; and the memories themselves
    what touches latents    convolutions at latent size from or to few channels: eight latent channels carry the face
    tokens                  products with few rows: next to no work, and all of the likeness passes through them
    everything else         norms, softmax, attention's own products: no weights, or a sum of squares
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from engines.errors import NotBuilt
from engines.graph import GraphSpec
from engines.machine import EIGHT_BIT, cpu_features, multiplies_8_bits
from engines.runtimes.base import Array

if TYPE_CHECKING:
    import onnx

PRODUCTS = ("Conv", "MatMul", "Gemm")
LEAST_ROWS = 64  # of a product of rows; below, the step from and to 8 bits costs as much as is won
FEW_CHANNELS = 32


def require_eight_bit() -> None:
    """Raises NotBuilt where the processor has no instruction for it: sums would overflow in silence."""
    if not multiplies_8_bits():
        raise NotBuilt(
            f"int8 needs a processor with one of {', '.join(EIGHT_BIT)}, and this one has {cpu_features()}; "
            "build it in float32: --precision float32"
        )


@dataclass(frozen=True, slots=True)
class Quantised:
    """What was made. products: with weights; kept: weights, or nodes, of those that stay float32."""

    frames: int
    products: int
    in_8_bits: int
    kept: tuple[str, ...]


def quantise(source: Path, target: Path, spec: GraphSpec, feeds: Iterable[Mapping[str, Array]]) -> Quantised:
    """Writes the 8-bit form of `source` as `target`.

    feeds: all inputs of frames as a call gives them, memories included.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    folded = target.with_suffix(".folded.onnx")
    counted = _Counted(iter(feeds))
    try:
        _fold(source, folded)
        model = plain_upsampling(onnx.load(str(folded)))
        kept, plain = products(model, spec)
        onnx.save(model, str(folded))
        with _quiet():
            quantize_static(
                str(folded),
                str(target),
                _reader(counted),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(PRODUCTS),
                nodes_to_exclude=sorted({*kept, *plain}),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
        onnx.checker.check_model(str(target), full_check=True)
    finally:
        folded.unlink(missing_ok=True)
    made = in_8_bits(onnx.load(str(target)))
    return Quantised(counted.count, made + len(kept), made, tuple(sorted(kept.values())))


class _Counted:
    """An iterator that knows how many it gave."""

    def __init__(self, feeds: Iterator[Mapping[str, Array]]) -> None:
        self._feeds, self.count = feeds, 0

    def __iter__(self) -> Iterator[Mapping[str, Array]]:
        return self

    def __next__(self) -> Mapping[str, Array]:
        feed = next(self._feeds)
        self.count += 1
        return feed


def _fold(source: Path, target: Path) -> None:
    """Constants folded and products joined with their additions, nothing that belongs to one machine."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def plain_upsampling(model: onnx.ModelProto) -> onnx.ModelProto:
    """Transposed convolutions whose patches do not overlap become a 1x1 convolution and a shuffle: the same numbers,
    and a product that there are 8-bit kernels for."""
    import onnx
    from onnx import helper, numpy_helper

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        fields = {field.name: helper.get_attribute_value(field) for field in node.attribute}
        stride = list(fields.get("strides", []))
        plain = node.op_type == "ConvTranspose" and node.input[1] in weights and fields.get("group", 1) == 1
        if not plain or not set(fields.get("pads", [0])) <= {0} or not set(fields.get("output_padding", [0])) <= {0}:
            nodes.append(node)
            continue
        kernel_IOhw = numpy_helper.to_array(weights[node.input[1]])
        if len(stride) != 2 or stride[0] != stride[1] or list(kernel_IOhw.shape[2:]) != stride:
            nodes.append(node)
            continue
        rows = kernel_IOhw.transpose(2, 3, 1, 0).reshape(-1, kernel_IOhw.shape[0], 1, 1)
        made = [numpy_helper.from_array(np.ascontiguousarray(rows), f"{node.name}_rows")]
        inputs = [node.input[0], made[0].name]
        if len(node.input) > 2 and node.input[2]:
            bias = numpy_helper.to_array(weights[node.input[2]])
            made.append(numpy_helper.from_array(np.tile(bias, stride[0] * stride[1]), f"{node.name}_bias"))
            inputs.append(made[1].name)
        model.graph.initializer.extend(made)
        between = f"{node.name}_narrow"
        nodes.append(helper.make_node("Conv", inputs, [between], f"{node.name}_conv", kernel_shape=[1, 1]))
        nodes.append(helper.make_node("DepthToSpace", [between], list(node.output), f"{node.name}_shuffle",
                                      blocksize=stride[0], mode="DCR"))  # fmt: skip
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    initialisers = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(initialisers)
    return onnx.shape_inference.infer_shapes(model)


def products(model: onnx.ModelProto, spec: GraphSpec) -> tuple[dict[str, str], set[str]]:
    """The products with weights that stay float32, what their weights are called by node, and the nodes that multiply
    without weights."""
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes = {
        value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
        for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)
    }
    outputs = [tensor.name for tensor in spec.outputs]
    drawn = _needed_for(model, outputs)
    latent_px = next((tensor.shape[-1] for tensor in spec.outputs if tensor.name == "latent"), 0)
    kept, plain = {}, set()
    for node in model.graph.node:
        if node.op_type not in PRODUCTS:
            continue
        weights = [name for name in node.input[:2] if len(constants.get(name, ())) > 1 and 1 not in constants[name][:2]]
        if not weights:
            plain.add(node.name)
        elif node.name not in drawn or _delicate(node, constants[weights[0]], shapes, latent_px):
            kept[node.name] = weights[0] if "." in weights[0] else node.name
    return kept, plain


def _delicate(
    node: onnx.NodeProto, weight: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]], latent_px: int
) -> bool:
    """Whether it touches latents, or has few rows."""
    made = shapes.get(node.output[0], ())
    if node.op_type != "Conv":
        return int(np.prod(made[:-1])) < LEAST_ROWS
    out, into, *kernel = weight
    return made[-1:] == (latent_px,) and kernel[0] > 1 and min(out, into) < FEW_CHANNELS


def _needed_for(model: onnx.ModelProto, outputs: Iterable[str]) -> set[str]:
    """Names of the nodes that outputs depend on."""
    makers = {name: node for node in model.graph.node for name in node.output}
    waiting, seen = list(outputs), set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in seen:
            seen.add(node.name)
            waiting += node.input
    return seen


def in_8_bits(model: onnx.ModelProto) -> int:
    """How many products of a quantised file take their weights as 8 bits."""
    constants = {tensor.name for tensor in model.graph.initializer}
    joined = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    weights = {node.output[0] for node in joined if node.input[0] in constants}
    return sum(bool({*node.input[:2]} & weights) for node in model.graph.node if node.op_type in PRODUCTS)


def _reader(feeds: Iterator[Mapping[str, Array]]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Mapping[str, Array] | None:
            return next(feeds, None)

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser talks through the root logger: of what was done just before, and of copies that it makes."""
    root = logging.getLogger()
    root.addFilter(_nothing)
    try:
        yield
    finally:
        root.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False
