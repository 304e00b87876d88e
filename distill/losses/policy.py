"""Policy distillation: pi-ID with the DX policy (pi-Flow, arXiv 2510.14974, section 3).

One look of the student at (x_s, s) gives N outputs, which say x0 at N knots, even in angle from the segment's start s
(knot 0) to its end e. In between x0 is interpolated: that is a policy which leads from s to e without the network.

    roll the detached policy from x_s to some tau;  L = ||x0_theta(tau) - x0_teacher(x_tau, tau)||^2

It learns on its own way, so no error grows unseen; no JVP, no target network. pi-Flow compares velocities, which is
an error of x0 over sigma_tau: `per_sigma`. Without it (the default) clean times do not dominate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from distill.losses.distances import Weight, mean
from distill.network import Network, spread
from distill.solvers import look
from distill.times import angle
from engines.schedule import Schedule

Knots = Callable[[Tensor, Tensor], Tensor]  # x_s, s to outputs [*axes of s, N, ...]
SHORT_OF_END = 0.995  # of a segment, where tau ends: at clean data the teacher's look says nothing


@dataclass(frozen=True, slots=True)
class Policy:
    """substeps: of the roll-out, cheap: no network is asked. Each is DDIM's turn with the policy's x0 in its middle,
    which is second order; pi-Flow has Euler's steps."""

    substeps: int = 16
    per_sigma: bool = False

    def __call__(
        self,
        student: Knots,
        teacher: Network,
        schedule: Schedule,
        x0: Tensor,
        noise: Tensor,
        start: Tensor,
        end: Tensor,
        positions: Tensor,
        weight: Weight = 1.0,
    ) -> Tensor:
        """start, end: of the segment, TrigFlow times in one shape. positions [states, *start.shape]: 0..1, how far the
        roll-out goes; pi-Flow takes 2 states for each look of the student."""
        x_s = schedule.noisy(x0, noise, spread(start, x0))
        knots = knots_of(student, schedule, x_s, start)
        loss = x0.new_zeros(())
        for position in positions * SHORT_OF_END:
            tau = start + (end - start) * position
            with torch.no_grad():
                x_tau = follow(knots, schedule, x_s, start, end, position, self.substeps)
                aim = schedule.clean(x_tau, look(teacher, x_tau, tau), spread(tau, x_tau))
            error = mean(weight * (interpolated(knots, position) - aim).square(), start.ndim)
            loss = loss + (error / schedule.sigma(tau).square() if self.per_sigma else error).mean()
        return loss / len(positions)


def knots_of(student: Knots, schedule: Schedule, x_s: Tensor, start: Tensor) -> Tensor:
    """x0 at the knots, [*axes, N, ...]."""
    outputs = student(x_s, start).to(x_s.dtype)
    shown = x_s.unsqueeze(start.ndim)
    clean: Tensor = schedule.clean(shown, outputs, spread(start, shown))
    return clean


def interpolated(knots: Tensor, position: Tensor) -> Tensor:
    """The policy's x0 at a position 0..1 of its segment, linear between knots."""
    axes, last = position.ndim, knots.shape[position.ndim] - 1
    place = (position * last).clamp(0, last)
    low = place.floor().clamp(max=last - 1)
    share = spread(place - low, knots.select(axes, 0))
    at = low.long().reshape(*low.shape, *[1] * (knots.ndim - axes)).expand(*low.shape, 1, *knots.shape[axes + 1 :])
    before, after = (knots.gather(axes, index).squeeze(axes) for index in (at, at + 1))
    return before * (1 - share) + after * share


def follow(
    knots: Tensor, schedule: Schedule, x: Tensor, start: Tensor, end: Tensor, position: Tensor, substeps: int
) -> Tensor:
    """x at a position of the segment, by the policy alone."""
    if schedule.kind != "trig":
        raise ValueError("a policy's knots lie between times: it needs the trig schedule")
    for i in range(substeps):
        now, then = (position * j / substeps for j in (i, i + 1))
        clean = interpolated(knots, (now + then) / 2)
        t, to = (spread(angle(schedule, start + (end - start) * where), x) for where in (now, then))
        rest = (x - torch.cos(t) * clean) / torch.sin(t)
        x = torch.cos(to) * clean + torch.sin(to) * rest
    return x


def sample_policy(
    student: Knots, schedule: Schedule, x: Tensor, times: tuple[float, ...], *, substeps: int = 64, axes: int = 2
) -> Tensor:
    """One look for each segment between times, noisiest first."""
    for first, last in pairwise(times):
        start, end = (x.new_full(x.shape[:axes], time) for time in (first, last))
        knots = knots_of(student, schedule, x, start)
        x = follow(knots, schedule, x, start, end, torch.ones_like(start), substeps)
    return x
