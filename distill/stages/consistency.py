"""Stage 2 of distillation: the student says at once, or in a few steps, where the causal teacher's flow ends.

Both see the same clean past (teacher forcing, distill.past), each in the form in which it remembers, and the same
conditions. Every frame of a clip has a time of its own; a share of them lies at the very times of the student's steps,
since a time drawn at random is never the last one. Where the teacher comes from matters: see `make`.

B examples   T frames   C latent channels   h = w = S/8   N knots
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from distill.conditions import conditions, without_face
from distill.errors import CannotConverge
from distill.examples.types import Shown
from distill.guidance import Guided
from distill.losses.consistency import Consistency as Curriculum
from distill.losses.distances import Distance
from distill.losses.guards import check_fixed_grid, check_teacher, rising
from distill.losses.lcm import FixedGrid
from distill.losses.policy import Policy
from distill.losses.progressive import Progressive
from distill.losses.scm import ContinuousConsistency
from distill.network import Conditions, Network, network
from distill.past import detached, past_of
from distill.solvers import consistency, sample
from distill.stages.common import drawn_times, freeze
from distill.stages.few_steps import (
    SameDropout,
    check_same,
    drops,
    frozen_copy,
    look_at,
    take_over,
    with_denoiser,
)
from distill.stages.settings import ConsistencySettings
from distill.times import PARTS, among, closer, even_times
from distill.training.draws import Draws
from distill.training.stage import Terms
from distill.training.watch import Seen
from engines import SettingError
from engines.models.swapper import Swapper

SURE_AFTER = 20  # steps, until a run's length is known from its progress
LOOKS = 20  # in a run on a fixed grid, at how far its one step is from the teacher's chain


def make(
    settings: ConsistencySettings,
    swapper: Swapper,
    teacher: Swapper | None,
    device: torch.device,
    teacher_stage: str = "",
    steps: int | None = None,
) -> ConsistencyStage:
    """swapper: the student, with the teacher's weights. teacher_stage: in its card. steps: of the run, if known.

    Raises CannotConverge where student and teacher, or the settings, cannot come together, and SettingError.
    """
    if teacher is None:
        raise SettingError("consistency needs a teacher: --teacher FILE, the causal one")
    check_teacher("consistency", "causal", "causal" if teacher_stage == "causal" else "bidirectional")
    check_same(swapper, teacher, "autoencoder", "face_encoder")
    return ConsistencyStage(settings, swapper.to(device), teacher.to(device), steps)


@dataclass(frozen=True, slots=True)
class Scene:
    """One batch, as the objectives take it."""

    given: Conditions
    noise: Tensor
    draws: Draws
    progress: float

    @property
    def frames(self) -> int:
        return self.given.x0_BTChw.shape[1]


class ConsistencyStage:
    """distill.training.stage.Stage."""

    name = "consistency"

    def __init__(
        self, settings: ConsistencySettings, student: Swapper, teacher: Swapper, steps: int | None = None
    ) -> None:
        self.settings, self.student, self.teacher = settings, student, teacher
        freeze(student.autoencoder, student.face_encoder, teacher)
        parts: dict[str, nn.Module] = {"denoiser": student.denoiser.requires_grad_(True)}
        self.more: nn.Conv2d | None = None
        if settings.method == "policy":
            self.more = parts["knots"] = more_knots(student.denoiser.conv_out, settings.knots)
        self.players: Mapping[str, nn.Module] = {"student": nn.ModuleDict(parts)}
        self.frozen: Mapping[str, nn.Module] = {
            "autoencoder": student.autoencoder,
            "face_encoder": student.face_encoder,
            "teacher": teacher.denoiser,
        }
        self.target: nn.Module | None = None  # lcm: the student's average; progressive: the last round's student
        self.round = 0
        self.errors: list[float] = []  # lcm: at each look, over the teacher's own in one step
        self._loss = self._prepared(steps)

    def plan(self, step: int) -> Sequence[str]:
        return ("student",)

    def loss(self, player: str, shown: Shown, draws: Draws, progress: float) -> Terms:
        given = conditions(self.student, shown, draws, self.settings.conditions)
        noise = draws.normal("noise", *given.x0_BTChw.shape[1:])
        scene = Scene(given, noise, draws, progress)
        if self.settings.method == "lcm" and progress * LOOKS > len(self.errors):
            self._stop_if_rising(scene)
        return Terms(self._loss(scene).float())

    def after_step(self, step: int, progress: float) -> None:
        if self.settings.method == "lcm":
            if self.target is not None and self.settings.target_ema is not None:
                take_over(self.target, self.student.denoiser, 1 - self.settings.target_ema)
            if step == SURE_AFTER and progress > 0:
                self._check_grid(round(step / progress))
        elif self.settings.method == "progressive" and self.round < min(int(progress * self.rounds), self.rounds - 1):
            self.target = frozen_copy(self.student.denoiser)
            self.round += 1

    def extra_state(self) -> Mapping[str, Tensor]:
        own = {"round": torch.tensor(self.round), "errors": torch.tensor(self.errors, dtype=torch.float64)}
        if self.target is None:
            return own
        return own | {f"target.{name}": value for name, value in self.target.state_dict().items()}

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        self.round, self.errors = int(state["round"]), state["errors"].tolist()
        weights = {name.removeprefix("target."): value for name, value in state.items() if name.startswith("target.")}
        if weights:
            self.target = self.target or frozen_copy(self.student.denoiser)
            self.target.load_state_dict(weights)

    def watch(self, shown: Shown, draws: Draws) -> Seen:
        return look_at(self.student, shown, draws)

    @property
    def rounds(self) -> int:
        """progressive: how often the steps are halved, down to one."""
        return self.settings.levels.bit_length() - 1

    def _prepared(self, steps: int | None) -> Callable[[Scene], Tensor]:
        """The method's loss. Raises where its settings cannot teach."""
        method = self.settings.method
        if method in ("scm", "policy") and self.student.schedule.kind != "trig":
            raise SettingError(f"method={method} needs the trig schedule: the ddpm table has no times between its rows")
        if method == "progressive" and self.student.config.steps > 1:
            raise SettingError(
                "method=progressive teaches steps of DDIM, and the live graph noises anew between its steps: give the "
                "student one step"
            )
        if method == "lcm":
            if steps is not None or self.settings.target_ema is None:
                self._check_grid(steps or 1)
            if self.settings.target_ema is not None:
                self.target = frozen_copy(self.student.denoiser)
        return {
            "curriculum": self._curriculum,
            "lcm": self._fixed_grid,
            "scm": self._continuous,
            "policy": self._policy,
            "progressive": self._progressive,
        }[method]

    def _check_grid(self, steps: int) -> None:
        own = self.settings
        check_fixed_grid(steps, own.levels, own.target_ema, stop_gradient=own.stop_gradient)

    @torch.no_grad()
    def _stop_if_rising(self, scene: Scene) -> None:
        """Raises CannotConverge where one step of the student has come to be further from the teacher's chain than one
        step of the teacher is, and stays there."""
        schedule, start = self.student.schedule, self.student.schedule.start(scene.noise)
        student, teacher = self._student(scene), self._teacher(scene)
        chain = sample(teacher, schedule, start, even_times(schedule, self.settings.levels), self.settings.solver)
        first = start.new_full(start.shape[:2], schedule.last)
        own, undistilled = (consistency(one, schedule, start, first) - chain for one in (student, teacher))
        self.errors.append(float(own.norm() / undistilled.norm().clamp(min=1e-6)))
        if rising(self.errors) and not self.errors[-1] < 1:
            raise CannotConverge(
                f"one step of the student is {self.errors[-1]:.2g} times as far from the teacher's "
                f"{self.settings.levels} steps as one step of the teacher is, after {min(self.errors):.2g} at best: a "
                "fixed grid that diverges. Take the curriculum (method=curriculum), or a target average "
                "(target_ema=0.95) and more steps"
            )

    def _curriculum(self, scene: Scene) -> Tensor:
        schedule, own, t = self.student.schedule, self.settings, self._times(scene)
        r = closer(schedule, t, scene.progress * own.parts / PARTS, own.q)
        objective = Curriculum(Distance(own.distance, own.c), own.solver, own.substeps)
        student, teacher, given = self._student(scene), self._teacher(scene), scene.given
        return objective(student, teacher, schedule, given.x0_BTChw, scene.noise, t, r, given.weight_BT1hw)

    def _fixed_grid(self, scene: Scene) -> Tensor:
        schedule, own, given = self.student.schedule, self.settings, scene.given
        times = even_times(schedule, own.levels)
        objective = FixedGrid(times, 1, Distance(own.distance, own.c), own.solver)
        nearest = [min(range(own.levels), key=lambda i: abs(times[i] - t)) for t in self._own_times]
        served = torch.tensor([own.levels - i for i in nearest], device=scene.noise.device)
        place = self._or_served(scene, among(scene.draws.uniform("place", scene.frames), own.levels), served)
        student = self._student(scene)
        target = student if self.target is None else self._look(with_denoiser(self.student, self.target), scene)
        teacher = self._teacher(scene)
        return objective(student, target, teacher, schedule, given.x0_BTChw, scene.noise, place, given.weight_BT1hw)

    def _continuous(self, scene: Scene) -> Tensor:
        own, given, t = self.settings, scene.given, self._times(scene)
        rho = min(1.0, scene.progress / own.warm_up) if own.warm_up else 1.0
        objective = ContinuousConsistency(by=own.tangent)
        with torch.autocast(given.x0_BTChw.device.type, enabled=False):
            student, teacher = self._student(scene), self._teacher(scene)
            return objective(
                student, teacher, self.student.schedule, given.x0_BTChw, scene.noise, t, rho, given.weight_BT1hw
            )

    def _policy(self, scene: Scene) -> Tensor:
        """One segment for each of the student's steps, from its time down to clean data: there the policy ends in its
        last knot's x0, so that the graph that serves is the plain network."""
        own, given, draws = self.settings, scene.given, scene.draws
        served = scene.noise.new_tensor(self._own_times)
        start = served[among(draws.uniform("which step", scene.frames), len(served)) - 1]
        positions = draws.uniform("positions", own.states, scene.frames).transpose(0, 1)
        assert self.more is not None
        student = KnotsOf(self._student(scene), self.student.denoiser.conv_out, self.more)
        schedule, end = self.student.schedule, torch.zeros_like(start)
        return Policy()(
            student,
            self._teacher(scene),
            schedule,
            given.x0_BTChw,
            scene.noise,
            start,
            end,
            positions,
            given.weight_BT1hw,
        )

    def _progressive(self, scene: Scene) -> Tensor:
        """Of a grid of 2 n steps the student takes two at once; n halves with every round."""
        given, schedule = scene.given, self.student.schedule
        steps = 2 ** (self.rounds - 1 - self.round)
        upwards = scene.noise.new_tensor(even_times(schedule, 2 * steps)).flip(0)
        place = 2 * among(scene.draws.uniform("place", scene.frames), steps)
        teacher = self._teacher(scene)
        if self.target is not None:
            teacher = self._look(with_denoiser(self.student, self.target), scene)
        t, middle, end = (upwards[place - i] for i in range(3))
        x0, weight = given.x0_BTChw, given.weight_BT1hw
        return Progressive()(self._student(scene), teacher, schedule, x0, scene.noise, t, middle, end, weight)

    @property
    def _own_times(self) -> tuple[float, ...]:
        return self.student.config.schedule.times

    def _times(self, scene: Scene) -> Tensor:
        """[B, T]."""
        drawn = drawn_times(self.student.schedule, scene.draws, scene.frames, self.settings.time)
        return self._or_served(scene, drawn, drawn.new_tensor(self._own_times))

    def _or_served(self, scene: Scene, drawn_BT: Tensor, served_n: Tensor) -> Tensor:
        """A share of the times replaced by those of the student's steps."""
        draws, frames = scene.draws, scene.frames
        chosen = served_n[among(draws.uniform("which step", frames), len(served_n)) - 1]
        return torch.where(draws.uniform("at serving", frames) < self.settings.at_serving, chosen, drawn_BT)

    def _student(self, scene: Scene) -> Network:
        look = self._look(self.student, scene)
        if not drops(self.student.denoiser):
            return look
        return SameDropout(look, int(scene.draws.common("dropout") * 2**31))

    @torch.no_grad()
    def _teacher(self, scene: Scene) -> Network:
        look, scale = self._look(self.teacher, scene), self.settings.guidance
        if scale == 1:
            return look
        return Guided(look, self._look(self.teacher, scene, without_face(scene.given)), scale)

    def _look(self, swapper: Swapper, scene: Scene, given: Conditions | None = None) -> Network:
        """A denoiser with the clip's clean frames as its past."""
        given = given or scene.given
        past = None
        if scene.frames > 1:
            past = past_of(swapper, given, given.x0_BTChw, scene.noise)
            past = detached(past) if self.settings.detach_past else past
        return network(swapper, given, swapper.banded(scene.frames, past, given.x0_BTChw.device))


def more_knots(conv_out: nn.Conv2d, knots: int) -> nn.Conv2d:
    """The way out to all knots but the last; at first they say what it says."""
    channels = conv_out.out_channels
    more = nn.Conv2d(conv_out.in_channels, (knots - 1) * channels, 3, padding=1)
    with torch.no_grad():
        more.weight.copy_(conv_out.weight.repeat(knots - 1, 1, 1, 1))
        assert more.bias is not None
        assert conv_out.bias is not None
        more.bias.copy_(conv_out.bias.repeat(knots - 1))
    return more.to(conv_out.weight.device)


@dataclass(frozen=True, slots=True)
class KnotsOf:
    """All knots of one look, [B, T, N, C, h, w], the segment's start first; the last is the network's own output."""

    inner: Network
    conv_out: nn.Conv2d
    more: nn.Conv2d

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        entered: list[Tensor] = []
        hook = self.conv_out.register_forward_pre_hook(lambda _, given: entered.append(given[0]))
        try:
            last = self.inner(x_t, t)
        finally:
            hook.remove()
        others = cast(Tensor, self.more(entered[0])).reshape(*last.shape[:2], -1, *last.shape[2:])
        return torch.cat([others, last[:, :, None]], 2)
