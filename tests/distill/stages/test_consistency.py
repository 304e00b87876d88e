"""Stage 2: what it refuses, whom it trains, at which times, on which past; and that it goes on as it stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, cast

import pytest
import torch
from torch import Tensor, nn

from distill.errors import CannotConverge
from distill.losses.policy import follow, knots_of
from distill.stages import consistency
from distill.stages.consistency import ConsistencyStage, KnotsOf, Scene
from distill.stages.few_steps import noise_of
from distill.stages.settings import ConsistencySettings
from distill.streaming import stream
from distill.times import even_times
from distill.training.draws import Draws
from distill.training.learner import Learner
from distill.training.ranks import Ranks
from distill.training.settings import MachineSettings, TrainSettings
from engines import SettingError
from engines.models.swapper import Swapper
from tests.distill.stages.students import Memory, descend, given_of, gradients, shown_of, swapper_of

CPU = torch.device("cpu")
METHODS = ("curriculum", "lcm", "scm", "policy", "progressive")
SMALL: dict[str, dict[str, Any]] = {"lcm": {"levels": 8, "target_ema": 0.5}, "progressive": {"levels": 8}}


def stage_of(student: Swapper | None = None, **settings: Any) -> ConsistencyStage:
    """The student has the teacher's weights, as it begins."""
    student = student or swapper_of()
    teacher = Swapper(student.config)
    teacher.load_state_dict(student.state_dict())
    return consistency.make(ConsistencySettings(**settings), student, teacher, CPU, "causal")


def scene_of(stage: ConsistencyStage, frames: int = 4, progress: float = 0.0, batch: int = 2) -> Scene:
    shown = shown_of(stage.student, batch=batch, frames=frames)
    draws = Draws(0, 0, shown.numbers)
    given = given_of(stage.student, shown)
    return Scene(given, draws.normal("noise", *given.x0_BTChw.shape[1:]), draws, progress)


@pytest.mark.parametrize("method", METHODS)
def test_its_loss_falls(method: str) -> None:
    stage = stage_of(method=method, **SMALL.get(method, {}))
    losses = descend(stage, shown_of(stage.student, batch=1, frames=2), 10, rate=1e-3)
    assert losses[-1] < 0.9 * max(losses[:4])


@pytest.mark.parametrize("method", METHODS)
def test_only_the_student_learns(method: str) -> None:
    stage = stage_of(method=method, warm_up=0.0, **SMALL.get(method, {}))
    shown = shown_of(stage.student, batch=2 if method == "policy" else 1)  # enough times to reach each knot
    found = gradients(stage, shown, progress=0.5)
    reached = {name for name, gradient in found.items() if gradient.abs().max() > 0}
    assert reached >= {name for name in found if "memory_encoder" not in name}
    others = [*stage.frozen.values(), *([stage.target] if stage.target else [])]
    assert all(not weight.requires_grad and weight.grad is None for one in others for weight in one.parameters())


def test_the_target_gets_no_gradient() -> None:
    """Where the target is the student itself, gradients are those of a frozen copy with its weights."""
    student = swapper_of()
    itself = stage_of(student, method="lcm", levels=8, target_ema=None, stop_gradient=True)
    shown = shown_of(student, batch=1, frames=2)
    of_itself = gradients(itself, shown)
    copied = stage_of(student, method="lcm", levels=8)
    assert copied.target is not None
    of_copy = gradients(copied, shown)
    for name, gradient in of_copy.items():
        torch.testing.assert_close(of_itself[name], gradient)


def test_the_target_follows_the_student_as_an_average() -> None:
    stage = stage_of(method="lcm", levels=8, target_ema=0.9)
    assert stage.target is not None
    weight = stage.target.get_parameter("conv_in.weight")
    before = weight.clone()
    with torch.no_grad():
        stage.student.denoiser.conv_in.weight += 1
    stage.after_step(0, 0.0)
    torch.testing.assert_close(weight, before + 0.1)


def test_a_fixed_grid_that_diverges_is_stopped() -> None:
    """Looked at 20 times a run, against the teacher's own chain; at first the student is the teacher, and off by 1."""
    stage = stage_of(method="lcm", levels=8, target_ema=None, stop_gradient=True)
    shown = shown_of(stage.student, batch=1)

    def look(progress: float) -> None:
        stage.loss("student", shown, Draws(0, 0, shown.numbers), progress)

    look(0.0)
    assert stage.errors == []
    for progress in (0.01, 0.02, 0.06, 0.11):
        look(progress)
    assert stage.errors == pytest.approx([1.0, 1.0, 1.0])
    again = stage_of(method="lcm", levels=8)
    again.load_extra_state(stage.extra_state())
    assert again.errors == stage.errors
    with torch.no_grad():
        stage.student.denoiser.conv_out.weight *= 4
    look(0.16)
    look(0.21)
    with pytest.raises(CannotConverge, match=r"diverges.*target_ema=0\.95"):
        look(0.26)


