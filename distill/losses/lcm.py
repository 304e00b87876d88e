"""Consistency distillation on a fixed grid (CD, arXiv 2303.01469; in latents LCM, arXiv 2310.04378): the fallback.

    L = d(f(x_n, t_n), sg f_mu(x_k, t_k)),   x_k = one step of the teacher from t_n to t_k, k = n - skip

f_mu is an average of the student (EMA), or the student itself. Its fixed point is the teacher's chain of N steps, which
keeps less than the data's deviation of fine detail. Settings that cannot get there are refused by
`distill.losses.guards.check_fixed_grid`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.losses.distances import EACH, Distance, Weight
from distill.network import Network, spread
from distill.solvers import OneStep, between, look
from engines.schedule import Schedule

SIGMA_DATA, TIME_SCALE = 0.5, 10.0  # of LCM's boundary scalings


@dataclass(frozen=True, slots=True)
class FixedGrid:
    """grid: N + 1 times, noisiest first, down to 0 (distill.times.even_times or shifted_times)."""

    grid: tuple[float, ...]
    skip: int = 1
    distance: Distance = EACH
    solver: OneStep = "ddim"

    @property
    def levels(self) -> int:
        return len(self.grid) - 1

    def __call__(
        self,
        student: Network,
        target: Network,
        teacher: Network,
        schedule: Schedule,
        x0: Tensor,
        noise: Tensor,
        place: Tensor,
        weight: Weight = 1.0,
    ) -> Tensor:
        """target: the student's average, or the student itself (stop-gradient). place: int64 1..N, 1 the cleanest."""
        upwards = x0.new_tensor(self.grid).flip(0)
        t, r = upwards[place], upwards[(place - self.skip).clamp(min=0)]
        x_t = schedule.noisy(x0, noise, spread(t, x0))
        with torch.no_grad():
            aim = bounded(target, schedule, between(teacher, schedule, x_t, t, r, self.solver), r)
        return self.distance(bounded(student, schedule, x_t, t) - aim, t.ndim, weight).mean()


def bounded(network: Network, schedule: Schedule, x: Tensor, t: Tensor) -> Tensor:
    """f with f(x, 0) = x. ddpm: c_skip x + c_out x0 (arXiv 2310.04378, eq. 6), u = 10 t, c_skip = .25 / (u^2 + .25),
    c_out = u / sqrt(u^2 + .25): a hard switch, (1, 0) at row 0, (6.9e-6, 1.0) at row 19. TrigFlow's f is so."""
    clean: Tensor = schedule.clean(x, look(network, x, t), spread(t, x))
    if schedule.kind == "trig":
        return clean
    scaled = spread(TIME_SCALE * t, x)
    square = scaled.square() + SIGMA_DATA**2
    return SIGMA_DATA**2 / square * x + scaled / square.sqrt() * clean
