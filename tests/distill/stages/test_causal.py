"""Stage 1: only the past is seen, the past is the true one, and what may be matched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.conditions import conditions
from distill.errors import CannotConverge
from distill.examples.types import Shown
from distill.sampling import Sampler, sample_stream
from distill.stages.causal import CausalStage, make, on_clean_past
from distill.stages.settings import CausalSettings, ConditionSettings
from distill.times import even_times
from distill.training.draws import Draws
from engines import SettingError
from engines.models.config import WindowConfig
from engines.schedule import Schedule
from tests.distill.stages.learning import batch, learn, small, untouched

MEMORIES = ("last_step", "clean_pass", "memory_encoder")
PLAIN = ConditionSettings(drop_mask=0, drop_face=0)
CHANGED = 3  # the frame that is another one


def stage_with(memory: Any, **changes: Any) -> CausalStage:
    """Its one step is in the middle of the noise, so that even the last step's keys and values know of the result."""
    window = WindowConfig(frames=4, sinks=1, memory=memory)
    return make(CausalSettings(conditions=PLAIN, **changes), small(window=window, times=(0.8,)))


def last_output(stage: CausalStage, shown: Shown) -> Tensor:
    outputs: list[Tensor] = []
    hook = stage.swapper.denoiser.register_forward_hook(lambda _, given, out: outputs.append(out))
    stage.loss("painter", shown, Draws(0, 0, shown.numbers), 0.0)
    hook.remove()
    return outputs[-1].unflatten(0, shown.truth_BT3SS.shape[:2])  # type: ignore[no-untyped-call,no-any-return]


def with_another(shown: Shown, frame: int, names: tuple[str, ...]) -> Shown:
    def changed(name: str) -> Any:
        value = getattr(shown, name).clone()
        value[:, frame] = 1 - value[:, frame]
        return value

    return replace(shown, **{name: changed(name) for name in names})


