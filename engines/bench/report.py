"""What a bench found, for people and for programs."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engines.bench.measure import Run, percentiles
from engines.machine import cpu_features

LIBRARIES = ("vividstream", "numpy", "numba", "onnxruntime", "torch", "torch-tensorrt", "tensorrt", "cupy-cuda13x")


def facts_of(run: Run, peaks_gflops: Mapping[str, float]) -> dict[str, Any]:
    """Everything that is known of one subject. Times in milliseconds, memory in MB, rates in GFLOP/s."""
    whole = percentiles(run.step_ms)
    facts: dict[str, Any] = {
        "subject": run.subject.label,
        "why": run.session.why,
        "settings": run.subject.settings.model_dump(exclude_defaults=True),
        "frames": len(run.step_ms),
        "frames_per_s": 1000.0 * len(run.step_ms) / sum(run.step_ms),
        "step_ms": whole,
        "cpu_ms_per_frame": run.cpu_ms / len(run.step_ms),
        "stage_ms": {name: percentiles(values) for name, values in run.stage_ms.items()},
        "statuses": dict(run.statuses),
        "load_s": run.load_s,
        "grown_mb": run.grown_mb,
    }
    if run.subject.flop is not None:
        facts |= _network(run, run.subject.flop, peaks_gflops)
    return facts


def _network(run: Run, flop: float, peaks_gflops: Mapping[str, float]) -> dict[str, Any]:
    """The learned part: its work, its rate in the stage that runs it, and the share of the peak of its precision."""
    graph_ms = percentiles(run.stage_ms.get("graph", run.step_ms))["p50"]
    rate = flop / 1e6 / graph_ms
    peak = peaks_gflops.get(run.subject.precision or "")
    return {
        "gflop_per_frame": flop / 1e9,
        "gflops": rate,
        "peak": run.subject.precision,
        "share_of_peak": rate / peak if peak else None,
    }


def machine_facts() -> dict[str, Any]:
    """Where and with what it was measured."""
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision(),
        "cores": os.cpu_count(),
        "cpu": cpu_features(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {name: _version(name) for name in LIBRARIES if _version(name)},
    }


def revision() -> str:
    """The git revision of the running code, with `-changed` where files differ from it; empty outside of git."""
    where = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=-changed", "--abbrev=12"],
            cwd=where, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def as_text(facts: Mapping[str, Any]) -> str:
    """The report as lines of text."""
    machine = facts["machine"]
    lines = [
        f"{machine['cores']} cores ({machine['cpu']}), load {_number(machine['load_average'])} before, "
        f"revision {machine['revision'] or 'unknown'}",
        "peaks measured now, GFLOP/s: "
        + (", ".join(f"{name} {rate:.0f}" for name, rate in facts["peaks_gflops"].items()) or "none (no torch here)"),
        "",
    ]
    head = ("engine", "frames/s", "p50 ms", "p95", "p99", "cpu ms", "GFLOP", "GFLOP/s", "of peak", "MB")
    rows = [head, *(_row(one) for one in facts["subjects"])]
    lines += table(rows)
    for one in facts["subjects"]:
        lines += ["", f"{one['subject']}: {one['why']}", f"  {_statuses(one)}"]
        stages: list[tuple[str, ...]] = [("  stage", "p50 ms", "p95", "p99")]
        stages += [(f"  {name}", *(f"{value:.2f}" for value in ms.values())) for name, ms in one["stage_ms"].items()]
        lines += table(stages)
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns in line: the first to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    share = one.get("share_of_peak")
    return (
        one["subject"],
        f"{one['frames_per_s']:.1f}",
        *(f"{one['step_ms'][name]:.1f}" for name in ("p50", "p95", "p99")),
        f"{one['cpu_ms_per_frame']:.1f}",
        _number(one.get("gflop_per_frame")),
        _number(one.get("gflops"), 0),
        "" if share is None else f"{share:.0%}",
        f"{one['grown_mb']:.0f}",
    )


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _statuses(one: Mapping[str, Any]) -> str:
    return (
        ", ".join(f"{count} {name}" for name, count in one["statuses"].items()) + f"; loaded in {one['load_s']:.1f} s"
    )
