"""What a person sees of an error: local frequencies, each against the contrast that hides it. No weights, no download.

Pictures are cut into overlapping blocks and each block is taken apart into frequencies, as in Watson's model of visual
quality (SPIE 1913, 1993) with Fourier instead of cosine waves (Czolbe et al., arXiv 2006.15057). With Z' what was made,
Z what was asked for, complex, at frequency k of a block:

    hidden_k = threshold (1 + (|k| / cut)^2) + masking mean_j |Z_j|
    error_k^2 = (amplitude (|Z'_k| - |Z_k|)^2 + phase |Z'_k - Z_k|^2) / hidden_k^2

and the root of their mean is a picture's error. Amplitudes hardly change when something moves by a pixel, and fall when
it blurs: the very contrary of an error by pixels. Luma counts at two scales, chroma, whose detail nobody sees, at half
the size. Why these features and no others: docs/decisions/013-perceptual-features.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

BLOCK_PX = 8
CHROMA = 0.5  # its weight beside luma's
TINY = 1e-6  # of a squared amplitude: a root's slope at zero is infinite
YCC_FROM_RGB = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))  # BT.601


@dataclass(frozen=True, slots=True)
class Bands:
    """The error above, its mean over pictures.

    threshold  amplitude of the smallest wave that is seen at all, of pictures -1..1
    cut        frequency, in waves a block, from which the eye is less sensitive
    masking    how much a block's contrast hides
    stride_px  between blocks. 8 costs a quarter and leaves the blocks' rims out: for training, with other corners in
               every step
    """

    threshold: float = 0.04
    cut: float = 4.0
    masking: float = 1.0
    amplitude: float = 1.0
    phase: float = 0.25
    scales: int = 2
    stride_px: int = 4

    def __call__(
        self, made: Tensor, truth: Tensor, weight: Tensor | None = None, corner: tuple[int, int] = (0, 0)
    ) -> Tensor:
        """Pictures [..., 3, S, S], -1..1, float32. weight: [..., 1, S, S], 1 on average; None: everywhere alike.

        corner  first row and column of the first block, less than `stride_px`
        """
        with torch.autocast(truth.device.type, enabled=False):  # in bfloat16 small waves would drown
            return self._in_full(made, truth, weight, corner)

    def _in_full(self, made: Tensor, truth: Tensor, weight: Tensor | None, corner: tuple[int, int]) -> Tensor:
        first, second = (_opponents(one) for one in (made, truth))
        counts = None if weight is None else flat(weight.expand(*truth.shape[:-3], 1, *truth.shape[-2:]))
        total = torch.zeros((), device=truth.device)
        for scale in range(self.scales):
            total = total + self._of(first[:, :1], second[:, :1], counts, corner)
            first, second = functional.avg_pool2d(first, 2), functional.avg_pool2d(second, 2)
            counts = None if counts is None else functional.avg_pool2d(counts, 2)
            if scale == 0:
                total = total + CHROMA * self._of(first[:, 1:], second[:, 1:], counts, corner)
        return total / self.scales

    def _of(self, made: Tensor, truth: Tensor, weight: Tensor | None, corner: tuple[int, int]) -> Tensor:
        """Of planes [N, C, S, S], each for itself."""
        waves = _waves(truth.device)
        made_even, made_odd = (self._blocks(made, corner) @ waves).chunk(2, -1)
        even, odd = (self._blocks(truth, corner) @ waves).chunk(2, -1)
        made_amplitude, amplitude = _length(made_even, made_odd), _length(even, odd)
        seen = self.threshold * (1 + (_frequencies(truth.device) / self.cut) ** 2)
        hidden = seen + self.masking * amplitude.mean(-1, keepdim=True)
        moved = (made_even - even).square() + (made_odd - odd).square()
        apart = self.amplitude * (made_amplitude - amplitude).square() + self.phase * moved
        error = (apart / hidden.square()).mean(-1)  # N, C, rows, columns
        if weight is not None:
            error = error * self._blocks(weight, corner).mean(-1)
        each: Tensor = torch.sqrt(error.mean((1, 2, 3)) + TINY) - TINY**0.5
        return each.mean()

    def _blocks(self, planes: Tensor, corner: tuple[int, int]) -> Tensor:
        """[N, C, S, S] to [N, C, rows, columns, 64]."""
        cut = planes[..., corner[0] :, corner[1] :]
        return cut.unfold(-2, BLOCK_PX, self.stride_px).unfold(-2, BLOCK_PX, self.stride_px).flatten(-2)


def flat(pictures: Tensor) -> Tensor:
    """[..., C, S, S] to [N, C, S, S]."""
    return pictures.reshape(-1, *pictures.shape[-3:])


def _opponents(pictures: Tensor) -> Tensor:
    """RGB to luma and two colour differences, [N, 3, S, S]."""
    kernel = torch.tensor(YCC_FROM_RGB, device=pictures.device)[:, :, None, None]
    return functional.conv2d(flat(pictures).float(), kernel)


def _length(even: Tensor, odd: Tensor) -> Tensor:
    return torch.sqrt(even.square() + odd.square() + TINY)


@lru_cache(maxsize=4)
def _frequencies(device: torch.device) -> Tensor:
    """Of the waves, in waves a block, [K]."""
    return torch.tensor([math.hypot(u, v) for u, v in _plane()], device=device)


@lru_cache(maxsize=4)
def _waves(device: torch.device) -> Tensor:
    """Cosines, then sines, under a sine window and without a mean, [64, 2 K]; a wave of amplitude 1 gives 1."""
    at = torch.arange(BLOCK_PX, dtype=torch.float64)
    rise = torch.sin(math.pi * (at + 0.5) / BLOCK_PX)
    window = rise[:, None] * rise[None, :]
    cosines: list[Tensor] = []
    sines: list[Tensor] = []
    for u, v in _plane():
        angle = 2 * math.pi * (u * at[:, None] + v * at[None, :]) / BLOCK_PX
        for kept, wave in ((cosines, angle.cos()), (sines, angle.sin())):
            shaped = window * wave
            kept.append((shaped - window * shaped.sum() / window.sum()).flatten())
    return (torch.stack(cosines + sines, 1) * 2 / window.sum()).float().to(device)


def _plane() -> list[tuple[int, int]]:
    """Half of the frequencies: the others are their mirror images."""
    half = BLOCK_PX // 2
    return [
        (u, v)
        for u in range(1 - half, half + 1)
        for v in range(half + 1)
        if not (v == 0 and u <= 0) and not (v == half and u < 0)
    ]
