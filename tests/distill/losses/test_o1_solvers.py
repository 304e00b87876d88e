"""O1: solvers of the probability flow against its closed form, for Gaussian data."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from distill.solvers import OneStep, Solver, between, consistency, few_steps, sample
from distill.times import even_times, shifted_times
from engines.schedule import Schedule
from tests.distill.losses.worlds import NOISE_ROWS, UNIT, VELOCITY_ROWS, Gaussian, Mixture, column

SCHEDULES = [UNIT, Schedule("trig"), NOISE_ROWS, VELOCITY_ROWS]


def ends(world: Gaussian, schedule: Schedule, times: tuple[float, ...], solver: Solver) -> tuple[Tensor, Tensor]:
    """Where a start one deviation above the mean comes to, by the solver and in truth."""
    first, last = column(times[:1]), column(times[-1:])
    x = schedule.alpha(first) * world.mean + world.spread_at(schedule, first)
    return (
        sample(world.network(schedule), schedule, x, times, solver, axes=1),
        world.flow(schedule, x, first, last),
    )


def error(world: Gaussian, schedule: Schedule, steps: int, solver: Solver) -> float:
    got, exact = ends(world, schedule, even_times(schedule, steps), solver)
    return float((got - exact).abs())


def kept(deviation: float, schedule: Schedule, times: tuple[float, ...], solver: Solver = "ddim") -> float:
    """What share of the data's deviation a chain of steps keeps: its slope."""
    world, first = Gaussian(0.3, deviation), column(times[:1])
    x = torch.stack([torch.zeros_like(first), torch.ones_like(first)])
    low, high = sample(world.network(schedule), schedule, x, times, solver, axes=2)
    return float((high - low) * world.spread_at(schedule, first) / deviation)


def karras(steps: int) -> tuple[float, ...]:
    """Karras's 80 to 0.002 (arXiv 2206.00364, eq. 5), then 0, as angles."""
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    return (*(math.atan((high + i / (steps - 1) * (low - high)) ** 7) for i in range(steps)), 0.0)


@pytest.mark.parametrize("schedule", [NOISE_ROWS, VELOCITY_ROWS], ids=str)
def test_o1_ddim_on_the_table_is_off_by_as_much_as_is_known(schedule: Schedule) -> None:
    world = Gaussian(0.3, 1.0)
    assert error(world, schedule, 50, "ddim") == pytest.approx(0.0271, abs=5e-5)
    assert error(world, schedule, 100, "ddim") == pytest.approx(0.0138, abs=5e-5)


@pytest.mark.parametrize(
    ("schedule", "times", "shares"),
    [
        (NOISE_ROWS, even_times(NOISE_ROWS, 50), (0.9729, 0.9524, 0.8120)),
        (NOISE_ROWS, even_times(NOISE_ROWS, 10), (0.8768, 0.7995, 0.5557)),
        (UNIT, shifted_times(48, 5.0), (0.948, 0.911, 0.640)),
        (UNIT, karras(40), (0.936, 0.930, 0.912)),
    ],
    ids=["ddpm 50", "ddpm 10", "rectified flow, shift 5, 48", "Karras 40"],
)
def test_o1_a_chain_of_ddim_keeps_too_little_of_fine_detail(
    schedule: Schedule, times: tuple[float, ...], shares: tuple[float, float, float]
) -> None:
    """Euler's steps of a rectified flow or of Karras's ODE are DDIM's at the same ratios of noise to signal."""
    for deviation, share in zip((1.0, 0.5, 0.1), shares):
        assert kept(deviation, schedule, times) == pytest.approx(share, abs=6e-4)


@pytest.mark.parametrize("solver", get_args(Solver))
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_o1_orders_of_convergence(schedule: Schedule, solver: Solver) -> None:
    """From pure noise (trig) or row 999 to clean data: DDIM's error falls with the number of steps, the others' with
    its square. DPM-Solver++(2M) comes to its order late, since its first and last steps are DDIM's."""
    world = Gaussian(0.3, 0.8 if schedule.kind == "trig" else 0.5)
    coarse, fine = error(world, schedule, 100, solver), error(world, schedule, 500, solver)
    low, high = {"ddim": (0.95, 1.05), "heun": (1.85, 2.15), "dpm++2m": (1.6, 2.2)}[solver]
    assert low < math.log(coarse / fine) / math.log(5) < high
    assert fine < {"ddim": 4e-3, "heun": 1e-5, "dpm++2m": 5e-4}[solver]


