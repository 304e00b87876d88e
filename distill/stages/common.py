"""Small things that several stages share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill.examples.types import Shown
from distill.stages.settings import TimeSettings
from distill.times import lognormal, uniform
from distill.training.draws import Draws
from engines.schedule import Schedule


def freeze(*modules: nn.Module) -> None:
    for module in modules:
        module.requires_grad_(False).eval()


def drawn_times(schedule: Schedule, draws: Draws, frames: int, settings: TimeSettings) -> Tensor:
    """Noise levels by lot, [B, T]."""
    if settings.law == "uniform":
        return uniform(schedule, draws.uniform("times", frames))
    return lognormal(schedule, draws.normal("times", frames), settings.mean, settings.deviation)


def side_by_side(shown: Shown, *drawn_BT3SS: Tensor) -> Tensor:
    """[B, T, 3 + n, 3, S, S]: masked, proxy, what was drawn, truth."""
    return torch.stack([shown.masked_BT3SS, shown.proxy_BT3SS, *drawn_BT3SS, shown.truth_BT3SS], 2)


def rms_inside(shown: Shown, drawn_BT3SS: Tensor) -> float:
    """Root mean square error of pictures -1..1 inside the mask."""
    mask = shown.mask_BT1SS
    square = (mask * (drawn_BT3SS - shown.truth_BT3SS).square()).sum() / (3 * mask.sum()).clamp(min=1)
    return float(square.sqrt())
