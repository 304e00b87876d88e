"""Folders of kept examples that are made of numbers: order, resume and damage need no faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from distill.examples.cache import A_SHARD, MEMBER, Job, Kept, Record, Split
from distill.examples.pack import pack
from distill.examples.types import CONDITIONING, Example, Kind
from distill.shards import write_shard

SIDE, PICTURE, FRAMES = 16, 8, 6


def numbered(number: int, frames: int, side: int = SIDE, picture: int = PICTURE) -> Example:
    """An example that says its number and frame in its first pixels; the rest is noise that only they decide."""
    rng = np.random.default_rng((number, frames))
    target, truth, proxy = rng.integers(0, 256, (3, frames, side, side, 3), np.uint8)
    for t in range(frames):
        target[t, 0, 0] = (number // 256, number % 256, t)
    mask = rng.integers(0, 256, (frames, side, side), np.uint8)
    mask[:, 0, 0] = 0
    return Example(
        target,
        truth,
        proxy,
        mask,
        mask // np.uint8(2),
        rng.integers(0, 256, (frames, picture, picture, 3), np.uint8),
        rng.integers(0, 256, (picture, picture, 3), np.uint8),
        rng.standard_normal(8).astype(np.float32),
        number,
    )


def write_folder(
    folder: Path, stills: int = 30, clips: int = 9, apart: int = 3, frames: int = FRAMES, side: int = SIDE
) -> Record:
    """As `vividstream examples` would have left it; `apart`: held-out examples of each kind."""
    settings: dict[str, object] = {"size_px": side, "picture_px": PICTURE, "frames": frames}
    settings["conditioning"] = CONDITIONING
    record = Record(folder, {**settings, "train sources": {"rendered": 1.0}})
    kinds: tuple[tuple[Split, Kind, int], ...] = (
        ("train", "image", stills),
        ("train", "video", clips),
        ("held_out", "image", apart),
        ("held_out", "video", apart),
    )
    for split, kind, count in kinds:
        for first in range(0, count, A_SHARD[kind]):
            job = Job(split, kind, first, min(first + A_SHARD[kind], count))
            length = frames if kind == "video" else 1
            start = 1000 if split == "held_out" else 0
            members = [
                (f"{split}-{kind}-{n:08}", {MEMBER: pack(numbered(start + n, length, side))})
                for n in range(job.first, job.stop)
            ]
            entry = write_shard(folder / job.name, members)
            record.shards[job.name] = Kept(split, kind, len(members), entry, {})
    record.write()
    return record
