"""Batches of kept examples, in an order that only seed and step decide: the same on any rank count, after any resume.

Nothing of a sample is drawn but which one it is and where a clip begins. No flips: an identity's texture and vector
have a left and a right of their own, so a mirrored crop would show somebody else than they say.

Legend: B examples, T frames, S side of the crop, A side of the face encoder's pictures.
"""

from __future__ import annotations

import hashlib
import json
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.data import ResumeState
from distill.errors import BadShard
from distill.examples.cache import MEMBER, Record, Split
from distill.examples.pack import Damaged, decoded, unpack
from distill.examples.settings import BatchSettings
from distill.examples.types import CONDITIONING, Example, Kind, Shown
from distill.shards import Shard, open_shard
from distill.sources.order import nth, shares_of, source_of
from engines import SettingError
from engines.face.region import GREY

SOURCES = {
    "rendered": "rendered people, who do not exist",
    "stills": "portraits that move",
    "shards": "prepared video, with the consent and licence that its shards record",
}
OF_CUTS = 303  # keeps where clips begin apart from the order's chance


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches of one rank. Opening reads the folders as they are now; they may grow meanwhile.

    workers  threads that read ahead; 0 reads when it is asked for
    ahead    batches that wait at most
    device   where batches end up
    """

    settings: BatchSettings
    rank: int = 0
    ranks: int = 1
    workers: int = 1
    ahead: int = 2
    device: str = "cpu"
    split: Split = "train"

    def batches(self, state: ResumeState | None = None) -> Iterator[tuple[Shown, ResumeState]]:
        """Batches without end, each with the state that continues after it.

        Raises SettingError for a state of other examples or settings, or where there is too little; DataMissing and
        BadShard, naming the file, where something is missing or damaged, also in mid-run.
        """
        if not 0 <= self.rank < self.ranks:
            raise SettingError(f"rank {self.rank} of {self.ranks} ranks")
        if self.workers < 0 or self.ahead < 1:
            raise SettingError(f"{self.workers} workers with {self.ahead} batches ahead")
        reader = _Reader(self)
        start = state or ResumeState(fingerprint=reader.fingerprint)
        if start.fingerprint != reader.fingerprint:
            raise SettingError("the resume state belongs to other examples or settings: start anew, or restore them")
        if not self.workers:
            step = start.step
            while True:
                yield reader.batch(start, step), self.state_at(start, step + 1)
                step += 1
        with ThreadPoolExecutor(self.workers, thread_name_prefix="examples") as pool:
            waiting: deque[Future[Shown]] = deque()
            step = start.step
            try:
                while True:
                    while len(waiting) <= self.ahead:
                        waiting.append(pool.submit(reader.batch, start, step + len(waiting)))
                    yield waiting.popleft().result(), self.state_at(start, step + 1)
                    step += 1
            finally:
                for one in waiting:
                    one.cancel()

    def describe(self) -> str:
        """One line: what it is, for a model card. Raises DataMissing and BadShard."""
        parts = []
        for path in (self.settings.folder, *self.settings.more_folders):
            record = Record.read(path)
            stills, clips = (record.count(self.split, kind) for kind in ("image", "video"))
            how = f"{stills} stills and {clips} clips of {record.settings['frames']} frames"
            weights = record.settings.get(f"{self.split} sources")
            named = weights if isinstance(weights, dict) else {}
            parts.append(f"{how} ({', '.join(SOURCES.get(str(name), str(name)) for name in named)})")
        return "; ".join(parts)

    def state_at(self, start: ResumeState, step: int) -> ResumeState:
        """The state before batch `step` of a run that began at `start`."""
        images, videos = (self._of_kind(kind, step) - self._of_kind(kind, start.step) for kind in ("image", "video"))
        return ResumeState(
            step,
            start.images + images * self.settings.images_a_batch * self.ranks,
            start.videos + videos * self.settings.videos_a_batch * self.ranks,
            start.fingerprint,
        )

    def kind_of(self, step: int) -> Kind:
        rhythm = self.settings.rhythm
        return rhythm[step % len(rhythm)]

    def _of_kind(self, kind: Kind, steps: int) -> int:
        """Batches of a kind among the first `steps`."""
        rhythm = self.settings.rhythm
        whole, rest = divmod(steps, len(rhythm))
        return whole * rhythm.count(kind) + rhythm[:rest].count(kind)


class _Reader:
    """Makes any batch of a rank. Used by several threads."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        settings = batches.settings
        paths = (settings.folder, *settings.more_folders)
        weights = settings.weights or (1.0,) * len(paths)
        if len(weights) != len(paths):
            raise SettingError(f"{len(weights)} weights for {len(paths)} folders of examples")
        self._folders = tuple(_Folder(path, batches.split, settings.rhythm) for path in paths)
        try:
            self._shares = shares_of(weights)
        except ValueError as error:
            raise SettingError(str(error)) from error
        for name in ("size_px", "picture_px"):
            if len({folder.settings[name] for folder in self._folders}) > 1:
                raise SettingError(f"the folders' examples differ in {name}")
        for folder in self._folders:
            if "video" in settings.rhythm and folder.frames < settings.frames:
                raise SettingError(f"{folder.path}: clips of {folder.frames} frames; {settings.frames} are asked for")
        self._memory = _Memory(settings.memory_mb * 10**6)
        of_order = settings.model_dump(mode="json", exclude={"memory_mb", "folder", "more_folders"})
        described = json.dumps([of_order, batches.split, self._shares, [folder.key for folder in self._folders]])
        self.fingerprint = hashlib.sha256(described.encode()).hexdigest()

    def batch(self, start: ResumeState, step: int) -> Shown:
        """Batch number `step` of the run."""
        batches, settings = self._batches, self._batches.settings
        kind = batches.kind_of(step)
        state = batches.state_at(start, step)
        size, given = settings.images_a_batch, state.images
        if kind == "video":
            size, given = settings.videos_a_batch, state.videos
        numbers = [given + batches.rank * size + row for row in range(size)]
        examples = [self._example(kind, number) for number in numbers]
        return shown(kind, examples, [2 * number + (kind == "video") for number in numbers], batches.device)

    def _example(self, kind: Kind, number: int) -> Example:
        seed, clips = self._batches.settings.seed, kind == "video"
        which, ordinal = source_of(seed, clips, number, self._shares)
        folder = self._folders[which]
        item = nth(seed, clips, ordinal, folder.count(kind))
        if not clips:
            return self._memory.read(folder, kind, item, 0, 1)
        frames = self._batches.settings.frames
        start = int(np.random.default_rng((OF_CUTS, seed, number)).integers(folder.frames - frames + 1))
        return self._memory.read(folder, kind, item, start, start + frames)


