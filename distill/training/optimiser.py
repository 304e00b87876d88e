"""One optimiser per player, with the learning rate of each part of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from distill.training.settings import TrainSettings
from engines import SettingError, nearest


def freeze(players: Mapping[str, nn.Module], settings: TrainSettings) -> None:
    """Leaves out of training what has the factor 0. Raises SettingError for a factor of nothing."""
    known = {f"{player}.{name}".rstrip(".") for player, module in players.items() for name, _ in module.named_modules()}
    for name in settings.factors:
        if name not in known:
            raise SettingError(f'train.factors: the run trains no "{name}"; {nearest(name, known)}')
    for player, module in players.items():
        for name, weight in module.named_parameters():
            if factor_of(f"{player}.{name}", settings.factors) == 0:
                weight.requires_grad_(False)


def factor_of(path: str, factors: Mapping[str, float]) -> float:
    """Of the learning rate: the one of the longest name that the path begins with."""
    found = [name for name in factors if path == name or path.startswith(name + ".")]
    return factors[max(found, key=len)] if found else 1.0


def optimiser(player: str, module: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Groups by factor and decay; vectors (biases, norms) do not decay. Raises SettingError if nothing is trained."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, weight in module.named_parameters():
        if weight.requires_grad:
            factor = factor_of(f"{player}.{name}", settings.factors)
            groups.setdefault((factor, settings.weight_decay if weight.ndim > 1 else 0.0), []).append(weight)
    if not groups:
        raise SettingError(f'nothing of "{player}" is trained')
    given = [{"params": weights, "factor": key[0], "weight_decay": key[1]} for key, weights in groups.items()]
    betas = (settings.beta1, settings.beta2)
    if settings.optimiser == "radam":
        return torch.optim.RAdam(given, settings.learning_rate, betas, decoupled_weight_decay=True, foreach=True)
    return torch.optim.AdamW(given, settings.learning_rate, betas, fused=True)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def state_of(optimiser: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """`exp_avg/conv.weight` and so on: the tensors themselves."""
    names = {id(weight): name for name, weight in module.named_parameters()}
    return {
        f"{key}/{names[id(weight)]}": value
        for weight, values in optimiser.state.items()
        for key, value in values.items()
    }


def load_state(optimiser: torch.optim.Optimizer, module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """What `state_of` gave."""
    ordered = [weight for group in optimiser.param_groups for weight in group["params"]]
    index = {id(weight): i for i, weight in enumerate(ordered)}
    number = {name: index[id(weight)] for name, weight in module.named_parameters() if id(weight) in index}
    values: dict[int, dict[str, Tensor]] = {}
    for path, tensor in state.items():
        key, name = path.split("/", 1)
        values.setdefault(number[name], {})[key] = tensor
    optimiser.load_state_dict({"state": values, "param_groups": optimiser.state_dict()["param_groups"]})
