"""Rendered people, made on the fly: target, exact truth, exact twin."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.people.sample import Split
from distill.sources.base import Sample, Source, Wanted, aligned
from distill.triplets import render_triplet, triplet

if TYPE_CHECKING:
    from distill.people.assets import Assets

FINER = 1.5  # rendered side over the crop's: a face fills less of the render than of the crop


@dataclass(frozen=True, slots=True)
class RenderedPeople:
    """`device`: where to render and crop. split: "held_out" for watching a training from outside."""

    data_folder: Path
    device: str = "cpu"
    split: Split = "train"
    whole_identity: bool = False  # the truth has the identity's own hair and glasses, too
    name: str = "rendered"

    def describe(self) -> str:
        return f"{self.name} {self.split} {self.whole_identity}"

    def open(self) -> Source:
        from distill.people.assets import load_assets

        return _Opened(self, load_assets(self.data_folder, self.device))


@dataclass(slots=True)
class _Opened:
    spec: RenderedPeople
    assets: Assets
    _closed: bool = field(default=False)

    def make(self, wanted: Wanted) -> Sample:
        drawn = triplet(wanted.seed, wanted.index, wanted.frames, split=self.spec.split, sources=wanted.sources)
        side_px = round(wanted.size_px * FINER)
        pictures = render_triplet(self.assets, drawn, side_px, self.spec.whole_identity)
        landmarks = pictures.target.landmarks_BN3.cpu().numpy().astype(np.float32)
        target, (truth, twin), on_crop = aligned(
            pictures.target.rgb_BHW3, (pictures.truth.rgb_BHW3, pictures.twin.rgb_BHW3), landmarks, wanted.size_px
        )
        of_sources = pictures.sources.landmarks_BN3.cpu().numpy().astype(np.float32)
        sources, _, _ = aligned(pictures.sources.rgb_BHW3, (), of_sources, wanted.size_px)
        return Sample(target, truth, twin, sources, on_crop)

    def close(self) -> None:
        self._closed = True
