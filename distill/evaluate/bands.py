"""How much of a latent's spread is kept, from coarse to fine. What few steps or a poor solver lose first is the finest
band (reference: docs/evaluation.md). Pure.

N pictures   C channels   h, w
"""

from __future__ import annotations

import torch
from torch import Tensor

EDGES = (1 / 8, 1 / 4)  # cycles per latent pixel: structures over 64 px of the picture, over 32 px, and finer ones
NAMES = ("coarse", "middle", "fine")


def band_energy(latents_NChw: Tensor) -> Tensor:
    """Mean square in each band, float64 [3]. The mean of each channel counts in none."""
    height, width = latents_NChw.shape[-2:]
    spectrum = torch.fft.fft2(latents_NChw.double(), norm="forward").abs().square()
    y, x = torch.fft.fftfreq(height, device=spectrum.device), torch.fft.fftfreq(width, device=spectrum.device)
    frequency = torch.hypot(y[:, None], x[None, :]).double()
    low = (-1.0, *EDGES)
    high = (*EDGES, 1.0)
    power = spectrum.mean(dim=(0, 1))
    power[0, 0] = 0
    return torch.stack([power[(frequency > a) & (frequency <= b)].sum() for a, b in zip(low, high)])