def test_a_student_drops_the_same_units_in_both_looks() -> None:
    student = swapper_of()
    dropout = nn.Dropout(0.5)
    stage = stage_of(student)
    assert isinstance(student.denoiser.conv_in, nn.Conv2d)
    student.denoiser.conv_in = cast(nn.Conv2d, nn.Sequential(student.denoiser.conv_in, dropout))
    student.denoiser.train()
    dropped: list[Tensor] = []
    dropout.register_forward_hook(lambda _, __, out: dropped.append((out == 0).detach()))
    shown = shown_of(student)
    for step in range(2):
        stage.loss("student", shown, Draws(0, step, shown.numbers), 0.0)
    (_, aim_0, look_0), (_, aim_1, look_1) = dropped[:3], dropped[3:]  # the past's look, then the two that are compared
    assert torch.equal(aim_0, look_0)
    assert torch.equal(aim_1, look_1)
    assert not torch.equal(look_0, look_1)


@pytest.mark.parametrize("kind", ["trig", "ddpm"])
def test_times_are_those_of_the_students_steps_and_others(kind: Literal["trig", "ddpm"]) -> None:
    student = swapper_of(kind, steps=2)
    stage = stage_of(student, at_serving=0.4)
    scene = replace(scene_of(stage_of(swapper_of(), at_serving=0.4)), noise=torch.zeros(64, 16, 1, 1, 1))
    scene = replace(scene, draws=Draws(0, 0, tuple(range(64))), given=replace(scene.given, x0_BTChw=scene.noise))
    times = stage._times(scene)
    own = torch.tensor(student.config.schedule.times)
    shares = [(times == time).float().mean() for time in own]
    assert all(0.16 < share < 0.26 for share in shares)
    assert times.min() > 0
    assert times.max() <= own[0]
    assert ((times < own[0]) & (times > own[1])).float().mean() > 0.1
    x = student.schedule.noisy(torch.ones(1), torch.ones(1), own[:1])
    assert kind == "ddpm" or torch.allclose(x, torch.tensor([student.schedule.sigma_data]), atol=1e-6)


@pytest.mark.parametrize("memory", ["last_step", "clean_pass", "memory_encoder"])
def test_teacher_forcing_on_its_own_frames_is_streaming(memory: Memory) -> None:
    stage = stage_of(swapper_of(memory=memory))
    student, scene = stage.student, scene_of(stage, frames=5)
    noise = noise_of(scene.draws, "n", scene.given, 1, per_frame=True)
    with torch.no_grad():
        made = stream(student, scene.given, noise)
        forced = replace(scene, given=replace(scene.given, x0_BTChw=made), noise=noise[:, :, 0])
        t = made.new_full(made.shape[:2], student.config.schedule.times[0])
        x = student.schedule.start(noise[:, :, 0])
        again = student.schedule.clean(x, stage._look(student, forced)(x, t), t[..., None, None, None])
    assert (again - made).abs().max() <= 1e-5 * made.abs().max()


def test_a_bidirectional_teacher_is_refused() -> None:
    student, teacher = swapper_of(), swapper_of()
    for stage in ("teacher", ""):
        with pytest.raises(CannotConverge, match="35 to 65 %"):
            consistency.make(ConsistencySettings(), student, teacher, CPU, stage)
    with pytest.raises(SettingError, match="--teacher"):
        consistency.make(ConsistencySettings(), student, None, CPU, "")


def test_a_teacher_of_other_latents_is_refused() -> None:
    student, teacher = swapper_of(), swapper_of()
    with torch.no_grad():
        next(teacher.face_encoder.parameters()).add_(1e-3)
    with pytest.raises(SettingError, match="face_encoder"):
        consistency.make(ConsistencySettings(), student, teacher, CPU, "causal")


