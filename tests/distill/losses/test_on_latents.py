"""Every objective on what the stages give it: the real denoiser, [B, T] times, a weight for each place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from distill.guidance import Guided
from distill.losses.consistency import Consistency
from distill.losses.denoising import Denoising
from distill.losses.dmd import DistributionMatching, of_fake
from distill.losses.lcm import FixedGrid
from distill.losses.policy import Policy
from distill.losses.progressive import Progressive
from distill.losses.scm import ContinuousConsistency
from distill.network import Network
from distill.times import closer, even_times
from tests.distill.losses.latents import B, Case, T, case

KNOTS = 3


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def still(case: Case) -> Network:
    """A teacher: the student's network, with other answers."""
    return lambda x, t: 0.9 * case.student(x, t) + 0.1


def denoising(case: Case, student: Network, weight: Tensor | float) -> Tensor:
    return Denoising(neighbours=1.0)(student, case.schedule, case.x0, case.noise, case.t, weight)


def min_snr(case: Case, student: Network, weight: Tensor | float) -> Tensor:
    return Denoising("min_snr")(student, case.schedule, case.x0, case.noise, case.t, weight)


def consistency(case: Case, student: Network, weight: Tensor | float) -> Tensor:
    r = closer(case.schedule, case.t, 0.5)
    return Consistency()(student, still(case), case.schedule, case.x0, case.noise, case.t, r, weight)


def fixed_grid(case: Case, student: Network, weight: Tensor | float) -> Tensor:
    objective = FixedGrid(even_times(case.schedule, 50))
    return objective(student, still(case), still(case), case.schedule, case.x0, case.noise, case.place, weight)


def continuous(case: Case, student: Network, weight: Tensor | float) -> Tensor:
    objective = ContinuousConsistency()
    return objective(student, still(case), case.schedule, case.x0, case.noise, case.t, 0.5, weight)


def policy(case: Case, student: Network, weight: Tensor | float) -> Tensor:
    def knots(x: Tensor, t: Tensor) -> Tensor:
        out = student(x, t)
        return torch.stack([out * (1 + 0.1 * k) for k in range(KNOTS)], 2)

    end = torch.zeros_like(case.t)
    return Policy()(knots, still(case), case.schedule, case.x0, case.noise, case.t, end, case.position, weight)


def progressive(case: Case, student: Network, weight: Tensor | float) -> Tensor:
    middle = closer(case.schedule, case.t, 0)
    end = torch.zeros_like(case.t)
    return Progressive()(student, still(case), case.schedule, case.x0, case.noise, case.t, middle, end, weight)


def dmd(case: Case, student: Network, weight: Tensor | float) -> Tensor:
    made = student(case.x0, case.t)
    t = case.t[:, :1].expand_as(case.t)
    return DistributionMatching()(still(case), case.student, case.schedule, made, case.noise, t, weight)


def fake(case: Case, student: Network, weight: Tensor | float) -> Tensor:
    return of_fake(student, case.schedule, case.x0, case.noise, case.t)


Objective = Callable[[Case, Network, Tensor | float], Tensor]
OBJECTIVES = (denoising, min_snr, consistency, fixed_grid, continuous, policy, progressive, dmd, fake)
ON_DDPM = tuple(one for one in OBJECTIVES if one not in (continuous, policy))


@pytest.mark.parametrize(
    ("objective", "name"),
    [*((one, "tiny") for one in OBJECTIVES), *((one, "full") for one in ON_DDPM)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_it_takes_what_the_stages_have(objective: Objective, name: str) -> None:
    """A scalar; gradients, finite, in the student and in nothing else; the weight counts, as 1 does where it is 1."""
    case_ = case(name)
    case_.swapper.denoiser.requires_grad_(True)
    loss = objective(case_, case_.student, case_.weight)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [one.grad for one in case_.swapper.denoiser.parameters() if one.grad is not None]
    assert gradients
    assert all(bool(one.isfinite().all()) for one in gradients)
    assert case_.x0.grad is None
    with torch.no_grad():
        plain, ones = objective(case_, case_.student, 1.0), objective(case_, case_.student, torch.ones(B, T, 1, 1, 1))
        assert torch.allclose(plain, ones)
        assert objective is fake or not torch.allclose(plain, loss)


@pytest.mark.parametrize(
    "objective", [one for one in OBJECTIVES if one not in (denoising, dmd)], ids=lambda one: one.__name__
)
def test_a_frame_is_judged_by_its_own_time(objective: Objective) -> None:
    """Where the network looks at each frame alone, a clip's loss is the mean of its frames' losses: norms are over a
    frame, since each has a time of its own. Not so DMD's, which is over the clip, and differences over time."""
    full = case()

    def alone(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x) * (1 + t[..., None, None, None])

    full = replace(full, student=alone)
    whole = objective(full, alone, full.weight)
    each = [full.frame(row, column) for row in range(B) for column in range(T)]
    parts = torch.stack([objective(one, alone, one.weight) for one in each])
    assert torch.allclose(whole, parts.mean(), rtol=1e-5)


@pytest.mark.parametrize("objective", [consistency, continuous, progressive, fixed_grid, policy, dmd])
def test_no_gradient_reaches_teacher_or_target(objective: Objective) -> None:
    """All looks but the last of the student's go without gradient: as many as one look has."""
    full = case()
    leaf = torch.zeros(1, requires_grad=True)
    with_gradient = []

    def student(x: Tensor, t: Tensor) -> Tensor:
        with_gradient.append(torch.is_grad_enabled())
        return torch.tanh(x) + leaf

    objective(full, student, 1.0)
    assert with_gradient.count(True) == 1


def test_guidance_is_the_same_of_output_clean_latent_and_velocity() -> None:
    full = case()
    other: Network = still(full)
    x, t = full.x0, full.t
    times = t[..., None, None, None]
    output = Guided(full.student, other, 2.5)(x, t)
    c, u = full.student(x, t), other(x, t)
    assert torch.allclose(output, c + 1.5 * (c - u), atol=1e-5)
    for says in (full.schedule.clean, full.schedule.velocity, full.schedule.noise):
        of_c, of_u = says(x, c, times), says(x, u, times)
        assert torch.allclose(says(x, output, times), of_u + 2.5 * (of_c - of_u), atol=1e-4)
    assert torch.equal(Guided(full.student, other, 1.0)(x, t), c)
