"""The faults of a swap as numbers that must fall: wrong skin tone, flicker, seams, holes and softness.

    python -m benchmarks.picture_faults                        eight people on three clips, every frame
    python -m benchmarks.picture_faults --tones identity --identities 4 --quick

Everything is measured on the result against its own input frame, in the face as dlib's 68 landmarks give it on the
input; the swap's own mask is not asked. docs/benchmarks/README.md says what each figure means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmarks.corpus import DATA, Enrolled, Footage, enrol_people, people, read_clip
from benchmarks.likeness import SessionSwapper, Swapper
from benchmarks.report import PRIVATE, REPORTS, machine, mean, read_settings, table, write_report
from distill.colour import lab_from_linear, linear
from distill.evaluate.judge import Judge, Points
from engines import Status, VividError, load
from engines.types import Box, Rgb

Plane = NDArray[np.float64]  # [H, W]
Lab = NDArray[np.float64]  # [3]: L* 0..100, a*, b*

FAULT_CLIPS = ("clips/single_face.mp4", "clips/head-pose-face-detection-male.gif", "clips/asl/asl_eat.mkv")
STABLE_PX = 96  # the face is brought to this size before flicker is measured
SMOOTH_FRAMES = 7  # over which the judge's landmarks are averaged: their own noise must not read as flicker
FIND_EVERY = 6  # frames between detections; in between the last landmarks say where the face is
CHANGED = 6  # of 255: a pixel that differs more than this was drawn
BLACK, LIT = 14, 45  # of 255: a hole is black in the result where the input is lit


@dataclass(frozen=True, slots=True)
class Faults:
    """One person on one clip, all frames together. See docs/benchmarks/README.md."""

    tone_reached: float  # 0 the driver's skin, 1 the identity's photo, along the line between both in CIELAB
    lightness_off: float  # L* of the result's cheeks minus the identity's photo's
    chroma_off: float  # distance in a*, b* of the result's cheeks from the identity's photo's
    flicker: float  # frame-difference energy of the stabilised face, result over input
    seam: float  # gradient energy in a band along the drawn area's edge, result over input
    edge: float  # of the steepest new edge in that band, levels per pixel, 95th percentile
    black_permille: float  # of the face: black where the input is lit
    undrawn_permille: float  # of the face's inside: the driver's own pixels left standing
    sharpness: float  # Laplacian energy in the face, result over input
    drawn_share: float


@dataclass(frozen=True, slots=True)
class Row:
    """One person on one clip with one setting of `tone`."""

    person: str
    tone: str  # the identity's skin tone
    clip: str
    setting: str  # tone = identity | mix | driver
    faults: Faults


@dataclass(frozen=True, slots=True)
class FaceTrack:
    """The driver's face over a clip: 68 smoothed landmarks of each frame, float64 [T, 68, 2], in pixels."""

    points: NDArray[np.float64]
    lost: int  # frames in which the judge did not find the face where it was


def follow(judge: Judge, footage: Footage) -> FaceTrack:
    """The judge's landmarks over a whole clip, averaged over a few frames around each."""
    raw: list[Points] = []
    box: Box | None = None
    lost = 0
    for index, rgb in enumerate(footage.frames):
        if box is None or index % FIND_EVERY == 0:
            found = judge.find(rgb, near=box)
            lost += found is None
            box = found or box
        if box is None:
            continue
        raw.append(judge.points(rgb, box))
    if len(raw) < len(footage.frames):
        raise VividError(f"{footage.name}: the judge saw no face in the first frame")
    smooth = ndimage.uniform_filter1d(np.stack(raw), SMOOTH_FRAMES, axis=0, mode="nearest")
    return FaceTrack(smooth, lost)


def surroundings(points: Points, height_px: int, width_px: int) -> tuple[tuple[slice, slice], Points]:
    """The part of the frame around a face, half a face on each side, and the landmarks within that part."""
    reach = 0.5 * width_of(points)
    left, top = np.maximum(points.min(0) - reach, 0).astype(int)
    right, bottom = np.minimum(points.max(0) + reach + 1, (width_px, height_px)).astype(int)
    return (slice(top, bottom), slice(left, right)), points - (left, top)


