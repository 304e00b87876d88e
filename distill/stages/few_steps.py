"""What stages 2 and 3 share: a student and frozen networks beside it, on the same conditions.

B examples   T frames   n steps   C latent channels   h = w = S/8
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.conditions import conditions
from distill.examples.types import Shown
from distill.network import Conditions, Network
from distill.stages.common import freeze, rms_inside, side_by_side
from distill.streaming import Roll, stream
from distill.training.draws import Draws
from distill.training.watch import Seen, clip, grid
from engines import SettingError
from engines.models.presets import ddpm_times, trig_times
from engines.models.swapper import Swapper

LOOKED_AT = (1, 2, 4)  # steps, in mid-run
MOST_ROWS = 4  # of a grid of pictures
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def with_denoiser(swapper: Swapper, denoiser: nn.Module) -> Swapper:
    """The same swapper around another denoiser; all else is shared."""
    other = copy.copy(swapper)
    other._modules = {**swapper._modules, "denoiser": denoiser}
    return other


def frozen_copy(module: nn.Module) -> nn.Module:
    other = copy.deepcopy(module)
    freeze(other)
    return other


@torch.no_grad()
def take_over(target: nn.Module, source: nn.Module, share: float) -> None:
    """target <- target + share (source - target). Weights that are spread over ranks (FSDP) are gathered."""
    for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
        whole = theirs.full_tensor() if hasattr(theirs, "full_tensor") else theirs
        mine.lerp_(whole, share)


def check_same(student: Swapper, teacher: Swapper, *parts: str) -> None:
    """Raises SettingError where these parts have different weights: one set of latents, or tokens, is to serve both."""
    for part in parts:
        mine, theirs = (getattr(one, part).state_dict() for one in (student, teacher))
        same = mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)
        if not same:
            raise SettingError(
                f"student and teacher have different weights in their {part}: start the student from the teacher's "
                "file, or from one that was made from it"
            )


@dataclass(frozen=True, slots=True)
class SameDropout:
    """A network that drops the same units in every look: a student and its own target must be one network."""

    inner: Network
    seed: int

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        with torch.random.fork_rng([x_t.device] if x_t.device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            return self.inner(x_t, t)


def drops(module: nn.Module) -> bool:
    """Whether the module drops units by lot now."""
    return any(isinstance(one, DROPOUTS) and one.training and one.p > 0 for one in module.modules())


def noise_of(draws: Draws, name: str, given: Conditions, steps: int, *, per_frame: bool) -> Tensor:
    """Unit variance, [B, T, n, C, h, w]; the same in all frames, as live, unless per_frame."""
    _, frames, *shape = given.x0_BTChw.shape
    if per_frame:
        return draws.normal(name, frames, steps, *shape)
    return draws.normal(name, 1, steps, *shape).expand(-1, frames, -1, -1, -1, -1)


def decoded(swapper: Swapper, x0_BTChw: Tensor, shown: Shown) -> Tensor:
    """Pictures as a stream would show them, but not clamped: float32 [B, T, 3, S, S], with gradient to the latents."""
    made = swapper.autoencoder.decode(x0_BTChw, still=shown.kind == "image", causal=True).float()
    return swapper.drawn(made, shown.proxy_BT3SS)


@torch.no_grad()
def look_at(student: Swapper, shown: Shown, draws: Draws) -> Seen:
    """What the student draws as a stream, in its own steps and in 1, 2 and 4. Metrics: `rms`, and `rms-1-step` and so
    on, inside the mask."""
    given, own = conditions(student, shown), student.config.schedule.times
    noise = noise_of(draws, "looked at", given, max(*LOOKED_AT, len(own)), per_frame=False)
    by_count = {count: evenly(student, count) for count in LOOKED_AT} | {len(own): own}
    drawn = {
        count: decoded(student, stream(student, given, noise, Roll(times)), shown).clamp(-1, 1)
        for count, times in by_count.items()
    }
    grids = {_named(count): grid(side_by_side(shown, one)[:MOST_ROWS, -1]) for count, one in drawn.items()}
    metrics = {f"rms-{_named(count)}": rms_inside(shown, one) for count, one in drawn.items()}
    metrics |= {"rms": metrics[f"rms-{_named(len(own))}"], "rms-proxy": rms_inside(shown, shown.proxy_BT3SS)}
    if shown.kind == "image":
        return Seen(grids, {}, metrics)
    columns = side_by_side(shown, drawn[len(own)])[0]
    return Seen(grids, {"roll-out": clip(torch.cat(columns.unbind(1), -1))}, metrics)


def evenly(student: Swapper, steps: int) -> tuple[float, ...]:
    """The presets' times for a count of steps."""
    return trig_times(steps) if student.schedule.kind == "trig" else ddpm_times(steps)


def _named(steps: int) -> str:
    return "1-step" if steps == 1 else f"{steps}-steps"
