"""O2: what consistency on a fixed grid comes to, with a student that can be exact: the teacher's chain, not the flow.

Gaussian data, a weight and a bias for each level of the grid, through the real objective. An off-by-one in the grid, a
wrong boundary, alpha and sigma exchanged: the slope of the one-step map shows each.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from distill.losses.distances import EACH, Distance
from distill.losses.lcm import FixedGrid, bounded
from distill.losses.progressive import Progressive
from distill.network import Network
from distill.solvers import consistency
from distill.times import even_times
from tests.distill.losses.worlds import NOISE_ROWS, Gaussian, column

WORLD = Gaussian(0.3, 0.5)
TEACHER = WORLD.network(NOISE_ROWS)
SQUARED = Distance("squared")
FLOW = 0.5015  # the slope of the flow's own map


def tabular(levels: int, table: Tensor) -> Network:
    """Noise w x + b, with one (w, b) for each row of the grid."""

    def look(x: Tensor, t: Tensor) -> Tensor:
        place = ((t + 1) * levels / 1000 - 1).round().long().clamp(0, levels - 1)
        return table[place, 0] * x + table[place, 1]

    return look


def everywhere(levels: int, nodes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Data, noise and place of a batch that stands for all: at the fixed point no sample has an error."""
    one = torch.linspace(-2, 2, nodes, dtype=torch.float64)
    places = torch.arange(1, levels + 1, dtype=torch.float64)
    place, data, noise = torch.meshgrid(places, one, one, indexing="ij")
    return WORLD.mean + WORLD.deviation * data.flatten(), noise.flatten(), place.flatten().long()


def solved(levels: int) -> Tensor:
    """The table at which the squared loss with a stop-gradient target has no gradient: it is linear in the table."""
    x0, noise, place = everywhere(levels)
    objective = FixedGrid(even_times(NOISE_ROWS, levels), distance=SQUARED)

    def gradient(table: Tensor) -> Tensor:
        leaf = table.clone().requires_grad_()
        student = tabular(levels, leaf)
        loss = objective(student, student, TEACHER, NOISE_ROWS, x0, noise, place)
        return torch.autograd.grad(loss, leaf)[0].flatten()

    nothing = torch.zeros(levels, 2, dtype=torch.float64)
    at_zero = gradient(nothing)
    units = torch.eye(2 * levels, dtype=torch.float64).reshape(-1, levels, 2)
    matrix = torch.stack([gradient(unit) - at_zero for unit in units], 1)
    table: Tensor = torch.linalg.solve(matrix, -at_zero)
    return table.reshape(levels, 2)


def one_step(levels: int, table: Tensor) -> tuple[float, float]:
    """Slope and intercept of the map from row 999 to data."""
    x, top = column((0.0, 1.0)), column((999.0, 999.0))
    low, high = bounded(tabular(levels, table), NOISE_ROWS, x, top)
    return float(high - low), float(low)


@pytest.mark.parametrize(("levels", "slope", "intercept"), [(10, 0.4005, 0.2917), (50, 0.4770, 0.2901)])
def test_o2_the_fixed_point_is_the_teachers_chain(levels: int, slope: float, intercept: float) -> None:
    got = one_step(levels, solved(levels))
    assert got[0] == pytest.approx(slope, abs=1e-4)
    assert got[1] == pytest.approx(intercept, abs=1e-4)
    assert abs(got[0] - FLOW) > 0.02


def start(levels: int) -> Tensor:
    """The teacher's own answers."""
    rows = column(tuple(reversed(even_times(NOISE_ROWS, levels)[:-1])))
    bias, both = (TEACHER(torch.full_like(rows, value), rows) for value in (0.0, 1.0))
    return torch.stack([both - bias, bias], 1).float()


