"""MeanFlow (arXiv 2505.13447): the mean velocity between two times of a rectified flow, x_t = (1 - t) x0 + t e.

    u* = v - (t - r) (v du/dx + du/dt),   L = ||u(x_t, t, r) - sg u*||^2 / (||.||^2 + c)^p

An option for flow-matching networks, and a second opinion on the JVP of distill.losses.scm. One step: x0 = x_1 - u(x_1,
1, 0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from distill.losses.distances import Weight, mean
from distill.network import Network, spread

MeanVelocity = Callable[[Tensor, Tensor, Tensor], Tensor]  # x_t, t, r


@dataclass(frozen=True, slots=True)
class MeanFlow:
    """c, power: of the adaptive weight (its section 4.1)."""

    c: float = 1e-2
    power: float = 1.0

    def __call__(
        self,
        student: MeanVelocity,
        teacher: Network,
        x0: Tensor,
        noise: Tensor,
        t: Tensor,
        r: Tensor,
        weight: Weight = 1.0,
    ) -> Tensor:
        """teacher: velocities v(x_t, t). r <= t; the paper has r = t in three of four."""
        times = spread(t, x0)
        x_t = (1 - times) * x0 + times * noise
        with torch.no_grad():
            aim = wanted(student, x_t, teacher(x_t, t), t, r)
        error = mean(weight * (student(x_t, t, r) - aim).square(), t.ndim)
        return (error / (error.detach() + self.c) ** self.power).mean()


def wanted(student: MeanVelocity, x_t: Tensor, v: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """u*: what u itself is where it is the flow's mean velocity."""
    with sdpa_kernel(SDPBackend.MATH):
        slope: Tensor = torch.func.jvp(student, (x_t, t, r), (v, torch.ones_like(t), torch.zeros_like(r)))[1]
    return v - spread(t - r, x_t) * slope
