"""Data whose scores are known in closed form, as a `Network` that is never wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.network import Network, spread
from engines.schedule import Schedule

UNIT = Schedule("trig", sigma_data=1.0)
NOISE_ROWS = Schedule("ddpm", "noise")
VELOCITY_ROWS = Schedule("ddpm", "velocity")


@dataclass(frozen=True)
class Gaussian:
    """x0 ~ N(mean, deviation^2), each value alone."""

    mean: float = 0.3
    deviation: float = 0.5

    def network(self, schedule: Schedule) -> Network:
        def look(x: Tensor, t: Tensor) -> Tensor:
            times = spread(t, x)
            a, s, v = schedule.alpha(times), schedule.sigma(times), self.deviation**2
            # written out, so that nothing is divided by the noise's share, which is 0 at t = 0
            off = (x - a * self.mean) / (a * a * v + s * s)
            output: Tensor = schedule.target(self.mean + a * v * off, s * off, times)
            return output

        return look

    def spread_at(self, schedule: Schedule, t: Tensor) -> Tensor:
        square: Tensor = schedule.alpha(t) ** 2 * self.deviation**2 + schedule.sigma(t) ** 2
        return square.sqrt()

    def flow(self, schedule: Schedule, x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        """x_r = a_r mu + (x_t - a_t mu) sqrt(...): the probability flow's own map."""
        t, r = spread(t, x), spread(r, x)
        ratio = self.spread_at(schedule, r) / self.spread_at(schedule, t)
        moved: Tensor = schedule.alpha(r) * self.mean + (x - schedule.alpha(t) * self.mean) * ratio
        return moved


@dataclass(frozen=True)
class Mixture:
    """Four Gaussian blobs in the plane, at the corners of a square."""

    corner: float = 0.9
    deviation: float = 0.15

    @property
    def modes(self) -> Tensor:
        return torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]) * self.corner

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        which = torch.randint(0, 4, (count,), generator=generator)
        return self.modes[which] + self.deviation * torch.randn(count, 2, generator=generator)

    def clean(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x0 | x_t] under UNIT."""
        a, s = spread(t, x).cos(), spread(t, x).sin()
        variance = a * a * self.deviation**2 + s * s
        modes = self.modes.to(x.dtype)
        away = (x[:, None] - a[..., None] * modes).square().sum(-1)
        mean = torch.softmax(-away / (2 * variance), 1) @ modes
        return mean + a * self.deviation**2 / variance * (x - a * mean)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """The network of UNIT that knows all."""
        a, s = spread(t, x).cos(), spread(t, x).sin()
        x0 = self.clean(x, t)
        return a * (x - a * x0) / s - s * x0

    def nearest(self, x: Tensor) -> Tensor:
        return torch.cdist(x, self.modes).argmin(1)


def column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
