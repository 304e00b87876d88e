"""Contact sheets of stills that move and of what passes before them: docs/stills.jpg and docs/occluders.jpg.

    python -m benchmarks.stills_sheet --data ../shared/data --out docs

People who do not exist, all of them. Prints how fast frames are made, on one core.
"""

from __future__ import annotations

import io
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

from distill.occluders import face_of, light_on, occluded, occluder_clip, shadow_on
from distill.occluders.sheets import SHEETS
from distill.occluders.things import THINGS
from distill.stills import Portrait, StillFrame, moved, portrait_reader, self_swap, still_clip
from engines.types import Rgb

SIZE_PX, FPS = 256, 25.0
MOST_BYTES = 500_000
CLIPS, PAIRS, FRAMES, SHOWN = 6, 3, 36, 6
SEED = 7


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of portraits and ICT."
)
@click.option("--out", type=click.Path(path_type=Path, exists=True), default=Path("docs"), show_default=True)
@click.option("--seed", type=int, default=SEED, show_default=True)
def main(data: Path, out: Path, seed: int) -> None:
    """Writes stills.jpg and occluders.jpg."""
    portraits = _portraits(data, 2 * CLIPS + PAIRS, seed)
    list(moved(portraits[0], still_clip(np.random.default_rng(0), portraits[0], 2, FPS)))  # compiles
    rows = [
        np.hstack(_clip(portrait, seed, number)[:: FRAMES // SHOWN])
        for number, portrait in enumerate(portraits[:CLIPS])
    ]
    rows += [_pair(portrait, seed, number) for number, portrait in enumerate(portraits[CLIPS : CLIPS + PAIRS])]
    _save(np.vstack(rows), out / "stills.jpg")
    kinds: list[tuple[str, str | None]] = [("hand", None)] * (len(THINGS) + len(SHEETS))
    kinds += [("thing", name) for name in THINGS] + [("texture", name) for name in SHEETS]
    strips = [_occluded(portraits[n % len(portraits)], seed, n, *kind) for n, kind in enumerate(kinds)]
    half = len(strips) // 2
    _save(np.hstack([np.vstack(strips[:half]), np.vstack(strips[half:])]), out / "occluders.jpg")


def _portraits(data: Path, count: int, seed: int) -> list[Portrait]:
    paths = sorted((data / "synth_faces").glob("*.jpg"))
    found: list[Portrait] = []
    with portrait_reader(data) as reader:
        for number in np.random.default_rng(seed).permutation(len(paths)):
            portrait = reader.read(paths[number], SIZE_PX)
            if portrait is not None:
                found.append(portrait)
            if len(found) == count:
                break
    return found


def _frames(portrait: Portrait, seed: int, number: int) -> list[StillFrame]:
    return list(moved(portrait, still_clip(np.random.default_rng([seed, number]), portrait, FRAMES, FPS)))


def _clip(portrait: Portrait, seed: int, number: int) -> list[Rgb]:
    began_s = time.process_time()
    frames = _frames(portrait, seed, number)
    print(f"{portrait.name}: {len(frames) / (time.process_time() - began_s):.1f} frames/s of processor time")
    return [frame.rgb_HW3 for frame in frames]


def _pair(portrait: Portrait, seed: int, number: int) -> Rgb:
    """Two sources, driver, target, mask, and what was disturbed."""
    sample = self_swap(portrait, seed, number, views=2)
    target, driver = sample.targets[0], sample.driver_THW3[0]
    changed = np.clip(np.abs(driver.astype(int) - target.rgb_HW3) * 2, 0, 255).astype(np.uint8)
    mask = np.repeat(target.mask_HW[..., None], 3, axis=2)
    return np.hstack([*sample.source_rgb_VHW3, driver, target.rgb_HW3, mask, changed])


def _occluded(portrait: Portrait, seed: int, number: int, kind: str, name: str | None) -> Rgb:
    """Three frames of a clip with something before the face, and the last one's mask."""
    frames = _frames(portrait, seed, number)
    rgb = np.stack([frame.rgb_HW3 for frame in frames])
    landmarks = np.stack([frame.landmarks_N3 for frame in frames])
    face = face_of(landmarks, light_on(rgb[0], landmarks[0]))
    began_s = time.process_time()
    passing = occluder_clip(np.random.default_rng([seed, 1, number]), face, SIZE_PX, kind, name)
    print(f"{kind} {passing.name}: {FRAMES / (time.process_time() - began_s):.1f} frames/s of processor time")
    passing = shadow_on(passing, np.stack([frame.surface_HW4[..., 3] for frame in frames]))
    shown = occluded(rgb, passing)[[11, 18, 25]]
    return np.hstack([*shown, np.repeat(passing.mask_THW[25][..., None], 3, axis=2)])


def _save(sheet: Rgb, path: Path) -> None:
    """As good a JPEG as MOST_BYTES allow."""
    image = Image.fromarray(sheet)
    image.thumbnail((1536, 1900), Image.Resampling.LANCZOS)
    for quality in range(90, 40, -5):
        stored = io.BytesIO()
        image.save(stored, "jpeg", quality=quality, optimize=True)
        if stored.tell() <= MOST_BYTES:
            path.write_bytes(stored.getvalue())
            print(f"{path}: {stored.tell()} bytes, quality {quality}")
            return
    raise click.ClickException(f"{path} does not fit into {MOST_BYTES} bytes")


if __name__ == "__main__":
    main()
