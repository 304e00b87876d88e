"""Consistency in continuous time (sCM, arXiv 2410.11081, section 4 and algorithm 1). TrigFlow only, float32 or more.

    T = JVP of F along (cos t sin t v / sigma_d, cos t sin t)
    g = -cos^2 t (sigma_d F- - v) - rho (cos t sin t x_t + sigma_d T);   g <- g / (||g|| + c)
    L = e^w(t) / D ||F - F- - g||^2 - w(t),   F- = sg F,   v = sigma_d F_teacher

The factor cos t sin t is inside the JVP, which keeps it finite near pi/2; it is not multiplied again. rho goes from 0
to 1 over the first steps. Here F is a function of x_t, not of x_t / sigma_d, so its tangent is cos t sin t v.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from distill.losses.distances import Weight, mean
from distill.network import Network, spread
from distill.solvers import look
from engines.schedule import Schedule

WARM_UP_STEPS = 10_000
STEP = 1e-3  # of the central difference: off by 0.1 % in float32, by 80 % at a tenth of it in bfloat16
EXACT = (torch.float32, torch.float64)


def warm_up(step: int, steps: int = WARM_UP_STEPS) -> float:
    """rho."""
    return min(1.0, step / steps)


def forward_mode(network: Network, x: Tensor, t: Tensor, along_x: Tensor, along_t: Tensor) -> tuple[Tensor, Tensor]:
    """F and its JVP. With the plain attention kernel, since the fast ones have no forward mode.

    Raises ValueError in low precision, where the tangent is off by 12 %.
    """
    _refuse_low_precision(x)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        result = torch.func.jvp(network, (x, t), (along_x, along_t))
    _refuse_output(result[0])
    return result[0], result[1]


def central(network: Network, x: Tensor, t: Tensor, along_x: Tensor, along_t: Tensor) -> tuple[Tensor, Tensor]:
    """The same by differences, three looks instead of one and a half: for networks without a forward mode, such as
    wrapped ones (DDP, FSDP2)."""
    _refuse_low_precision(x)
    with torch.no_grad():
        out = network(x, t)
        _refuse_output(out)
        ahead, behind = (network(x + h * along_x, t + h * along_t) for h in (STEP, -STEP))
    return out, (ahead - behind) / (2 * STEP)


TANGENTS: dict[str, Callable[[Network, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "forward_mode": forward_mode,
    "central": central,
}


@dataclass(frozen=True, slots=True)
class ContinuousConsistency:
    """c: of the tangent's normalisation."""

    c: float = 0.1
    by: Literal["forward_mode", "central"] = "forward_mode"

    def __call__(
        self,
        student: Network,
        teacher: Network,
        schedule: Schedule,
        x0: Tensor,
        noise: Tensor,
        t: Tensor,
        rho: float,
        weight: Weight = 1.0,
        log_weight: Tensor | None = None,
    ) -> Tensor:
        """log_weight: w(t), learned, in the shape of t; None: 0. Raises ValueError in low precision."""
        x_t = schedule.noisy(x0, noise, spread(t, x0))
        frozen, g = self.tangent(student, teacher, schedule, x_t, t, rho)
        size = mean(g.square(), t.ndim).sqrt() * (g[(0,) * t.ndim].numel() ** 0.5)  # ||g||
        g = g / (spread(size, g) + self.c)
        gap = look(student, x_t, t) - frozen - g
        loss = mean(weight * gap.square(), t.ndim)
        if log_weight is not None:
            loss = log_weight.exp() * loss - log_weight
        return loss.mean()

    def tangent(
        self, student: Network, teacher: Network, schedule: Schedule, x_t: Tensor, t: Tensor, rho: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """F- and g, before it is normalised: zero where the student is the flow's consistency function."""
        if schedule.kind != "trig":
            raise ValueError("continuous-time consistency needs the trig schedule: the ddpm table has no times between")
        sigma_data = schedule.sigma_data
        cos, sin = torch.cos(t), torch.sin(t)
        with torch.no_grad():
            v = sigma_data * look(teacher, x_t, t)
            both = spread(cos * sin, x_t)
            frozen, slope = TANGENTS[self.by](student, x_t, t, both * v, cos * sin)
            g = -spread(cos.square(), x_t) * (sigma_data * frozen - v) - rho * (both * x_t + sigma_data * slope)
        return frozen, g


def _refuse_low_precision(x: Tensor) -> None:
    if x.dtype not in EXACT or torch.is_autocast_enabled(x.device.type):
        raise ValueError("tangents in bfloat16 are 12 % off: run continuous-time consistency with precision float32")


def _refuse_output(out: Tensor) -> None:
    if out.dtype not in EXACT:
        raise ValueError(f"the network answers in {out.dtype}: tangents need float32 throughout")
