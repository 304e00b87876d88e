"""A clip rolled out with gradients is what the live graph draws, and what the window form draws."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from distill.network import Conditions, network
from distill.streaming import Roll, stream
from engines.models.config import WindowConfig
from engines.models.step import SwapStep
from engines.models.swapper import Swapper
from tests.engines.models.specks import clip, lively, speck
from tests.engines.models.streams import Frame, streamed

Memory = Literal["last_step", "clean_pass", "memory_encoder"]
MEMORIES: tuple[Memory, ...] = ("last_step", "clean_pass", "memory_encoder")


def swapper_of(memory: Memory = "last_step", steps: int = 1, name: str = "tiny") -> Swapper:
    return lively(speck(name, steps, WindowConfig(frames=4, sinks=1, memory=memory)))


def shown_of(swapper: Swapper, frames: list[Frame]) -> tuple[Conditions, Tensor]:
    """The conditions of SwapStep's inputs, and their noise [B, T, n, C, h, w]."""
    part = {name: torch.stack([frame[name] for frame in frames], 1) for name in frames[0]}
    latents = [swapper.autoencoder.encode(part[name], causal=True) for name in ("masked", "proxy")]
    condition = torch.cat([functional.avg_pool3d(part["mask"], (1, 8, 8)), *latents], 2)
    flat = {name: value.flatten(0, 1) for name, value in part.items()}
    tokens = swapper.face_encoder.tokens(flat["identity_tokens"], flat["attribute"], flat["weights"][:, 1])
    tokens = tokens.reshape(*condition.shape[:2], *tokens.shape[1:])
    return Conditions(latents[0], condition, tokens, torch.ones_like(condition[:, :, :1])), part["noise"]


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("memory", MEMORIES)
def test_rolls_out_what_the_live_graph_draws(memory: Memory, steps: int) -> None:
    """Over 3 W frames: the ring wraps, its sink stays."""
    swapper = swapper_of(memory, steps)
    frames = clip(SwapStep(swapper, 2), 12)
    live = streamed(SwapStep(swapper, 2), frames)[1]
    given, noise = shown_of(swapper, frames)
    rolled = stream(swapper, given, noise)
    assert (rolled - live).abs().max() <= 1e-5 * live.abs().max()


def test_gradients_through_the_past_are_those_of_the_window_form() -> None:
    """For one step and last_step, a stream is one pass over the whole clip."""
    swapper = swapper_of("last_step")
    given, noise = shown_of(swapper, clip(SwapStep(swapper), 6))
    aim = torch.randn(noise[:, :, 0].shape, generator=torch.Generator().manual_seed(1))

    def gradients(x0: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad((x0 * aim).sum(), list(swapper.denoiser.parameters()), allow_unused=True))

    swapper.denoiser.requires_grad_(True)
    x, t = swapper.schedule.start(noise[:, :, 0]), torch.full(noise.shape[:2], swapper.config.schedule.times[0])
    at_once = swapper.schedule.clean(x, network(swapper, given, swapper.banded(6))(x, t), t[:, :, None, None, None])
    whole = gradients(at_once)
    for replay in (False, True):
        rolled = gradients(stream(swapper, given, noise, Roll(through_past=True, replay=replay)))
        for one, other in zip(rolled, whole, strict=True):
            assert (one - other).norm() <= 1e-4 * other.norm()
    cut = gradients(stream(swapper, given, noise))
    assert any((one - other).norm() > 1e-2 * other.norm() for one, other in zip(cut, whole, strict=True))


@pytest.mark.parametrize("memory", MEMORIES)
def test_nothing_flows_into_earlier_frames_unless_asked(memory: Memory) -> None:
    swapper = swapper_of(memory, 2)
    given, noise = shown_of(swapper, clip(SwapStep(swapper), 3))
    swapper.denoiser.requires_grad_(True)
    given.tokens_BTLD.requires_grad_(True)
    for through_past in (False, True):
        last = stream(swapper, given, noise, Roll(through_past=through_past))[:, -1]
        (of_tokens,) = torch.autograd.grad(last.sum(), given.tokens_BTLD)
        assert of_tokens[:, -1].abs().max() > 0
        assert (of_tokens[:, :-1].abs().max() > 0) == through_past


def test_gradient_flows_through_the_exit_step_alone() -> None:
    """Replayed or not: x0 of the exit, as if the steps before were a constant."""
    swapper = swapper_of("last_step", 3)
    given, noise = shown_of(swapper, clip(SwapStep(swapper), 1))
    swapper.denoiser.requires_grad_(True)
    schedule, times = swapper.schedule, swapper.config.schedule.times
    x = schedule.start(noise[:, :, 0])
    for exit_, t in enumerate(times):
        look = network(swapper, given, swapper.banded(1))
        x0 = schedule.clean(x, look(x, torch.full(x.shape[:2], t)), t)
        alone = torch.autograd.grad(x0.sum(), swapper.denoiser.conv_in.weight)[0]
        for replay in (False, True):
            rolled = stream(swapper, given, noise, Roll(exit=exit_, replay=replay))
            torch.testing.assert_close(rolled, x0)
            torch.testing.assert_close(torch.autograd.grad(rolled.sum(), swapper.denoiser.conv_in.weight)[0], alone)
        x = schedule.noisy(x0.detach(), noise[:, :, min(exit_ + 1, 2)], times[min(exit_ + 1, 2)])


def test_the_first_frame_may_have_more_steps() -> None:
    swapper = swapper_of("clean_pass", 2)
    given, noise = shown_of(swapper, clip(SwapStep(swapper_of("clean_pass", 4)), 2))
    four = Roll(first_times=(1.5, 1.2, 0.9, 0.5))
    both = stream(swapper, given, noise, four)
    first = stream(swapper, given, noise, Roll(times=four.first_times))
    assert torch.equal(both[:, 0], first[:, 0])
    assert not torch.equal(both[:, 1], first[:, 1])
