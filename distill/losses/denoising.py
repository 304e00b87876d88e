"""A denoiser's own loss: the error of what it says of a noisy latent, in the schedule's terms (v, noise, TrigFlow's F).

B examples   T frames   C channels   h, w places; oracles: any axes behind those of t
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from distill.losses.distances import Weight
from distill.network import Network, spread
from distill.solvers import look
from distill.times import angle
from engines.schedule import Schedule

Weighting = Literal["output", "min_snr", "x0"]


@dataclass(frozen=True, slots=True)
class Denoising:
    """E[w(t) weight ||F(x_t, t) - F*||^2] (arXiv 2006.11239, eq. 14, and the like), F* the output that knows x0 and the
    noise; plus `neighbours` times the same of differences between neighbours in x, y and t (VividFace, arXiv
    2412.11279), which weighs what flickers or blurs.

    weighting   output   1: an error of the output itself. For TrigFlow that is EDM's weight (arXiv 2410.11081)
                min_snr  an error of x0 by min(SNR, gamma) (arXiv 2303.09556, eq. 5): clean times stop dominating
                x0       an error of x0, by 1
    weight      [B, T, 1, h, w]: the region-weighted loss
    """

    weighting: Weighting = "output"
    gamma: float = 5.0
    neighbours: float = 0.0

    def __call__(
        self, network: Network, schedule: Schedule, x0: Tensor, noise: Tensor, t: Tensor, weight: Weight = 1.0
    ) -> Tensor:
        times = spread(t, x0)
        x_t = schedule.noisy(x0, noise, times)
        error = look(network, x_t, t) - schedule.target(x0, noise, times)
        weight = weight * self._of_time(schedule, t, x0)
        loss: Tensor = (weight * error.square()).mean()
        if self.neighbours:
            loss = loss + self.neighbours * neighbour_loss(error, weight)
        return loss

    def _of_time(self, schedule: Schedule, t: Tensor, like: Tensor) -> Tensor:
        """w(t), by which an error of the output counts. An error of x0 is `per_output` times one of the output."""
        phi = angle(schedule, t)
        if self.weighting == "output":
            return torch.ones_like(spread(phi, like))
        cot2 = (torch.cos(phi) / torch.sin(phi)).square()  # SNR, of data of the variance that the schedule expects
        per_output = cot2.reciprocal() if schedule.prediction == "noise" else torch.sin(phi).square()
        return spread(per_output * (cot2.clamp(max=self.gamma) if self.weighting == "min_snr" else 1.0), like)


def neighbour_loss(error_BTChw: Tensor, weight: Weight = 1.0) -> Tensor:
    """The mean square of differences of the error between neighbours in t, y and x, summed over those axes that have
    neighbours. Each counts by the mean of its two weights."""
    loss = error_BTChw.new_zeros(())
    for axis in (1, 3, 4):
        if error_BTChw.shape[axis] > 1:
            loss = loss + (_mean_of_two(weight, error_BTChw, axis) * error_BTChw.diff(dim=axis).square()).mean()
    return loss


def _mean_of_two(weight: Weight, like: Tensor, axis: int) -> Weight:
    if not isinstance(weight, Tensor) or weight.shape[axis] == 1:
        return weight
    count = like.shape[axis] - 1
    return (weight.narrow(axis, 0, count) + weight.narrow(axis, 1, count)) / 2
