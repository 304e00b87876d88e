"""Noise schedules: how a clean latent is noised, and what a network's output says about the clean one.

Two kinds (`ScheduleConfig`), both written with unit noise e: x_t = alpha(t) x0 + sigma(t) e.

trig  TrigFlow (sCM, arXiv 2410.11081, section 3): alpha = cos t, sigma = sigma_d sin t, t in radians from 0 (clean) to
      pi/2 (noise). With z = sigma_d e the network is F(x_t / sigma_d, t), and
          velocity v = dx_t/dt = cos t z - sin t x0 = sigma_d F
          x0 = cos t x_t - sin t sigma_d F
ddpm  SD1.5's table of 1,000 steps, "scaled linear" from 0.00085 to 0.012: alpha = sqrt(abar), sigma = sqrt(1 - abar).
          noise     F = e,                       x0 = (x_t - sigma F) / alpha
          velocity  F = alpha e - sigma x0,      x0 = alpha x_t - sigma F      (arXiv 2202.00512, appendix D)
      The table does not end in pure noise: alpha(999) = 0.068, though sampling starts from noise alone (arXiv
      2305.08891). Noise prediction multiplies an error of the network by sigma/alpha = 14.6 there: one step wants
      velocity.

Values may be floats, NumPy arrays or torch tensors; times too, in shapes that broadcast. Nothing here imports torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engines.models.config import ScheduleConfig

Values = Any  # float, NumPy array or torch tensor
STEPS = 1000  # of the ddpm table


@dataclass(frozen=True, slots=True)
class Schedule:
    """The mathematics of one `ScheduleConfig`."""

    kind: Literal["trig", "ddpm"] = "trig"
    prediction: Literal["velocity", "noise"] = "velocity"
    sigma_data: float = 0.5
    alphas: tuple[float, ...] = field(init=False, repr=False, compare=False)  # the ddpm table
    sigmas: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind == "trig" and self.prediction != "velocity":
            raise ValueError("TrigFlow networks predict the velocity; noise prediction needs the ddpm schedule")
        signal = ddpm_signal() if self.kind == "ddpm" else np.zeros(0)
        object.__setattr__(self, "alphas", tuple(np.sqrt(signal).tolist()))
        object.__setattr__(self, "sigmas", tuple(np.sqrt(1 - signal).tolist()))

    @classmethod
    def of(cls, config: ScheduleConfig) -> Schedule:
        return cls(config.kind, config.prediction, config.sigma_data)

    @property
    def last(self) -> float:
        """The noisiest time."""
        return math.pi / 2 if self.kind == "trig" else float(STEPS - 1)

    def alpha(self, t: Values) -> Values:
        """What multiplies the clean latent."""
        if self.kind == "trig":
            return _cos(t)
        return _row(self.alphas, t)

    def sigma(self, t: Values) -> Values:
        """What multiplies noise of unit variance."""
        if self.kind == "trig":
            return self.sigma_data * _sin(t)
        return _row(self.sigmas, t)

    def start(self, noise: Values) -> Values:
        """The noisiest latent, made from noise of unit variance alone; with the variance that training saw."""
        return noise * self.sigma_data if self.kind == "trig" else noise

    def noisy(self, x0: Values, noise: Values, t: Values) -> Values:
        """x_t = alpha x0 + sigma e. Also a multi-step consistency sampler's way from its x0 to the next step's x_t
        (arXiv 2303.01469, algorithm 1)."""
        return self.alpha(t) * x0 + self.sigma(t) * noise

    def network_input(self, x_t: Values) -> Values:
        """What the network is shown: of about unit variance."""
        return x_t * (1 / self.sigma_data) if self.kind == "trig" else x_t

    def clean(self, x_t: Values, output: Values, t: Values) -> Values:
        """x0 from the network's output at x_t: sCM's f(x_t, t); at t = 0 (trig) x_t itself, whatever the output."""
        if self.kind == "trig":
            return _cos(t) * x_t - self.sigma_data * _sin(t) * output
        alpha, sigma = self.alpha(t), self.sigma(t)
        if self.prediction == "noise":
            return (x_t - sigma * output) / alpha
        return alpha * x_t - sigma * output

    def target(self, x0: Values, noise: Values, t: Values) -> Values:
        """The output of a network that knew x0 and the noise: what a teacher is trained towards."""
        if self.kind == "trig":
            return _cos(t) * noise - _sin(t) * x0 / self.sigma_data
        if self.prediction == "noise":
            return noise
        return self.alpha(t) * noise - self.sigma(t) * x0

    def velocity(self, x_t: Values, output: Values, t: Values) -> Values:
        """trig: dx_t/dt = sigma_d F. ddpm: v = alpha e - sigma x0 (arXiv 2202.00512), from either prediction."""
        if self.kind == "trig":
            return self.sigma_data * output
        if self.prediction == "velocity":
            return output
        alpha, sigma = self.alpha(t), self.sigma(t)
        return (output - sigma * x_t) / alpha

    def noise(self, x_t: Values, output: Values, t: Values) -> Values:
        """The unit noise in x_t that the output speaks of."""
        if self.kind == "trig":
            return _sin(t) * x_t / self.sigma_data + _cos(t) * output
        if self.prediction == "noise":
            return output
        return self.alpha(t) * output + self.sigma(t) * x_t

    def move(self, x_t: Values, output: Values, t: Values, to: Values) -> Values:
        """One step of DDIM without fresh noise (arXiv 2010.02502, eq. 12): the same x0 and noise at another time. For
        TrigFlow it is cos(t - s) x_t - sin(t - s) sigma_d F (sCM, section 3)."""
        return self.noisy(self.clean(x_t, output, t), self.noise(x_t, output, t), to)


def guess_around(shown: Values, mean: Values, t: Values, spread: float) -> Values:
    """trig: the output F that is right on average where x0 is normal around a known mean, before anything is learned.

    shown   x_t / sigma_d
    mean    of x0 / sigma_d
    spread  deviation of x0 / sigma_d from it, above 0

    With k = sin t / (cos^2 t spread^2 + sin^2 t) Gauss' posterior means are E[z] = k (x_t - cos t mean) and
    E[x0] = mean + spread^2 cos t / sin t E[z]; F = cos t E[z] - sin t E[x0]. At t = pi/2 it is -mean: one step from
    noise alone then gives the mean. EDM (arXiv 2206.00364, appendix B.6) does the same around a mean of zero, where it
    is the skip connection.
    """
    cos, sin = _cos(t), _sin(t)
    share = sin * cos * (1 - spread**2) / (cos**2 * spread**2 + sin**2)
    return share * (shown - cos * mean) - sin * mean


def time_of_same_noise(sigma_over_alpha: Values, sigma_data: float) -> Values:
    """The TrigFlow time of a noise level given as sigma/alpha: tan t = sigma / (alpha sigma_d)."""
    return np.arctan(np.asarray(sigma_over_alpha) / sigma_data)


def ddpm_signal() -> NDArray[np.float64]:
    """SD1.5's cumulative products abar_t of 1 - beta, float64 [1000]."""
    beta = np.linspace(0.00085**0.5, 0.012**0.5, STEPS) ** 2
    return np.cumprod(1 - beta)


def _row(table: tuple[float, ...], t: Values) -> Values:
    """table[t], as a float, array or tensor, whatever t is."""
    if hasattr(t, "detach"):
        return t.new_tensor(table, dtype=t.dtype if t.is_floating_point() else t.float().dtype)[t.long()]
    if isinstance(t, int | float):
        return table[int(t)]
    return np.asarray(table)[np.asarray(t).astype(np.int64)]


def _cos(t: Values) -> Values:
    return t.cos() if hasattr(t, "detach") else np.cos(t) if isinstance(t, np.ndarray) else math.cos(t)


def _sin(t: Values) -> Values:
    return t.sin() if hasattr(t, "detach") else np.sin(t) if isinstance(t, np.ndarray) else math.sin(t)
