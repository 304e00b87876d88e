"""Exponential moving averages of weights, in float32 whatever the weights are in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """average <- decay average + (1 - decay) weights, over what is trained of a module.

    warm_up  the decay is at most (1 + n) / (10 + n) after n updates, so that a short run's average has forgotten where
             it began. For what is evaluated; a consistency target's has none
    """

    def __init__(self, module: nn.Module, decay: float, *, warm_up: bool = True) -> None:
        trained = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        self.decay, self.warm_up = decay, warm_up
        self.updates = 0
        self._weights = trained
        self._average = {name: weight.detach().float().clone() for name, weight in trained.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes the module's weights in."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warm_up else self.decay
        if self._average:
            weights = [weight.detach().float() for weight in self._weights.values()]
            torch._foreach_lerp_(list(self._average.values()), weights, 1 - decay)
        self.updates += 1

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Into a module of the same form."""
        weights = dict(module.named_parameters())
        for name, average in self._average.items():
            weights[name].copy_(average)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Lends the module the average's weights; afterwards it has its own again, to the bit."""
        own = {name: weight.detach().clone() for name, weight in self._weights.items()}
        try:
            with torch.no_grad():
                for name, weight in self._weights.items():
                    weight.copy_(self._average[name])
            yield
        finally:
            with torch.no_grad():
                for name, weight in self._weights.items():
                    weight.copy_(own[name])

    def state(self) -> dict[str, Tensor]:
        """The tensors themselves, by the weights' names, and how many updates there were."""
        return {**self._average, "updates": torch.tensor(self.updates)}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        self.updates = int(state["updates"])
        for name, average in self._average.items():
            average.copy_(state[name])
