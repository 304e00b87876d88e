"""Sheets of rendered clips and triplets for looking at. Nobody on them exists.

    python -m benchmarks.clip_sheets              docs/clips.jpg and docs/triplets.jpg
    python -m benchmarks.clip_sheets --seed 4 --out out

Clips: one a row, frames at even times. Triplets: two in a row; of each a photo of S, D, S doing what D does under D's
hair and glasses (the truth of a face swap), the whole of S, and the twin.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from PIL import Image

from benchmarks.report import REPOSITORY
from distill.people.assets import Assets, load_assets
from distill.people.render import render
from distill.people.types import Shot
from distill.triplets import triplet
from engines.types import Rgb

CLIPS, CLIP_FRAMES, SHOWN = 8, 45, 10
TRIPLETS = 16
TILE_PX, GAP_PX, PAPER = 160, 4, 24
QUALITY, MOST_BYTES = 86, 600_000


def pictures(assets: Assets, shots: Sequence[Shot], size_px: int) -> list[Rgb]:
    """The shots as arrays, two at a time."""
    return [
        frame
        for i in range(0, len(shots), 2)
        for frame in render(assets, shots[i : i + 2], size_px).rgb_BHW3.cpu().numpy()
    ]


def clip_row(assets: Assets, seed: int, index: int, size_px: int) -> list[Rgb]:
    """Frames of one clip, at even times."""
    clip = triplet(seed, index, CLIP_FRAMES).target
    shown = np.linspace(0, CLIP_FRAMES - 1, SHOWN).round().astype(int)
    return pictures(assets, [clip[i] for i in shown], size_px)


def triplet_row(assets: Assets, seed: int, index: int, size_px: int) -> list[Rgb]:
    """Photo of S, D, both truths, twin; from the middle of a clip."""
    sample = triplet(seed, index, CLIP_FRAMES)
    middle = CLIP_FRAMES // 2
    clips = (sample.target, sample.worn, sample.truth, sample.twin)
    return pictures(assets, [sample.sources[0], *(clip[middle] for clip in clips)], size_px)


def sheet(rows: Sequence[Sequence[Rgb]]) -> Rgb:
    """Tiles on dark paper."""
    side, columns = rows[0][0].shape[0], max(map(len, rows))
    canvas = np.full((len(rows) * (side + GAP_PX) + GAP_PX, columns * (side + GAP_PX) + GAP_PX, 3), PAPER, np.uint8)
    for r, row in enumerate(rows):
        for c, tile in enumerate(row):
            top, left = GAP_PX + r * (side + GAP_PX), GAP_PX + c * (side + GAP_PX)
            canvas[top : top + side, left : left + side] = tile
    return canvas


def save(rgb: Rgb, path: Path) -> None:
    """As JPEG, as good as 600 kB allow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for quality in range(QUALITY, 40, -6):
        Image.fromarray(rgb).save(path, quality=quality, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            break
    print(f"{path}: {rgb.shape[1]}x{rgb.shape[0]}, {path.stat().st_size // 1000} kB")


@click.command()
@click.option("--seed", default=20, help="seed of the data set")
@click.option("--out", type=click.Path(path_type=Path), default=REPOSITORY / "docs", help="folder to write to")
@click.option("--data", type=click.Path(path_type=Path), default=REPOSITORY.parent / "shared" / "data", help="the data")
@click.option("--size-px", default=TILE_PX, help="side of a tile")
def main(seed: int, out: Path, data: Path, size_px: int) -> None:
    """Draws both sheets."""
    assets = load_assets(data)
    save(sheet([clip_row(assets, seed, i, size_px) for i in range(CLIPS)]), out / "clips.jpg")
    rows = [triplet_row(assets, seed, CLIPS + i, size_px) for i in range(TRIPLETS)]
    save(sheet([[*rows[i], *rows[i + 1]] for i in range(0, TRIPLETS, 2)]), out / "triplets.jpg")


if __name__ == "__main__":
    main()
