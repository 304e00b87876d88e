"""Latents as the stages have them, and the real denoiser, as small as it gets: [B, T, C, h, w], t [B, T]."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distill.network import Conditions, Network, network
from engines.models.config import WindowConfig
from engines.models.swapper import Swapper
from engines.schedule import Schedule
from tests.engines.models.specks import lively, speck

B, T, SIDE = 2, 3, 8


@dataclass(frozen=True)
class Case:
    """A denoiser under made-up conditions, with clean latents, noise and times to look at."""

    swapper: Swapper
    schedule: Schedule
    student: Network
    x0: Tensor
    noise: Tensor
    t: Tensor
    weight: Tensor
    place: Tensor  # on a grid of 50
    position: Tensor  # of two states in a segment

    def frame(self, row: int, column: int) -> Case:
        """One frame alone, as a batch of one still."""
        here = (slice(row, row + 1), slice(column, column + 1))
        return replace(
            self,
            **{name: getattr(self, name)[here] for name in ("x0", "noise", "t", "weight", "place")},
            position=self.position[:, *here],
        )


def case(name: str = "tiny", dtype: torch.dtype = torch.float32) -> Case:
    """name: of a preset: "tiny" is TrigFlow, "full" the ddpm table."""
    swapper = lively(speck(name, window=WindowConfig(frames=3, sinks=1))).to(dtype)
    config = swapper.config.denoiser
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    x0 = 0.5 * normal(B, T, config.latent_channels, SIDE, SIDE)
    condition = normal(B, T, config.in_channels - config.latent_channels, SIDE, SIDE)
    weight = 0.25 + 1.5 * torch.rand((B, T, 1, SIDE, SIDE), generator=generator).to(dtype)
    given = Conditions(x0, condition, normal(B, T, 2, config.token_width), weight / weight.mean())
    angles, rows = [[0.2, 0.7, 1.1], [0.5, 1.5, 0.9]], [[19.0, 499.0, 999.0], [101.0, 7.0, 700.0]]
    t = torch.tensor(angles if swapper.schedule.kind == "trig" else rows)
    student = network(swapper, given, swapper.banded(T))
    place = torch.tensor([[1, 7, 50], [2, 30, 12]])
    position = torch.tensor([[[0.3, 0.6, 0.9], [0.1, 0.2, 1.0]], [[0.5, 0.5, 0.5], [0.4, 0.8, 0.0]]]).to(dtype)
    noise, times = normal(*x0.shape), t.to(dtype)
    return Case(swapper, swapper.schedule, student, x0, noise, times, given.weight_BT1hw, place, position)
