"""What of a picture takes the identity's tone: the driver's own skin, and nothing else.

    python -m benchmarks.skin_tone                 sixty rendered people, whose parts are known, wearing two personas
    python -m benchmarks.skin_tone --quick         eight of them
    python -m benchmarks.skin_tone --write

Each person is stepped a few times as a still picture. The share of a pixel's tone is how far it went from the driver's
colour to what the middle of the face went to: 1 is the face's change of tone, 0 none. Pixels that the face's drawing
covers or bends are left out, but for a rim beside the face, where a halo would be.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmarks.corpus import DATA
from benchmarks.render_speed import shot
from benchmarks.report import PRIVATE, REPORTS, machine, mean, table, write_report
from distill.people.assets import Part, load_assets
from distill.people.render import render
from engines import IdentityStore, Session, Status, SwapSettings, load
from engines.face.mesh import FACE_OVAL
from engines.types import Floats, Rgb

PEOPLE, QUICK_PEOPLE = 60, 8
WORN = ("amara", "henrik")
SIZE_PX, STEPS, FRAME_S = 320, 4, 1 / 30
FLOOR = 8.0  # of 255, added before the logarithm
LEAST_CHANGE = 0.12  # in log units: where identity and driver are nearly of one tone there is no tone to measure
ZONES = (
    "skin beside the face, ears", "neck", "rim: background", "rim: hair", "background", "hair", "clothing",
)  # fmt: skip
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Found:
    """Mean share of tone in each zone of one person wearing one persona; NaN where there is too little of it."""

    person: int
    worn: str
    share: dict[str, float]
    change: dict[str, float]  # mean absolute change, 8-bit levels


def polygon(points_N2: Floats, shape: tuple[int, ...], grow_px: float) -> Bools:
    mask = Image.new("L", (shape[1], shape[0]), 0)
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in points_N2], fill=1)
    inside = np.array(mask) > 0
    return np.asarray(ndimage.distance_transform_edt(~inside) <= grow_px) if grow_px else inside


def zones(parts_HW: NDArray[np.uint8], landmarks_N3: Floats) -> dict[str, Bools]:
    """The picture's pixels by what they truly show; an edge of one pixel between parts belongs to neither."""
    oval = landmarks_N3[FACE_OVAL, :2]
    height = float(np.ptp(oval[:, 1]))
    face, rim = polygon(oval, parts_HW.shape, 0.03 * height), polygon(oval, parts_HW.shape, 0.22 * height)

    def clear(*kinds: Part) -> Bools:
        return np.asarray(ndimage.binary_erosion(np.isin(parts_HW, kinds), iterations=1))

    wall, hair = clear(Part.BACKGROUND), clear(Part.HAIR)
    masks = (
        clear(Part.SKIN) & ~face,
        clear(Part.NECK),
        wall & rim & ~face,
        hair & rim & ~face,
        wall & ~rim,
        hair & ~rim,
        clear(Part.CLOTH) & ~face,
    )
    return dict(zip(ZONES, masks, strict=True))


def measured(before_HW3: Rgb, after_HW3: Rgb, inner_HW: Bools, masks: dict[str, Bools]) -> dict[str, float] | None:
    """The share of tone by zone; None where the face itself hardly changed its tone."""
    change = np.log(after_HW3 + FLOOR) - np.log(before_HW3 + FLOOR)
    tone = np.median(change[inner_HW], axis=0)
    if float(np.abs(tone).mean()) < LEAST_CHANGE:
        return None
    share = np.clip(change @ tone / float(tone @ tone), -0.5, 1.5)
    return {name: float(share[mask].mean()) if mask.sum() >= 40 else float("nan") for name, mask in masks.items()}


def step_still(session: Session, rgb_HW3: Rgb) -> Rgb | None:
    """The last of a few steps on a still picture; None where nobody was drawn."""
    state, status = session.init(), Status.WARMING
    picture = rgb_HW3
    for number in range(STEPS):
        result = session.step(state, rgb_HW3, number * FRAME_S)
        picture, status = result.rgb_HW3, result.status
    return picture if status == Status.DRAWN else None