OF_A_FRAME = ("target_BT3SS", "masked_BT3SS", "proxy_BT3SS", "truth_BT3SS", "mask_BT1SS", "attribute_BT3AA")


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_later_frame_changes_no_earlier_output(memory: str) -> None:
    """Nor anything that is shown with it: the teacher's future is hidden, conditions and all."""
    stage, shown = stage_with(memory), batch(frames=6)
    plain, other = (last_output(stage, one) for one in (shown, with_another(shown, CHANGED, OF_A_FRAME)))
    torch.testing.assert_close(other[:, :CHANGED], plain[:, :CHANGED], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(other[:, CHANGED], plain[:, CHANGED], atol=1e-3)
    truth = last_output(stage, with_another(shown, CHANGED, ("truth_BT3SS",)))
    assert not torch.allclose(truth[:, CHANGED + 1], plain[:, CHANGED + 1], atol=1e-4), "the true past is seen"


@pytest.mark.parametrize("memory", MEMORIES)
def test_all_that_is_to_learn_gets_gradient(memory: str) -> None:
    stage = stage_with(memory)
    assert list(untouched(stage, batch())) == []
    assert all(parameter.grad is None for parameter in stage.swapper.autoencoder.parameters())


def test_a_detached_past_teaches_nothing_to_what_makes_it() -> None:
    stage = stage_with("memory_encoder", detach_past=True)
    missed = set(untouched(stage, batch()))
    assert missed
    assert all("memory_encoder" in name for name in missed)


def test_every_frame_has_its_own_level_and_the_past_is_told_its_corruption() -> None:
    stage, shown = stage_with("clean_pass", corrupt=0.1), batch(frames=5)
    times: list[Tensor] = []
    hook = stage.swapper.denoiser.time.register_forward_pre_hook(lambda _, given: times.append(given[0]))
    stage.loss("painter", shown, Draws(0, 0, shown.numbers), 0.0)
    hook.remove()
    past, own = (one.reshape(2, 5) for one in times)
    assert len(set(own.flatten().tolist())) == 10
    assert (past == past[:, :1]).all()
    assert (past > 0).all()
    assert (past < 0.1).all()


def test_stills_need_no_past() -> None:
    stage, shown = stage_with("clean_pass"), batch("image")
    looks: list[int] = []
    hook = stage.swapper.denoiser.time.register_forward_pre_hook(lambda *_: looks.append(1))
    assert stage.loss("painter", shown, Draws(0, 0, shown.numbers), 0.0).total.isfinite()
    hook.remove()
    assert looks == [1]


def test_learns_a_small_batch_and_then_streams_it() -> None:
    stage, shown = stage_with("memory_encoder"), batch(frames=3)
    given = conditions(stage.swapper, shown)
    noise = torch.randn(given.x0_BTChw.shape, generator=torch.Generator().manual_seed(0))

    def error() -> float:
        with torch.no_grad():
            drawn = sample_stream(stage.swapper, given, noise, Sampler(even_times(stage.swapper.schedule, 8)))
        return float((given.weight_BT1hw * (drawn - given.x0_BTChw).square()).mean().sqrt())

    new = error()
    assert learn(stage, shown, 40) < 0.8
    assert error() < 0.8 * new


@pytest.mark.parametrize(
    ("memory", "changes", "error", "says"),
    [
        ("clean_pass", {"match": 0.2, "match_sees": "window"}, CannotConverge, "heed its past"),
        ("clean_pass", {"match": 0.2}, SettingError, "a teacher to match"),
        ("last_step", {"corrupt": 0.05}, SettingError, "clean_pass"),
        ("memory_encoder", {"corrupt": 0.05}, SettingError, "clean_pass"),
    ],
)
def test_what_cannot_be_taught_is_refused(memory: str, changes: dict[str, Any], error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        stage_with(memory, **changes)


def test_a_matched_teacher_sees_the_clean_past_and_one_frame() -> None:
    teacher = small(seed=1)
    window = WindowConfig(frames=4, sinks=1, memory="clean_pass")
    stage = make(CausalSettings(conditions=PLAIN, match=0.3), small(window=window), teacher)
    looks: list[tuple[Tensor, Tensor]] = []
    real = teacher.denoiser.window

    def spy(x: Tensor, t: Tensor, *rest: Any) -> Tensor:
        looks.append((x[:, :, : teacher.config.denoiser.latent_channels] * teacher.schedule.sigma_data, t))
        return real(x, t, *rest)

    teacher.denoiser.window = spy  # type: ignore[method-assign,assignment]
    shown = batch(frames=6)
    truth = conditions(teacher, shown).x0_BTChw
    frames = set()
    for step in range(3, 7):
        terms = stage.loss("painter", shown, Draws(0, step, shown.numbers), 0.0)
        x, t = looks[-1]
        frame = t.shape[1] - 1
        frames.add(frame)
        assert (t[:, :frame] == 0).all()
        assert (t[:, frame] > 0).all()
        torch.testing.assert_close(x[:, :frame], truth[:, :frame])
        expected = 0.7 * terms.parts["video"] + 0.3 * terms.parts["match"]
        torch.testing.assert_close(terms.total.detach(), expected)
    assert len(frames) > 1
    assert stage.frozen["teacher"] is teacher
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


class Gaussian:
    """The exact bidirectional network of a stationary AR(1) clip of single numbers, at any level per frame."""

    def __init__(self, correlation: float, frames: int) -> None:
        self.schedule = Schedule("trig", sigma_data=1.0)
        at = torch.arange(frames, dtype=torch.float64)
        self.covariance = correlation ** (at[:, None] - at[None]).abs()

    def shares(self, t_T: Tensor) -> Tensor:
        """Row i: by which each frame's noisy value enters the mean of frame i, [T, T]."""
        alpha, sigma = self.schedule.alpha(t_T), self.schedule.sigma(t_T)
        frames = len(t_T)
        covariance = self.covariance[:frames, :frames]
        seen = alpha[:, None] * covariance * alpha[None] + torch.diag(sigma**2)
        return torch.linalg.solve(seen, alpha[:, None] * covariance).T  # type: ignore[no-any-return]

    def __call__(self, x_BT: Tensor, t_BT: Tensor) -> Tensor:
        x0 = torch.einsum("bij,bj->bi", torch.stack([self.shares(t) for t in t_BT]), x_BT)
        return (x_BT * torch.cos(t_BT) - x0) / torch.sin(t_BT).clamp(min=1e-9)


@pytest.mark.parametrize("t", [0.4, 1.0, 1.5])
def test_to_match_a_teacher_is_sound_on_the_clean_past_only(t: float) -> None:
    """AR(1), in closed form: what a student that sees clean past and noisy frame makes of the teacher's answers, by
    least squares. On the clean past it is the exact answer; of the whole noisy window it is not, and near pure noise
    nothing of the past is left, where nearly all of the answer should come from it."""
    correlation, frames, now = 0.9, 4, 2
    exact = Gaussian(correlation, frames)
    past, sigma = torch.randn(5000, now, dtype=torch.float64).cumsum(1), float(exact.schedule.sigma(t))
    x_t = torch.randn(5000, 1, dtype=torch.float64)
    level = torch.full((5000, 1), t, dtype=torch.float64)
    answer = on_clean_past(exact, past, x_t, level)
    ahead = 1 - correlation**2  # what the past leaves open
    gain = ahead * torch.cos(level) / (torch.cos(level).square() * ahead + sigma**2)
    x0 = correlation * past[:, -1:] + gain * (x_t - torch.cos(level) * correlation * past[:, -1:])
    torch.testing.assert_close(exact.schedule.clean(x_t, answer, level), x0, atol=1e-9, rtol=1e-9)

    # the whole window: E[teacher | clean past, noisy frame] = shares @ E[all noisy values | them]
    shares = exact.shares(torch.full((frames,), t, dtype=torch.float64))[now]
    alpha, c = float(exact.schedule.alpha(t)), exact.covariance
    seen = torch.cat([c[:now], alpha * c[now : now + 1]])  # covariances of (clean past, noisy frame) with each frame
    own = torch.cat([seen[:, :now], alpha * seen[:, now : now + 1]], 1)
    own[now, now] += sigma**2
    noisy = alpha * seen
    noisy[now, now] += sigma**2
    of_window = torch.linalg.solve(own, noisy) @ shares
    of_past = torch.linalg.solve(own, seen[:, now])
    heeded = float(of_window[now - 1] / of_past[now - 1])
    assert heeded == pytest.approx({0.4: 0.62, 1.0: 0.31, 1.5: 0.02}[t], abs=0.02)
