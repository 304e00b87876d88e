"""Small real ONNX files with the signature of every swapper that is known. None of them was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.settings import SwapSettings

Array = NDArray[Any]
WIDTH = 512
RECOGNISER = np.random.default_rng(1).normal(0, 0.2, (192, WIDTH)).astype(np.float32)
OTHER_RECOGNISER = np.random.default_rng(2).normal(0, 0.2, (192, WIDTH)).astype(np.float32)
CONVERTER = np.random.default_rng(3).normal(0, 0.05, (WIDTH, WIDTH)).astype(np.float32)
EMAP = np.random.default_rng(4).normal(0, 0.05, (WIDTH, WIDTH)).astype(np.float32)
LEVEL = 0.4
TO_COLOUR = np.random.default_rng(5).normal(0, 1.0, (WIDTH, 3)).astype(np.float32)

# The table of ../shared/reference/models.md, section 3, once more: what the code has is held against it.
# name: sides, inputs, source shape, output's name
SIGNATURES: Mapping[str, tuple[tuple[int, ...], tuple[str, str], tuple[int, ...], str]] = {
    "inswapper": ((128, 256), ("target", "source"), (1, WIDTH), "output"),
    "hyperswap": ((256,), ("target", "source"), (1, WIDTH), "output"),
    "simswap_256": ((256,), ("target", "source"), (1, WIDTH), "output"),
    "simswap_unofficial_512": ((512,), ("input", "onnx::Gemm_1"), (1, WIDTH), "output"),
    "ghost": ((256,), ("target", "source"), (1, WIDTH), "1165"),
    "hififace": ((256,), ("target", "source"), (1, WIDTH), "output"),
    "blendswap": ((256,), ("target", "source"), (1, 3, 112, 112), "output"),
    "uniface": ((256,), ("target", "source"), (1, 3, 256, 256), "output"),
    "cscs": ((256,), ("input_1", "input_2"), (1, WIDTH), "output"),
}
WITH_EMBEDDER = ("inswapper", "hyperswap", "simswap_256", "simswap_unofficial_512", "ghost", "hififace", "cscs")
WITH_CONVERTER = ("simswap_256", "simswap_unofficial_512", "ghost", "hififace", "cscs")
ALIKE = ("hyperswap", "simswap_256", "hififace")  # from outside; ghost is told by its output's name


def constant(name: str, values: object, dtype: str = "float32") -> Any:
    return numpy_helper.from_array(np.array(values, dtype), name)


def tensor(name: str, shape: Sequence[int | str | None], dtype: str = "float32") -> Any:
    kind = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int64": TensorProto.INT64}[dtype]
    return helper.make_tensor_value_info(name, kind, shape)


def save(
    path: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], constants: Sequence[Any]
) -> Path:
    graph = helper.make_graph(nodes, "made in a test", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def drawing(
    how: str, target: str, source: str, dtype: str, paint: Array | None, scale: float
) -> tuple[list[Any], list[Any]]:
    """Operations that end in `drawn`, and their constants. how: same, shift, source, paint, nan, raises."""
    node = helper.make_node
    if how == "same":
        return [node("Identity", [target], ["drawn"])], []
    if how == "shift":
        return [node("Add", [target, "by"], ["drawn"])], [
            constant("by", np.reshape([0.1, -0.05, 0.2], (1, 3, 1, 1)), dtype)
        ]
    if how == "source":  # three numbers of the source as the colour of all pixels, where it is an embedding
        return [
            node("MatMul", [source, "to_colour"], ["colour"]),
            node("Reshape", ["colour", "as_planes"], ["colour4"]),
            node("Mul", [target, "zero"], ["black"]),
            node("Add", ["black", "level"], ["grey"]),
            node("Add", ["grey", "colour4"], ["drawn"]),
        ], [
            constant("to_colour", scale * TO_COLOUR, dtype),
            constant("level", LEVEL, dtype),
            constant("as_planes", [1, 3, 1, 1], "int64"),
            constant("zero", 0, dtype),
        ]
    if how == "source_mean":  # where the source is a picture: its mean colour
        return [
            node("ReduceMean", [source], ["colour4"], axes=[2, 3], keepdims=1),
            node("Mul", [target, "zero"], ["black"]),
            node("Add", ["black", "colour4"], ["drawn"]),
        ], [constant("zero", 0, dtype)]
    if how == "paint":  # the same picture whatever goes in
        return [node("Mul", [target, "zero"], ["black"]), node("Add", ["black", "paint"], ["drawn"])], [
            constant("zero", 0, dtype),
            constant("paint", paint, dtype),
        ]
    if how == "nan":
        return [node("Sub", [target, "much"], ["below"]), node("Log", ["below"], ["drawn"])], [
            constant("much", 99, dtype)
        ]
    if how == "half":
        pool = node("AveragePool", [target], ["drawn"], kernel_shape=[2, 2], strides=[2, 2])
        return [pool], []
    raise ValueError(how)


def swapper(
    path: Path,
    kind: str,
    how: str = "same",
    side: int | None = None,
    dtype: str = "float32",
    paint: Array | None = None,
    scale: float = 0.12,
    emap: str | None = "emap",
    emap_first: bool = False,
    open_sides: bool = False,
    output: str | None = None,
) -> Path:
    """A file of that type. emap: the name of inswapper's matrix; None leaves it out. open_sides: no shapes declared."""
    sides, (target, source), source_shape, output_name = SIGNATURES[kind]
    side, output_name = side or sides[0], output or output_name
    nodes, constants = drawing(how, target, source, dtype, paint, scale)
    nodes.append(helper.make_node("Identity", ["drawn"], [output_name]))
    # Real swappers have square matrices that operations do read: a reader must not take them for the emap.
    constants.append(constant("style.weight", CONVERTER, dtype))
    if len(source_shape) == 2:
        nodes.append(helper.make_node("MatMul", [source, "style.weight"], ["unused"]))
    else:
        nodes.append(helper.make_node("Transpose", ["style.weight"], ["unused"]))
    if kind == "inswapper" and emap is not None:
        constants.insert(0 if emap_first else len(constants), constant(emap, EMAP, dtype))
    shape: tuple[int | str | None, ...] = (1, 3, side, side)
    given = ("batch", 3, side, side) if open_sides else shape
    result: tuple[int | str | None, ...] = ("n", "c", "h", "w") if open_sides or how == "half" else shape
    inputs = [tensor(target, given, dtype), tensor(source, source_shape, dtype)]
    return save(path, nodes, inputs, [tensor(output_name, result, dtype)], constants)


