"""Times of a noise schedule: as angles, as grids, and how they are drawn. All pure: random numbers are arguments.

Both schedules walk a quarter of a circle: alpha = cos phi, sigma/sigma_d = sin phi. TrigFlow's t is that angle phi
itself; for the ddpm table phi = atan(sigma / alpha), from 0.03 at row 0 to 1.50 at row 999. Objectives that compare two
times do it in angles, so that one formula holds for both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engines.schedule import STEPS, Schedule

NEAREST = 0.01  # to clean data and to pure noise, in radians, that a time drawn for TrigFlow comes
NOISIEST = math.pi / 2 - 1e-3
PARTS = 7  # of a curriculum: s = 0..6


def angle(schedule: Schedule, t: Tensor) -> Tensor:
    """Radians from 0 (clean) to pi/2 (noise), in the shape of t."""
    if schedule.kind == "trig":
        return t
    return torch.atan2(schedule.sigma(t), schedule.alpha(t))


def time_at(schedule: Schedule, radians: Tensor) -> Tensor:
    """The time of an angle: for ddpm the nearest row, as a float."""
    if schedule.kind == "trig":
        return radians
    rows = angle(schedule, torch.arange(STEPS, dtype=torch.float64, device=radians.device)).to(radians.dtype)
    above = torch.searchsorted(rows, radians.contiguous()).clamp(1, STEPS - 1)
    nearer_below = radians - rows[above - 1] < rows[above] - radians
    return torch.where(nearer_below, above - 1, above).to(radians.dtype)


def even_times(schedule: Schedule, steps: int) -> tuple[float, ...]:
    """steps + 1 times, noisiest first, down to 0. trig: even angles. ddpm: DDIM's rows (arXiv 2010.02502): for 50 steps
    999, 979, ..., 19, then 0."""
    if schedule.kind == "trig":
        return tuple(schedule.last * (steps - i) / steps for i in range(steps + 1))
    return (*(float(STEPS * (steps - i) // steps - 1) for i in range(steps)), 0.0)


def shifted_times(steps: int, shift: float = 5.0) -> tuple[float, ...]:
    """The same for TrigFlow on a rectified flow's grid: tan t = shift u / (1 - u), u even (arXiv 2403.03206, eq. 23).
    Most of its times are noisy."""
    return tuple(math.atan2(shift * u, 1 - u) for u in ((steps - i) / steps for i in range(steps + 1)))


def closer(schedule: Schedule, t: Tensor, progress: float, q: float = 2.0) -> Tensor:
    """The time r < t that a curriculum compares with: r = t (1 - q^-(s+1)), s = 0..6 in equal parts of the run, so that
    the step shrinks from t/2 to t/128 (ECT's plain form, arXiv 2406.14548, section 3.2). progress: 0..1."""
    part = min(int(progress * PARTS), PARTS - 1)
    radians = angle(schedule, t) * (1 - q ** -(part + 1))
    if schedule.kind == "trig":
        return radians
    return torch.minimum(time_at(schedule, radians), t - 1).clamp(min=0)


def lognormal(schedule: Schedule, normal: Tensor, mean: float = -0.4, deviation: float = 1.4) -> Tensor:
    """Times whose noise to signal ratio tan phi is lognormal. normal: standard normal numbers, any shape.

    sCM draws tan(t) sigma_d with mean -1.0, deviation 1.4 (arXiv 2410.11081, section 4.2): for sigma_d = 0.5 that is a
    mean of -0.31 here.
    """
    radians = torch.atan(torch.exp(mean + deviation * normal))
    if schedule.kind == "trig":
        return radians.clamp(NEAREST, NOISIEST)
    return time_at(schedule, radians).clamp(min=1)


def uniform(schedule: Schedule, numbers: Tensor) -> Tensor:
    """Times spread evenly: angles (trig), rows 0..999 (ddpm, as DDPM trains, arXiv 2006.11239). numbers: 0..1."""
    if schedule.kind == "trig":
        return (numbers * schedule.last).clamp(NEAREST, NOISIEST)
    return (numbers * STEPS).floor().clamp(max=STEPS - 1)


def among(numbers: Tensor, count: int) -> Tensor:
    """Whole numbers 1..count, each as likely, from numbers 0..1: a place on a grid, an exit step. int64."""
    return (numbers * count).long().clamp(max=count - 1) + 1
