"""Weights into networks and out of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engines import weights
from engines.errors import WeightsError
from engines.models.config import SwapperConfig
from tests.engines.test_weights import CARD, CONFIG

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")


def network(dtype: str = "float32", seed: int = 0) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(4, 2))
    net.to(getattr(torch, dtype))
    return net


def written(folder: Path, net: torch.nn.Module) -> Path:
    path = folder / "w.safetensors"
    weights.write(path, net.state_dict(), CARD)
    return path


def test_weights_come_back_to_the_bit_in_place_and_in_any_layout(tmp_path: Path) -> None:
    net, other = network(seed=1), network(seed=2)
    kernel = next(net.parameters())
    kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)
    path = written(tmp_path, net)
    before = list(other.parameters())
    contents = weights.load_into(other, path, CONFIG)
    assert contents.parameters == sum(tensor.numel() for tensor in net.state_dict().values())
    assert all(a is b for a, b in zip(before, other.parameters()))  # an optimiser's references stay good
    for name, tensor in net.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_types_are_kept_in_the_file_and_converted_for_the_network(tmp_path: Path, dtype: str) -> None:
    net, other = network(dtype, seed=1), network(seed=2)
    path = written(tmp_path, net)
    weights.load_into(other, path)
    for name, tensor in net.state_dict().items():
        assert other.state_dict()[name].dtype == (torch.float32 if tensor.is_floating_point() else torch.int64)
        assert torch.equal(other.state_dict()[name], tensor.to(other.state_dict()[name].dtype))


def test_a_network_without_memory_is_given_some_that_does_not_hang_on_the_file(tmp_path: Path) -> None:
    net = network(seed=1)
    path = written(tmp_path, net)
    with torch.device("meta"):
        empty = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(4, 2))
    weights.load_into(empty, path)
    path.write_bytes(bytes(path.stat().st_size))
    for name, tensor in net.state_dict().items():
        assert torch.equal(empty.state_dict()[name], tensor)
    assert all(isinstance(one, torch.nn.Parameter) for one in empty.parameters())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_bfloat16_is_looked_at_too(tmp_path: Path, value: float) -> None:
    with pytest.raises(WeightsError, match="finite"):
        weights.write(tmp_path / "w.safetensors", {"a": torch.tensor([1.0, value], dtype=torch.bfloat16)}, CARD)
    weights.write(tmp_path / "w.safetensors", {"a": torch.tensor([3.38e38, -0.0, 1e-40], dtype=torch.bfloat16)}, CARD)


def test_a_network_of_another_shape_stays_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path, network(seed=1))
    other = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(4, 3))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(WeightsError, match=r"misshapen: 2.bias is \[2\], not \[3\], 2.weight is "):
        weights.load_into(other, path)
    longer = torch.nn.Sequential(*network(), torch.nn.Linear(2, 2))
    with pytest.raises(WeightsError, match=r"missing: 3\.bias, 3\.weight"):
        weights.load_into(longer, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_another_configuration_is_refused_before_anything_is_copied(tmp_path: Path) -> None:
    net = network(seed=1)
    path = written(tmp_path, net)
    other = SwapperConfig.read(CONFIG.model_dump() | {"size_px": 128})
    target = network(seed=2)
    with pytest.raises(WeightsError, match="size_px is 64, not 128"):
        weights.load_into(target, path, other)
    assert not torch.equal(target.state_dict()["0.weight"], net.state_dict()["0.weight"])


def test_whole_numbers_are_not_taken_for_weights(tmp_path: Path) -> None:
    state = network().state_dict()
    state["1.num_batches_tracked"] = torch.tensor(1.0)
    weights.write(tmp_path / "w.safetensors", state, CARD)
    with pytest.raises(WeightsError, match="num_batches_tracked"):
        weights.load_into(network(), tmp_path / "w.safetensors")