def dfm(path: Path, side: int = 224, how: str = "same", morphs: bool = True, mask: Array | None = None) -> Path:
    """A DFM file: channels last, BGR, two masks. how: same, shift (BGR), nan; mask: [S, S], the source mask."""
    node = helper.make_node
    nodes: list[Any] = [
        node("Shape", ["in_face:0"], ["shape"]),
        node("Identity", ["ones"], ["out_face_mask:0"]),
        node("Identity", ["mask"], ["out_celeb_face_mask:0"]),
    ]
    constants = [
        constant("ones", np.ones((1, side, side, 1))),
        constant("mask", np.ones((1, side, side, 1)) if mask is None else mask[None, ..., None]),
        constant("by", np.reshape([0.1, -0.05, 0.2], (1, 1, 1, 3))),
        constant("much", 99.0),
    ]
    if how == "nan":
        nodes += [node("Sub", ["in_face:0", "much"], ["below"]), node("Log", ["below"], ["face"])]
    elif how == "shift":
        nodes.append(node("Add", ["in_face:0", "by"], ["face"]))
    else:
        nodes.append(node("Identity", ["in_face:0"], ["face"]))
    inputs = [tensor("in_face:0", ("unk", side, side, 3))]
    if morphs:
        inputs.append(tensor("morph_value:0", (1,)))
        nodes.append(node("Mul", ["face", "morph_value:0"], ["out_celeb_face:0"]))
    else:
        nodes.append(node("Identity", ["face"], ["out_celeb_face:0"]))
    outputs = [
        tensor("out_face_mask:0", ("unk", side, side, 1)),
        tensor("out_celeb_face:0", ("unk", side, side, 3)),
        tensor("out_celeb_face_mask:0", ("unk", side, side, 1)),
    ]
    return save(path, nodes, inputs, outputs, constants)


def embedder(path: Path, weights: Array = RECOGNISER, nan: bool = False) -> Path:
    """A recogniser: 8x8 means of each channel, times a matrix. Its sides are open, as in w600k_r50."""
    nodes = [
        helper.make_node("AveragePool", ["input.1"], ["means"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["683"]),
    ]
    values = weights * np.nan if nan else weights
    inputs, outputs = [tensor("input.1", ("None", 3, 112, 112))], [tensor("683", ("None", WIDTH))]
    return save(path, nodes, inputs, outputs, [constant("weights", values)])


def converter(path: Path) -> Path:
    node = helper.make_node("MatMul", ["input", "weights"], ["output"])
    return save(
        path, [node], [tensor("input", (1, WIDTH))], [tensor("output", (1, WIDTH))], [constant("weights", CONVERTER)]
    )


def embedded(picture_13SS: Array, weights: Array = RECOGNISER) -> Array:
    """What `embedder` gives, in NumPy: [1, 512]."""
    means = picture_13SS.astype(np.float64).reshape(1, 3, 8, 14, 8, 14).mean(axis=(3, 5))
    return np.asarray(means.reshape(1, -1) @ weights.astype(np.float64))


def settings_of(folder: Path, kind: str, model: Path, **others: object) -> SwapSettings:
    """Settings with the further files that a type needs, made in the folder."""
    values: dict[str, object] = {"engine": "onnx", "model": model, "device": "cpu"}
    if kind in WITH_EMBEDDER:
        values["embedder"] = embedder(folder / "embedder.onnx")
    if kind in WITH_CONVERTER:
        path = folder / "converter.onnx"
        values["converter"] = embedder(path, OTHER_RECOGNISER) if kind == "cscs" else converter(path)
    if kind in ALIKE:
        values["model_type"] = kind
    return SwapSettings.read({**values, **others})
