"""A student and a teacher of a few thousand weights, and made-up clips for them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from distill.conditions import conditions
from distill.examples.types import Kind, Shown
from distill.network import Conditions
from distill.training.draws import Draws
from distill.training.stage import Stage
from engines.models.config import ScheduleConfig, WindowConfig
from engines.models.presets import ddpm_times
from engines.models.swapper import Swapper
from tests.distill.made_up import synthetic_batch
from tests.engines.models.specks import lively, speck

Memory = Literal["last_step", "clean_pass", "memory_encoder"]


def swapper_of(kind: Literal["trig", "ddpm"] = "trig", steps: int = 1, memory: Memory = "clean_pass") -> Swapper:
    """With a network that says all itself: added to the proxy's guess, little of what it learns here would show."""
    config = speck("tiny", steps, WindowConfig(frames=3, sinks=1, memory=memory))
    alone = config.denoiser.model_copy(update={"around_proxy": 0.0})
    config = config.model_copy(update={"denoiser": alone})
    if kind == "ddpm":
        config = config.model_copy(update={"schedule": ScheduleConfig(kind=kind, times=ddpm_times(steps))})
    return lively(config)


def shown_of(swapper: Swapper, kind: Kind = "video", batch: int = 2, frames: int = 3, seed: int = 0) -> Shown:
    encoder = swapper.config.face_encoder
    return synthetic_batch(
        kind, batch, frames, swapper.config.size_px, encoder.picture_px, encoder.identity_width, seed
    )


def given_of(swapper: Swapper, shown: Shown) -> Conditions:
    with torch.no_grad():
        return conditions(swapper, shown)


def descend(
    stage: Stage, shown: Shown, steps: int, rate: float = 3e-3, first: int = 0, of: int | None = None
) -> list[float]:
    """The first player's losses on one batch with the same draws in every step: must fall, if gradients are right."""
    optimisers = {name: torch.optim.Adam(module.parameters(), rate) for name, module in stage.players.items()}
    losses = []
    for step in range(first, first + steps):
        for player in stage.plan(step):
            optimisers[player].zero_grad()
            terms = stage.loss(player, shown, Draws(0, 0, shown.numbers), 0.0 if of is None else step / of)
            torch.autograd.backward(terms.total)
            optimisers[player].step()
            if player == next(iter(stage.players)):
                losses.append(float(terms.total.detach()))
        stage.after_step(step, 0.0 if of is None else step / of)
    return losses


def gradients(
    stage: Stage, shown: Shown, player: str = "student", seed: int = 0, progress: float = 0.0
) -> dict[str, Tensor]:
    """Of a player's loss, by the weights' names; zeros where there is none."""
    module = stage.players[player]
    module.zero_grad()
    torch.autograd.backward(stage.loss(player, shown, Draws(seed, 0, shown.numbers), progress).total)
    return {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
        for name, weight in module.named_parameters()
    }
