"""Rendered people, made on the fly: target, exact truth, exact twin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.people.render import Render, render
from distill.people.sample import Split
from distill.people.types import Shot
from distill.sources.base import Sample, Source, Wanted, aligned
from distill.triplets import Triplet, render_triplet, triplet

if TYPE_CHECKING:
    from distill.people.assets import Assets

FINER = 1.5  # rendered side over the crop's: a face fills less of the render than of the crop


@dataclass(frozen=True, slots=True)
class RenderedPeople:
    """`device`: where to render and crop. split: "held_out" for watching a training from outside.

    same_person: how many samples in a row swap with the same identity, by the same photos: enrolling costs more than
    rendering small pictures. Drivers and twins are others every time.
    """

    data_folder: Path
    device: str = "cpu"
    split: Split = "train"
    whole_identity: bool = False  # the truth has the identity's own hair and glasses, too
    name: str = "rendered"
    same_person: int = 1

    def describe(self) -> str:
        return f"{self.name} {self.split} {self.whole_identity} {self.same_person}"

    def open(self) -> Source:
        from distill.people.assets import load_assets

        return _Opened(self, load_assets(self.data_folder, self.device))


@dataclass(slots=True)
class _Opened:
    spec: RenderedPeople
    assets: Assets
    _drawn: tuple[tuple[tuple[Shot, ...], int], Render] | None = None

    def make(self, wanted: Wanted) -> Sample:
        spec = self.spec
        first = replace(wanted, ordinal=wanted.ordinal // spec.same_person * spec.same_person).index
        drawn = triplet(wanted.seed, wanted.index, wanted.frames, split=spec.split, sources=wanted.sources, who=first)
        side_px = round(wanted.size_px * FINER) if wanted.aligned else wanted.size_px
        photos = self._photos(drawn, side_px if wanted.aligned else wanted.photo_px or side_px)
        pictures = render_triplet(self.assets, drawn, side_px, spec.whole_identity, photos)
        landmarks = pictures.target.landmarks_BN3.cpu().numpy().astype(np.float32)
        if not wanted.aligned:
            frames = (pictures.target.rgb_BHW3, pictures.truth.rgb_BHW3, pictures.twin.rgb_BHW3)
            return Sample(*frames, pictures.sources.rgb_BHW3, pictures.target.landmarks_BN3.float())
        target, (truth, twin), on_crop = aligned(
            pictures.target.rgb_BHW3, (pictures.truth.rgb_BHW3, pictures.twin.rgb_BHW3), landmarks, wanted.size_px
        )
        of_sources = pictures.sources.landmarks_BN3.cpu().numpy().astype(np.float32)
        sources, _, _ = aligned(pictures.sources.rgb_BHW3, (), of_sources, wanted.size_px)
        return Sample(target, truth, twin, sources, on_crop)

    def _photos(self, drawn: Triplet, side_px: int) -> Render:
        """The sources' pictures, drawn once for samples in a row that share them."""
        key = (drawn.sources, side_px)
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = key, render(self.assets, drawn.sources, side_px)
        return self._drawn[1]

    def close(self) -> None:
        self._drawn = None