class _Folder:
    """An opened folder of examples: every shard's index, nothing decoded."""

    def __init__(self, path: Path, split: Split, kinds: Sequence[Kind]) -> None:
        record = Record.read(path)
        self.path, self.settings = path, record.settings
        made_by = record.settings["conditioning"]
        if made_by != CONDITIONING:
            raise SettingError(
                f"{path}: its examples are not what the live engine is given now (conditioning {made_by}, not "
                f"{CONDITIONING}): draw them anew"
            )
        self.frames = int(str(record.settings["frames"]))
        chosen = [(n, one) for n, one in sorted(record.shards.items()) if one.split == split and one.entry is not None]
        described = json.dumps([(name, one.entry.sha256) for name, one in chosen if one.entry is not None])
        self.key = hashlib.sha256(described.encode()).hexdigest()
        self._shards: dict[Kind, list[Shard]] = {}
        for kind in dict.fromkeys(kinds):
            entries = [one.entry for _, one in chosen if one.kind == kind and one.entry is not None]
            if not entries:
                raise SettingError(f"{path}: no {split} {kind} examples in it")
            self._shards[kind] = [_opened(path / entry.name, entry.bytes) for entry in entries]
        self._ends = {kind: [*accumulate(map(len, shards))] for kind, shards in self._shards.items()}

    def count(self, kind: Kind) -> int:
        return self._ends[kind][-1]

    def read(self, kind: Kind, item: int, start: int = 0, stop: int | None = None) -> Example:
        """Frames of an example. Raises BadShard, naming file and example."""
        at = bisect_right(self._ends[kind], item)
        shard, place = self._shards[kind][at], item - [0, *self._ends[kind]][at]
        try:
            return decoded(unpack(shard[place][MEMBER]), start, stop)
        except (Damaged, KeyError) as error:
            raise BadShard(f"{shard.path}: example {shard.keys[place]} cannot be read: {error}") from error


