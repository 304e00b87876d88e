"""Noise schedules against closed forms, for floats, arrays and tensors alike."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from engines.models.config import ScheduleConfig
from engines.schedule import Schedule, ddpm_signal, guess_around, time_of_same_noise

SCHEDULES = [Schedule("trig"), Schedule("ddpm", "velocity"), Schedule("ddpm", "noise")]
TIMES = {"trig": [0.0, 0.3, 1.1, math.pi / 2], "ddpm": [0.0, 1.0, 499.0, 999.0]}
CASES = [(schedule, t) for schedule in SCHEDULES for t in TIMES[schedule.kind]]


def some(seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal((2, 3))


@pytest.mark.parametrize(("schedule", "t"), CASES, ids=str)
def test_an_output_that_knows_the_truth_gives_it_back(schedule: Schedule, t: float) -> None:
    x0, noise = some(0), some(1)
    x_t, output = schedule.noisy(x0, noise, t), schedule.target(x0, noise, t)
    np.testing.assert_allclose(schedule.clean(x_t, output, t), x0, atol=1e-12)
    np.testing.assert_allclose(schedule.noise(x_t, output, t), noise, atol=1e-12)


@pytest.mark.parametrize(("schedule", "t"), CASES, ids=str)
def test_floats_arrays_and_tensors_agree(schedule: Schedule, t: float) -> None:
    x0, noise = some(2), some(3)
    expected = schedule.noisy(x0, noise, t)
    np.testing.assert_allclose(schedule.noisy(x0, noise, np.full((2, 1), t)), expected)
    tensors = schedule.noisy(torch.tensor(x0), torch.tensor(noise), torch.full((2, 1), t, dtype=torch.float64))
    np.testing.assert_allclose(tensors.numpy(), expected)
    low = schedule.noisy(torch.tensor(x0).float(), torch.tensor(noise).float(), torch.tensor(t))
    assert low.dtype == torch.float32
    if schedule.kind == "ddpm":
        whole = schedule.noisy(torch.tensor(x0).float(), torch.tensor(noise).float(), torch.tensor([[int(t)]]))
        np.testing.assert_allclose(whole.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_noising_keeps_the_variance_of_latents(schedule: Schedule) -> None:
    spread = schedule.sigma_data if schedule.kind == "trig" else 1.0
    for t in TIMES[schedule.kind]:
        variance = (schedule.alpha(t) * spread) ** 2 + schedule.sigma(t) ** 2
        assert variance == pytest.approx(spread**2)


def test_trig_is_trigflow() -> None:
    """sCM (arXiv 2410.11081), section 3, with z = sigma_d e."""
    schedule, t = Schedule("trig", sigma_data=0.5), 0.7
    x0, noise, output = some(4), some(5), some(6)
    z = 0.5 * noise
    x_t = schedule.noisy(x0, noise, t)
    np.testing.assert_allclose(x_t, math.cos(t) * x0 + math.sin(t) * z)
    np.testing.assert_allclose(schedule.clean(x_t, output, t), math.cos(t) * x_t - math.sin(t) * 0.5 * output)
    np.testing.assert_allclose(schedule.velocity(x_t, output, t), 0.5 * output)
    step = 1e-6
    slope = (schedule.noisy(x0, noise, t + step) - schedule.noisy(x0, noise, t - step)) / (2 * step)
    np.testing.assert_allclose(0.5 * schedule.target(x0, noise, t), slope, rtol=1e-7)
    np.testing.assert_array_equal(schedule.clean(x_t, output, 0.0), x_t, "f(x, 0) = x by construction")
    s = 0.2
    moved = math.cos(t - s) * x_t - math.sin(t - s) * 0.5 * output
    np.testing.assert_allclose(schedule.move(x_t, output, t, s), moved)


def test_ddpm_is_the_table_of_sd15() -> None:
    """Closed form at the ends, and DDIM (arXiv 2010.02502, eq. 12) in the middle."""
    signal = ddpm_signal()
    assert signal[0] == pytest.approx(1 - 0.00085)
    assert math.sqrt(signal[-1]) == pytest.approx(0.0683, abs=1e-4)
    assert math.sqrt((1 - signal[-1]) / signal[-1]) == pytest.approx(14.6, abs=0.05)
    schedule = Schedule("ddpm", "noise")
    x_t, output, t, s = some(7), some(8), 700, 300
    predicted = (x_t - math.sqrt(1 - signal[t]) * output) / math.sqrt(signal[t])
    expected = math.sqrt(signal[s]) * predicted + math.sqrt(1 - signal[s]) * output
    np.testing.assert_allclose(schedule.move(x_t, output, t, s), expected)


def test_ddpm_agrees_with_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    for prediction, theirs in (("noise", "epsilon"), ("velocity", "v_prediction")):
        table = diffusers.DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            prediction_type=theirs,
        )
        ours = Schedule("ddpm", prediction)  # type: ignore[arg-type]
        x0, noise, output = (torch.tensor(some(seed)).float() for seed in (9, 10, 11))
        when = torch.tensor([600, 600])
        x_t = ours.noisy(x0, noise, 600)
        torch.testing.assert_close(x_t, table.add_noise(x0, noise, when), rtol=1e-5, atol=1e-6)
        table.set_timesteps(10)
        stepped = table.step(output, 600, x_t, eta=0.0)
        torch.testing.assert_close(ours.clean(x_t, output, 600), stepped.pred_original_sample, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.move(x_t, output, 600, 500), stepped.prev_sample, rtol=1e-4, atol=1e-5)
        if prediction == "velocity":
            torch.testing.assert_close(ours.target(x0, noise, 600), table.get_velocity(x0, noise, when))


@pytest.mark.parametrize("schedule", SCHEDULES[1:], ids=str)
def test_velocity_and_noise_are_two_names_for_one_thing(schedule: Schedule) -> None:
    x0, noise, t = some(12), some(13), 800
    x_t = schedule.noisy(x0, noise, t)
    velocity = schedule.velocity(x_t, schedule.target(x0, noise, t), t)
    np.testing.assert_allclose(velocity, Schedule("ddpm", "velocity").target(x0, noise, t), rtol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_sampling_starts_with_the_variance_that_training_saw(schedule: Schedule) -> None:
    start = schedule.start(np.random.default_rng(0).standard_normal(20_000))
    spread = schedule.sigma_data if schedule.kind == "trig" else 1.0
    assert np.std(start) == pytest.approx(spread, rel=0.03)
    assert np.std(schedule.network_input(start)) == pytest.approx(1.0, rel=0.03)


def test_many_small_steps_reach_the_mean_of_a_gaussian() -> None:
    """The exact velocity of N(mu, s^2) carries noise to it: the sampler's arithmetic, end to end (O1)."""
    schedule = Schedule("trig", sigma_data=0.5)
    mean, spread, noise = 0.3, 0.2, some(14)
    x, times = schedule.start(noise), np.linspace(math.pi / 2, 0, 2001)
    for t, to in pairwise(times):
        alpha, sigma = schedule.alpha(float(t)), schedule.sigma(float(t))
        expected_x0 = mean + alpha * spread**2 / (alpha**2 * spread**2 + sigma**2) * (x - alpha * mean)
        expected_noise = (x - alpha * expected_x0) / sigma
        x = schedule.move(x, schedule.target(expected_x0, expected_noise, float(t)), float(t), float(to))
    np.testing.assert_allclose(x, mean + spread * noise, atol=2e-3)


