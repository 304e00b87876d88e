"""The bidirectional teacher's stage: what it is shown, what learns, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill.conditions import conditions
from distill.sampling import Sampler, sample_window
from distill.stages.settings import ConditionSettings, TeacherSettings
from distill.stages.teacher import TeacherStage, make
from distill.times import even_times
from distill.training.draws import Draws
from distill.training.watch import Watch
from engines import SettingError
from tests.distill.stages.learning import batch, learn, small, untouched

PLAIN = ConditionSettings(drop_mask=0, drop_face=0)


def seen_by(stage: TeacherStage, kind: str, frames: int, step: int) -> tuple[Tensor, Tensor]:
    """Noisy latents (as the schedule has them) and times of a step's one look."""
    looks: list[tuple[Tensor, Tensor]] = []
    real = stage.swapper.denoiser.window

    def spy(x: Tensor, t: Tensor, *rest: object) -> Tensor:
        looks.append((x[:, :, : stage.swapper.config.denoiser.latent_channels], t))
        return real(x, t, *rest)  # type: ignore[arg-type]

    stage.swapper.denoiser.window = spy  # type: ignore[method-assign,assignment]
    shown = batch(kind, frames=frames)
    stage.loss("painter", shown, Draws(0, step, shown.numbers), 0.0)
    ((x, t),) = looks
    return x * stage.swapper.schedule.sigma_data, t


def test_the_first_frames_are_given_clean_and_the_others_share_a_level() -> None:
    stage = make(TeacherSettings(given=2, drop_given=0.4, conditions=PLAIN), small())
    truth = conditions(stage.swapper, batch(frames=5)).x0_BTChw
    given = {True: 0, False: 0}
    for step in range(8):
        x, t = seen_by(stage, "video", 5, step)
        clean = bool((t[:, 0] == 0).all())
        given[clean] += 1
        later = t[:, 2:] if clean else t
        assert (later == later[:, :1]).all()
        assert (later > 0).all()
        assert later[0, 0] != later[1, 0], "each clip has a level of its own"
        asked, noisy = (truth[:, 2:], x[:, 2:]) if clean else (truth, x)
        noise = Draws(0, step, batch().numbers).normal("noise", *asked.shape[1:])
        levels = later[:, :, None, None, None]
        torch.testing.assert_close(noisy, stage.swapper.schedule.noisy(asked, noise, levels), atol=1e-5, rtol=1e-4)
        if clean:
            assert (t[:, :2] == 0).all()
            torch.testing.assert_close(x[:, :2], truth[:, :2])
    assert all(given.values()), given


def test_stills_have_nothing_before_them() -> None:
    x, t = seen_by(make(TeacherSettings(given=4, drop_given=0), small()), "image", 1, 0)
    assert x.shape[1] == t.shape[1] == 1
    assert (t > 0).all()


def test_given_frames_are_not_asked_for() -> None:
    """Whatever the network says of them, and whatever truth they are."""
    stage = make(TeacherSettings(given=3, drop_given=0, conditions=PLAIN), small())
    shown = batch(frames=4)
    draws = Draws(0, 0, shown.numbers)
    real = stage.swapper.denoiser.window
    plain = stage.loss("painter", shown, draws, 0.0).total

    def loud(x: Tensor, t: Tensor, *rest: object) -> Tensor:
        return real(x, t, *rest) + 1e3 * (t == 0)[:, :, None, None, None]  # type: ignore[arg-type]

    stage.swapper.denoiser.window = loud  # type: ignore[method-assign,assignment]
    torch.testing.assert_close(stage.loss("painter", shown, draws, 0.0).total, plain)


def test_a_window_of_given_frames_alone_is_refused() -> None:
    stage = make(TeacherSettings(given=4, drop_given=0), small())
    with pytest.raises(SettingError, match="leave nothing to learn"):
        seen_by(stage, "video", 4, 0)


def test_denoiser_and_face_encoder_learn_and_nothing_else() -> None:
    stage = make(TeacherSettings(given=1), small())
    assert list(untouched(stage, batch())) == []
    assert all(parameter.grad is None for parameter in stage.swapper.autoencoder.parameters())
    assert not any(parameter.requires_grad for parameter in stage.swapper.autoencoder.parameters())


def test_a_step_is_a_function_of_its_draws() -> None:
    stage, shown = make(TeacherSettings(given=1), small()), batch()
    losses = [
        float(stage.loss("painter", shown, Draws(0, step, shown.numbers), 0.0).total.detach()) for step in (3, 3, 4)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_bfloat16_gives_a_float32_loss_near_the_same() -> None:
    stage, shown = make(TeacherSettings(given=1), small()), batch()
    draws = Draws(0, 0, shown.numbers)
    exact = stage.loss("painter", shown, draws, 0.0).total
    with torch.autocast("cpu", torch.bfloat16):
        near = stage.loss("painter", shown, draws, 0.0).total
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, exact, rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("steps", "falls_to", "far"), [(40, 0.8, 0.8), pytest.param(1000, 0.4, 0.2, marks=pytest.mark.long)]
)
def test_learns_a_small_batch_and_then_draws_it(steps: int, falls_to: float, far: float) -> None:
    """Out of noise; the longer the nearer. far: of a new network's error."""
    stage = make(TeacherSettings(given=1, conditions=PLAIN), small())
    shown = batch(frames=3)
    given = conditions(stage.swapper, shown)
    noise = torch.randn(given.x0_BTChw.shape, generator=torch.Generator().manual_seed(0))
    sampler = Sampler(even_times(stage.swapper.schedule, 12))

    def error() -> float:
        with torch.no_grad():
            drawn = sample_window(stage.swapper, given, noise, sampler)
        return float((given.weight_BT1hw * (drawn - given.x0_BTChw).square()).mean().sqrt())

    new = error()
    assert learn(stage, shown, steps) < falls_to
    assert error() < far * new


def test_can_be_looked_at() -> None:
    stage = make(TeacherSettings(), small())
    assert isinstance(stage, Watch)
    shown = batch(frames=3)
    with torch.no_grad():
        seen = stage.watch(shown, Draws(0, 0, shown.numbers))
    (grid,) = seen.grids.values()
    assert grid.shape == (2 * 64, 4 * 64, 3)
    assert seen.clips["drawn"].shape == (3, 64, 4 * 64, 3)
    assert seen.metrics["rms-proxy"] < seen.metrics["rms"]
