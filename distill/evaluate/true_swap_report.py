"""Figures of the benchmark "true swap", grouped and written down. Pure: no torch, no pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path

import numpy as np

from distill.evaluate.held_out import POSES, SOURCES, VERSION

Row = dict[str, float]
REGIONS = ("skin", "brows", "eyes", "lips", "mouth")


@dataclass(frozen=True, slots=True)
class Figures:
    """What one frame is worth. NaN: could not be measured. See distill.evaluate.metrics."""

    face_psnr: float
    face_ssim: float
    frame_psnr: float
    frame_ssim: float
    landmarks: float  # % of the face's width, result's against true
    colour: float
    tone_L: float
    tone_ab: float
    temporal: float
    seam: float
    thing: float  # colour error on what passes before the face, which should be left alone
    identity: float  # distance of the face from the true one, by an independent recogniser
    skin: float
    brows: float
    eyes: float
    lips: float
    mouth: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One frame of one swap."""

    swap: int
    frame: int
    pose: str
    light: str
    glasses: str
    front: str  # kind of what hides a part of the face: hand, thing, texture, none
    drawn: bool
    figures: Figures | None  # of a frame that was drawn
    whole: Figures | None  # the same against the whole of S
    unswapped: Figures  # of the driver's own frame: where every engine starts
    tracker: float  # landmark error of the tracker on the true picture: below it nothing can be told


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was measured."""

    engine: str
    tone: str
    frame_px: int
    quick: bool
    fingerprint: str
    frames: tuple[Measured, ...]
    refused: tuple[int, ...]  # swaps whose photos enrolment refused, and which are not in `frames`


COLUMNS: tuple[tuple[str, str], ...] = (
    ("face_psnr", "face PSNR dB"),
    ("face_ssim", "face SSIM"),
    ("frame_psnr", "frame PSNR dB"),
    ("frame_ssim", "frame SSIM"),
    ("landmarks", "landmarks %"),
    ("colour", "colour dE"),
    ("tone_L", "tone L*"),
    ("tone_ab", "tone ab"),
    ("temporal", "temporal"),
    ("seam", "seam"),
    ("thing", "thing dE"),
    ("identity", "identity"),
)


def mean_figures(figures: Iterable[Figures]) -> dict[str, float]:
    """Means over frames; a frame where a figure could not be measured does not count in it."""
    rows = [[getattr(one, field.name) for field in fields(Figures)] for one in figures]
    if not rows:
        return {field.name: math.nan for field in fields(Figures)}
    table = np.array(rows, np.float64)
    known = ~np.isnan(table)
    sums, counts = np.where(known, table, 0).sum(axis=0), known.sum(axis=0)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return {field.name: float(value) for field, value in zip(fields(Figures), means)}


def groups(frames: Sequence[Measured]) -> Iterator[tuple[str, list[Measured]]]:
    """The frames by what is hard about them."""
    yield "all", list(frames)
    for pose in POSES:
        yield f"turned {pose} degrees", [one for one in frames if one.pose == pose]
    for light in ("even", "hard", "moving"):
        yield f"{light} light", [one for one in frames if one.light == light]
    for glasses, words in (
        ("none", "no glasses"),
        ("driver", "driver has glasses"),
        ("identity", "photos have glasses"),
    ):
        yield words, [one for one in frames if one.glasses == glasses]
    yield "nothing in front", [one for one in frames if one.front == "none"]
    yield "something in front", [one for one in frames if one.front != "none"]
    for kind, words in (("hand", "a hand"), ("thing", "a held thing"), ("texture", "hair or cloth")):
        yield f"... {words}", [one for one in frames if one.front == kind]


def summary(report: Report) -> dict[str, object]:
    """All figures, for JSON: groups, the whole of S, the unswapped driver, regions, single swaps."""
    frames = report.frames
    numbers = sorted({one.swap for one in frames})
    return {
        "benchmark": "true swap",
        "version": VERSION,
        "fingerprint": report.fingerprint,
        "engine": report.engine,
        "tone": report.tone,
        "quick": report.quick,
        "frame_px": report.frame_px,
        "refused": list(report.refused),
        "tracker_on_truth": tracker_error(report),
        "groups": {name: row_of(chosen) for name, chosen in groups(frames)},
        "whole": whole_row(report),
        "unswapped": unswapped_row(report),
        "swaps": {str(number): row_of([one for one in frames if one.swap == number]) for number in numbers},
    }


def row_of(frames: Sequence[Measured]) -> Row:
    """Mean figures of the frames that were drawn, how many frames there were, and the share that was drawn."""
    drawn = [one.figures for one in frames if one.figures]
    share = len(drawn) / len(frames) if frames else math.nan
    return {"frames": len(frames), "drawn": share, **mean_figures(drawn)}


def whole_row(report: Report) -> Row:
    """The same frames against the whole of S."""
    figures = [one.whole for one in report.frames if one.whole]
    return {"frames": len(figures), "drawn": math.nan, **mean_figures(figures)}


def unswapped_row(report: Report) -> Row:
    """The driver's own frames against the truth: where every engine starts."""
    figures = [one.unswapped for one in report.frames]
    return {"frames": len(figures), "drawn": math.nan, **mean_figures(figures)}