@pytest.mark.parametrize("t", [0.05, 0.6, 1.3, math.pi / 2])
def test_the_guess_around_a_mean_is_the_best_affine_one(t: float) -> None:
    """Least squares over a million draws of x0 ~ N(mean, spread^2) finds the same output from x_t."""
    schedule, spread, mean, draws = Schedule("trig", sigma_data=0.5), 0.6, 0.8, np.random.default_rng(0)
    x0 = 0.5 * (mean + spread * draws.standard_normal(1_000_000))
    noise = draws.standard_normal(len(x0))
    x_t, output = schedule.noisy(x0, noise, t), schedule.target(x0, noise, t)
    shown = np.linspace(x_t.min(), x_t.max(), 5)
    slope = np.mean((x_t - x_t.mean()) * (output - output.mean())) / x_t.var()
    best = output.mean() + slope * (shown - x_t.mean())
    np.testing.assert_allclose(guess_around(shown / 0.5, mean, t, spread), best, atol=0.02)


def test_one_step_from_noise_alone_ends_at_the_mean() -> None:
    schedule, mean = Schedule("trig", sigma_data=0.5), some(9)
    x_t = schedule.start(some(8))
    output = guess_around(schedule.network_input(x_t), mean, math.pi / 2, 0.75)
    np.testing.assert_allclose(schedule.clean(x_t, output, math.pi / 2), 0.5 * mean, atol=1e-12)


def test_equal_noise_levels_have_equal_times() -> None:
    assert time_of_same_noise(14.6, 0.5) == pytest.approx(math.atan(29.2))
    schedule, t = Schedule("trig", sigma_data=0.5), 0.9
    assert time_of_same_noise(schedule.sigma(t) / schedule.alpha(t), 0.5) == pytest.approx(t)


def test_trig_networks_predict_velocity() -> None:
    with pytest.raises(ValueError, match="velocity"):
        Schedule.of(ScheduleConfig(kind="trig", prediction="noise"))
