"""Noise by number: the same seed and frame give the same noise on every machine, in training and live.

Counter-based (Philox 4x64-10, Salmon et al. 2011): frame n of a seed needs no frame before it. The bits are NumPy's
Philox, whose stream does not change between versions; the normal law is made of them here (Box and Muller, 1958), since
NumPy's own may change.
"""

from __future__ import annotations

import math

import numpy as np

from engines.types import Floats

MOST_SEED = 2**64 - 1


def noise(seed: int, frame: int, shape: tuple[int, ...]) -> Floats:
    """Standard normal numbers, float32. seed: 0..2**64 - 1; frame: 0..2**63 - 1."""
    if not (0 <= seed <= MOST_SEED and 0 <= frame < 2**63):
        raise ValueError(f"no noise for seed {seed} and frame {frame}")
    count = math.prod(shape)
    words = np.random.Philox(key=seed, counter=[0, 0, 0, frame]).random_raw((count + 1) // 2)
    radius = np.sqrt(-2 * np.log(((words >> np.uint64(32)) + 1).astype(np.float64) * 2.0**-32))
    angle = (words & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2 * math.pi * 2.0**-32)
    both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
    drawn: Floats = both[:count].reshape(shape).astype(np.float32)
    return drawn
