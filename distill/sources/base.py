"""The form of a sample, and what a source of samples has to do.

Legend: T frames (1 in an image sample), H = W side of the crop, S source photos, N = 468 landmarks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.align_batch import crop_batch, crops_from_frames, moved_batch
from engines import Rgb
from engines.types import Floats

ONE_PERSON = ("stills", "shards")  # names of sources in which driver and identity are the same person


@dataclass(frozen=True, slots=True)
class Sample:
    """One swap with its truth, aligned on the target's face, or whole frames as a camera gives them (`Wanted.aligned`).

    target_THW3     uint8, whose face is to be replaced
    truth_THW3      uint8, what the swap should look like
    twin_THW3       uint8, somebody who does the same as the target, for its attributes; without one: the target
    sources_SHW3    uint8, photos of the identity, each aligned on its own face where the frames are
    landmarks_TN3   float32 on the target
    """

    target_THW3: Tensor
    truth_THW3: Tensor
    twin_THW3: Tensor
    sources_SHW3: Tensor
    landmarks_TN3: Tensor


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a source: sample number `ordinal` of its kind, which only the seed and it decide.

    aligned   False: whole frames, as the live path gets them. A source that has nothing but crops gives those
    photo_px  side of the sources where they are not as large as the frames; 0: they are. Only of whole frames
    """

    seed: int
    ordinal: int
    frames: int
    sources: int
    size_px: int
    aligned: bool = True
    photo_px: int = 0

    @property
    def index(self) -> int:
        """One number for both kinds: images are even, clips odd, so that no image is a frame of a clip."""
        return 2 * self.ordinal + (self.frames > 1)


class Source(Protocol):
    """An opened source; used by one thread."""

    def make(self, wanted: Wanted) -> Sample:
        """The same `wanted` gives the same sample, in any process."""
        ...

    def close(self) -> None: ...


class SourceSpec(Protocol):
    """A source that is not open yet: plain data that goes to worker processes."""

    @property
    def name(self) -> str: ...

    def describe(self) -> str:
        """What decides its samples; resuming on data that is described otherwise is refused. May raise VividError."""
        ...

    def open(self) -> Source: ...


def aligned(
    target: Tensor, others: Iterable[Tensor], landmarks_TN3: Floats, size_px: int
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Crops target and what belongs to it, all by the target's landmarks. Gives the landmarks on the crop as well."""
    there = crops_from_frames(landmarks_TN3, size_px)
    landmarks = torch.from_numpy(moved_batch(landmarks_TN3, there))
    return crop_batch(target, there, size_px), [crop_batch(one, there, size_px) for one in others], landmarks


def tensor(pictures: Rgb | NDArray[np.uint8]) -> Tensor:
    """uint8 numpy -> torch, a copy of its own."""
    return torch.from_numpy(np.array(pictures, np.uint8))
