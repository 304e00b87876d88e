"""Clips of scalar frames whose law is known, AR(1) with unit variance, under TrigFlow with sigma_d = 1.

R noises that a result depends on, as columns: all of it is linear, so a frame is a vector over the independent noises
and its law is exact, without sampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.network import Network


def powers(base: float, exponent: Tensor) -> Tensor:
    return torch.exp(math.log(base) * exponent)


@dataclass(frozen=True)
class Clip:
    rho: float
    frames: int

    @property
    def covariance(self) -> Tensor:
        i = torch.arange(self.frames, dtype=torch.float64)
        return powers(self.rho, (i[:, None] - i[None]).abs())

    @property
    def innovation(self) -> float:
        return 1 - self.rho**2

    def teacher(self) -> Network:
        """Bidirectional: x [B, T], t [B], each frame seen with all of its clip."""
        return lambda x, t: denoiser(self.covariance.to(x.dtype), x, t)


def denoiser(covariance: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The exact network for x [B, T] of this covariance, zero mean, one time t [B] a row."""
    a, s = t.cos()[:, None], t.sin()[:, None]
    eye = torch.eye(len(covariance), dtype=x.dtype)
    noisy = (a**2)[..., None] * covariance + (s**2)[..., None] * eye
    off: Tensor = torch.linalg.solve(noisy, x[..., None])
    return a * s * off[..., 0] - s * a * (covariance @ off)[..., 0]


def root(square: Tensor) -> Tensor:
    """The symmetric root."""
    values, vectors = torch.linalg.eigh(square)
    whole: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return whole


@dataclass(frozen=True)
class Window:
    """W frames after one clean frame that is known, as rows over the noises [W, R]; each row has a time of its own.

    causal: row i sees rows up to i only, as a causal mask inside the window would have it
    """

    rho: float
    width: int
    causal: bool = False

    @property
    def mean(self) -> Tensor:
        """Of the frames, over the clean one."""
        return powers(self.rho, torch.arange(1, self.width + 1, dtype=torch.float64))

    @property
    def covariance(self) -> Tensor:
        slot = torch.arange(1, self.width + 1, dtype=torch.float64)
        apart, far = (slot[:, None] - slot[None]).abs(), slot[:, None] + slot[None]
        return powers(self.rho, apart) - powers(self.rho, far)

    def clean(self, x: Tensor, t: Tensor, known: Tensor) -> Tensor:
        """E[x0 | window, clean frame], [W, R]."""
        a, s = t.cos(), t.sin()
        off = x - (a * self.mean)[:, None] * known
        cross = self.covariance * a  # of clean frames with noisy ones
        noisy = a[:, None] * self.covariance * a + torch.diag(s**2)
        rows: list[Tensor] = [cross @ torch.linalg.solve(noisy, off)]
        if not self.causal:
            return self.mean[:, None] * known + rows[0]
        rows = [
            cross[i : i + 1, : i + 1] @ torch.linalg.solve(noisy[: i + 1, : i + 1], off[: i + 1])
            for i in range(self.width)
        ]
        return self.mean[:, None] * known + torch.cat(rows)

    def network(self, known: Tensor) -> Network:
        def look(x: Tensor, t: Tensor) -> Tensor:
            a, s = t.cos()[:, None], t.sin()[:, None]
            x0 = self.clean(x, t, known)
            return a * (x - a * x0) / s - s * x0

        return look
