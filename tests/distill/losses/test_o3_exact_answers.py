"""O3: an exact answer put into every objective is a fixed point of it; O4: how far tangents can be trusted."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from distill.losses import meanflow
from distill.losses.consistency import Consistency
from distill.losses.denoising import Denoising, Weighting
from distill.losses.distances import Distance
from distill.losses.dmd import DistributionMatching, of_fake
from distill.losses.lcm import FixedGrid
from distill.losses.meanflow import MeanFlow
from distill.losses.policy import Policy, knots_of, sample_policy
from distill.losses.progressive import Progressive, one_step_answer
from distill.losses.scm import ContinuousConsistency, central, forward_mode, warm_up
from distill.network import Network, spread
from distill.solvers import ddim, sample
from distill.times import closer, shifted_times
from engines.schedule import Schedule
from tests.distill.losses.latents import case
from tests.distill.losses.worlds import NOISE_ROWS, UNIT, VELOCITY_ROWS, Gaussian

WORLD = Gaussian(0.3, 0.5)
COUNT = 4096
SQUARED = Distance("squared")


def drawn(seed: int, least: float, most: float) -> tuple[Tensor, Tensor, Tensor]:
    """Data, noise, and times between."""
    generator = torch.Generator().manual_seed(seed)
    x0, noise = (torch.randn(COUNT, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.rand(COUNT, generator=generator, dtype=torch.float64) * (most - least) + least
    return WORLD.mean + WORLD.deviation * x0, noise, t


def exact(x: Tensor, t: Tensor) -> Tensor:
    """The network of UNIT whose f is the flow's own end."""
    return (t.cos() * x - WORLD.flow(UNIT, x, t, torch.zeros_like(t))) / t.sin()


@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
def test_o3_the_tangent_of_continuous_consistency_is_zero_at_the_exact_function(sigma_data: float) -> None:
    """In float64, and not at the teacher's own answers, from which a student starts."""
    schedule = Schedule("trig", sigma_data=sigma_data)
    teacher, (x0, noise, t) = WORLD.network(schedule), drawn(0, 0.05, 1.45)
    x_t = schedule.noisy(x0, noise, t)

    def student(x: Tensor, t: Tensor) -> Tensor:
        end = WORLD.flow(schedule, x, t, torch.zeros_like(t))
        return (t.cos() * x - end) / (sigma_data * t.sin())

    objective = ContinuousConsistency()
    assert objective.tangent(student, teacher, schedule, x_t, t)[1].abs().max() < 5e-14
    by_differences = ContinuousConsistency(by="central").tangent(student, teacher, schedule, x_t, t)[1]
    assert by_differences.abs().max() < 1e-4
    assert objective(student, teacher, schedule, x0, noise, t, 1.0) < 1e-24
    undistilled = objective.tangent(teacher, teacher, schedule, x_t, t)[1].abs().mean()
    assert undistilled > 0.1
    assert objective(teacher, teacher, schedule, x0, noise, t, 1.0) > 0.05


def test_o3_the_undistilled_start_is_as_far_away_as_is_known() -> None:
    """Pure noise as data: the reference's control."""
    generator = torch.Generator().manual_seed(0)
    x, t = torch.randn(200_000, generator=generator), torch.rand(200_000, generator=generator) * 1.4 + 0.05
    teacher = WORLD.network(UNIT)
    g = ContinuousConsistency().tangent(teacher, teacher, UNIT, x.double(), t.double())[1]
    assert float(g.abs().mean()) == pytest.approx(0.30, abs=0.01)


def test_o3_the_gradient_leads_along_the_normalised_tangent() -> None:
    """-2 g / (||g|| + c): of one size wherever g is large, whatever its scale."""
    (x0, noise, t), teacher = drawn(11, 0.1, 1.4), WORLD.network(UNIT)
    offset = torch.zeros_like(x0, requires_grad=True)
    loss = ContinuousConsistency(c=0.1)(lambda x, t: teacher(x, t) + offset, teacher, UNIT, x0, noise, t, 1.0)
    g = ContinuousConsistency().tangent(teacher, teacher, UNIT, UNIT.noisy(x0, noise, t), t)[1]
    assert torch.allclose(torch.autograd.grad(loss, offset)[0] * COUNT, -2 * g / (g.abs() + 0.1))


