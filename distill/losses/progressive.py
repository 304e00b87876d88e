"""Progressive distillation (arXiv 2202.00512, algorithm 2), the baseline: a step of the student is two of its teacher.

    x_t -> x_mid -> x_end by the teacher's DDIM;  x~ = (x_end - (s_end/s_t) x_t) / (a_end - (s_end/s_t) a_t)
    L = (SNR + 1) ||x0 - x~||^2

Halve the steps, take the student as teacher, repeat. Given capacity it ends at the first teacher's chain of steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.losses.distances import Weight
from distill.network import Network, spread
from distill.solvers import ddim, look
from distill.times import angle
from engines.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Progressive:
    def __call__(
        self,
        student: Network,
        teacher: Network,
        schedule: Schedule,
        x0: Tensor,
        noise: Tensor,
        t: Tensor,
        middle: Tensor,
        end: Tensor,
        weight: Weight = 1.0,
    ) -> Tensor:
        times = spread(t, x0)
        x_t = schedule.noisy(x0, noise, times)
        with torch.no_grad():
            x_middle = ddim(teacher, schedule, x_t, t, middle)
            x_end = ddim(teacher, schedule, x_middle, middle, end)
            aim = one_step_answer(schedule, x_t, x_end, times, spread(end, x0))
        clean = schedule.clean(x_t, look(student, x_t, t), times)
        per_snr = torch.sin(angle(schedule, times)).square().reciprocal()  # SNR + 1
        loss: Tensor = (weight * per_snr * (clean - aim).square()).mean()
        return loss


def one_step_answer(schedule: Schedule, x_t: Tensor, x_end: Tensor, t: Tensor, end: Tensor) -> Tensor:
    """The x0 with which one step of DDIM leads from x_t to x_end."""
    ratio = schedule.sigma(end) / schedule.sigma(t)
    answer: Tensor = (x_end - ratio * x_t) / (schedule.alpha(end) - ratio * schedule.alpha(t))
    return answer
