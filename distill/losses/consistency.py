"""Consistency distillation (arXiv 2303.01469) with a shrinking step (ECT, arXiv 2406.14548): the default.

    x_r = one step of the teacher from (x_t, t) to r                    no gradient
    L   = (sqrt(||f(x_t, t) - sg f(x_r, r)||^2 + c^2) - c) / (phi_t - phi_r)

r comes from `distill.times.closer`, and draws near to t over the run. Then the fixed point is the flow itself, not the
teacher's chain of N steps, and no target network is needed: with a stop-gradient target and a fixed grid of 50 steps
the same loss diverges (distill.losses.guards).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.losses.distances import WHOLE, Distance, Weight
from distill.network import Network, spread
from distill.solvers import OneStep, between, consistency
from distill.times import angle
from engines.schedule import Schedule

LEAST = 1e-5  # radians, less than any step: rows are 4e-4 apart, the shortest step for TrigFlow is 8e-5


@dataclass(frozen=True, slots=True)
class Consistency:
    """solver, substeps: of the teacher's step. One DDIM step will do, since the step shrinks."""

    distance: Distance = WHOLE
    solver: OneStep = "ddim"
    substeps: int = 1

    def __call__(
        self,
        student: Network,
        teacher: Network,
        schedule: Schedule,
        x0: Tensor,
        noise: Tensor,
        t: Tensor,
        r: Tensor,
        weight: Weight = 1.0,
    ) -> Tensor:
        """teacher: guided already (distill.guidance), if at all. A student with drop-out must drop the same units in
        both looks."""
        x_t = schedule.noisy(x0, noise, spread(t, x0))
        with torch.no_grad():
            x_r = between(teacher, schedule, x_t, t, r, self.solver, self.substeps)
            aim = consistency(student, schedule, x_r, r)
        gap = consistency(student, schedule, x_t, t) - aim
        apart = angle(schedule, t) - angle(schedule, r)  # 0 at row 0 of the ddpm table, where there is no gap either
        return (self.distance(gap, t.ndim, weight) / apart.clamp(min=LEAST)).mean()
