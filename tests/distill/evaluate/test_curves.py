"""Quality by steps: known pictures get known figures, and everybody starts from the same noise."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from distill.conditions import conditions
from distill.evaluate.bands import band_energy
from distill.evaluate.curves import (
    Drawn,
    Painter,
    autoencoded,
    curves,
    stream_teacher,
    student,
    window_teacher,
)
from distill.examples.types import Shown
from engines.models.swapper import Swapper
from tests.distill.evaluate.test_on_examples import SMALL
from tests.distill.made_up import synthetic_batch


def wave(cycles: int, side: int = 32) -> Tensor:
    x = torch.arange(side) / side
    return torch.cos(2 * math.pi * cycles * x).expand(1, 1, side, side)


@pytest.mark.parametrize(("cycles", "band"), [(2, 0), (4, 0), (6, 1), (8, 1), (12, 2)])
def test_a_wave_lies_in_its_band(cycles: int, band: int) -> None:
    """Amplitude 3: mean square 4.5. 4 of 32 pixels are an eighth of a cycle per pixel."""
    expected = torch.zeros(3, dtype=torch.float64)
    expected[band] = 4.5
    torch.testing.assert_close(band_energy(3 * wave(cycles) + 7), expected, rtol=1e-5, atol=1e-5)


def test_bands_add_up_to_the_variance() -> None:
    noise = torch.randn(64, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    assert float(band_energy(noise).sum()) == pytest.approx(1, abs=0.03)
    kept = band_energy(0.8 * noise) / band_energy(noise)
    torch.testing.assert_close(kept, torch.full((3,), 0.64, dtype=torch.float64))


@pytest.fixture(scope="module")
def swapper() -> Swapper:
    torch.set_num_threads(1)
    return Swapper(SMALL).initialise(5).eval().requires_grad_(False)


def of_latents(swapper: Swapper, change: float, noise_share: float = 0.0) -> Painter:
    """The true latents, shrunk, with some of the noise in them; pictures half a level lighter for every hundredth."""

    def draw(shown: Shown, noise_BTnChw: Tensor) -> Drawn:
        latents = change * conditions(swapper, shown).x0_BTChw + noise_share * noise_BTnChw[:, :, 0]
        return Drawn(latents, shown.truth_BT3SS + (1 - change) * 0.5, took_s=0.1)

    return draw


def test_known_painters_get_known_figures(swapper: Swapper) -> None:
    shown = [synthetic_batch(seed=0), synthetic_batch(seed=1)]
    painters = {"truth": of_latents(swapper, 1), "shrunk": of_latents(swapper, 0.8)}
    found = curves(painters, shown, swapper, "truth")
    truth, shrunk = found["truth"], found["shrunk"]
    assert truth.true.mean() == truth.near.mean() == truth.latent == 0
    assert truth.bands == pytest.approx((1, 1, 1))
    assert truth.energy == pytest.approx(1)
    assert shrunk.bands == pytest.approx((0.8, 0.8, 0.8))
    assert shrunk.energy == pytest.approx(0.64)
    latents = torch.cat([conditions(swapper, one).x0_BTChw for one in shown])
    spread = sum(float((one - one.mean()).square().sum()) for one in (latents[:2], latents[2:]))
    assert shrunk.latent == pytest.approx(0.2 * math.sqrt(float(latents.square().sum()) / spread), rel=1e-3)
    assert 0 < shrunk.true.mean() < 0.1 * 127.5 + 0.5
    assert shrunk.ms == pytest.approx(1000 * 0.2 / (2 * 2 * 4))
    assert len(shrunk.true.examples) == 4


def test_all_start_from_the_same_noise_and_another_seed_is_another(swapper: Swapper) -> None:
    noisy = {"a": of_latents(swapper, 1, 0.3), "b": of_latents(swapper, 1, 0.3)}
    shown = [synthetic_batch()]
    found = curves(noisy, shown, swapper, "a")
    assert found["b"].latent == 0
    assert found["b"].bands[2] > 1.001
    other = curves(noisy, shown, swapper, None, seed=1)
    assert other["b"].bands != found["b"].bands
    assert math.isnan(other["b"].latent)


def test_teachers_and_students_are_drawn_as_they_are_served(swapper: Swapper) -> None:
    """More steps of a solver come nearer to its many-step answer; the student at n steps is its stream."""
    shown = [synthetic_batch(batch=1, frames=5)]
    painters = {
        "window 16": window_teacher(swapper, 16, frames=4),
        "window 8": window_teacher(swapper, 8, frames=4),
        "window 2": window_teacher(swapper, 2, frames=4),
        "stream 2": stream_teacher(swapper, 2),
        "student 1": student(swapper, 1),
        "student 2": student(swapper, 2),
        "autoencoder": autoencoded(swapper),
    }
    found = curves(painters, shown, swapper, "window 16")
    assert found["window 16"].latent == 0
    assert found["window 8"].latent < found["window 2"].latent
    assert found["student 1"].latent != found["student 2"].latent
    assert found["autoencoder"].bands == pytest.approx((1, 1, 1))
    assert all(curve.ms >= 0 and math.isfinite(curve.true.mean()) for curve in found.values())


def test_teacher_and_one_step_student_start_from_the_first_noise(swapper: Swapper) -> None:
    shown = synthetic_batch(batch=1, frames=2)
    shape = conditions(swapper, shown).x0_BTChw.shape
    noise = torch.randn(1, 2, 8, *shape[2:], generator=torch.Generator().manual_seed(0))
    other = noise.clone()
    other[:, :, 1:] = 0
    for painter in (student(swapper, 1), stream_teacher(swapper, 1), window_teacher(swapper, 1, frames=2)):
        assert (painter(shown, noise).latents == painter(shown, other).latents).all()
        assert (painter(shown, noise).latents != painter(shown, 0 * noise).latents).any()