def measure(count: int, first: int, data: Path, sheet: Path | None) -> list[Found]:
    """Every person with both personas."""
    torch.set_num_threads(1)
    assets = load_assets(data)
    pictures = render(assets, [shot(first + index) for index in range(count)], SIZE_PX)
    found: list[Found] = []
    rows: list[list[Rgb]] = [[picture.numpy()] for picture in pictures.rgb_BHW3]
    for worn in WORN:
        session = load(SwapSettings(engine="proxy", label=False), IdentityStore(None).load(worn))
        session.marker = None
        for index in range(count):
            rgb, landmarks = pictures.rgb_BHW3[index].numpy(), pictures.landmarks_BN3[index].numpy()
            after = step_still(session, rgb)
            rows[index].append(rgb if after is None else after)
            if after is None:
                continue
            masks = zones(pictures.parts_BHW[index].numpy(), landmarks)
            inner = polygon(landmarks[[117, 118, 101, 36, 205, 187, 123]][:, :2], rgb.shape, 0)
            inner |= polygon(landmarks[[346, 347, 330, 266, 425, 411, 352]][:, :2], rgb.shape, 0)
            share = measured(rgb, after, inner, masks) if inner.any() else None
            if share is not None:
                apart = np.abs(after.astype(np.float32) - rgb).mean(axis=2)
                change = {
                    name: float(apart[mask].mean()) if mask.sum() >= 40 else float("nan")
                    for name, mask in masks.items()
                }
                found.append(Found(first + index, worn, share, change))
        session.close()
    if sheet is not None:
        Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows])).save(sheet)
    return found


def summary(found: Sequence[Found]) -> dict[str, dict[str, float]]:
    """By zone: mean and worst tenth of the share, and the mean change in 8-bit levels."""
    out: dict[str, dict[str, float]] = {}
    for zone in ZONES:
        shares = [one.share[zone] for one in found if not np.isnan(one.share[zone])]
        changes = [one.change[zone] for one in found if not np.isnan(one.change[zone])]
        low, high = (float(np.percentile(shares, at)) if shares else float("nan") for at in (10, 90))
        out[zone] = {"share": mean(shares), "p10": low, "p90": high, "change": mean(changes), "pictures": len(shares)}
    return out


def markdown(figures: dict[str, dict[str, float]]) -> str:
    """The report for people."""
    rows = [(zone, *(figures[zone][key] for key in ("share", "p10", "p90", "change", "pictures"))) for zone in ZONES]
    return "\n".join(
        [
            "# What takes the identity's tone",
            "",
            "Rendered people, whose parts are known, wearing a dark and a pale persona. Share 1: changed like the "
            "middle of the face; 0: as the camera saw it. Skin should be near 1, all else near 0. Pictures of which "
            "the face itself hardly changed its tone are left out.",
            "",
            table(("zone", "mean share", "10th percentile", "90th percentile", "mean change of 255", "pictures"), rows),
        ]
    )


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default=DATA, help="the data folder")
@click.option("--people", "count", type=click.IntRange(1), default=PEOPLE)
@click.option("--first", type=click.IntRange(0), default=0, help="number of the first person")
@click.option("--sheet", type=click.Path(path_type=Path), default=None, help="write all pictures side by side, a PNG")
@click.option("--quick", is_flag=True, help="eight people")
@click.option("--write", is_flag=True, help="into docs/benchmarks; else into out/")
def main(data: Path, count: int, first: int, sheet: Path | None, quick: bool, write: bool) -> None:
    """Runs the benchmark and prints its report."""
    started_s = time.monotonic()
    found = measure(min(count, QUICK_PEOPLE) if quick else count, first, data, sheet)
    figures = summary(found)
    text = markdown(figures) + f"\n\n{machine()}. {time.monotonic() - started_s:.0f} s.\n"
    click.echo(text)
    path = write_report("skin-tone", text, {"zones": figures}, REPORTS if write else PRIVATE)
    click.echo(f"written: {path}")


if __name__ == "__main__":
    main()