def test_o3_a_learned_weight_keeps_the_optimum() -> None:
    """d/dw (e^w L - w) = 0 at w = -ln L: the weight evens out what is hard at some times."""
    (x0, noise, t), teacher = drawn(2, 0.3, 1.2), WORLD.network(UNIT)
    plain = ContinuousConsistency()(teacher, teacher, UNIT, x0, noise, t, 1.0)
    w = torch.full_like(t, -math.log(float(plain))).requires_grad_()
    loss = ContinuousConsistency()(teacher, teacher, UNIT, x0, noise, t, 1.0, log_weight=w)
    assert float(torch.autograd.grad(loss, w)[0].sum()) == pytest.approx(0, abs=1e-12)


def test_o3_warm_up() -> None:
    assert [warm_up(step, 1000) for step in (0, 250, 1000, 5000)] == [0.0, 0.25, 1.0, 1.0]


def rectified_mean_velocity(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
    t_spread, r_spread = (((1 - s) ** 2 * WORLD.deviation**2 + s * s).sqrt() for s in (t, r))
    x_r = (1 - r) * WORLD.mean + (x - (1 - t) * WORLD.mean) * r_spread / t_spread
    return (x - x_r) / (t - r)


def rectified_velocity(x: Tensor, t: Tensor) -> Tensor:
    v = WORLD.deviation**2
    off = (x - (1 - t) * WORLD.mean) / ((1 - t) ** 2 * v + t * t)
    return t * off - WORLD.mean - (1 - t) * v * off


def test_o3_mean_flow_is_at_rest_at_the_exact_mean_velocity() -> None:
    x0, noise, t = drawn(1, 0.08, 0.98)
    r = 0.5 * t
    x_t = (1 - t) * x0 + t * noise
    u = rectified_mean_velocity(x_t, t, r)
    asked = meanflow.wanted(rectified_mean_velocity, x_t, rectified_velocity(x_t, t), t, r)
    assert (u - asked).abs().max() < 1e-13
    assert MeanFlow()(rectified_mean_velocity, rectified_velocity, x0, noise, t, r) < 1e-24

    def control(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        return rectified_velocity(x, t)

    assert MeanFlow()(control, rectified_velocity, x0, noise, t, r) > 0.1


def test_o3_curriculum_measures_the_error_of_one_step_of_the_solver() -> None:
    """With the exact f nothing else is left; the error falls with the square of the step (DDIM) or faster (Heun), and
    the loss of the undistilled teacher does not."""
    x0, noise, t = drawn(3, 0.2, 1.5)
    teacher, schedule = WORLD.network(UNIT), UNIT

    def loss(student: Network, progress: float, solver: str = "ddim") -> float:
        objective = Consistency(SQUARED, "heun" if solver == "heun" else "ddim")
        r = closer(schedule, t, progress)
        return float(objective(student, teacher, schedule, x0, noise, t, r))

    # squared and over the step: h^4 / h
    assert loss(exact, 0.5) / loss(exact, 0.7) == pytest.approx(8, rel=0.25)
    assert loss(exact, 0.5, "heun") / loss(exact, 0.7, "heun") > 20
    assert loss(exact, 0.99) < 1e-7
    assert loss(teacher, 0.99) > 1e3 * loss(exact, 0.99)
    r = closer(schedule, t, 0.0)
    x_t = schedule.noisy(x0, noise, t)
    ends = (
        WORLD.flow(schedule, x, s, torch.zeros_like(s)) for x, s in ((x_t, t), (ddim(teacher, schedule, x_t, t, r), r))
    )
    first, second = ends
    assert loss(exact, 0.0) == pytest.approx(float(((first - second).square() / (t - r)).mean()))


def test_o3_clean_data_has_nothing_to_be_consistent_with() -> None:
    """Row 0 of the ddpm table: no step, no gap, no share of the loss; nor of its gradient."""
    x0, noise, _ = (one[:8] for one in drawn(10, 0.0, 1.0))
    t = torch.zeros_like(x0)
    leaf = torch.ones((), dtype=torch.float64, requires_grad=True)
    teacher = WORLD.network(VELOCITY_ROWS)
    r = closer(VELOCITY_ROWS, t, 0.5)
    loss = Consistency()(lambda x, t: leaf * teacher(x, t), teacher, VELOCITY_ROWS, x0, noise, t, r)
    assert loss.item() == pytest.approx(0, abs=1e-9)
    assert torch.autograd.grad(loss, leaf)[0].item() == 0


def test_o3_a_fixed_grid_is_at_rest_at_the_teachers_chain() -> None:
    """The student that takes all remaining steps of the grid at once has no loss; with steps over two levels, which end
    elsewhere, it has, as has the teacher."""
    grid, teacher = shifted_times(6), WORLD.network(UNIT)
    x0, noise, _ = (one[:60] for one in drawn(4, 0.0, 1.0))
    place = torch.arange(60) % 6 + 1

    def chain(x: Tensor, t: Tensor) -> Tensor:
        ends = torch.stack([sample(teacher, UNIT, x, grid[i:], axes=1) for i in range(6)])
        level = (t[None] - t.new_tensor(grid[:6])[:, None]).abs().argmin(0)
        end = ends.gather(0, level[None])[0]
        return (t.cos() * x - end) / t.sin().clamp(min=1e-9)

    def loss(student: Network, skip: int) -> float:
        return float(FixedGrid(grid, skip, SQUARED)(student, student, teacher, UNIT, x0, noise, place))

    assert loss(chain, 1) < 1e-20
    assert loss(chain, 2) > 1e-4
    assert loss(teacher, 1) > 1e-3


@pytest.mark.parametrize("schedule", [UNIT, VELOCITY_ROWS, NOISE_ROWS], ids=str)
def test_o3_halving_is_at_rest_at_two_steps_of_the_teacher(schedule: Schedule) -> None:
    teacher = WORLD.network(schedule)
    x0, noise, _ = (one[:60] for one in drawn(4, 0.0, 1.0))
    times = (1.4, 1.0, 0.6) if schedule is UNIT else (800.0, 500.0, 240.0)
    t, middle, end = (torch.full((60,), time, dtype=torch.float64) for time in times)

    def two_steps(x: Tensor, t: Tensor) -> Tensor:
        there = ddim(teacher, schedule, ddim(teacher, schedule, x, t, middle), middle, end)
        clean = one_step_answer(schedule, x, there, t, end)
        output: Tensor = schedule.target(clean, (x - schedule.alpha(t) * clean) / schedule.sigma(t), t)
        assert torch.allclose(ddim(lambda x, t: output, schedule, x, t, end), there)
        return output

    assert Progressive()(two_steps, teacher, schedule, x0, noise, t, middle, end) < 1e-20
    assert Progressive()(teacher, teacher, schedule, x0, noise, t, middle, end) > 1e-5


def test_o3_halving_weighs_an_error_of_x0_by_snr_plus_one() -> None:
    """Which is an error of the output, as one, at every time."""
    teacher = WORLD.network(UNIT)
    x0, noise, _ = (one[:60] for one in drawn(4, 0.0, 1.0))
    for times in ((1.5, 1.0, 0.6), (0.3, 0.2, 0.1)):
        t, middle, end = (torch.full((60,), time, dtype=torch.float64) for time in times)

        def off(x: Tensor, t: Tensor, middle: Tensor = middle, end: Tensor = end) -> Tensor:
            there = ddim(teacher, UNIT, ddim(teacher, UNIT, x, t, middle), middle, end)
            clean = one_step_answer(UNIT, x, there, t, end)
            output: Tensor = UNIT.target(clean, (x - t.cos() * clean) / t.sin(), t)
            return output + 0.1

        assert Progressive()(off, teacher, UNIT, x0, noise, t, middle, end).item() == pytest.approx(0.01)


def test_o3_a_policy_whose_knots_lie_on_the_flow_follows_it() -> None:
    """Knots from the teacher along its own flow: the loss falls fast with their number, and serving
    ends where the flow does."""
    x0, noise, _ = drawn(5, 0.0, 1.0)
    start, end = torch.full_like(x0, 1.4), torch.full_like(x0, 0.02)
    teacher = WORLD.network(UNIT)

    def knots(count: int) -> object:
        def look(x: Tensor, s: Tensor) -> Tensor:
            outputs = []
            for k in range(count):
                tau = s + (end - s) * k / (count - 1)
                x_tau = WORLD.flow(UNIT, x, s, tau)
                clean = UNIT.clean(x_tau, teacher(x_tau, tau), tau)
                outputs.append((s.cos() * x - clean) / s.sin())
            return torch.stack(outputs, 1)

        return look

    positions = torch.rand((2, COUNT), generator=torch.Generator().manual_seed(6), dtype=torch.float64)

    def loss(count: int) -> float:
        return float(Policy(substeps=128)(knots(count), teacher, UNIT, x0, noise, start, end, positions))  # type: ignore[arg-type]

    assert loss(3) > 5 * loss(5) > 40 * loss(9)
    x_s = UNIT.noisy(x0, noise, start)
    made = sample_policy(knots(33), UNIT, x_s, (1.4, 0.02), axes=1)  # type: ignore[arg-type]
    assert (made - WORLD.flow(UNIT, x_s, start, end)).abs().max() < 2e-3
    at_knots = knots_of(knots(5), UNIT, x_s, start)  # type: ignore[arg-type]
    assert torch.allclose(at_knots[:, 0], UNIT.clean(x_s, teacher(x_s, start), start))


@pytest.mark.parametrize("weighting", ["output", "min_snr", "x0"])
@pytest.mark.parametrize("schedule", [UNIT, Schedule("trig"), NOISE_ROWS, VELOCITY_ROWS], ids=str)
def test_o3_a_denoiser_cannot_do_better_than_the_posterior_mean(schedule: Schedule, weighting: Weighting) -> None:
    """The loss is least at the exact network, and what is left is the posterior's own variance, as weighted."""
    x0, noise, t = drawn(7, 0.1, 1.5)
    t = t if schedule.kind == "trig" else (t / 1.5 * 999).round()
    look = WORLD.network(schedule)
    objective = Denoising(weighting, gamma=5.0)

    def loss(scale: float, shift: float) -> float:
        return float(objective(lambda x, t: scale * look(x, t) + shift, schedule, x0, noise, t))

    best = loss(1.0, 0.0)
    assert best < min(loss(1.2, 0.0), loss(0.8, 0.0), loss(1.0, 0.15), loss(1.0, -0.15))
    if weighting == "output":
        return
    a, s = schedule.alpha(t), schedule.sigma(t)
    variance = 1 / (1 / WORLD.deviation**2 + (a / s) ** 2)
    unit = schedule.sigma_data**2 if schedule.kind == "trig" else 1.0
    snr = unit * (a / s) ** 2
    expected = (variance / unit * (snr.clamp(max=5.0) if weighting == "min_snr" else 1.0)).mean()
    assert best == pytest.approx(float(expected), rel=0.06)


def test_o3_distribution_matching_stops_where_both_networks_agree() -> None:
    """Else it moves what was made by G, whose mean size over a clip is that of the difference in errors."""
    made, noise, t = (one.reshape(64, 64) for one in drawn(8, 0.2, 1.4))
    t = t[:, 0]
    real, other = WORLD.network(UNIT), Gaussian(0.8, 0.5).network(UNIT)
    leaf = made.clone().requires_grad_()
    objective = DistributionMatching()
    assert torch.autograd.grad(objective(real, real, UNIT, leaf, noise, t), leaf)[0].abs().max() == 0
    loss = objective(real, other, UNIT, leaf, noise, t)
    push = objective.push(real, other, UNIT, made, noise, t)
    gradient = torch.autograd.grad(loss, leaf)[0]
    assert torch.allclose(gradient, push / made.numel())
    assert loss.item() == pytest.approx(float(0.5 * push.square().mean()))
    x_t = UNIT.noisy(made, noise, t[:, None])
    of_real, of_other = (UNIT.clean(x_t, look(x_t, t), t[:, None]) for look in (real, other))
    by_hand = (of_other - of_real) / ((made - of_real).abs().mean(1, keepdim=True) + 1e-6)
    assert torch.allclose(push, by_hand)
    assert (push > 0).all(), "what is made lies where the other network is at home: G leads back, to smaller values"


def test_o3_the_fake_network_learns_what_is_made_and_sends_nothing_back() -> None:
    made, noise, t = drawn(9, 0.2, 1.4)
    leaf, shift = made.clone().requires_grad_(), torch.zeros((), dtype=torch.float64, requires_grad=True)
    look = WORLD.network(UNIT)
    loss = of_fake(lambda x, t: look(x, t) + shift, UNIT, leaf, noise, t)
    loss.backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is None
    assert shift.grad is not None
    assert loss.item() == pytest.approx(float(Denoising()(look, UNIT, made, noise, t)))


# O4


class Small(nn.Module):
    """A network of x [N, 2] and t [N] with sines of the time, as in the reference."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(34, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 2))
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5, generator=generator)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        rates = torch.exp(torch.linspace(0, math.log(100), 16, dtype=t.dtype))
        phase = t[:, None] * rates
        out: Tensor = self.layers(torch.cat([x, torch.sin(phase), torch.cos(phase)], 1))
        return out


def tangent_errors(h: float | None) -> float:
    """Of the JVP in float32 (h None), or of a central difference, relative to float64's."""
    small = Small().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    x, v = (torch.randn((512, 2), generator=generator) for _ in range(2))
    t = torch.rand(512, generator=generator) * 1.3 + 0.1
    truth = forward_mode(copy.deepcopy(small).double(), x.double(), t.double(), v.double(), torch.ones(512).double())[1]
    tangent = (forward_mode if h is None else central)(small, x, t, v, torch.ones(512))[1]
    return float((tangent.double() - truth).norm() / truth.norm())


def test_o4_tangents_in_float32() -> None:
    assert tangent_errors(None) < 1e-4
    assert tangent_errors(1e-3) < 2e-3
    assert tangent_errors(1e-3) > tangent_errors(None)


def test_o4_low_precision_is_refused() -> None:
    small = Small().requires_grad_(False)
    x, t = torch.randn(8, 2), torch.full((8,), 0.5)
    for tangent in (forward_mode, central):
        low = copy.deepcopy(small).bfloat16()
        with pytest.raises(ValueError, match="12 % off"):
            tangent(low, x.bfloat16(), t.bfloat16(), x.bfloat16(), t.bfloat16())
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="precision float32"):
            tangent(small, x, t, x, t)
        with pytest.raises(ValueError, match="throughout"):
            tangent(lambda x, t: small(x, t).bfloat16(), x, t, x, t)


def test_o4_the_denoiser_itself_has_a_tangent() -> None:
    """Through attention, norms and time embedding, in float64: as by differences."""
    real = case(dtype=torch.float64)
    student = real.student
    v, along = torch.randn_like(real.x0), torch.rand_like(real.t)
    exactly = forward_mode(student, real.x0, real.t, v, along)[1]
    nearly = central(student, real.x0, real.t, v, along)[1]
    # differences cross the kinks of ReLU, and the time embedding computes in float32
    assert (exactly - nearly).norm() < 5e-3 * exactly.norm()


def test_o4_the_fast_attention_kernels_have_no_forward_mode() -> None:
    """Why the plain one is asked for; when this fails, torch has learned it."""
    q = torch.randn(1, 2, 16, 8)
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.func.jvp(lambda q: scaled_dot_product_attention(q, q, q), (q,), (q,))

    def attending(x: Tensor, t: Tensor) -> Tensor:
        return scaled_dot_product_attention(x, x, x) * spread(t, x)

    forward_mode(attending, q, torch.ones(1), q, torch.ones(1))


def test_o4_the_ddpm_table_has_no_times_between() -> None:
    real = case("full")
    with pytest.raises(ValueError, match="trig"):
        ContinuousConsistency()(real.student, real.student, real.schedule, real.x0, real.noise, real.t, 1.0)
