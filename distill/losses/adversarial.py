"""Hinge GAN (arXiv 1705.02894) on frames and on differences between them, with a small critic.

B examples   T frames (1 in a still)   C channels of what is judged: 3 of pictures, or a latent's
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


def of_critic(real_scores: Tensor, made_scores: Tensor) -> Tensor:
    """mean max(0, 1 - D(real)) + mean max(0, 1 + D(made))."""
    return functional.relu(1 - real_scores).mean() + functional.relu(1 + made_scores).mean()


def of_maker(made_scores: Tensor) -> Tensor:
    """-mean D(made)."""
    return -made_scores.mean()


def approximate_r1(critic: nn.Module, real_BTChw: Tensor, noise_BTChw: Tensor, spread: float = 0.01) -> Tensor:
    """||D(x) - D(x + spread e)||^2: R1 without second derivatives (AAPT, arXiv 2506.09350, section 3.3)."""
    change: Tensor = critic(real_BTChw) - critic(real_BTChw + spread * noise_BTChw)
    return change.square().mean()


class Critic(nn.Module):
    """Scores patches of every frame, [B, T, 1, h', w'], from the frame and its difference to the one before (zero for
    the first, so for stills): an over-smooth clip betrays itself in the second, a blurred one in the first. The
    difference is enlarged, since neighbours are alike. No norm: scores of a batch do not depend on each other."""

    DIFFERENCE = 4.0

    def __init__(self, channels: int, widths: Sequence[int] = (32, 64, 128)) -> None:
        """widths: each level halves the size, the first too."""
        super().__init__()
        inputs = [2 * channels, *widths]
        self.levels = nn.ModuleList(
            nn.Conv2d(before, width, 4, stride=2, padding=1) for before, width in zip(inputs, widths)
        )
        self.score = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, x_BTChw: Tensor) -> Tensor:
        batch = x_BTChw.shape[:2]
        change = torch.cat([torch.zeros_like(x_BTChw[:, :1]), x_BTChw.diff(dim=1)], 1)
        x = torch.cat([x_BTChw, self.DIFFERENCE * change], 2).flatten(0, 1)
        for level in self.levels:
            x = functional.leaky_relu(level(x), 0.2)
        scores = cast(Tensor, self.score(x))
        return scores.reshape(*batch, *scores.shape[1:])

    def initialise(self, seed: int = 0) -> Critic:
        """Random weights, the same for the same seed. Returns itself."""
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5, generator=generator)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        return self
