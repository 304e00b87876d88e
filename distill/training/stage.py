"""What the training loop is told to learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from distill.examples.types import Shown
from distill.training.draws import Draws


@dataclass(frozen=True, slots=True)
class Terms:
    """A loss and what it is made of. total: float32 scalar; parts: detached scalars for the curves, by name."""

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Stage(Protocol):
    """One stage of training: the autoencoder's, the teacher's, causal adaptation, consistency, self-rollout.

    players  who is trained, by name, in order: each has an optimiser of its own. The first one is what comes out, and
             has averages (EMA)
    frozen   what is not trained and decides the numbers: checkpoints have its sha256
    """

    @property
    def name(self) -> str: ...

    @property
    def players(self) -> Mapping[str, nn.Module]: ...

    @property
    def frozen(self) -> Mapping[str, nn.Module]: ...

    def plan(self, step: int) -> Sequence[str]:
        """Which players move in this step, in this order."""
        ...

    def loss(self, player: str, shown: Shown, draws: Draws, progress: float) -> Terms:
        """The player's loss on a batch. progress: 0 at the run's start, 1 at its end. Gradients of other players are
        thrown away."""
        ...

    def after_step(self, step: int, progress: float) -> None:
        """What follows an optimiser's step, such as a target network's average."""
        ...

    def extra_state(self) -> Mapping[str, Tensor]:
        """What a resumed run needs beyond players and optimisers: target networks."""
        ...

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None: ...