def face_mask(points: Points, height_px: int, width_px: int) -> NDArray[np.bool_]:
    """The face from chin to a little above the brows, bool [H, W]."""
    jaw, brows = points[:17], points[17:27]
    up = (brows.mean(0) - points[8]) * 0.12
    image = Image.new("L", (width_px, height_px))
    ImageDraw.Draw(image).polygon([(x, y) for x, y in np.vstack([jaw, brows[::-1] + up])], fill=1)
    return np.asarray(image, dtype=bool)


def width_of(points: Points) -> float:
    """The face's width in pixels, ear to ear as the landmarks see it."""
    return float(np.linalg.norm(points[16] - points[0]))


def lab_of(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB 0..255 [..., 3] to CIELAB under D65 [..., 3]."""
    return lab_from_linear(linear(np.asarray(rgb, np.float64) / 255))


def cheek_lab(rgb_HW3: Rgb, points: Points) -> Lab:
    """The median colour of both cheeks, between eye, nose wing and jaw."""
    rows, columns = np.mgrid[: rgb_HW3.shape[0], : rgb_HW3.shape[1]]
    radius_px = max(0.06 * width_of(points), 1.5)
    inside = np.zeros(rgb_HW3.shape[:2], dtype=bool)
    for eye, wing, jaw in ((41, 31, 2), (46, 35, 14)):
        x, y = 0.35 * points[eye] + 0.25 * points[wing] + 0.4 * points[jaw]
        inside |= (columns - x) ** 2 + (rows - y) ** 2 <= radius_px**2
    if not inside.any():
        return np.full(3, np.nan)
    return np.asarray(lab_of(np.median(rgb_HW3[inside].astype(np.float64), axis=0)))


def tone_reached(result: Lab, identity: Lab, driver: Lab) -> float:
    """Where the result lies from the driver (0) to the identity (1), by projection onto the line between them."""
    way = identity - driver
    return float((result - driver) @ way / max(float(way @ way), 1.0))


def luminance(rgb_HW3: Rgb) -> Plane:
    """Rec. 601 luma, 0..255."""
    return np.asarray(rgb_HW3.astype(np.float64) @ (0.299, 0.587, 0.114))


def stabilised(plane: Plane, points: Points) -> Plane:
    """The face brought to a fixed place and size by its similarity transform, float64 [STABLE_PX, STABLE_PX]."""
    left, right = points[36:42].mean(0), points[42:48].mean(0)
    across = (right - left) / (0.4 * STABLE_PX)  # frame pixels per stabilised pixel
    down = np.array([-across[1], across[0]])
    origin = (left + right) / 2 - across * STABLE_PX / 2 - down * 0.36 * STABLE_PX
    frame_from_face = np.array([[down[1], across[1]], [down[0], across[0]]])  # rows first
    return np.asarray(
        ndimage.affine_transform(plane, frame_from_face, origin[::-1], (STABLE_PX, STABLE_PX), order=1, mode="nearest")
    )


def stable_mask() -> NDArray[np.bool_]:
    """An ellipse inside the stabilised face."""
    rows, columns = np.mgrid[:STABLE_PX, :STABLE_PX] / STABLE_PX
    return np.asarray(((columns - 0.5) / 0.36) ** 2 + ((rows - 0.56) / 0.42) ** 2 <= 1.0)


def steepness(plane: Plane) -> Plane:
    """Gradient length in levels per pixel."""
    return np.asarray(np.hypot(ndimage.sobel(plane, 0), ndimage.sobel(plane, 1)) / 8.0)


def seam_of(result: Rgb, source: Rgb, face: NDArray[np.bool_], width_px: float) -> tuple[float, float]:
    """Gradient energies along the drawn area's edge: result over input, and the steepest new edge there.

    The band is as wide as a twelfth of the face, so that a hard edge is seen in it as well as a feathered one.
    """
    near = ndimage.binary_dilation(face, iterations=max(2, round(0.25 * width_px)))
    changed = (np.abs(result.astype(np.int16) - source).max(-1) > CHANGED) & near
    drawn = ndimage.binary_opening(ndimage.binary_fill_holes(changed), iterations=2)
    if not drawn.any():
        return float("nan"), float("nan")
    reach = max(1, round(width_px / 24))
    band = ndimage.binary_dilation(drawn, iterations=reach) & ~ndimage.binary_erosion(drawn, iterations=2 * reach)
    after, before = steepness(luminance(result)), steepness(luminance(source))
    around = ndimage.maximum_filter(before, size=2 * reach + 1)  # an edge that the input has near by is no new one
    energy = float((after[band] ** 2).mean() / max((before[band] ** 2).mean(), 1e-6))
    return energy, float(np.percentile(np.maximum(after - around, 0.0)[band], 95))


def holes_of(result: Rgb, source: Rgb, face: NDArray[np.bool_], width_px: float) -> tuple[float, float]:
    """Black and undrawn pixels of the face, in thousandths."""
    inner = ndimage.binary_erosion(face, iterations=max(1, round(0.06 * width_px)))
    if not inner.any():
        return float("nan"), float("nan")
    black = (result.max(-1) < BLACK) & (source.max(-1) > LIT)
    same = np.abs(result.astype(np.int16) - source).max(-1) <= 1
    undrawn = ndimage.binary_opening(same, iterations=1)  # single pixels agree by chance
    return 1000.0 * float(black[inner].mean()), 1000.0 * float(undrawn[inner].mean())


def sharpness_of(result: Rgb, source: Rgb, face: NDArray[np.bool_]) -> float:
    """Laplacian energy of the face, result over input."""
    after, before = ndimage.laplace(luminance(result))[face], ndimage.laplace(luminance(source))[face]
    return float((after**2).mean() / max((before**2).mean(), 1e-6))


def measure_pair(swapper: Swapper, wearer: Enrolled, identity_lab: Lab, footage: Footage, track: FaceTrack) -> Faults:
    """One person worn over a whole clip."""
    every = frozenset(range(len(footage.frames)))
    mask = stable_mask()
    tones: list[tuple[float, float, float]] = []
    seams: list[tuple[float, float]] = []
    holes: list[tuple[float, float]] = []
    sharp: list[float] = []
    moved = np.zeros(2)  # frame-difference energy of the result and of the input
    previous, previous_index = np.zeros((2, 0)), -2
    for index, picture, status in swapper.swap(wearer, footage, every):
        if status != Status.DRAWN:
            continue
        part, points = surroundings(track.points[index], *picture.shape[:2])
        source, result = footage.frames[index][part], picture[part]
        width_px = width_of(points)
        face = face_mask(points, *source.shape[:2])
        result_lab, driver_lab = cheek_lab(result, points), cheek_lab(source, points)
        off = result_lab - identity_lab
        tones.append((tone_reached(result_lab, identity_lab, driver_lab), off[0], float(np.hypot(off[1], off[2]))))
        seams.append(seam_of(result, source, face, width_px))
        holes.append(holes_of(result, source, face, width_px))
        sharp.append(sharpness_of(result, source, face))
        stable = np.stack([stabilised(luminance(rgb), points)[mask] for rgb in (result, source)])
        if index - 1 == previous_index:
            moved += ((stable - previous) ** 2).mean(1)
        previous, previous_index = stable, index
    return _faults(tones, moved, seams, holes, sharp, len(sharp) / len(footage.frames))


def _faults(
    tones: Sequence[tuple[float, float, float]],
    moved: NDArray[np.float64],
    seams: Sequence[tuple[float, float]],
    holes: Sequence[tuple[float, float]],
    sharp: Sequence[float],
    drawn_share: float,
) -> Faults:
    def column(rows: Sequence[tuple[float, ...]], number: int) -> float:
        return mean([row[number] for row in rows if not np.isnan(row[number])])

    return Faults(
        tone_reached=column(tones, 0),
        lightness_off=column(tones, 1),
        chroma_off=column(tones, 2),
        flicker=float(moved[0] / moved[1]) if moved[1] > 0 else float("nan"),
        seam=column(seams, 0),
        edge=column(seams, 1),
        black_permille=column(holes, 0),
        undrawn_permille=column(holes, 1),
        sharpness=mean(sharp),
        drawn_share=drawn_share,
    )


def measure(
    judge: Judge,
    swapper_of: Callable[[str], Swapper],
    wearers: Sequence[Enrolled],
    clips: Sequence[Path],
    tones: Sequence[str],
    say: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Every person on every clip with each tone setting. `swapper_of` makes a swapper for a setting of `tone`."""
    swappers = {tone: swapper_of(tone) for tone in tones}
    photos: dict[str, Lab] = {}
    for wearer in wearers:
        box = judge.find(wearer.picture)
        if box is not None:
            photos[wearer.person.key] = cheek_lab(wearer.picture, judge.points(wearer.picture, box))
    rows: list[Row] = []
    for path in clips:
        footage = read_clip(path)
        track = follow(judge, footage)
        say(f"{footage.name}: {len(footage.frames)} frames, the judge lost the face {track.lost} times")
        for tone, swapper in swappers.items():
            for wearer in wearers:
                lab = photos.get(wearer.person.key, np.full(3, np.nan))
                faults = measure_pair(swapper, wearer, lab, footage, track)
                rows.append(Row(wearer.person.key, wearer.person.tone, footage.name, tone, faults))
    return rows


def averages(rows: Sequence[Row]) -> dict[str, float]:
    """Each fault's mean over the rows that have it."""
    means = {}
    for entry in fields(Faults):
        values = [float(getattr(row.faults, entry.name)) for row in rows]
        means[entry.name] = mean([value for value in values if not np.isnan(value)])
    return means


def grouped(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Averages by tone setting, and by the identity's skin tone and the clip within each."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        for name in (f"tone={row.setting}", f"tone={row.setting}, {row.tone} skin", f"tone={row.setting}, {row.clip}"):
            groups.setdefault(name, []).append(row)
    return {name: averages(members) for name, members in sorted(groups.items())}


def markdown(rows: Sequence[Row], title: str) -> str:
    """The report for people."""
    head = ("", *(entry.name.replace("_", " ") for entry in fields(Faults)))
    lines = [(name, *values.values()) for name, values in grouped(rows).items()]
    return f"# {title}\n\n{table(head, lines)}"


def figures_of(rows: Sequence[Row]) -> dict[str, object]:
    """Everything that is reported, for JSON."""
    pairs = {f"{row.person} on {row.clip}, tone={row.setting}": averages([row]) for row in rows}
    return {"groups": grouped(rows), "pairs": pairs}


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default=DATA, help="the data folder")
@click.option("--clips", multiple=True, default=FAULT_CLIPS, help="clips under the data folder; may be repeated")
@click.option("--identities", type=click.IntRange(1, 20), default=8)
@click.option("--engine", default="proxy")
@click.option("--tones", multiple=True, default=("identity", "mix", "driver"), help="settings of tone; may be repeated")
@click.option("--settings", multiple=True, help="key=value of the swap's other settings; may be repeated")
@click.option("--quick", is_flag=True, help="three people, the first clip, tone=identity")
@click.option("--write", is_flag=True, help="into docs/benchmarks; else into out/")
def main(
    data: Path,
    clips: tuple[str, ...],
    identities: int,
    engine: str,
    tones: tuple[str, ...],
    settings: tuple[str, ...],
    quick: bool,
    write: bool,
) -> None:
    """Runs the benchmark and prints its report."""
    if quick:
        identities, clips, tones = min(identities, 3), clips[:1], ("identity",)
    started_s = time.monotonic()
    with ExitStack() as sessions:

        def swapper_of(tone: str) -> Swapper:
            session = load(read_settings(engine, ("label=false", *settings, f"tone={tone}")))
            sessions.callback(session.close)
            return SessionSwapper(session)

        try:
            wearers, refused = enrol_people(people(identities), data)
            rows = measure(Judge(), swapper_of, wearers, [data / name for name in clips], tones, click.echo)
        except VividError as error:
            raise click.ClickException(str(error)) from error
    text = markdown(rows, f"Picture faults: {engine} {' '.join(settings)}".rstrip())
    text += f"\n\nRefused at enrolment: {refused or 'nobody'}. {machine()}. {time.monotonic() - started_s:.0f} s.\n"
    click.echo(text)
    path = write_report("picture-faults", text, figures_of(rows), REPORTS if write else PRIVATE)
    click.echo(f"written: {path}")


if __name__ == "__main__":
    main()
