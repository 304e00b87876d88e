"""The players of a stage with their optimisers and averages: everything of a run that changes, and how it moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from distill.examples.types import Shown
from distill.training import blocks
from distill.training.draws import Draws
from distill.training.ema import Average
from distill.training.optimiser import freeze, load_state, optimiser, set_rate, state_of
from distill.training.pace import learning_rate
from distill.training.ranks import Inside, Ranks, spread, whole_like
from distill.training.settings import MachineSettings, TrainSettings
from distill.training.stage import Stage
from engines import SettingError

Looked = TypeVar("Looked")
OF_A_MOVE = 2**32  # seeds are below: the n-th move of a player in one step draws other numbers than the first


class Learner:
    """Weights stay float32; what is lower is computed under autocast. The first player has the averages."""

    def __init__(self, stage: Stage, settings: TrainSettings, machine: MachineSettings, ranks: Ranks) -> None:
        self.stage, self.settings, self.ranks = stage, settings, ranks
        self.inside = Inside(stage.players)
        freeze(stage.players, settings)
        ranks.same_weights([*stage.players.values(), *stage.frozen.values()])
        blocks.prepare(stage.players.values(), settings, machine)
        if ranks.sharded:
            spread(self.inside, ranks)
        self.optimisers = {name: optimiser(name, module, settings) for name, module in stage.players.items()}
        self.weights = {
            name: [weight for group in one.param_groups for weight in group["params"]]
            for name, one in self.optimisers.items()
        }
        self.outcome = next(iter(stage.players))
        self.averages = {decay: Average(stage.players[self.outcome], decay) for decay in settings.averages}

    def move(self, player: str, shown: Shown, draws: Draws, progress: float) -> dict[str, float]:
        """One step of one player's optimiser. Gives its losses, the gradient's length and the rate.

        Where the loss or the gradient is no finite number on any rank, nothing moves; the values say so.
        """
        values = self.gradients(player, shown, draws, progress)
        if all(math.isfinite(value) for value in values.values()):
            rate = learning_rate(self.settings, draws.step, progress)
            set_rate(self.optimisers[player], rate)
            self.optimisers[player].step()
            values[f"{player}/rate"] = rate
        self.forget_gradients()
        return values

    def gradients(self, player: str, shown: Shown, draws: Draws, progress: float) -> dict[str, float]:
        """Of a batch, averaged over its parts and over ranks, and clipped."""
        sums: dict[str, Tensor] = {}
        self._seed((draws.seed * 1_000_003 + draws.step) * 1009 % 2**62 + self.ranks.rank)
        with self._alone(player):
            for part in parts_of(shown, self.settings.accumulate):
                share = len(part) / len(shown)
                total, named = self.inside(self._loss, player, part, replace(draws, numbers=part.numbers), progress)
                (total * share).backward()
                for name, value in {"loss": total, **named}.items():
                    sums[name] = sums.get(name, 0.0) + share * value.detach().float()
        self.ranks.reduce_gradients(self.weights[player])
        length = nn.utils.clip_grad_norm_(self.weights[player], self.settings.clip)
        whole = length.full_tensor() if hasattr(length, "full_tensor") else length
        values = self.ranks.mean(torch.stack([whole.float(), *sums.values()])).tolist()
        return {f"{player}/{name}": value for name, value in zip(["gradient", *sums], values, strict=True)}

    def forget_gradients(self) -> None:
        for one in self.optimisers.values():
            one.zero_grad(set_to_none=True)

    def draws(self, step: int, numbers: tuple[int, ...], turn: int = 0) -> Draws:
        """What a batch may draw. turn: how often the player has moved in this step."""
        return Draws(self.settings.seed + turn * OF_A_MOVE, step, numbers, str(self.ranks.device))

    def average(self) -> None:
        """After a step in which the first player moved."""
        for one in self.averages.values():
            one.update()

    def leave_average(self) -> None:
        """The first player has its first average's weights from now on."""
        self.averages[self.settings.averages[0]].copy_to(self.stage.players[self.outcome])

    def look(self, function: Callable[..., Looked], *given: Any) -> Looked:
        """Calls a function of the stage with the first player's average in place, without gradients, in eval mode."""
        with torch.no_grad(), self._as_outcome():
            seen: Looked = self.inside(function, *given)
            if self.ranks.sharded:
                cast(Any, self.inside).reshard()  # or FSDP would go on with the average, which it has gathered
        return seen

    @contextmanager
    def _as_outcome(self) -> Iterator[None]:
        """The first player with its first average's weights, in eval mode."""
        module = self.stage.players[self.outcome]
        modes = {id(one): one.training for one in module.modules()}
        module.eval()
        try:
            with self.averages[self.settings.averages[0]].in_place():
                yield
        finally:
            for one in module.modules():
                one.training = modes[id(one)]

    def tensors(self) -> dict[str, Tensor]:
        """Everything, by name: the live tensors, not copies."""
        found: dict[str, Tensor] = {}
        for name, module in self.stage.players.items():
            found |= {f"players/{name}/{key}": value for key, value in module.state_dict().items()}
            found |= {f"optimisers/{name}/{key}": value for key, value in self._optimiser_state(name).items()}
        for decay, one in self.averages.items():
            found |= {f"averages/{decay}/{key}": value for key, value in one.state().items()}
        return found | {f"stage/{key}": value for key, value in self.stage.extra_state().items()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """What `tensors` gave, gathered. Raises SettingError where it is not of these players."""
        for name, module in self.stage.players.items():
            wanted, given = module.state_dict(), below(tensors, f"players/{name}/")
            if set(wanted) != set(given):
                other = sorted(set(wanted) ^ set(given))
                raise SettingError(f'the checkpoint\'s "{name}" is another network: {", ".join(other[:4])}')
            for key, tensor in wanted.items():
                tensor.copy_(whole_like(given[key], tensor))
            like = dict(module.named_parameters())
            state = below(tensors, f"optimisers/{name}/")
            load_state(
                self.optimisers[name],
                module,
                {key: whole_like(value, like[key.split("/", 1)[1]]) for key, value in state.items()},
            )
        for decay, one in self.averages.items():
            live = one.state()
            given = below(tensors, f"averages/{decay}/")
            one.load({key: whole_like(value, live[key]) for key, value in given.items()})
        device = self.ranks.device
        self.stage.load_extra_state({key: value.to(device) for key, value in below(tensors, "stage/").items()})

    def _seed(self, seed: int) -> None:
        """For networks with dropout. Not torch.manual_seed, which keeps a list for devices that are never used."""
        torch.default_generator.manual_seed(seed)
        if self.ranks.device.type == "cuda":
            torch.cuda.default_generators[self.ranks.device.index or 0].manual_seed(seed)

    def _optimiser_state(self, name: str) -> dict[str, Tensor]:
        return state_of(self.optimisers[name], self.stage.players[name])

    def _loss(self, player: str, shown: Shown, draws: Draws, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        low = self.settings.precision == "bfloat16"
        with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=low):
            terms = self.stage.loss(player, shown, draws, progress)
        return terms.total, dict(terms.parts)

    @contextmanager
    def _alone(self, player: str) -> Iterator[None]:
        """No gradients for the other players' weights: nobody wants them. FSDP has its own view of what is trained."""
        others: list[Any] = (
            [] if self.ranks.sharded else [w for n, ws in self.weights.items() if n != player for w in ws]
        )
        for weight in others:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in others:
                weight.requires_grad_(True)


def parts_of(shown: Shown, parts: int) -> Iterator[Shown]:
    """A batch in so many parts of rows, as even as can be; fewer where there are fewer rows."""
    rows = len(shown)
    parts = min(parts, rows)
    for part in range(parts):
        yield shown if parts == 1 else shown.rows(part * rows // parts, (part + 1) * rows // parts)


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