def tracker_error(report: Report) -> float:
    """Mean landmark error of the tracker on the true pictures: below it nothing can be told."""
    known = [one.tracker for one in report.frames if not math.isnan(one.tracker)]
    return float(np.mean(known)) if known else math.nan


def markdown(report: Report, versions: str) -> str:
    """The report as text."""
    swaps = len({one.swap for one in report.frames})
    rows = [(name, row_of(chosen)) for name, chosen in groups(report.frames)]
    rows += [("against the whole of S", whole_row(report)), ("no swap: the driver's frames", unswapped_row(report))]
    by_name = dict(rows)
    regions = [
        (title, [by_name[row][region] for region in REGIONS])
        for title, row in (("swap", "all"), ("no swap", "no swap: the driver's frames"))
    ]
    per_swap = len(report.frames) // max(swaps, 1)
    return f"""# True swap: {report.engine}

{versions}

Version {VERSION}{", quick" if report.quick else ""}, fingerprint `{report.fingerprint}`, tone `{report.tone}`;
{swaps} swaps of {per_swap} frames at {report.frame_px} px, S enrolled from up to {SOURCES} photos.
Refused at enrolment: {", ".join(map(str, report.refused)) or "nobody"}.

{_figures_table(rows)}

The truth is S's face doing what D does, under D's light, hair and glasses; one row is against S with S's own hair and
glasses. Only drawn frames are measured, inside the face unless it says frame. Higher is better for PSNR and SSIM, lower
for the rest; tone L* is signed, above 0 too pale. In front: frames in which something hides 2 % of the face or more;
thing: colour error on it, which is to be left alone. Identity: distance from the true face by dlib's recogniser, which
had no part in any engine, up to 45 degrees (0: the same; the last row shows what a stranger gets here). Landmarks: the
tracker on the result against the true ones, in per cent of the face's width; on the true
pictures themselves the tracker is off by {_cell(tracker_error(report))} %.

{_table(("colour error by region, dE", *REGIONS), [(name, *map(_cell, values)) for name, values in regions])}
"""


def _figures_table(rows: Sequence[tuple[str, Row]]) -> str:
    head = ("", "frames", "drawn", *(title for _, title in COLUMNS))
    return _table(
        head,
        [
            (name, str(int(row["frames"])), _cell(row["drawn"]), *(_cell(row[key]) for key, _ in COLUMNS))
            for name, row in rows
        ],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that reads in a terminal too: columns are padded, names to the left and figures to the right."""
    widths = [max(3, *(len(line[column]) for line in (head, *rows))) for column in range(len(head))]

    def padded(line: Sequence[str]) -> list[str]:
        return [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (padded(head), rule, *map(padded, rows)))


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def write(report: Report, folder: Path, versions: str) -> Path:
    """Writes YYYY-MM-DD-true-swap-ENGINE.md and .json; gives back the path of the text."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{date.today().isoformat()}-true-swap-{report.engine}.md"
    path.write_text(markdown(report, versions), encoding="utf-8")
    path.with_suffix(".json").write_text(
        json.dumps(_rounded(summary(report)), indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return path


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    return value