@pytest.mark.parametrize("solver", ["heun", "dpm++2m"])
def test_o1_orders_hold_on_uneven_grids(solver: Solver) -> None:
    """Long and short steps in turn, three to one: DPM-Solver++(2M) weighs the step before by the lengths of both
    (upside down, its error is five times as large)."""
    world, schedule = Gaussian(0.3, 0.8), Schedule("trig")

    def off(pairs: int) -> float:
        lengths = 0.4 / pairs  # of a pair of steps, in the logarithm of signal to noise
        ratios = [-2 + 10 * lengths * (pair + share) for pair in range(pairs) for share in (0.0, 0.75)]
        times = tuple(math.atan(math.exp(-one)) for one in (*ratios, 2.0))
        got, exact = ends(world, schedule, times, solver)
        return float((got - exact).abs())

    assert 1.6 < math.log2(off(40) / off(80)) < 2.3
    assert off(40) < {"heun": 2e-4, "dpm++2m": 3e-5}[solver]


@pytest.mark.parametrize("solver", ["heun", "dpm++2m"])
def test_o1_orders_hold_where_the_flow_is_not_linear(solver: Solver) -> None:
    world = Mixture()
    x = torch.randn((100, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = [
        sample(world.velocity, UNIT, x, (*even_times(UNIT, n)[:-1], 1e-3), solver, axes=1) for n in (40, 80, 160, 800)
    ]
    off = [float((one - made[-1]).norm(dim=1).median()) for one in made[:-1]]
    assert off[0] / off[1] > 3
    assert off[1] / off[2] > 3


@pytest.mark.parametrize(
    ("schedule", "t", "r"),
    [(UNIT, (1.2, 0.9, 0.4), (0.7, 0.3, 0.1)), (VELOCITY_ROWS, (720.0, 540.0, 240.0), (420.0, 180.0, 60.0))],
    ids=["trig", "ddpm"],
)
def test_o1_between_times_of_each_samples_own(schedule: Schedule, t: tuple[float, ...], r: tuple[float, ...]) -> None:
    """More sub-steps come nearer to the flow; what a sample becomes has nothing to do with its neighbours' times."""
    world, x, begin, end = Gaussian(), column((0.4, -1.0, 0.2)), column(t), column(r)
    exact = world.flow(schedule, x, begin, end)
    look = world.network(schedule)

    def off(solver: OneStep, steps: int) -> float:
        return float((between(look, schedule, x, begin, end, solver, steps) - exact).abs().max())

    assert off("ddim", 8) < 0.15 * off("ddim", 1)
    assert off("heun", 1) < 0.4 * off("ddim", 1)
    assert off("heun", 8) < 2e-3
    alone = between(look, schedule, x[1:2], begin[1:2], end[1:2])
    assert torch.equal(between(look, schedule, x, begin, end)[1:2], alone)


def test_o1_few_steps_is_the_consistency_samplers_rule() -> None:
    """With the exact consistency function every step lands on data: mean and deviation are kept whatever the times."""
    world = Gaussian()
    noise = torch.randn((3, 20_000), generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def exact(x: Tensor, t: Tensor) -> Tensor:
        clean = world.flow(UNIT, x, t, torch.zeros_like(t))
        return (t.cos() * x - clean) / t.sin()

    for times in ((math.pi / 2,), (math.pi / 2, 1.1), (math.pi / 2, 1.1, 0.4)):
        made = few_steps(exact, UNIT, noise, times, axes=1)
        assert float(made.mean()) == pytest.approx(0.3, abs=0.01)
        assert float(made.std()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_o1_a_consistency_function_is_the_identity_on_clean_data(schedule: Schedule) -> None:
    x, zero = column((0.3, -2.0)), column((0.0, 0.0))
    assert torch.equal(consistency(lambda x, t: x + 7, schedule, x, zero), x)