def test_a_fixed_grid_that_is_too_short_is_refused_at_once_or_as_soon_as_it_shows() -> None:
    student = swapper_of()
    settings = ConsistencySettings(method="lcm", levels=50, target_ema=0.95)
    with pytest.raises(CannotConverge, match="5000"):
        consistency.make(settings, student, swapper_of(), CPU, "causal", steps=4999)
    assert consistency.make(settings, student, swapper_of(), CPU, "causal", steps=5000).target is not None
    with pytest.raises(CannotConverge, match="stop_gradient"):
        consistency.make(ConsistencySettings(method="lcm", target_ema=None), student, swapper_of(), CPU, "causal")
    by_minutes = consistency.make(settings, student, swapper_of(), CPU, "causal")
    for step in range(20):
        by_minutes.after_step(step, step / 2000)
    with pytest.raises(CannotConverge, match="2000 steps are too few"):
        by_minutes.after_step(20, 20 / 2000)


@pytest.mark.parametrize("method", ["scm", "policy"])
def test_methods_that_need_times_in_between_refuse_the_ddpm_table(method: str) -> None:
    with pytest.raises(SettingError, match="trig"):
        stage_of(swapper_of("ddpm"), method=method)


def test_halved_steps_refuse_a_student_that_noises_anew() -> None:
    with pytest.raises(SettingError, match="one step"):
        stage_of(swapper_of(steps=2), method="progressive")


def test_steps_halve_and_the_student_becomes_the_teacher() -> None:
    stage = stage_of(method="progressive", levels=8)
    scene = scene_of(stage, batch=8)
    schedule, seen = stage.student.schedule, []
    stage._look = lambda swapper, *_: lambda x, t: seen.append((swapper, t)) or torch.zeros_like(x)  # type: ignore[method-assign, func-returns-value, redundant-expr]
    for progress, steps in ((0.0, 4), (0.4, 2), (0.7, 1)):
        stage.after_step(0, progress)
        before = stage.target
        seen.clear()
        stage._progressive(scene)
        (first, t), (second, middle), (student, own) = seen
        upwards = torch.tensor(even_times(schedule, 2 * steps)).flip(0)
        assert student is stage.student
        assert torch.equal(own, t)
        assert set(t.unique().tolist()) == set(upwards[2::2].tolist())
        torch.testing.assert_close(upwards[torch.searchsorted(upwards, t) - 1], middle)
        assert (first is stage.teacher) == (steps == 4)
        assert second is first
        stage.after_step(1, progress)
        assert stage.target is before


def test_a_policy_ends_in_its_last_knot_which_is_the_network_itself() -> None:
    """So that the graph that serves needs no knots."""
    stage = stage_of(method="policy", knots=5)
    scene = scene_of(stage)
    assert stage.more is not None
    with torch.no_grad():
        stage.more.weight += 0.1 * torch.randn(stage.more.weight.shape, generator=torch.Generator().manual_seed(0))
        look, schedule = stage._look(stage.student, scene), stage.student.schedule
        knots = KnotsOf(look, stage.student.denoiser.conv_out, stage.more)
        start = torch.full(scene.noise.shape[:2], stage.student.config.schedule.times[0])
        x = schedule.start(scene.noise)
        served = schedule.clean(x, look(x, start), start[..., None, None, None])
        values = knots_of(knots, schedule, x, start)
        assert torch.equal(values[:, :, -1], served)
        assert (values[:, :, 0] - served).abs().max() > 0.1
        near = [follow(values, schedule, x, start, 0 * start, torch.full_like(start, at), 256) for at in (0.9, 0.9999)]
    errors = [float((one - served).abs().max()) for one in near]
    assert errors[1] < 0.02 * errors[0]


@pytest.mark.parametrize(("method", "steps"), [("lcm", 4), ("progressive", 4), ("policy", 2)])
def test_it_goes_on_as_it_stopped(method: str, steps: int) -> None:
    """With the target, the round and the knots; to the bit."""

    def learner() -> tuple[Learner, ConsistencyStage]:
        stage = stage_of(method=method, **SMALL.get(method, {}))
        return Learner(stage, TrainSettings(learning_rate=1e-2, warm_up_steps=0), MachineSettings(), Ranks()), stage

    def go(one: Learner, stage: ConsistencyStage, first: int, last: int) -> None:
        for step in range(first, last):
            one.move("student", shown, one.draws(step, shown.numbers), step / steps)
            one.average()
            stage.after_step(step, step / steps)

    whole, of_whole = learner()
    shown = shown_of(of_whole.student, batch=1, frames=2)
    go(whole, of_whole, 0, steps - 1)
    kept = {name: value.clone() for name, value in whole.tensors().items()}
    go(whole, of_whole, steps - 1, steps)
    again, of_again = learner()
    again.load(kept)
    go(again, of_again, steps - 1, steps)
    one, other = whole.tensors(), again.tensors()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], kept[name]) for name in one)
