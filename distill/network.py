"""A denoiser as the objectives see it: a function of a noisy latent and a time, everything else bound.

B examples   T frames   C latent channels   h = w = S/8   K condition channels   L tokens   D their width

`Network(x_t, t)` gives F, the network's output in the terms of engines.schedule: x_t is the noisy latent itself, not
yet `schedule.network_input`; t is [B, T] (oracles: any shape that broadcasts against the first axes of x_t).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.models.attention import Banded, Together
from engines.models.swapper import Swapper

Network = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the denoiser is shown besides the noisy latent, and what is to come out.

    x0_BTChw          the truth's latent
    condition_BTKhw   mask, masked frame's latent, proxy's latent, in the denoiser's order
    tokens_BTLD       the face encoder's
    weight_BT1hw      how much an error at each place counts; 1 on average
    """

    x0_BTChw: Tensor
    condition_BTKhw: Tensor
    tokens_BTLD: Tensor
    weight_BT1hw: Tensor


def network(swapper: Swapper, given: Conditions, sight: Together | Banded) -> Network:
    """The swapper's denoiser under these conditions. What `sight` collects is of the last call."""

    def look(x_BTChw: Tensor, t_BT: Tensor) -> Tensor:
        if isinstance(sight, Banded):
            sight.kept.clear()
        shown = torch.cat([swapper.schedule.network_input(x_BTChw), given.condition_BTKhw.to(x_BTChw.dtype)], 2)
        return swapper.denoiser.window(shown, t_BT, given.tokens_BTLD, sight)

    return look


def spread(t: Tensor, like: Tensor) -> Tensor:
    """Times [B, T] as they multiply latents [B, T, C, h, w]."""
    return t.reshape(*t.shape, *[1] * (like.ndim - t.ndim))
