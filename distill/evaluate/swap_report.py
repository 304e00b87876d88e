"""An evaluation written down: a table in Markdown, everything in JSON, and several engines side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.errors import NotWritten
from distill.evaluate.frechet import Interval
from distill.evaluate.measures import LEAST_CLIPS, Measure
from engines import SettingError

KIND = "vividstream eval swap"
# VividFace's table (arXiv 2412.11279) and what belongs beside it: the start of a measure's key, and its heading.
SIDE_BY_SIDE = (
    ("fvd32_", "FVD32"),
    ("fvd128_", "FVD128"),
    ("top1_", "ID top 1"),
    ("top5_", "top 5"),
    ("cosine_", "cosine"),
    ("pose", "pose"),
    ("expression", "expr."),
    ("hopenet", "pose, Hopenet"),
    ("deep3d", "expr., Deep3D"),
    ("gaze", "gaze"),
    ("vidd_", "ID frame to frame"),
    ("warp", "warp"),
    ("flicker", "flicker"),
    ("energy", "energy"),
    ("true_psnr", "true PSNR"),
    ("true_colour", "true dE"),
    ("ms_p50", "ms p50"),
    ("ms_p95", "p95"),
)


@dataclass(frozen=True, slots=True)
class SwapReport:
    """What was measured, of what, with what.

    origin      the engine and its files; instruments: judges and networks by sha256; machine: versions and revision
    refused     a line for each swap that could not be measured
    warnings    what a reader has to know before believing a figure
    inputs      swap -> what it depends on
    """

    name: str
    origin: Mapping[str, str]
    instruments: Mapping[str, str]
    machine: Mapping[str, str]
    measures: Sequence[Measure]
    swaps: int
    frames: int
    refused: Sequence[str]
    warnings: Sequence[str]
    inputs: Mapping[str, Sequence[str]]


def markdown(report: SwapReport) -> str:
    """The report as text."""
    rows = [
        (
            one.title,
            BETTER[one.better],
            cell(one.result.value),
            span(one.result),
            cell(one.input),
            str(one.parts),
        )
        for one in report.measures
    ]
    lines = [
        f"# Swaps by {report.name}",
        "",
        f"{report.swaps} swap{'s' if report.swaps != 1 else ''}, {report.frames} frames.",
        *([f"Left out, {len(report.refused)}:", *(f"- {line}" for line in report.refused)] if report.refused else []),
        *(f"**{line}.**" for line in warnings(report)),
        "",
        padded(("measure", "better", "result", "95 %", "input itself", "n"), rows),
        "",
        "Input itself: an engine that changes nothing. What each line means, and its trap: docs/evaluation.md.",
        "",
        *(
            f"- {name}: {value}"
            for part in (report.origin, report.instruments, report.machine)
            for name, value in part.items()
        ),
        "",
    ]
    return "\n".join(lines)


BETTER = {"higher": "up", "lower": "down", "1": "1"}


def warnings(report: SwapReport) -> list[str]:
    """What has to be said beside the table."""
    few = [
        f"{one.title} is of {one.parts} clips: with so few it is too large, and can only be compared with the same "
        f"clips (published ones use {LEAST_CLIPS} and more)"
        for one in report.measures
        if one.key.startswith("fvd") and one.parts < LEAST_CLIPS
    ]
    return [*report.warnings, *few]


def padded(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that reads in a terminal too: the first column to the left, the others to the right."""
    widths = [max(3, *(len(line[column]) for line in (head, *rows))) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:]))
        return f"| {' | '.join([cells[0].ljust(widths[0]), *rest])} |"

    rule = f"| {' | '.join(['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])])} |"
    return "\n".join([line(head), rule, *map(line, rows)])


def cell(value: float) -> str:
    """Three or four digits that count."""
    size = abs(value)
    if math.isnan(value):
        return "-"
    if 0 < size < 0.001:
        return f"{value:.1e}"
    return f"{value:.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3}f}"


def span(interval: Interval) -> str:
    return "-" if math.isnan(interval.low) else f"{cell(interval.low)} to {cell(interval.high)}"


def values(report: SwapReport) -> dict[str, object]:
    """Everything, for JSON."""
    return {
        "kind": KIND,
        "name": report.name,
        "origin": dict(report.origin),
        "instruments": dict(report.instruments),
        "machine": dict(report.machine),
        "swaps": report.swaps,
        "frames": report.frames,
        "refused": list(report.refused),
        "warnings": warnings(report),
        "inputs": {name: list(parts) for name, parts in report.inputs.items()},
        "measures": {
            one.key: {
                "title": one.title,
                "better": one.better,
                "value": number(one.result.value),
                "low": number(one.result.low),
                "high": number(one.result.high),
                "input": number(one.input),
                "parts": one.parts,
                "by_swap": {name: number(value) for name, value in one.by_swap.items()},
            }
            for one in report.measures
        },
    }


def number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else float(f"{value:.6g}")


def write(report: SwapReport, folder: Path) -> Path:
    """Writes report.md and report.json; gives back the path of the text. Raises NotWritten."""
    path = folder / "report.md"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(markdown(report), encoding="utf-8")
        content = json.dumps(values(report), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        path.with_suffix(".json").write_text(content, encoding="utf-8")
    except OSError as error:
        raise NotWritten(f"{path}: {error.strerror or error}") from error
    return path


def read(path: Path) -> dict[str, Any]:
    """A report's JSON (or the folder that holds it). Raises SettingError."""
    file = path / "report.json" if path.is_dir() else path
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(f"{file}: is no report: {error}") from error
    if found.get("kind") != KIND:
        raise SettingError(f"{file}: is no report of `{KIND}`")
    return found


def side_by_side(reports: Sequence[Mapping[str, Any]]) -> str:
    """VividFace's table and more: a line for each report, a column for whatever at least one of them measured.

    Where reports were made of other clips, other identities or by other judges, that is said: then the lines do not
    compare.
    """
    columns = [
        (key, f"{heading} ({key.split('_', 1)[1]})" if start.endswith("_") else heading)
        for start, heading in SIDE_BY_SIDE
        for key in sorted({key for one in reports for key in one["measures"] if key.startswith(start)})
        if start.endswith("_") or key == start
    ]

    def shown(one: Mapping[str, Any], key: str) -> str:
        found = one["measures"].get(key)
        return "-" if found is None or found["value"] is None else cell(found["value"])

    rows = [(one["name"], *(shown(one, key) for key, _ in columns)) for one in reports]
    notes = []
    for what, key in (("clips or identities", "inputs"), ("judges or networks", "instruments")):
        if len({json.dumps(_compared(one, key), sort_keys=True) for one in reports}) > 1:
            notes.append(f"**These reports are of different {what}: their lines do not compare.**")
    return "\n".join([padded(("", *(heading for _, heading in columns)), rows), *([""] if notes else []), *notes])


def _compared(report: Mapping[str, Any], key: str) -> object:
    """What has to be alike: for inputs the swaps that were measured."""
    return sorted(report["inputs"]) if key == "inputs" else report[key]
