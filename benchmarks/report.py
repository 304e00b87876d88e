"""Writing measurements down: the machine, tables, and dated files in docs/benchmarks."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from engines import SettingError, SwapSettings

REPOSITORY = Path(__file__).resolve().parents[1]
REPORTS = REPOSITORY / "docs" / "benchmarks"
PRIVATE = REPOSITORY / "out"  # ignored by git: pictures of real people stay here
PACKAGES = ("numpy", "numba", "mediapipe", "av")


def machine() -> str:
    """The processor, its cores, the system and the versions that the figures depend on, in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = [f"Python {platform.python_version()}", *(_version(name) for name in PACKAGES)]
    return f"{_processor()}, {cores} cores, {platform.system()} {platform.machine()}; {', '.join(versions)}"


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def read_settings(engine: str, pairs: Sequence[str]) -> SwapSettings:
    """Settings from `key=value` words; true, false and whole numbers are read as such. Raises SettingError."""
    values: dict[str, object] = {"engine": engine}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise SettingError(f'"{pair}" is not key=value')
        values[key] = {"true": True, "false": False}.get(text, int(text) if text.isdigit() else text)
    return SwapSettings.read(values)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table; floats with three decimals."""
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join('---' for _ in head)}|"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if np.isnan(value) else f"{value:.3f}"
    return str(value)


def mean(values: Sequence[float]) -> float:
    """The mean, or NaN of nothing."""
    return float(np.mean(values)) if len(values) else float("nan")


def median(values: Sequence[float]) -> float:
    """The median, or NaN of nothing."""
    return float(np.median(values)) if len(values) else float("nan")


def write_report(name: str, markdown: str, figures: Mapping[str, object], folder: Path = REPORTS) -> Path:
    """Writes YYYY-MM-DD-NAME.md and .json side by side; gives back the path of the text."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{date.today().isoformat()}-{name}.md"
    path.write_text(markdown.rstrip() + "\n", encoding="utf-8")
    path.with_suffix(".json").write_text(to_json(figures) + "\n", encoding="utf-8")
    return path


def to_json(figures: Mapping[str, object]) -> str:
    """JSON with floats of four decimals and null for NaN, so that two reports can be compared."""
    return json.dumps(_rounded(figures), indent=1, ensure_ascii=False, sort_keys=True)


def _rounded(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return None if np.isnan(value) else round(float(value), 4)
    return value
