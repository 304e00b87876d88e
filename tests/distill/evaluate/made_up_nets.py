"""Small ONNX and TorchScript files that stand for networks which nobody may ship. Each computes something known."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn


def pooling_net(path: Path, shape: tuple[int | str, ...], width: int = 8, seed: int = 0) -> Path:
    """Means over 4 x 4 parts of the picture (and all frames), times fixed random numbers: [1, width]."""
    sides = len(shape) - 2
    parts = 16 * 3
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((parts, width)).astype(np.float32)
    given = [side if isinstance(side, int) else 1 for side in shape]
    kernel = [given[-2] // 4, given[-1] // 4]
    if sides == 3:
        kernel = [given[2], *kernel]
    nodes = [
        helper.make_node("AveragePool", ["picture"], ["pooled"], kernel_shape=kernel, strides=kernel),
        helper.make_node("Reshape", ["pooled", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["numbers"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([1, parts], np.int64), "flat"),
        numpy_helper.from_array(weights, "weights"),
    ]
    _save(path, nodes, constants, shape, {"numbers": (1, width)})
    return path


def hopenet(path: Path, bins: tuple[int, int, int]) -> Path:
    """Sure of one bin for each angle, whatever it is shown."""
    nodes, constants = [], []
    for i, peak in enumerate(bins):
        logits = np.full((1, 66), -40, np.float32)
        logits[0, peak] = 40
        constants.append(numpy_helper.from_array(logits, f"logits{i}"))
        nodes.append(helper.make_node("ReduceMean", ["picture"], [f"mean{i}"], keepdims=0))
        nodes.append(helper.make_node("Mul", [f"mean{i}", "nothing"], [f"zero{i}"]))
        nodes.append(helper.make_node("Add", [f"logits{i}", f"zero{i}"], [f"angle{i}"]))
    constants.append(numpy_helper.from_array(np.array(0, np.float32), "nothing"))
    _save(path, nodes, constants, (1, 3, 224, 224), {f"angle{i}": (1, 66) for i in range(3)})
    return path


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    shape: tuple[int | str, ...],
    outputs: dict[str, tuple[int, ...]],
) -> None:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(sides)) for name, sides in outputs.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


class I3dLike(nn.Module):
    """Called as StyleGAN-V's TorchScript file is."""

    def forward(self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False) -> Tensor:
        assert not rescale
        assert not resize
        assert return_features
        return torch.nn.functional.adaptive_avg_pool3d(x, (2, 2, 2)).flatten(1)


def torchscript(path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted: Any = torch.jit.script(I3dLike())
        scripted.save(str(path))
    return path
