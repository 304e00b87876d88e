"""Blocks that are computed again in the backward pass, laid out otherwise, or compiled give the same gradients."""

from __future__ import annotations

from functools import partialmethod
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distill.network import Conditions, network
from distill.recipes import teacher_tiny
from distill.training import blocks
from distill.training.overrides import changed
from engines.models.swapper import Swapper
from tests.distill.training.made_up import QUIET, settings
from tests.distill.training.small import SMALL


def gradients(kind: str, **given: Any) -> dict[str, Tensor]:
    """Of the denoiser on a clip, as a teacher or on the past of a pass of its own."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    swapper = Swapper(changed(teacher_tiny(), SMALL).swapper).initialise()
    machine = QUIET.model_copy(update={"compile": given.pop("compile", False)})
    blocks.prepare([swapper.denoiser, swapper.autoencoder], settings(**given), machine)
    x0, condition = torch.randn(1, 3, 2, 8, 8), torch.randn(1, 3, 5, 8, 8)
    shown = Conditions(x0, condition, torch.randn(1, 3, 2, 16), torch.ones(1, 3, 1, 8, 8))
    sight = swapper.banded(3)
    look = network(swapper, shown, sight)
    if kind == "past":
        swapper.denoiser.look_back(
            torch.cat([x0, condition], 2).flatten(0, 1), torch.zeros(3), shown.tokens_BTLD[0], sight
        )
        look = network(swapper, shown, swapper.banded(3, tuple(sight.kept)))
    out = look(x0, torch.full((1, 3), 0.7))
    loss = out.square().mean()
    torch.autograd.backward(loss)
    found = dict(swapper.denoiser.named_parameters())
    return {name: weight.grad for name, weight in found.items() if weight.grad is not None}


@pytest.mark.parametrize("kind", ["window", "past"])
@pytest.mark.parametrize("given", [{"recompute": True}, {"channels_last": True}], ids=["recompute", "channels_last"])
def test_gradients_are_the_same(kind: str, given: dict[str, Any]) -> None:
    plain, other = gradients(kind), gradients(kind, **given)
    assert len(plain) > 50
    assert set(plain) == set(other)
    for name, gradient in plain.items():
        assert torch.allclose(gradient, other[name], rtol=1e-4, atol=1e-6), name


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # torch's own, on its way to a kernel
def test_compiled_blocks_have_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated as for any back end; the kernels themselves, which take minutes, are not made."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    plain, other = gradients("window"), gradients("window", compile=True)
    for name, gradient in plain.items():
        assert torch.allclose(gradient, other[name], rtol=1e-3, atol=1e-5), name


def test_recomputed_blocks_keep_less() -> None:
    """What the backward pass holds on to, in numbers."""
    held: dict[bool, int] = {}
    for recompute in (False, True):
        swapper = Swapper(changed(teacher_tiny(), SMALL).swapper).initialise()
        blocks.prepare([swapper.denoiser], settings(recompute=recompute), QUIET)
        weights = {weight.data_ptr() for weight in swapper.parameters()}
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor, sizes: dict[int, int] = sizes, weights: set[int] = weights) -> Tensor:
            if tensor.data_ptr() not in weights:
                sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        shown = Conditions(
            torch.randn(1, 4, 2, 8, 8), torch.randn(1, 4, 5, 8, 8), torch.randn(1, 4, 2, 16), torch.ones(1, 4, 1, 8, 8)
        )
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = network(swapper, shown, swapper.banded(4))(shown.x0_BTChw, torch.full((1, 4), 0.7))
        held[recompute] = sum(sizes.values())
        assert out.requires_grad
    assert held[True] < 0.5 * held[False]


def test_every_block_is_found_once() -> None:
    swapper = Swapper(changed(teacher_tiny(), SMALL).swapper)
    found = list(blocks.of([swapper.denoiser, nn.ModuleDict({"again": swapper.denoiser})]))
    assert len(found) == len({id(block) for block in found}) >= 4
