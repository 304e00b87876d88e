"""Teachers drawn from: windows, clips of windows, streams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.conditions import between_frames, conditions
from distill.network import network
from distill.sampling import Form, Sampler, continuing, predictor, sample_clip, sample_stream, sample_window
from distill.solvers import Solver
from distill.times import even_times
from engines import SettingError
from engines.models.config import WindowConfig
from engines.models.step import SwapStep
from engines.models.swapper import Swapper
from engines.runtimes.torch_eager import TorchRuntime
from engines.window import recent_slot
from tests.distill.test_conditions import batch_for
from tests.engines.models.specks import lively, speck

MEMORIES = ("last_step", "clean_pass", "memory_encoder")


def swapper_with(memory: Any, name: str = "tiny", noise_of: str = "tiny") -> Swapper:
    """The preset `name` in small, with the noise schedule of another one."""
    config = speck(name, window=WindowConfig(frames=4, sinks=1, memory=memory))
    return lively(config.model_copy(update={"schedule": speck(noise_of).schedule}))


def noise_like(x0_BTChw: Tensor) -> Tensor:
    return torch.randn(x0_BTChw.shape, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(
    ("name", "noise_of", "memory", "rounding"),
    [
        *(("tiny", "tiny", memory, 1e-5) for memory in MEMORIES),
        ("tiny", "full", "clean_pass", 1e-5),  # the ddpm table
        ("full", "tiny", "clean_pass", 2e-4),  # an encoder that remembers
    ],
)
def test_a_stream_solved_in_one_step_is_what_the_eager_runtime_draws(
    name: str, noise_of: str, memory: str, rounding: float
) -> None:
    """The same pictures in, through the very runtime: one DDIM step from pure noise is the consistency sampler's."""
    swapper = swapper_with(memory, name, noise_of)
    shown = batch_for(swapper, frames=7 if name == "tiny" else 5)  # past the window
    given = conditions(swapper, shown)
    noise = noise_like(given.x0_BTChw)
    times = (swapper.config.schedule.times[0], 0.0)
    with torch.no_grad():
        solved = sample_stream(swapper, given, noise, Sampler(times, "ddim"))
    runtime = TorchRuntime(SwapStep(swapper), precision="float32", threads=1)
    state, window, own = runtime.init(), swapper.window, swapper.config.face_encoder
    tokens = swapper.face_encoder.identity_tokens(
        shown.identity_BI, shown.texture_B3AA, torch.tensor([own.texture_weight])
    )
    wanted = {spec.name for spec in runtime.spec.inputs}
    for frame in range(noise.shape[1]):
        arrays = {
            "masked": shown.masked_BT3SS[:, frame].numpy(),
            "proxy": shown.proxy_BT3SS[:, frame].numpy(),
            "mask": shown.mask_BT1SS[:, frame].numpy(),
            "attribute": shown.attribute_BT3AA[:, frame].numpy(),
            "identity_tokens": tokens.numpy(),
            "weights": np.array([[own.texture_weight, own.attribute_weight]], np.float32),
            "noise": noise[:, frame : frame + 1].numpy(),
            "positions": window.positions(frame)[None],
            "bias": window.bias(frame)[None],
            "recent_order": (np.arange(2, dtype=np.int64) + frame)[None] % 2,
        }
        slots = {"window": np.array([window.slot_of(frame)]), "recent": np.array([recent_slot(frame, 2)])}
        drawn = runtime.run(state, {key: value for key, value in arrays.items() if key in wanted}, slots)  # type: ignore[arg-type]
        live = torch.from_numpy(drawn["latent"])
        assert (solved[:, frame] - live).abs().max() <= rounding * live.abs().max()


@pytest.mark.parametrize("times", [(1.5,), (1.5, 0.7), (0.0,)])
def test_a_sampler_ends_at_clean_data(times: tuple[float, ...]) -> None:
    swapper = swapper_with("last_step")
    given = conditions(swapper, batch_for(swapper))
    with pytest.raises(SettingError, match="fall to 0"):
        sample_window(swapper, given, noise_like(given.x0_BTChw), Sampler(times))


@pytest.mark.parametrize("solver", ["ddim", "dpm++2m", "heun"])
def test_every_solver_streams_finite_latents_that_only_the_past_decides(solver: Solver) -> None:
    swapper = swapper_with("clean_pass")
    given = conditions(swapper, batch_for(swapper, frames=6))
    noise = noise_like(given.x0_BTChw)
    sampler = Sampler(even_times(swapper.schedule, 4), solver, guidance=1.5)
    with torch.no_grad():
        whole = sample_stream(swapper, given, noise, sampler)
        part = sample_stream(swapper, between_frames(given, 0, 4), noise[:, :4], sampler)
    assert whole.isfinite().all()
    torch.testing.assert_close(part, whole[:, :4])


