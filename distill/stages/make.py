"""From a configuration and files of weights to a stage, and what is still random of it afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from distill.recipes import RunConfig
from distill.stages.settings import (
    AutoencoderSettings,
    CausalSettings,
    ConsistencySettings,
    RolloutSettings,
    TeacherSettings,
)
from distill.training.stage import Stage
from engines import SettingError, WeightsError
from engines.models.config import SwapperConfig
from engines.models.swapper import Swapper
from engines.weights import compare_configs, inspect, load_into

PARTS = ("autoencoder", "denoiser", "face_encoder")
MAY_DIFFER = ("schedule.times", "window", "denoiser.driver", "draws")  # of the weights that a run begins with
LIGHT = "autoencoder.light"  # of a decoder that draws a change from now on, with last layers of another form
LAST = ("autoencoder.decoder.conv_out.", "autoencoder.decoder.gain.")
MEMORY = "denoiser.memory_encoder."


@dataclass(frozen=True, slots=True)
class Held:
    """A swapper from a file. untrained: parts that nothing has trained yet."""

    swapper: Swapper
    sha256: str = ""
    untrained: tuple[str, ...] = PARTS
    stage: str = ""


def held(path: Path, device: torch.device) -> Held:
    """As the file describes it. Raises WeightsError."""
    swapper = Swapper(inspect(path).card.config)
    contents = load_into(swapper, path)
    return Held(swapper.to(device), contents.sha256, contents.card.untrained, contents.card.stage)


def begun(config: SwapperConfig, start: Path | None, seed: int, device: torch.device) -> Held:
    """The networks of a run: random, then all that the file `start` has trained of them.

    A memory encoder may be new. Raises WeightsError where the file is of other networks, naming the fields.
    """
    try:
        swapper = Swapper(config).initialise(seed)
    except ValueError as error:
        raise SettingError(f"swapper: {error}") from error
    if start is None:
        return Held(swapper.to(device))
    other = held(start, torch.device("cpu"))
    unlearned = [part for part in PARTS if part in other.untrained]
    anew = config.draws == "change" and other.swapper.config.draws == "face"  # its last layers begin at nothing
    compare_configs(start, other.swapper.config, config, (*MAY_DIFFER, *unlearned, *((LIGHT,) if anew else ())))
    given = {
        name: weight
        for name, weight in other.swapper.state_dict().items()
        if name.split(".")[0] not in unlearned
        and not (name.startswith(MEMORY) and swapper.denoiser.memory_encoder is None)
        and not (anew and name.startswith(LAST))
    }
    lacking = [
        name for name in swapper.load_state_dict(given, strict=False).missing_keys if not name.startswith(MEMORY)
    ]
    lacking = [name for name in lacking if name.split(".")[0] not in unlearned and not (anew and name.startswith(LAST))]
    if lacking:
        raise WeightsError(f"{start}: has no {lacking[0]}, and {len(lacking) - 1} more are missing")
    if anew:
        swapper.draw_nothing()
    new = (MEMORY.rstrip("."),) if config.window.memory == "memory_encoder" and not _has_memory(given) else ()
    return Held(swapper.to(device), other.sha256, (*other.untrained, *new), other.stage)


def make(run: RunConfig, start: Held, teacher: Held | None, device: torch.device) -> Stage:
    """The stage that the configuration asks for. Raises SettingError and CannotConverge where it cannot be."""
    settings, swapper = run.stage, start.swapper
    other, of = (None, "") if teacher is None else (teacher.swapper, teacher.stage)
    steps = run.train.steps if run.train.minutes is None else None
    if isinstance(settings, AutoencoderSettings):
        from distill.stages import autoencoder

        return autoencoder.make(settings, swapper, other)
    if "autoencoder" in start.untrained:
        raise SettingError(f"{settings.kind}: the autoencoder is still random; give --start the file of a trained one")
    if isinstance(settings, TeacherSettings):
        from distill.stages import teacher as of_teacher

        return of_teacher.make(settings, swapper, None, device)
    if isinstance(settings, CausalSettings):
        from distill.stages import causal

        return causal.make(settings, swapper, other, device)
    if isinstance(settings, ConsistencySettings):
        from distill.stages import consistency

        return consistency.make(settings, swapper, other, device, of, steps)
    assert isinstance(settings, RolloutSettings)
    from distill.stages import rollout

    return rollout.make(settings, swapper, other, device, of)


def still_untrained(start: Held, outcome: nn.Module) -> tuple[str, ...]:
    """What a card names as random after `outcome`, a part of the start's swapper, has been trained."""
    learned = {id(weight) for weight in outcome.parameters() if weight.requires_grad}
    done = [
        name
        for name, part in start.swapper.named_modules()
        if name in (*PARTS, MEMORY.rstrip(".")) and any(id(weight) in learned for weight in part.parameters())
    ]
    return tuple(name for name in start.untrained if not any(name.startswith(part) for part in done))


def _has_memory(names: Mapping[str, object]) -> bool:
    return any(name.startswith(MEMORY) for name in names)
