"""Parts of the networks that are compiled, or computed again in the backward pass, one at a time: the denoiser's
residual blocks with what follows them. They are called by their `forward`, and keep nothing of a call but what
`sight.kept` collects. The autoencoder's count what they reach on the way (engines.models.temporal), and are left
alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from importlib import import_module

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from distill.training.settings import MachineSettings, TrainSettings
from engines.models.denoiser import Layer, Middle

BLOCKS = (Layer, Middle)
KINDS_OF_BLOCKS = 256  # sizes, stills and clips: one compiled form each. Beyond torch's 8 it would go on uncompiled


def of(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Every block, each once; none lies in another."""
    seen: set[int] = set()
    for module in modules:
        for one in module.modules():
            if isinstance(one, BLOCKS) and id(one) not in seen:
                seen.add(id(one))
                yield one


def prepare(modules: Iterable[nn.Module], settings: TrainSettings, machine: MachineSettings) -> None:
    """Layout, gradient checkpointing and torch.compile, as the settings say."""
    modules = list(modules)
    if machine.compile:
        config = import_module("torch._dynamo").config
        config.recompile_limit = max(config.recompile_limit, KINDS_OF_BLOCKS)
    if settings.channels_last:
        for module in modules:
            for weight in module.parameters():
                if weight.ndim == 4:
                    weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    for block in of(modules):
        if settings.recompute:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if machine.compile:
            block.compile(dynamic=False)