def test_guidance_in_a_stream_is_guidance_in_a_window() -> None:
    """Where no past is in play: in the first frame."""
    swapper = swapper_with("clean_pass")
    given = between_frames(conditions(swapper, batch_for(swapper, batch=2)), 0, 1)
    noise = noise_like(given.x0_BTChw)
    sampler = Sampler(even_times(swapper.schedule, 3), "ddim", guidance=2.5)
    with torch.no_grad():
        window = sample_window(swapper, given, noise, sampler, sight=swapper.banded(1))
        torch.testing.assert_close(sample_stream(swapper, given, noise, sampler), window, atol=1e-5, rtol=1e-4)
        plain = sample_window(swapper, given, noise, Sampler(sampler.times, "ddim"), sight=swapper.banded(1))
    assert not torch.allclose(plain, window, atol=1e-3)


def test_given_frames_are_shown_at_time_zero_and_not_answered_for() -> None:
    calls: list[tuple[Tensor, Tensor]] = []

    def whole(x: Tensor, t: Tensor) -> Tensor:
        calls.append((x, t))
        return x * 2

    clean, x = torch.ones(2, 3, 1, 1, 1), torch.full((2, 2, 1, 1, 1), 5.0)
    out = continuing(whole, clean)(x, torch.full((2, 2), 0.7))
    (shown, times) = calls[0]
    torch.testing.assert_close(shown[:, :3], clean)
    assert times.tolist() == [[0, 0, 0, pytest.approx(0.7), pytest.approx(0.7)]] * 2
    torch.testing.assert_close(out, x * 2)


def test_windows_of_a_long_clip_go_on_from_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    swapper = swapper_with("last_step")
    given = conditions(swapper, batch_for(swapper, frames=8))
    noise = noise_like(given.x0_BTChw)
    sampler = Sampler(even_times(swapper.schedule, 2), "ddim")
    real, seen = swapper.denoiser.window, []

    def spy(x: Tensor, t: Tensor, *rest: Any) -> Tensor:
        seen.append((x[:, :, : given.x0_BTChw.shape[2]] * swapper.schedule.sigma_data, t))
        return real(x, t, *rest)

    monkeypatch.setattr(swapper.denoiser, "window", spy)
    with torch.no_grad():
        made = sample_clip(swapper, given, noise, 4, 2, sampler)
        assert made.shape == noise.shape
        first = sample_window(swapper, between_frames(given, 0, 4), noise[:, :4], sampler)
        torch.testing.assert_close(made[:, :4], first)
    second = seen[2]
    assert second[1][0].tolist() == pytest.approx([0, 0, sampler.times[0], sampler.times[0]])
    torch.testing.assert_close(second[0][:, :2], made[:, 2:4])
    with pytest.raises(SettingError, match="overlap"):
        sample_clip(swapper, given, noise, 4, 4, sampler)


def test_a_window_can_be_banded() -> None:
    swapper = swapper_with("last_step")
    given = conditions(swapper, batch_for(swapper))
    noise = noise_like(given.x0_BTChw)
    sight = swapper.banded(noise.shape[1])
    sampler = Sampler((1.5, 0.0), "ddim")
    with torch.no_grad():
        banded = sample_window(swapper, given, noise, sampler, sight=sight)
        together = sample_window(swapper, given, noise, sampler)
        x = swapper.schedule.start(noise)
        output = network(swapper, given, sight)(x, torch.full(x.shape[:2], 1.5))
    torch.testing.assert_close(banded, swapper.schedule.clean(x, output, 1.5))
    assert not torch.allclose(banded, together, atol=1e-4)


@pytest.mark.parametrize("form", ["window", "stream", "student"])
def test_a_predictor_draws_the_same_pictures_again(form: Form) -> None:
    swapper = swapper_with("last_step")
    predict = predictor(swapper, form, None if form == "student" else Sampler((1.5, 0.7, 0.0)), frames=3, overlap=1)
    shown = batch_for(swapper, batch=2, frames=4)
    one, two = predict(shown), predict(shown)
    assert one.shape == shown.truth_BT3SS.shape
    assert torch.equal(one, two)
    assert one.abs().max() <= 1
    still = predict(batch_for(swapper, "image"))
    assert still.shape[1] == 1