def trained(levels: int, distance: Distance, rate: float | None, steps: int, lr: float = 5e-3) -> tuple[float, float]:
    """Slope and intercept after so many steps on random batches; rate: of the target's average, None: stop-gradient."""
    generator = torch.Generator().manual_seed(0)
    table, objective = start(levels).requires_grad_(), FixedGrid(even_times(NOISE_ROWS, levels), distance=distance)
    average = table.detach().clone()
    optimiser = torch.optim.Adam([table], lr=lr)
    fading = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0.01, steps)
    for _ in range(steps):
        place = torch.randint(1, levels + 1, (512,), generator=generator)
        x0 = WORLD.mean + WORLD.deviation * torch.randn(512, generator=generator)
        noise = torch.randn(512, generator=generator)
        student = tabular(levels, table)
        target = student if rate is None else tabular(levels, average)
        loss = objective(student, target, TEACHER, NOISE_ROWS, x0, noise, place)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        fading.step()
        if rate is not None:
            average.lerp_(table.detach(), 1 - rate)
    return one_step(levels, table.detach().double())


def test_o2_training_comes_there() -> None:
    slope, intercept = trained(10, EACH, 0.9, 300, lr=1e-2)
    assert slope == pytest.approx(0.4005, abs=1e-3)
    assert intercept == pytest.approx(0.2917, abs=1e-3)


@pytest.mark.long
@pytest.mark.parametrize(
    ("distance", "rate", "slope", "intercept"),
    [
        (SQUARED, None, 0.4770, 0.2901),
        (SQUARED, 0.95, 0.4770, 0.2901),
        (EACH, 0.95, 0.4770, 0.2901),
    ],
    ids=["squared", "squared, average", "huber, average"],
)
def test_o2_training_on_fifty_levels(distance: Distance, rate: float | None, slope: float, intercept: float) -> None:
    got = trained(50, distance, rate, 4000, lr=3e-3)
    assert got[0] == pytest.approx(slope, abs=1e-3)
    assert got[1] == pytest.approx(intercept, abs=2e-3)


@pytest.mark.long
def test_o2_huber_with_its_own_answers_as_target_stays_behind() -> None:
    """The reference's .4714, .4733 here: on its way, but not there."""
    assert 0.470 < trained(50, EACH, None, 4000, lr=3e-3)[0] < 0.475


def test_o2_progressive_distillation_ends_at_the_same_chain() -> None:
    """Eight steps halved three times, exactly: the map of one step is that of the eight."""
    schedule, x = NOISE_ROWS, column((0.0, 1.0))
    rows = [column((row, row)) for row in even_times(schedule, 8)]
    teacher: Network = TEACHER
    for stride in (2, 4, 8):
        teacher = _halved(teacher, rows, stride)
    low, high = consistency(teacher, schedule, x, rows[0])
    chain = x
    for t, to in pairwise(rows):
        chain = schedule.move(chain, TEACHER(chain, t), t, to)
    last = schedule.move(x, teacher(x, rows[0]), rows[0], rows[-1])
    assert torch.allclose(last, chain, atol=1e-10)
    assert float(high - low) != pytest.approx(FLOW, abs=0.02)


def _halved(teacher: Network, rows: list[Tensor], stride: int) -> Network:
    """The student that Progressive's loss asks for, found from its gradient, which is linear in the answer."""

    def look(x: Tensor, t: Tensor) -> Tensor:
        place = next(i for i, row in enumerate(rows) if torch.equal(row, t))
        middle, end = rows[place + stride // 2], rows[place + stride]
        # x as the noised data that the objective starts from: x0 = 0
        noise = x / NOISE_ROWS.sigma(t)
        guess = torch.zeros_like(x)
        slopes = []
        for value in (guess, guess + 1):
            leaf = value.clone().requires_grad_()
            with torch.enable_grad():
                loss = Progressive()(_constant(leaf), teacher, NOISE_ROWS, guess, noise, t, middle, end)
                slopes.append(torch.autograd.grad(loss, leaf)[0])
        return -slopes[0] / (slopes[1] - slopes[0])

    return look


def _constant(output: Tensor) -> Network:
    return lambda x, t: output
