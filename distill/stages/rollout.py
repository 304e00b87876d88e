"""Stage 3 of distillation: the student on its own past, as it will be live (Self-Forcing, arXiv 2506.08009).

Clips are rolled out frame by frame through the serving cache (distill.streaming). All frames end at the same step,
drawn by lot, and gradient flows through that step alone; what is kept for later frames carries none unless asked.
Three things can be asked of what comes out, together or alone:

    supervised    where there is a truth: latents (pseudo-Huber) and pictures (absolute, perceptual, changes in time)
    adversarial   a critic on frames and their differences: without one a supervised student is over-smooth
    matching      distribution matching (DMD) with the bidirectional teacher; needs no truth

B examples   T frames   n steps   C latent channels   h = w = S/8
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from distill.conditions import conditions, face_tokens, in_tone_of_proxy, without_face
from distill.examples.types import Shown
from distill.guidance import Guided
from distill.losses.adversarial import Critic, approximate_r1, of_critic, of_maker
from distill.losses.distances import Distance
from distill.losses.dmd import DistributionMatching, of_fake
from distill.losses.perceptual import Bands
from distill.losses.picture import absolute, changes, even
from distill.network import Conditions, Network, network
from distill.stages.common import drawn_times, freeze
from distill.stages.few_steps import check_same, decoded, frozen_copy, look_at, noise_of, with_denoiser
from distill.stages.settings import RolloutSettings
from distill.streaming import Roll, stream
from distill.times import among
from distill.training.draws import Draws
from distill.training.stage import Terms
from distill.training.watch import Seen
from engines import SettingError
from engines.models.attention import Together
from engines.models.autoencoder_tiny import TinyAutoencoder
from engines.models.step import REDUCTION
from engines.models.swapper import Swapper

PICTURE_CHANNELS = 3
OF_LATENTS = ("latent", "matching")  # weights that mean nothing where latents are not of pictures


def make(
    settings: RolloutSettings,
    swapper: Swapper,
    teacher: Swapper | None,
    device: torch.device,
    teacher_stage: str = "",
) -> RolloutStage:
    """swapper: the student, as consistency left it. teacher: the bidirectional one, for `matching` only.

    Raises SettingError where there is nothing to learn from, or the teacher is missing or another kind.
    """
    if not settings.matching:
        return RolloutStage(settings, swapper.to(device), None)
    if teacher is None or teacher_stage != "teacher":
        raise SettingError(
            "matching compares what the student draws with the bidirectional teacher's distribution: --teacher FILE, "
            f"of the stage teacher{'' if teacher is None else f', not {teacher_stage or None!r}'}; or set matching=0"
        )
    check_same(swapper, teacher, "autoencoder")
    return RolloutStage(settings, swapper.to(device), teacher.to(device))


def _check(settings: RolloutSettings, student: Swapper) -> None:
    """Raises SettingError for weights that a student who draws changes cannot have."""
    asked = [name for name in OF_LATENTS if getattr(settings, name)]
    if student.config.draws == "change" and asked:
        raise SettingError(
            f'stage.{asked[0]} compares latents with those of pictures, and swapper.draws="change" makes changes, '
            f"which have none: set stage.{asked[0]}=0"
        )


class RolloutStage:
    """distill.training.stage.Stage."""

    name = "rollout"

    def __init__(self, settings: RolloutSettings, student: Swapper, teacher: Swapper | None) -> None:
        self.settings, self.student, self.teacher = settings, student, teacher
        _check(settings, student)
        freeze(student.autoencoder, student.face_encoder)
        learns: dict[str, nn.Module] = {"denoiser": student.denoiser.requires_grad_(True)}
        self.frozen: dict[str, nn.Module] = {"autoencoder": student.autoencoder}
        if student.config.draws == "change":
            assert isinstance(student.autoencoder, TinyAutoencoder)
            self.frozen = {name: part for name, part in student.autoencoder.named_children() if name != "decoder"}
            learns["decoder"] = student.autoencoder.decoder.requires_grad_(True).train()
        (learns if settings.face_encoder else self.frozen)["face_encoder"] = student.face_encoder
        student.face_encoder.requires_grad_(settings.face_encoder).train(settings.face_encoder)
        players: dict[str, nn.Module] = {"student": nn.ModuleDict(learns)}
        device = next(student.denoiser.parameters()).device
        if settings.adversarial:
            self.critic = players["critic"] = Critic(PICTURE_CHANNELS).initialise().to(device)
        if teacher is not None:
            freeze(teacher)
            self.frozen["teacher"] = teacher.denoiser
            self.fake = players["fake"] = frozen_copy(teacher.denoiser).requires_grad_(True).train()
        if not (settings.latent or settings.picture or settings.perceptual or settings.adversarial or teacher):
            raise SettingError("every weight of the roll-out is 0: nothing would be learned")
        self.players: Mapping[str, nn.Module] = players

    def plan(self, step: int) -> Sequence[str]:
        """Critics first: they judge the student that is about to move. With matching the fake network moves in every
        step, and the student in each `fake_updates`-th."""
        others = [name for name in self.players if name != "student"]
        if self.teacher is not None and step % self.settings.fake_updates != self.settings.fake_updates - 1:
            return others
        return (*others, "student")

    def loss(self, player: str, shown: Shown, draws: Draws, progress: float) -> Terms:
        shown = self._asked(shown)
        with torch.set_grad_enabled(player == "student" and torch.is_grad_enabled()):
            given = conditions(self.student, shown, draws, self.settings.conditions)
        return self._losses[player](shown, given, draws)

    def after_step(self, step: int, progress: float) -> None:
        pass

    def extra_state(self) -> Mapping[str, Tensor]:
        return {}

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        pass

    def watch(self, shown: Shown, draws: Draws) -> Seen:
        return look_at(self.student, self._asked(shown), draws)

    def _asked(self, shown: Shown) -> Shown:
        """The examples with the truth that is asked for."""
        return in_tone_of_proxy(shown) if self.settings.tone == "proxy" else shown

    @property
    def _losses(self) -> Mapping[str, Callable[[Shown, Conditions, Draws], Terms]]:
        return {"student": self._of_student, "critic": self._of_critic, "fake": self._of_fake}

    def rolled(self, given: Conditions, draws: Draws) -> Tensor:
        """The clip's x0 as the student draws it, [B, T, C, h, w]."""
        own, steps = self.settings, self.student.config.steps
        at = int(among(torch.tensor(draws.common("exit")), steps)) - 1 if own.exits == "any" else None
        noise = noise_of(draws, "noise", given, max(steps, len(own.first_times)), per_frame=own.noise == "per_frame")
        roll = Roll(first_times=own.first_times, exit=at, through_past=own.through_past, replay=own.replay)
        return stream(self.student, given, noise, roll)

    def _of_student(self, shown: Shown, given: Conditions, draws: Draws) -> Terms:
        own, made = self.settings, self.rolled(given, draws)
        parts: dict[str, tuple[float, Tensor]] = {}
        if own.latent:
            error = Distance("huber_per_element", own.c)(made - given.x0_BTChw, 2, given.weight_BT1hw)
            parts["latent"] = own.latent, error.mean()
        if own.picture or own.perceptual or own.adversarial:
            parts |= self._of_pictures(shown, given, made)
        if self.teacher is not None:
            parts["matching"] = own.matching, self._matching(self._with_the_teachers_tokens(shown, given), made, draws)
        total = torch.stack([weight * part for weight, part in parts.values()]).sum()
        return Terms(total, {name: part.detach() for name, (_, part) in parts.items()})

    def _of_pictures(self, shown: Shown, given: Conditions, made: Tensor) -> dict[str, tuple[float, Tensor]]:
        own, drawn, truth = self.settings, decoded(self.student, made, shown), shown.truth_BT3SS
        weight = given.weight_BT1hw.repeat_interleave(REDUCTION, -1).repeat_interleave(REDUCTION, -2)
        parts: dict[str, tuple[float, Tensor]] = {}
        if own.picture:
            parts["picture"] = own.picture, absolute(*(even(one, own.even_px) for one in (drawn, truth, weight)))
            if shown.kind == "video":
                parts["changes"] = own.picture, changes(drawn, truth, weight)
        if own.perceptual:
            parts["perceptual"] = own.perceptual, Bands()(drawn, truth, weight)
        if own.adversarial:
            parts["adversarial"] = own.adversarial, of_maker(self.critic(drawn))
        return parts

    def _of_critic(self, shown: Shown, given: Conditions, draws: Draws) -> Terms:
        with torch.no_grad():
            drawn = decoded(self.student, self.rolled(given, draws), shown)
        truth = shown.truth_BT3SS
        hinge = of_critic(self.critic(truth), self.critic(drawn))
        if not self.settings.critic_r1:
            return Terms(hinge, {"hinge": hinge.detach()})
        noise = draws.normal("critic's noise", *truth.shape[1:])
        smoothness = approximate_r1(self.critic, truth, noise)
        total = hinge + self.settings.critic_r1 * smoothness
        return Terms(total, {"hinge": hinge.detach(), "r1": smoothness.detach()})

    def _of_fake(self, shown: Shown, given: Conditions, draws: Draws) -> Terms:
        with torch.no_grad():
            made = self.rolled(given, draws)
        look = self._bidirectional(self.fake, self._with_the_teachers_tokens(shown, given))
        return Terms(of_fake(look, self.student.schedule, made, *self._noised(made, draws)))

    def _matching(self, given: Conditions, made: Tensor, draws: Draws) -> Tensor:
        assert self.teacher is not None
        real = self._bidirectional(self.teacher.denoiser, given)
        if self.settings.guidance != 1:
            without = self._bidirectional(self.teacher.denoiser, without_face(given))
            real = Guided(real, without, self.settings.guidance)
        fake = self._bidirectional(self.fake, given)
        noise, t = self._noised(made, draws)
        return DistributionMatching()(real, fake, self.student.schedule, made, noise, t, given.weight_BT1hw)

    @torch.no_grad()
    def _with_the_teachers_tokens(self, shown: Shown, given: Conditions) -> Conditions:
        """Since its face encoder has learned on: causal adaptation trains the student's."""
        assert self.teacher is not None
        return replace(given, tokens_BTLD=face_tokens(self.teacher, shown))

    def _bidirectional(self, denoiser: nn.Module, given: Conditions) -> Network:
        assert self.teacher is not None
        return network(with_denoiser(self.teacher, denoiser), given, Together(given.x0_BTChw.shape[1]))

    def _noised(self, made: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Noise, and one time for a clip, [B, T]."""
        t = drawn_times(self.student.schedule, draws, 1, self.settings.time).expand(-1, made.shape[1])
        return draws.normal("noise of matching", *made.shape[1:]), t
