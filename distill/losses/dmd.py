"""Distribution matching (DMD, arXiv 2311.18828; on a student's own roll-outs: Self-Forcing, arXiv 2506.08009).

    G = (x0_fake(x_t) - x0_real(x_t)) / (mean|x - x0_real| + 1e-6),   L = 1/2 ||x - sg(x - G)||^2

x is what the student made, alone, with its own past; real the frozen bidirectional teacher, guided if at all; fake a
copy of it that learns to denoise what the student makes, several updates for one of the student's
(`distill.losses.denoising` on x, detached: `of_fake`). It compares distributions, so the teacher may see what the
student cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.losses.denoising import Denoising
from distill.losses.distances import Weight, mean
from distill.network import Network, spread
from distill.solvers import look
from engines.schedule import Schedule

SMALLEST = 1e-6
OUTPUT = Denoising()


@dataclass(frozen=True, slots=True)
class DistributionMatching:
    normalise: bool = True

    def __call__(
        self,
        real: Network,
        fake: Network,
        schedule: Schedule,
        made: Tensor,
        noise: Tensor,
        t: Tensor,
        weight: Weight = 1.0,
    ) -> Tensor:
        """The student's loss. made: [B, ...], with gradient. t: one time for a clip, all of its row [B, T] alike."""
        with torch.no_grad():
            push = self.push(real, fake, schedule, made, noise, t)
        return (0.5 * weight * (made - (made - push).detach()).square()).mean()

    def push(self, real: Network, fake: Network, schedule: Schedule, made: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """G, in the shape of `made`."""
        times = spread(t, made)
        x_t = schedule.noisy(made, noise, times)
        of_real, of_fake = (schedule.clean(x_t, look(one, x_t, t), times) for one in (real, fake))
        push: Tensor = of_fake - of_real
        if not self.normalise:
            return push
        return push / (spread(mean((made - of_real).abs(), 1), made) + SMALLEST)


def of_fake(
    fake: Network,
    schedule: Schedule,
    made: Tensor,
    noise: Tensor,
    t: Tensor,
    denoising: Denoising = OUTPUT,
) -> Tensor:
    """The fake network's loss: it denoises what the student makes, which gets no gradient of it."""
    return denoising(fake, schedule, made.detach(), noise, t)
