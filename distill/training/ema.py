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
        self._module, self._found = module, dict[str, nn.Parameter]()
        self._average = {name: weight.detach().float().clone() for name, weight in trained.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes the module's weights in."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warm_up else self.decay
        if self._average:
            weights = self._weights()
            new = [_as(weights[name], average) for name, average in self._average.items()]
            torch._foreach_lerp_(list(self._average.values()), new, 1 - decay)
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
        weights = self._weights()
        own = {name: weights[name].detach().clone() for name in self._average}
        try:
            self.copy_to(self._module)
            yield
        finally:
            with torch.no_grad():
                for name, weight in own.items():
                    weights[name].copy_(weight)

    def state(self) -> dict[str, Tensor]:
        """The tensors themselves, by the weights' names, and how many updates there were."""
        return {**self._average, "updates": torch.tensor(self.updates)}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        self.updates = int(state["updates"])
        for name, average in self._average.items():
            average.copy_(state[name])

    def _weights(self) -> dict[str, nn.Parameter]:
        """Looked up when they are first wanted, and kept: until then FSDP may put others in their place."""
        self._found = self._found or dict(self._module.named_parameters())
        return self._found


def _as(weight: Tensor, average: Tensor) -> Tensor:
    """float32, and whole if it is spread over ranks and the average is not: made before, by a stage for itself."""
    if hasattr(weight, "full_tensor") and not hasattr(average, "full_tensor"):
        weight = weight.full_tensor()
    return weight if weight.dtype == torch.float32 else weight.float()