def _opened(path: Path, size: int) -> Shard:
    """Checked by size and structure; every example's bytes are checked when they are read."""
    shard = open_shard(path)
    if path.stat().st_size != size:
        raise BadShard(f"{path}: {path.stat().st_size} bytes long, but was written with {size}: it was exchanged")
    return shard


class _Memory:
    """Decoded examples, as many as there is room for: those that were read first stay."""

    def __init__(self, room_bytes: int) -> None:
        self._room = room_bytes
        self._kept: dict[tuple[Path, Kind, int], Example] = {}
        self._lock = threading.Lock()

    def read(self, folder: _Folder, kind: Kind, item: int, start: int, stop: int) -> Example:
        key = (folder.path, kind, item)
        whole = self._kept.get(key)
        if whole is None:
            if self._room <= 0:
                return folder.read(kind, item, start, stop)
            whole = folder.read(kind, item)
            with self._lock:
                if key not in self._kept:
                    self._kept[key] = whole
                    self._room -= sum(array.nbytes for array in _arrays(whole))
        return cut(whole, start, stop)


def _arrays(example: Example) -> tuple[NDArray[np.uint8], ...]:
    pictures = (example.target_TSS3, example.truth_TSS3, example.proxy_TSS3, example.attribute_TAA3)
    return (*pictures, example.mask_TSS, example.alpha_TSS, example.texture_AA3)


def cut(example: Example, start: int, stop: int) -> Example:
    """Frames start .. stop of an example."""
    return Example(
        example.target_TSS3[start:stop],
        example.truth_TSS3[start:stop],
        example.proxy_TSS3[start:stop],
        example.mask_TSS[start:stop],
        example.alpha_TSS[start:stop],
        example.attribute_TAA3[start:stop],
        example.texture_AA3,
        example.identity_I,
        example.number,
    )


def shown(kind: Kind, examples: Sequence[Example], numbers: Sequence[int], device: str = "cpu") -> Shown:
    """Examples of one length as a batch on a device; see Shown. They travel as bytes and become numbers there."""

    def together(arrays: Sequence[NDArray[np.uint8]]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).to(device)

    target = _planes(together([one.target_TSS3 for one in examples]))
    mask = _shares(together([one.mask_TSS for one in examples]))
    return Shown(
        kind,
        target_BT3SS=_signed(target),
        masked_BT3SS=_signed(filled(target, mask)),
        proxy_BT3SS=_signed(_planes(together([one.proxy_TSS3 for one in examples]))),
        truth_BT3SS=_signed(_planes(together([one.truth_TSS3 for one in examples]))),
        mask_BT1SS=mask,
        alpha_BT1SS=_shares(together([one.alpha_TSS for one in examples])),
        attribute_BT3AA=_signed(_planes(together([one.attribute_TAA3 for one in examples]))),
        texture_B3AA=_signed(_planes(together([one.texture_AA3 for one in examples]))),
        identity_BI=torch.from_numpy(np.stack([one.identity_I for one in examples])).to(device),
        numbers=tuple(numbers),
    )


def filled(crop_BT3SS: Tensor, mask_BT1SS: Tensor) -> Tensor:
    """The crop, 0..255, with the region in its own mean colour: engines.face.region.masked_planes for batches."""
    weight = mask_BT1SS.sum((-2, -1), keepdim=True)
    mean = (crop_BT3SS * mask_BT1SS).sum((-2, -1), keepdim=True) / weight.clamp_min(1e-6)
    fill = torch.where(weight > 0, mean, torch.full_like(mean, GREY))
    return crop_BT3SS * (1 - mask_BT1SS) + fill * mask_BT1SS


def _planes(pictures: Tensor) -> Tensor:
    """uint8 [..., S, S, 3] -> float32 [..., 3, S, S], 0..255."""
    return pictures.movedim(-1, -3).float().contiguous()


def _signed(planes: Tensor) -> Tensor:
    return planes * (1 / 127.5) - 1


def _shares(masks_BTSS: Tensor) -> Tensor:
    return (masks_BTSS.float() / 255)[:, :, None]
