"""O5 and O6: a small network distilled in the plane, through the real objectives, from a teacher that is never wrong.

Four blobs (`worlds.Mixture`), TrigFlow, Adam with a cosine, an average of the weights that is judged: its one-step map
against the flow's, and the energy distance of its samples to data.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.losses.consistency import Consistency
from distill.losses.distances import EACH
from distill.losses.lcm import FixedGrid
from distill.losses.policy import Policy, sample_policy
from distill.losses.scm import ContinuousConsistency
from distill.solvers import few_steps, sample
from distill.times import closer, even_times, lognormal, shifted_times
from tests.distill.losses.worlds import UNIT, Mixture

WORLD = Mixture()
KNOTS = 10
FIRST = math.pi / 2 - 1e-3
TIMES = {1: (FIRST,), 2: (FIRST, 1.1), 4: (FIRST, 1.3, 1.1, 0.7)}


@dataclass(frozen=True)
class Scale:
    """How large the network is and the batches are: the reference's, or a quarter of the work."""

    width: int = 160
    batch: int = 512


SMALL = Scale(96, 256)


class Net(nn.Module):
    """x [N, 2], t [N] to [N, out]."""

    rates: Tensor

    def __init__(self, generator: torch.Generator, scale: Scale, out: int = 2) -> None:
        super().__init__()
        self.scale = scale
        sizes = [2 + 16, scale.width, scale.width, scale.width, out]
        layers: list[nn.Module] = []
        for before, after in zip(sizes, sizes[1:]):  # noqa: RUF007
            layers += [nn.Linear(before, after), nn.SiLU()]
        self.layers = nn.Sequential(*layers[:-1])
        self.register_buffer("rates", torch.linspace(1, 8, 8))
        for parameter in self.parameters():
            bound = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.1
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        phase = t[:, None] * self.rates
        out: Tensor = self.layers(torch.cat([x, torch.sin(phase), torch.cos(phase)], 1))
        return out


@dataclass(frozen=True)
class Batch:
    x0: Tensor
    noise: Tensor
    t: Tensor
    numbers: Tensor  # 0..1
    progress: float


Loss = Callable[[Net, Net, Batch], Tensor]


def curriculum(student: Net, target: Net, batch: Batch) -> Tensor:
    r = closer(UNIT, batch.t, batch.progress)
    return Consistency()(student, WORLD.velocity, UNIT, batch.x0, batch.noise, batch.t, r)


def fixed_grid(student: Net, target: Net, batch: Batch) -> Tensor:
    grid = (FIRST, *shifted_times(50)[1:])
    place = (batch.numbers[0] * 50).long() + 1
    return FixedGrid(grid, distance=EACH)(student, target, WORLD.velocity, UNIT, batch.x0, batch.noise, place)


def continuous(student: Net, target: Net, batch: Batch) -> Tensor:
    rho = min(1.0, batch.progress / 0.2)
    return ContinuousConsistency()(student, WORLD.velocity, UNIT, batch.x0, batch.noise, batch.t, rho)


def policy(student: Net, target: Net, batch: Batch) -> Tensor:
    start = torch.full_like(batch.t, FIRST)
    return Policy(substeps=8)(
        knots(student), WORLD.velocity, UNIT, batch.x0, batch.noise, start, start * 0, batch.numbers
    )


def knots(student: Net) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, t: student(x, t).reshape(len(x), KNOTS, 2)


def draw(generator: torch.Generator, count: int, progress: float) -> Batch:
    noise = torch.randn(count, 2, generator=generator)
    t = lognormal(UNIT, torch.randn(count, generator=generator))
    numbers = torch.rand(2, count, generator=generator)
    return Batch(WORLD.draw(count, generator), noise, t, numbers, progress)


def fresh(scale: Scale, out: int = 2) -> Net:
    return Net(torch.Generator().manual_seed(1), scale, out)


def fitted(scale: Scale, steps: int) -> Net:
    """The common start: a network fitted to the teacher's answers."""
    generator, net = torch.Generator().manual_seed(3), fresh(scale)
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(steps):
        batch = draw(generator, scale.batch, 0)
        x_t = UNIT.noisy(batch.x0, batch.noise, batch.t[:, None])
        loss = (net(x_t, batch.t) - WORLD.velocity(x_t, batch.t)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net


def trained(
    start: Net, loss_of: Loss, steps: int, rate: float | None = None, watch: Callable[[Net], None] | None = None
) -> Net:
    """The average of the weights. rate: of the target network; None: the student itself. watch: sees it ten times."""
    generator = torch.Generator().manual_seed(2)
    student, average = copy.deepcopy(start), copy.deepcopy(start)
    target = student if rate is None else copy.deepcopy(start)
    optimiser = torch.optim.Adam(student.parameters(), 1e-3, betas=(0.9, 0.99))
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        loss = loss_of(student, target, draw(generator, start.scale.batch, step / steps))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        cosine.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(student.parameters()), 20 / steps)
            if rate is not None:
                torch._foreach_lerp_(list(target.parameters()), list(student.parameters()), 1 - rate)
        if watch is not None and step % (steps // 10) == steps // 10 - 1:
            watch(average)
    return average


@dataclass(frozen=True)
class Judge:
    """Fixed noise [4, N, 2], where the flow brings the first of it, and data."""

    noise: Tensor
    exact: Tensor
    data: Tensor

    @classmethod
    def of(cls, count: int = 2000) -> Judge:
        generator = torch.Generator().manual_seed(5)
        noise = torch.randn(4, count, 2, generator=generator)
        times = (*even_times(UNIT, 200)[:-1], 1e-3)
        exact = sample(WORLD.velocity, UNIT, noise[0].double(), (FIRST, *times[1:]), "heun", axes=1).float()
        return cls(noise, exact, WORLD.draw(count, generator))

    @torch.no_grad()
    def made(self, net: Net, steps: int) -> Tensor:
        if net.layers[-1].out_features != 2:  # a policy
            times = tuple(FIRST * (steps - i) / steps for i in range(steps + 1))
            return sample_policy(knots(net), UNIT, self.noise[0], times, axes=1)
        return few_steps(net, UNIT, self.noise[:steps], TIMES[steps], axes=1)

    def error(self, net: Net) -> float:
        """The median distance of the one-step map to the flow's."""
        return float((self.made(net, 1) - self.exact).norm(dim=1).median())

    def agreement(self, net: Net) -> float:
        """How often one step ends in the blob in which the flow does."""
        return float((WORLD.nearest(self.made(net, 1)) == WORLD.nearest(self.exact)).float().mean())

    def energy(self, net: Net, steps: int) -> float:
        """Energy distance to data: 0.0006 to 0.001 between two sets of data."""
        return energy(self.made(net, steps), self.data)


def energy(a: Tensor, b: Tensor) -> float:
    between, within_a, within_b = (torch.cdist(one, other).mean() for one, other in ((a, b), (a, a), (b, b)))
    return float(2 * between - within_a - within_b)
