"""Clips of prepared shards: the truth is the clip itself, and the sources are other moments of the same person.

The twin is what a decoupler drew (distill.prepare.decouple); in shards without one, the clip itself.
"""

from __future__ import annotations

import hashlib
import io
import json
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from distill.errors import BadShard
from distill.shards import TWIN, Shard, open_shards
from distill.sources.base import Sample, Source, Wanted, tensor
from distill.sources.order import nth
from engines.types import SKIN_LANDMARKS

REMEMBERED = 64  # shards whose people are known


@dataclass(frozen=True, slots=True)
class PreparedShards:
    """A folder that `vividstream prepare` wrote. Bad shards are skipped; `bad` says which."""

    folder: Path
    name: str = "shards"

    def describe(self) -> str:
        """Raises BadShard where no shard can be used."""
        good, _ = open_shards(self.folder)
        keys = hashlib.sha256("\n".join(key for shard in good for key in shard.keys).encode()).hexdigest()
        return f"{self.name} {keys}"

    def bad(self) -> list[str]:
        """What is wrong with each shard that is not used, by name."""
        return [str(error) for error in open_shards(self.folder)[1]]

    def open(self) -> Source:
        good, _ = open_shards(self.folder)
        return _Opened(good)


class _Opened:
    def __init__(self, shards: list[Shard]) -> None:
        self._shards = shards
        self._ends = list(accumulate(len(shard) for shard in shards))
        self._people: OrderedDict[int, list[str]] = OrderedDict()

    def close(self) -> None:
        self._people.clear()

    def make(self, wanted: Wanted) -> Sample:
        number = nth(wanted.seed, wanted.frames > 1, wanted.ordinal, self._ends[-1])
        at = bisect_right(self._ends, number)
        shard, clip = self._shards[at], number - ([0, *self._ends][at])
        rng = np.random.default_rng((wanted.seed, wanted.index))
        members = shard[clip]
        try:
            names = _frames(members)
            if len(names) < wanted.frames:
                raise BadShard(f"{shard.path}: clips of {len(names)} frames; {wanted.frames} were asked for")
            start = int(rng.integers(len(names) - wanted.frames + 1))
            chosen = range(start, start + wanted.frames)
            truth, factor = _resized([members[names[n]] for n in chosen], wanted, shard.path)
            twins = [names[n].removesuffix(".jpg") + TWIN for n in chosen]
            twin = truth
            if all(name in members for name in twins):
                twin, _ = _resized([members[name] for name in twins], wanted, shard.path)
            stored = np.load(io.BytesIO(members["landmarks.npy"]), allow_pickle=False)
            landmarks = _scaled(stored[list(chosen), :SKIN_LANDMARKS], factor)
            sources = self._sources(rng, at, clip, names, wanted)
        except (OSError, KeyError, ValueError) as error:
            raise BadShard(f"{shard.path}: sample {shard.keys[clip]} cannot be read: {error}") from error
        return Sample(truth, truth, twin, sources, landmarks)

    def _sources(self, rng: np.random.Generator, at: int, clip: int, names: list[str], wanted: Wanted) -> Tensor:
        """Photos of the clip's person: from their other clips in the shard, or else from the clip itself."""
        people = self._people_of(at)
        others = [n for n, person in enumerate(people) if person == people[clip] and n != clip] or [clip]
        photos = []
        for pick in rng.choice(others, wanted.sources, replace=wanted.sources > len(others)).tolist():
            members = self._shards[at][pick]
            of_clip = _frames(members)
            photos.append(members[of_clip[int(rng.integers(len(of_clip)))]])
        as_photos = replace(wanted, size_px=wanted.photo_px or wanted.size_px)
        return _resized(photos, as_photos, self._shards[at].path)[0]

    def _people_of(self, at: int) -> list[str]:
        if at not in self._people:
            shard = self._shards[at]
            self._people[at] = [str(json.loads(shard[n]["json"])["person"]) for n in range(len(shard))]
            if len(self._people) > REMEMBERED:
                self._people.popitem(last=False)
        return self._people[at]


def _frames(members: dict[str, bytes]) -> list[str]:
    return sorted(name for name in members if name.endswith(".jpg") and not name.endswith(TWIN))


def _resized(files: list[bytes], wanted: Wanted, path: Path) -> tuple[Tensor, float]:
    """Decoded and, where the shard holds larger crops, shrunk; and the factor by which they were.

    Where whole frames are wanted, crops are given that are no larger than they are stored.
    """
    pictures = tensor(np.stack([np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in files]))
    side = pictures.shape[1]
    size_px = wanted.size_px if wanted.aligned else min(wanted.size_px, side)
    if side < size_px:
        raise BadShard(f"{path}: crops of {side} px; {size_px} were asked for")
    if side > size_px:
        planes = pictures.permute(0, 3, 1, 2).float()
        planes = functional.interpolate(planes, (size_px, size_px), mode="area")
        pictures = (planes + 0.5).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return pictures, size_px / side


def _scaled(landmarks: np.ndarray[tuple[int, ...], np.dtype[np.float32]], factor: float) -> Tensor:
    """Pixel centres are whole numbers: an enlarged picture's edges, not its centres, stay together."""
    points = torch.from_numpy(np.array(landmarks, np.float32))
    points[..., :2] = (points[..., :2] + 0.5) * factor - 0.5
    points[..., 2] *= factor
    return points
