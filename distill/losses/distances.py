"""How far an answer is from what was asked, sample by sample.

A sample is what has a time of its own: everything behind the first `axes` axes, which are those of t. A norm is a root
mean square over it, so that constants mean the same at every size: an l2 norm divided by the root of D, its number of
values. A weight [..., 1, h, w] (1 on average) counts errors place by place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Weight = Tensor | float


def mean(values: Tensor, axes: int) -> Tensor:
    """Over everything behind the first axes."""
    return values.flatten(axes).mean(-1) if values.ndim > axes else values


@dataclass(frozen=True, slots=True)
class Distance:
    """squared            mean of d^2
    huber              sqrt(mean of d^2 + c^2) - c: pseudo-Huber of the whole sample (iCT, arXiv 2310.14189, whose
                       0.00054 sqrt(D) is c = 0.00054 here; ECT has c = 0)
    huber_per_element  mean of sqrt(d^2 + c^2) - c (LCM's script: c = 0.001)
    """

    kind: Literal["squared", "huber", "huber_per_element"] = "huber"
    c: float = 1e-3

    def __call__(self, difference: Tensor, axes: int, weight: Weight = 1.0) -> Tensor:
        """difference [*axes, ...] to [*axes]."""
        square = difference.square()
        if self.kind == "squared":
            return mean(weight * square, axes)
        if self.kind == "huber":
            return torch.sqrt(mean(weight * square, axes) + self.c**2) - self.c
        return mean(weight * (torch.sqrt(square + self.c**2) - self.c), axes)


WHOLE = Distance("huber", 1e-3)
EACH = Distance("huber_per_element", 1e-3)
