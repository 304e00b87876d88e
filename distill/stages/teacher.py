"""The bidirectional teacher: VividFace's recipe (arXiv 2412.11279, section 3), on its own network and data.

B examples   T frames of a window   C latent channels   h = w = S/8

Batches of stills and of clips alternate. In a clip all frames see each other; its first ones are given clean, at time
0, as when the windows of a long clip go on from each other; by lot, none is. The others share one noise level. The
identity comes from the source, the attributes from the twin, the truth is a third picture: triplets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill.conditions import between_frames, conditions
from distill.examples.types import Shown
from distill.losses.denoising import Denoising
from distill.network import Conditions, network
from distill.sampling import Sampler, continuing, sample_window
from distill.stages.common import drawn_times
from distill.stages.denoising import DenoisingStage
from distill.stages.settings import TeacherSettings
from distill.training.draws import Draws
from distill.training.stage import Terms
from engines import SettingError
from engines.models.attention import Together
from engines.models.swapper import Swapper


class TeacherStage(DenoisingStage):
    def __init__(self, settings: TeacherSettings, swapper: Swapper) -> None:
        super().__init__("teacher", swapper)
        self.settings = settings

    def loss(self, player: str, shown: Shown, draws: Draws, progress: float) -> Terms:
        settings, swapper = self.settings, self.swapper
        given = conditions(swapper, shown, draws, settings.conditions)
        frames, clean = given.x0_BTChw.shape[1], self._given(shown, draws)
        look = continuing(network(swapper, given, Together(frames)), given.x0_BTChw[:, :clean])
        asked = between_frames(given, clean, frames)
        times = drawn_times(swapper.schedule, draws, 1, settings.time).expand(-1, frames - clean)
        noise = draws.normal("noise", *asked.x0_BTChw.shape[1:])
        denoising = Denoising(settings.weighting, neighbours=settings.neighbours if shown.kind == "video" else 0.0)
        total = denoising(look, swapper.schedule, asked.x0_BTChw, noise, times, asked.weight_BT1hw)
        return Terms(total, {shown.kind: total.detach()})

    def drawn(self, given: Conditions, noise_BTChw: Tensor, sampler: Sampler) -> Tensor:
        return sample_window(self.swapper, given, noise_BTChw, sampler)

    def _given(self, shown: Shown, draws: Draws) -> int:
        """How many frames are given clean: the same in all of the batch."""
        if shown.kind == "image" or draws.common("drop given") < self.settings.drop_given:
            return 0
        frames = shown.truth_BT3SS.shape[1]
        if self.settings.given >= frames:
            raise SettingError(
                f"clips of {frames} frames of which {self.settings.given} are given leave nothing to learn"
            )
        return self.settings.given


def make(
    settings: TeacherSettings, swapper: Swapper, teacher: Swapper | None = None, device: torch.device | None = None
) -> TeacherStage:
    """The stage. It needs neither a teacher nor to be told the device, where the swapper is."""
    return TeacherStage(settings, swapper)
