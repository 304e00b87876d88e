"""A dataset of numbers instead of faces: order, ranks and resume need no more, and its processes start quickly."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

import numpy as np
import torch

from distill.data import TENSORS, Batch, Dataset, DataSettings
from distill.sources.base import Sample, Source, Wanted

SMALL = DataSettings(size_px=32, frames=3, images_a_batch=4, videos_a_batch=2, occlude=0, degrade=None)


@dataclass(frozen=True)
class Numbers:
    """A stand-in that writes the sample's number into its pixels: order and resume need no faces."""

    name: str = "numbers"
    breaks_at: int = -1
    exits_at: int = -1

    def describe(self) -> str:
        return self.name

    def open(self) -> Source:
        return self

    def close(self) -> None:
        pass

    def make(self, wanted: Wanted) -> Sample:
        if wanted.ordinal == self.breaks_at:
            raise ZeroDivisionError("planted")
        if wanted.ordinal == self.exits_at:
            os._exit(7)
        rng = np.random.default_rng((wanted.seed, wanted.index))
        side = wanted.size_px
        clip = torch.from_numpy(rng.integers(0, 256, (wanted.frames, side, side, 3)).astype(np.uint8))
        photos = clip[:1].expand(wanted.sources, -1, -1, -1)
        return Sample(clip, 255 - clip, clip, photos, torch.zeros((wanted.frames, 468, 3)))


def dataset(settings: DataSettings = SMALL, rank: int = 0, ranks: int = 1, workers: int = 0) -> Dataset:
    sources = ((Numbers("a"), 2.0), (Numbers("b"), 1.0))
    return Dataset(settings, sources, rank, ranks, workers)


def digest(batch: Batch) -> str:
    held = hashlib.sha256(batch.kind.encode() + repr(batch.origins).encode())
    for name in TENSORS:
        held.update(getattr(batch, name).cpu().numpy().tobytes())
    return held.hexdigest()
