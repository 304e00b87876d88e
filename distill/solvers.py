"""Solvers of the probability flow over a `Network`: from noise to data, or from one time to another.

With x = cos(phi) x0 + sin(phi) z and v = cos(phi) z - sin(phi) x0 (distill.times: both schedules have such an angle
phi), the flow is dx/dphi = v(x, phi), v from the network (arXiv 2410.11081, section 3). While x0 and z stay, x and v
turn:
    x(phi + d) = cos d x + sin d v        v(phi + d) = cos d v - sin d x

ddim     that turn, with x0 and z as the network sees them at the start (arXiv 2010.02502, eq. 12). First order
heun     the turn with the mean of v at both ends, the far one turned back (trapezoidal rule in the turning frame; as
         Karras et al. 2022, arXiv 2206.00364, algorithm 1, the step onto clean data is ddim). Second order, two looks
dpm++2m  x0 extrapolated from this look and the one before (arXiv 2211.01095, algorithm 2). Second order, one look
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from distill.network import Network, spread
from distill.times import angle, time_at
from engines.schedule import Schedule

OneStep = Literal["ddim", "heun"]
Solver = Literal["ddim", "heun", "dpm++2m"]


def look(network: Network, x: Tensor, t: Tensor) -> Tensor:
    """The network's output, in the latent's precision whatever the network's own."""
    return network(x, t).to(x.dtype)


def consistency(network: Network, schedule: Schedule, x: Tensor, t: Tensor) -> Tensor:
    """f(x, t): clean data as the network sees it, and x itself at t = 0 (arXiv 2303.01469, section 3).

    On the ddpm table row 0 counts as clean. It is not quite, so there the rule is a switch.
    """
    clean: Tensor = schedule.clean(x, look(network, x, t), spread(t, x))
    return clean if schedule.kind == "trig" else torch.where(spread(t, x) == 0, x, clean)


def ddim(network: Network, schedule: Schedule, x: Tensor, t: Tensor, to: Tensor) -> Tensor:
    moved: Tensor = schedule.move(x, look(network, x, t), spread(t, x), spread(to, x))
    return moved


def heun(network: Network, schedule: Schedule, x: Tensor, t: Tensor, to: Tensor) -> Tensor:
    turn = spread(angle(schedule, to) - angle(schedule, t), x)
    v = schedule.velocity(x, look(network, x, t), spread(t, x))
    there = turn.cos() * x + turn.sin() * v
    v_there = schedule.velocity(there, look(network, there, to), spread(to, x))
    v_back = turn.cos() * v_there + turn.sin() * there
    corrected: Tensor = turn.cos() * x + turn.sin() * (v + v_back) / 2
    return torch.where(spread(schedule.sigma(to), x) == 0, there, corrected)


def between(
    network: Network, schedule: Schedule, x: Tensor, t: Tensor, to: Tensor, solver: OneStep = "ddim", steps: int = 1
) -> Tensor:
    """x from times t to times `to` (both of the network's shape) in even angles: a teacher's step."""
    step = ddim if solver == "ddim" else heun
    first, last = angle(schedule, t), angle(schedule, to)
    ends = [t, *(time_at(schedule, first + (last - first) * i / steps) for i in range(1, steps)), to]
    for begin, end in pairwise(ends):
        x = step(network, schedule, x, begin, end)
    return x


def sample(
    network: Network, schedule: Schedule, x: Tensor, times: Sequence[float], solver: Solver = "ddim", *, axes: int = 2
) -> Tensor:
    """x at times[0] brought to times[-1] (distill.times makes such lists; 0 is clean).

    x      as `schedule.start` makes it, or noisy at times[0]
    axes   how many of x's first axes have times of their own for the network: 2 for latents [B, T, C, h, w]
    """
    levels = [x.new_full(x.shape[:axes], time) for time in times]
    if solver == "dpm++2m":
        return _dpm2m(network, schedule, x, times, levels)
    for (t, to), end in zip(pairwise(levels), times[1:], strict=True):
        step = ddim if solver == "ddim" or schedule.sigma(end) == 0 else heun
        x = step(network, schedule, x, t, to)
    return x


def few_steps(network: Network, schedule: Schedule, noise: Tensor, times: Sequence[float], *, axes: int = 2) -> Tensor:
    """The consistency sampler (arXiv 2303.01469, algorithm 1): to clean data at once, noised again, and so on.

    noise  [n, *latent], unit variance, one for each of the n times, noisiest first; as engines.models.step uses it
    """
    x = schedule.start(noise[0])
    clean: Tensor = x
    for i, time in enumerate(times):
        if i:
            x = schedule.noisy(clean, noise[i], time)
        clean = consistency(network, schedule, x, x.new_full(x.shape[:axes], time))
    return clean


def _dpm2m(network: Network, schedule: Schedule, x: Tensor, times: Sequence[float], levels: Sequence[Tensor]) -> Tensor:
    """With lambda = log(alpha / sigma), h its change: x <- sigma'/sigma x + alpha' (1 - e^-h) D, D = x0 at first and on
    the step onto clean data, else (1 + 1/2r) x0 - 1/2r x0_before, r = h_before / h."""
    before: tuple[Tensor, float] | None = None
    for i, (t, to) in enumerate(pairwise(times)):
        x0 = schedule.clean(x, look(network, x, levels[i]), t)
        h = _log_ratio(schedule, to) - _log_ratio(schedule, t)
        mixed = x0
        if before is not None and math.isfinite(h):
            half = h / (2 * before[1])
            mixed = (1 + half) * x0 - half * before[0]
        x = schedule.sigma(to) / schedule.sigma(t) * x - schedule.alpha(to) * math.expm1(-h) * mixed
        before = (x0, h)
    return x


def _log_ratio(schedule: Schedule, t: float) -> float:
    sigma = schedule.sigma(t)
    return math.log(schedule.alpha(t) / sigma) if sigma > 0 else math.inf
