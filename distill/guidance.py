"""Guidance (arXiv 2207.12598): away from what the network would say without the condition."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from distill.network import Network


@dataclass(frozen=True, slots=True)
class Guided:
    """u + g (c - u), which is c + (g - 1)(c - u): g = 1 is the condition alone, g = 0 none. Itself a `Network`.

    VividFace's 2.5 (as diffusers) is this g. LCM, CausVid and Self-Forcing write c + w (c - u): g = w + 1. Guiding the
    raw output is the same as guiding x0, noise or velocity: at one x_t each is linear in it, and the two shares add up
    to one.
    """

    conditional: Network
    unconditional: Network
    scale: float

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        conditional = self.conditional(x_t, t)
        if self.scale == 1:
            return conditional
        unconditional = self.unconditional(x_t, t)
        return unconditional + self.scale * (conditional - unconditional)
