"""Random numbers by counter: the same for the same seed, step and example, on any rank, in any order, after any resume.

Every use has a stream of its own, by name. Philox (Salmon et al. 2011) as in engines.noise, so on every device alike.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engines.noise import noise


@dataclass(frozen=True, slots=True)
class Draws:
    """What one batch may draw. `numbers`: of its examples (`Shown.numbers`); B of them."""

    seed: int
    step: int
    numbers: tuple[int, ...]
    device: str = "cpu"

    def normal(self, stream: str, *shape: int) -> Tensor:
        """Standard normal, float32 [B, *shape]."""
        rows = [noise(self._key(stream, number), self.step, shape) for number in self.numbers]
        return torch.from_numpy(np.stack(rows)).to(self.device)

    def uniform(self, stream: str, *shape: int) -> Tensor:
        """Over 0..1, without 1, float32 [B, *shape]."""
        count = int(np.prod(shape, dtype=np.int64))
        rows = [
            (self._words(stream, number, count) >> np.uint64(40)).astype(np.float32).reshape(shape) * np.float32(2**-24)
            for number in self.numbers
        ]
        return torch.from_numpy(np.stack(rows)).to(self.device)

    def common(self, stream: str) -> float:
        """One number over 0..1 for the whole step, the same on every rank."""
        return float(self._words(stream, 0, 1)[0] >> np.uint64(11)) * 2**-53

    def _words(self, stream: str, number: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        words = np.random.Philox(key=self._key(stream, number), counter=[0, 0, 1, self.step])
        return np.asarray(words.random_raw(count), np.uint64)

    def _key(self, stream: str, number: int) -> int:
        """64 bits of seed, stream and example, mixed so that neighbours have nothing in common (splitmix64)."""
        key = _mixed(self.seed)
        for part in (zlib.crc32(stream.encode()), number):
            key = _mixed(key ^ (part & (2**64 - 1)))
        return key


def _mixed(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)
