"""Stage 1 of distillation: the teacher's weights learn to see only the past, by teacher forcing.

B examples   T frames   C latent channels   h = w = S/8

A frame sees what a stream would hold when it is drawn (engines.window): the true past, clean, in the form of the
swapper's memory (distill.past), and of the conditions only what belongs to it. Every frame has its own noise level. The
loss is the teacher's.

A share of it may ask for the teacher's own output instead. The answer at a noisy latent is a mean over all clean ones
that fit what is seen; a student's mean over the teacher's means is its own right answer if the teacher sees at least
what the student sees. So the matched teacher is given the clean past and the frame itself, and no future. A teacher of
the whole noisy window does not see the clean past: matched, the student would learn to pay less heed to it
(tests/distill/stages/test_causal.py has the figures).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from distill.conditions import between_frames, conditions
from distill.errors import CannotConverge
from distill.examples.types import Shown
from distill.losses.denoising import Denoising
from distill.network import Conditions, Network, network, spread
from distill.past import past_of
from distill.sampling import Sampler, continuing, sample_stream
from distill.stages.common import drawn_times, freeze
from distill.stages.denoising import DenoisingStage
from distill.stages.settings import CausalSettings
from distill.times import time_at
from distill.training.draws import Draws
from distill.training.stage import Terms
from engines import SettingError
from engines.models.attention import Past, Together
from engines.models.swapper import Swapper
from engines.schedule import Schedule


class CausalStage(DenoisingStage):
    def __init__(self, settings: CausalSettings, swapper: Swapper, teacher: Swapper | None) -> None:
        """teacher: the bidirectional one, needed and kept frozen only if it is matched. Raises SettingError or
        CannotConverge for what cannot be."""
        super().__init__("causal", swapper)
        _check(settings, swapper, teacher)
        self.settings = settings
        self.teacher = teacher if settings.match else None
        if self.teacher is not None:
            freeze(self.teacher)
            self.frozen = {**self.frozen, "teacher": self.teacher}

    def loss(self, player: str, shown: Shown, draws: Draws, progress: float) -> Terms:
        settings, schedule = self.settings, self.swapper.schedule
        given = conditions(self.swapper, shown, draws, settings.conditions)
        x0, frames = given.x0_BTChw, given.x0_BTChw.shape[1]
        sight = self.swapper.banded(frames, self._past(given, draws), x0.device)
        look = _Recorded(network(self.swapper, given, sight))
        times = drawn_times(schedule, draws, frames, settings.time)
        noise = draws.normal("noise", *x0.shape[1:])
        denoising = Denoising(settings.weighting, neighbours=settings.neighbours if shown.kind == "video" else 0.0)
        total = denoising(look, schedule, x0, noise, times, given.weight_BT1hw)
        parts: dict[str, Tensor] = {shown.kind: total.detach()}
        if self.teacher is not None and shown.kind == "video":
            x_t = schedule.noisy(x0, noise, spread(times, x0))
            match = self._match(self.teacher, shown, draws, look.output, x_t, times, given.weight_BT1hw)
            total, parts["match"] = (1 - settings.match) * total + settings.match * match, match.detach()
        return Terms(total, parts)

    def drawn(self, given: Conditions, noise_BTChw: Tensor, sampler: Sampler) -> Tensor:
        return sample_stream(self.swapper, given, noise_BTChw, sampler)

    def _past(self, given: Conditions, draws: Draws) -> Past | None:
        """What later frames see of the truth. A still has no later frame."""
        x0, settings = given.x0_BTChw, self.settings
        if x0.shape[1] == 1:
            return None
        noise = level = None
        if settings.corrupt:
            level = past_level(self.swapper.schedule, draws.uniform("corrupt", 1) * settings.corrupt)
            level = level.expand(x0.shape[:2])
        if settings.corrupt or self.swapper.config.window.memory == "last_step":
            noise = draws.normal("past", *x0.shape[1:])
        with torch.set_grad_enabled(torch.is_grad_enabled() and not settings.detach_past):
            return past_of(self.swapper, given, x0, noise, level=level)

    def _match(
        self, teacher: Swapper, shown: Shown, draws: Draws, output: Tensor, x_t: Tensor, times: Tensor, weight: Tensor
    ) -> Tensor:
        """Half the mean square distance to the teacher's output, at one frame of the clip by lot."""
        frame = int(draws.common("matched frame") * x_t.shape[1])
        with torch.no_grad():
            given = between_frames(conditions(teacher, shown, draws, self.settings.conditions), 0, frame + 1)
            look = network(teacher, given, Together(frame + 1))
            asked = on_clean_past(
                look, given.x0_BTChw[:, :frame], x_t[:, frame : frame + 1], times[:, frame : frame + 1]
            )
        gap = output[:, frame : frame + 1] - asked.to(output.dtype)
        return (weight[:, frame : frame + 1] * gap.square()).mean() / 2


def on_clean_past(look: Network, past_BTChw: Tensor, x_t_B1Chw: Tensor, t_B1: Tensor) -> Tensor:
    """The bidirectional teacher's output for a frame of which it sees what a stream sees: the clean past and no
    future. look: of a window that ends with that frame."""
    return continuing(look, past_BTChw)(x_t_B1Chw, t_B1)


def past_level(schedule: Schedule, deviations: Tensor) -> Tensor:
    """Times at which noise has that many standard deviations of the latents."""
    return time_at(schedule, torch.atan(deviations))


class _Recorded:
    """A network that keeps its last output."""

    def __init__(self, inner: Network) -> None:
        self.inner = inner
        self.output = torch.empty(0)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.output = self.inner(x_t, t).float()
        return self.output


def _check(settings: CausalSettings, swapper: Swapper, teacher: Swapper | None) -> None:
    memory = swapper.config.window.memory
    if settings.corrupt and memory != "clean_pass":
        raise SettingError(
            f'corrupt={settings.corrupt:g}: only the memory "clean_pass" is told how noisy its past is, not "{memory}"'
        )
    if not settings.match:
        return
    if settings.match_sees == "window":
        raise CannotConverge(
            "match_sees=window: a teacher of the whole noisy window knows less of the past than the student, who has "
            "it clean; matched, the student would learn to heed its past less than is right. match_sees=past is sound"
        )
    if teacher is None:
        raise SettingError(f"match={settings.match:g} asks for a teacher to match: give its file, or match=0")
    if teacher.config.autoencoder != swapper.config.autoencoder or not math.isclose(
        teacher.schedule.sigma_data, swapper.schedule.sigma_data
    ):
        raise SettingError(
            "the matched teacher has another autoencoder or another noise: its outputs mean something else"
        )


def make(
    settings: CausalSettings, swapper: Swapper, teacher: Swapper | None = None, device: torch.device | None = None
) -> CausalStage:
    return CausalStage(settings, swapper, teacher)
