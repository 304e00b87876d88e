"""A stage of a few layers, and data that comes from a counter: the loop with nothing around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from distill.data import ResumeState
from distill.examples.types import Shown
from distill.training.draws import Draws
from distill.training.ema import Average
from distill.training.settings import MachineSettings, TrainSettings
from distill.training.stage import Terms
from distill.training.watch import Seen, grid
from tests.distill.made_up import synthetic_batch

QUIET = MachineSettings(tensorboard=False, preflight=False)


class Net(nn.Module):
    """Has a norm's vectors, a layer that stills do not use, and a buffer."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(9, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.over_time = nn.Conv1d(16, 16, 3, padding=1)
        self.last = nn.Conv2d(16, 3, 3, padding=1)
        self.register_buffer("unit", torch.tensor(0.5))

    def picture(self, x_BTCHW: Tensor) -> Tensor:
        """Not `forward`: stages call their networks by other names too."""
        batch, frames = x_BTCHW.shape[:2]
        x = nn.functional.silu(self.norm(self.first(x_BTCHW.flatten(0, 1))))
        if frames > 1:
            mean_BCT = x.mean((-2, -1)).reshape(batch, frames, -1).transpose(1, 2)
            x = x + self.over_time(mean_BCT).transpose(1, 2).flatten(0, 1)[..., None, None]
        out: Tensor = self.last(x)
        return out.reshape(batch, frames, 3, *x.shape[-2:])


class MadeUp:
    """Takes noise out, towards truth and towards a slow copy of itself (a target network)."""

    name = "made-up"

    def __init__(self, seed: int = 0) -> None:
        self.net = Net(seed)
        self.players: Mapping[str, nn.Module] = {"net": self.net}
        self.frozen: Mapping[str, nn.Module] = {"teacher": Net(seed + 1).requires_grad_(False)}
        self.target = Net(seed).requires_grad_(False)
        self._slow = Average(self.net, 0.9, warm_up=False)

    def plan(self, step: int) -> Sequence[str]:
        return ["net"]

    def loss(self, player: str, shown: Shown, draws: Draws, progress: float) -> Terms:
        noise = draws.normal("noise", *shown.truth_BT3SS.shape[1:])
        noisy = shown.truth_BT3SS + draws.uniform("level", 1, 1, 1, 1) * noise
        given = torch.cat([noisy, shown.masked_BT3SS, shown.proxy_BT3SS], 2)
        out = self.net.picture(given).float()
        with torch.no_grad():
            slow = self.target.picture(given).float()
        truth = (out - shown.truth_BT3SS).square().mean()
        same = (out - slow).square().mean()
        return Terms(truth + 0.1 * progress * same, {"truth": truth.detach(), "same": same.detach()})

    def after_step(self, step: int, progress: float) -> None:
        self._slow.update()
        self._slow.copy_to(self.target)

    def extra_state(self) -> Mapping[str, Tensor]:
        return self._slow.state()

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        self._slow.load(state)
        self._slow.copy_to(self.target)


class Watched(MadeUp):
    """Can be looked at."""

    def watch(self, shown: Shown, draws: Draws) -> Seen:
        given = torch.cat([shown.truth_BT3SS, shown.masked_BT3SS, shown.proxy_BT3SS], 2)
        out = self.net.picture(given)
        error = float((out - shown.truth_BT3SS).square().mean())
        assert not torch.is_grad_enabled()
        assert not self.net.training
        clip = {"roll-out": ((out[0].permute(0, 2, 3, 1).clamp(-1, 1) + 1) * 127).byte()} if out.shape[1] > 1 else {}
        return Seen(
            {"1-step": grid(torch.stack([out[:, 0], shown.truth_BT3SS[:, 0]]))}, clip, {f"{shown.kind}-error": error}
        )


@dataclass(frozen=True)
class Counted:
    """Made-up batches by number: stills and clips in turn. given: numbers of the batches that were taken, in order."""

    rows: int = 2
    rank: int = 0
    ranks: int = 1
    size_px: int = 16
    fails_at: int | None = None
    bad_at: int | None = None
    given: tuple[list[int], ...] = ([],)

    def batches(self, state: ResumeState | None = None) -> Iterator[tuple[Shown, ResumeState]]:
        step = 0 if state is None else state.step
        while True:
            if step == self.fails_at:
                from distill.errors import DataMissing

                raise DataMissing("shard-000003.tar: is not there any more")
            self.given[0].append(step)
            yield self.batch(step), ResumeState(step + 1, 0, 0, "made up")
            step += 1

    def batch(self, step: int) -> Shown:
        whole = synthetic_batch(
            "video" if step % 2 else "image", self.rows * self.ranks, 2, self.size_px, 8, 8, seed=step
        )
        mine = whole.rows(self.rank * self.rows, (self.rank + 1) * self.rows)
        if step == self.bad_at:
            return replace(mine, truth_BT3SS=torch.full_like(mine.truth_BT3SS, torch.nan))
        return mine


def settings(**changed: Any) -> TrainSettings:
    return TrainSettings.model_validate({"steps": 20, "learning_rate": 1e-3, "warm_up_steps": 3, **changed})
