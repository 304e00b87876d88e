"""What the teacher's stage and the causal one share: who is trained, and how it is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from distill.conditions import conditions
from distill.examples.types import Shown
from distill.network import Conditions
from distill.sampling import Sampler, pictures
from distill.stages.common import freeze, rms_inside, side_by_side
from distill.times import even_times
from distill.training.draws import Draws
from distill.training.stage import Terms
from distill.training.watch import Seen, clip, grid
from engines.models.swapper import Swapper

LOOKED_AT = 20  # steps, in mid-run
MOST_ROWS = 4  # of a grid of pictures


class DenoisingStage:
    """Denoiser and face encoder learn together; the autoencoder stays. One player, that moves in every step."""

    def __init__(self, name: str, swapper: Swapper) -> None:
        self.name, self.swapper = name, swapper
        freeze(swapper.autoencoder)
        parts = {"denoiser": swapper.denoiser, "face_encoder": swapper.face_encoder}
        self.players: Mapping[str, nn.Module] = {"painter": nn.ModuleDict(parts)}
        self.frozen: Mapping[str, nn.Module] = {"autoencoder": swapper.autoencoder}

    def plan(self, step: int) -> Sequence[str]:
        return ("painter",)

    def loss(self, player: str, shown: Shown, draws: Draws, progress: float) -> Terms:
        raise NotImplementedError

    def after_step(self, step: int, progress: float) -> None:
        """Nothing follows."""

    def extra_state(self) -> Mapping[str, Tensor]:
        return {}

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        """There is none."""

    def drawn(self, given: Conditions, noise_BTChw: Tensor, sampler: Sampler) -> Tensor:
        """The stage's own way to latents [B, T, C, h, w]."""
        raise NotImplementedError

    def watch(self, shown: Shown, draws: Draws) -> Seen:
        """Masked frame, proxy, what is drawn and the truth, side by side; and the error inside the mask."""
        given = conditions(self.swapper, shown)
        noise = draws.normal("looked at", *given.x0_BTChw.shape[1:])
        made = self.drawn(given, noise, Sampler(even_times(self.swapper.schedule, LOOKED_AT)))
        columns = side_by_side(shown, pictures(self.swapper, made, shown.proxy_BT3SS))
        metrics = {"rms": rms_inside(shown, columns[:, :, 2]), "rms-proxy": rms_inside(shown, shown.proxy_BT3SS)}
        clips = {"drawn": clip(torch.cat(columns[0].unbind(1), -1))} if shown.kind == "video" else {}
        return Seen({f"{LOOKED_AT}-steps": grid(columns[:MOST_ROWS, -1])}, clips, metrics)
