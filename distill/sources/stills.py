"""Photo-real portraits that move.

Crops: the target is the person in disturbed light, the truth the same in their own. Whole frames, which are for
networks that see the driver's face masked out: both in one light, and the skin of two people.
"""

from __future__ import annotations

import logging
import zlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from distill.errors import DataMissing
from distill.sources.base import Sample, Source, Wanted, aligned, tensor
from distill.sources.order import nth
from distill.stills import Portrait, PortraitReader, self_swap
from engines.types import SKIN_LANDMARKS, Rgb

log = logging.getLogger(__name__)

FINER = 1.5  # a still's side over the crop's
REMEMBERED = 16  # portraits that are kept ready
HELD_OUT_EACH = 10


@dataclass(frozen=True, slots=True)
class MovingStills:
    """`portraits`: folder with photos; `data_folder`: where the ICT model lies (the mouth's inside is rendered).

    split: of all portraits one in HELD_OUT_EACH, by name, is kept apart for watching a training from outside; "all"
    keeps none. same_person: how many samples in a row are of one portrait, with the same sources.
    """

    data_folder: Path
    portraits: Path
    name: str = "stills"
    split: Literal["all", "train", "held_out"] = "all"
    same_person: int = 1

    def files(self) -> list[Path]:
        """Raises DataMissing where there are none."""
        found = sorted(path for path in self.portraits.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        if self.split != "all":
            found = [path for path in found if is_held_out(path.name) == (self.split == "held_out")]
        if not found:
            raise DataMissing(f"{self.portraits}: no portraits in it")
        return found

    def describe(self) -> str:
        return f"{self.name} 2 {self.split} {self.same_person} " + " ".join(path.name for path in self.files())

    def open(self) -> Source:
        return _Opened(self, self.files(), PortraitReader(self.data_folder))


def is_held_out(name: str) -> bool:
    """Whether a portrait of that name is kept apart: a property of the name, so more portraits change nothing."""
    return zlib.crc32(name.encode()) % HELD_OUT_EACH == 0


class _Opened:
    def __init__(self, spec: MovingStills, files: list[Path], reader: PortraitReader) -> None:
        self._spec, self._files, self._reader = spec, files, reader
        self._photos: tuple[Wanted, Rgb] | None = None  # of the latest person
        self._ready: OrderedDict[tuple[int, int], Portrait | None] = OrderedDict()

    def make(self, wanted: Wanted) -> Sample:
        if not wanted.aligned:
            return self._whole(wanted)
        portrait = self._portrait(wanted, round(wanted.size_px * FINER))
        swap = self_swap(portrait, wanted.seed, wanted.index, wanted.frames, wanted.sources)
        landmarks = np.stack([frame.landmarks_N3[:SKIN_LANDMARKS] for frame in swap.targets])
        target, (true,), on_crop = aligned(
            tensor(swap.driver_THW3), [tensor(swap.truth_THW3)], landmarks, wanted.size_px
        )
        of_sources = np.stack([frame.landmarks_N3[:SKIN_LANDMARKS] for frame in swap.sources])
        sources, _, _ = aligned(tensor(swap.source_rgb_VHW3), (), of_sources, wanted.size_px)
        return Sample(target, true, target, sources, on_crop)

    def _whole(self, wanted: Wanted) -> Sample:
        """Whole frames, and photos of a size of their own: views that all samples of this person share."""
        first = replace(wanted, ordinal=wanted.ordinal // self._spec.same_person * self._spec.same_person)
        if self._photos is None or self._photos[0] != first:
            photographed = self._portrait(wanted, wanted.photo_px or wanted.size_px)
            views = self_swap(photographed, wanted.seed, first.index, 1, wanted.sources).source_rgb_VHW3
            self._photos = first, views
        portrait = self._portrait(wanted, wanted.size_px)
        swap = self_swap(portrait, wanted.seed, wanted.index, wanted.frames, 0, masked=True)
        landmarks = np.stack([frame.landmarks_N3[:SKIN_LANDMARKS] for frame in swap.targets])
        target, truth = tensor(swap.driver_THW3), tensor(swap.truth_THW3)
        return Sample(target, truth, target, tensor(self._photos[1]), torch.from_numpy(landmarks.astype(np.float32)))

    def close(self) -> None:
        self._reader.close()

    def _portrait(self, wanted: Wanted, side_px: int) -> Portrait:
        """The portrait of that number; where it does not lend itself to moving, the next one that does."""
        person = wanted.ordinal // self._spec.same_person
        first = nth(wanted.seed, wanted.frames > 1, person, len(self._files))
        for further in range(len(self._files)):
            portrait = self._read((first + further) % len(self._files), side_px)
            if portrait is not None:
                return portrait
        raise DataMissing(f"{self._files[0].parent}: no portrait in it can be moved")

    def _read(self, number: int, side_px: int) -> Portrait | None:
        key = (number, side_px)
        if key not in self._ready:
            try:
                self._ready[key] = self._reader.read(self._files[number], side_px)
            except DataMissing as error:  # one bad file of thousands ends no training
                log.warning("left out: %s", error)
                self._ready[key] = None
            if len(self._ready) > REMEMBERED:
                self._ready.popitem(last=False)
        self._ready.move_to_end(key)
        return self._ready[key]
