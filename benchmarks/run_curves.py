"""How a chain of training runs went, from their logs: a table by stage, and a drawing of the error on held-out people.

    python -m benchmarks.run_curves teacher=RUN/teacher causal=RUN/causal rollout=RUN/rollout --out docs/benchmarks/NAME

Writes NAME.svg and prints the table. Runs are laid one after the other, in minutes.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import click

WIDTH_PX, HEIGHT_PX, EDGE_PX = 720, 320, 46
COLOURS = ("#1b6ca8", "#c8553d", "#2e8b57", "#8a5a9e", "#777777")


@dataclass(frozen=True, slots=True)
class Run:
    """A run's log. losses: of each step. watched: minutes since its begin, and what was measured then."""

    name: str
    minutes: float
    losses: tuple[float, ...]
    watched: tuple[tuple[float, dict[str, float]], ...]

    @classmethod
    def read(cls, name: str, folder: Path) -> Run:
        losses, watched, now_min = [], [], 0.0
        for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if "metrics" in entry:
                watched.append((now_min, {key: float(value) for key, value in entry["metrics"].items()}))
                continue
            now_min = entry["elapsed_s"] / 60
            losses.append(next(float(value) for key, value in entry.items() if key.endswith("/loss")))
        return cls(name, now_min, tuple(losses), tuple(watched))


def table(runs: tuple[Run, ...]) -> str:
    """Loss: medians of the first, middle and last tenth of the steps."""
    rows = ["| stage | minutes | steps | loss at first | in the middle | at last |", "|---|---|---|---|---|---|"]
    for run in runs:
        tenth, middle = max(len(run.losses) // 10, 1), len(run.losses) // 2
        parts = run.losses[:tenth], run.losses[middle : middle + tenth], run.losses[-tenth:]
        cells = " | ".join(f"{statistics.median(part):.3f}" for part in parts)
        rows.append(f"| {run.name} | {run.minutes:.0f} | {len(run.losses)} | {cells} |")
    return "\n".join(rows)


def drawing(runs: tuple[Run, ...]) -> str:
    """Every metric that a run watched, over the minutes of all of them, as SVG."""
    lines: dict[str, list[tuple[float, float]]] = {}
    begun_min, borders = 0.0, []
    for run in runs:
        for at_min, metrics in run.watched:
            for key, value in metrics.items():
                if key != "rms" or "rms-1-step" not in metrics:  # else it is the same again
                    lines.setdefault(key, []).append((begun_min + at_min, value))
        borders.append((begun_min, run.name))
        begun_min += run.minutes
    highest = max(value for line in lines.values() for _, value in line) * 1.08

    def place(at_min: float, value: float) -> str:
        x = EDGE_PX + (WIDTH_PX - 2 * EDGE_PX) * at_min / begun_min
        return f"{x:.1f},{HEIGHT_PX - EDGE_PX - (HEIGHT_PX - 2 * EDGE_PX) * value / highest:.1f}"

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {HEIGHT_PX}" font-family="sans-serif">']
    parts.append(f'<rect width="{WIDTH_PX}" height="{HEIGHT_PX}" fill="#ffffff"/>')
    for at_min, name in borders:
        x, bottom = place(at_min, 0).split(",")
        parts.append(f'<line x1="{x}" y1="{EDGE_PX}" x2="{x}" y2="{bottom}" stroke="#dddddd"/>')
        parts.append(f'<text x="{x}" y="{HEIGHT_PX - EDGE_PX + 16}" font-size="11">{name}</text>')
    for number, (key, line) in enumerate(lines.items()):
        colour, points = COLOURS[number % len(COLOURS)], " ".join(place(*point) for point in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{EDGE_PX + 130 * number}" y="20" font-size="12" fill="{colour}">{key}</text>')
    for value in (0.0, highest / 2, highest):
        parts.append(f'<text x="4" y="{place(0, value).split(",")[1]}" font-size="11">{value:.2f}</text>')
    return "\n".join([*parts, "</svg>\n"])


@click.command()
@click.argument("named", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(named: tuple[str, ...], out: Path) -> None:
    """Draws what the logs of these runs hold, NAME=FOLDER each."""
    runs = tuple(Run.read(*_split(one)) for one in named)
    out.with_suffix(".svg").write_text(drawing(runs), encoding="utf-8")
    print(table(runs))


def _split(named: str) -> tuple[str, Path]:
    name, _, folder = named.partition("=")
    if not folder:
        raise click.BadParameter(f'"{named}": NAME=FOLDER is wanted')
    return name, Path(folder)


if __name__ == "__main__":
    main()
