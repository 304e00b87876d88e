"""How long the command line takes to answer: a version, help, a press of the Tab key, a list.

    python -m benchmarks.start_up                        this checkout, seven times each
    python -m benchmarks.start_up --beside ../before     in turns with another checkout
    python -m benchmarks.start_up --quick                twice each
    python -m benchmarks.start_up --write

Whole processes of this Python, after one that fills the caches of files.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import click

from benchmarks.report import PRIVATE, REPORTS, REPOSITORY, machine, median, table, write_report


@dataclass(frozen=True, slots=True)
class Asked:
    """What is typed, or the line behind which the Tab key is pressed."""

    arguments: tuple[str, ...]
    tab: bool = False

    def start(self, checkout: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # people's Python keeps what it compiled
        command = [sys.executable, *self.arguments]
        if self.tab:
            line = " ".join(("vividstream", *self.arguments))
            words = {"COMP_WORDS": line, "COMP_CWORD": str(len(self.arguments))}
            environment |= {**words, "_VIVIDSTREAM_COMPLETE": "bash_complete"}
            command = [sys.executable, "-m", "streamer"]
        subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True)


ASKED: Mapping[str, Asked] = MappingProxyType(
    {
        "`import engines`": Asked(("-c", "import engines")),
        "`vividstream --version`": Asked(("-m", "streamer", "--version")),
        "`vividstream --help`": Asked(("-m", "streamer", "--help")),
        "`vividstream file --help`": Asked(("-m", "streamer", "file", "--help")),
        "`vividstream identities`": Asked(("-m", "streamer", "identities")),
        "Tab: `vividstream `": Asked(("",), tab=True),
        "Tab: `vividstream en`": Asked(("en",), tab=True),
        "Tab: `vividstream serve --to`": Asked(("serve", "--to"), tab=True),
        "Tab: `vividstream serve --identity a`": Asked(("serve", "--identity", "a"), tab=True),
    }
)


def took(asked: Asked, checkout: Path) -> tuple[float, float]:
    """Milliseconds by the clock, and of the processor."""
    began_s, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    asked.start(checkout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (time.perf_counter() - began_s) * 1e3, cpu_s * 1e3


def measure(asked: Asked, checkouts: Mapping[str, Path], runs: int) -> dict[str, dict[str, float]]:
    """Least and median time by the clock and least of the processor, for each checkout, in turns."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in checkouts}
    for number in range(runs + 1):
        for name, checkout in checkouts.items():
            one = took(asked, checkout)
            if number:
                seen[name].append(one)
    return {
        name: {
            "least_ms": min(wall_ms for wall_ms, _ in times),
            "median_ms": median([wall_ms for wall_ms, _ in times]),
            "cpu_ms": min(cpu_ms for _, cpu_ms in times),
        }
        for name, times in seen.items()
    }


@click.command()
@click.option("--beside", type=click.Path(path_type=Path, exists=True, file_okay=False), help="another checkout")
@click.option("--runs", type=click.IntRange(1), default=7, show_default=True, help="of each")
@click.option("--quick", is_flag=True, help="two runs of each")
@click.option("--write", is_flag=True, help=f"write the report to {REPORTS} instead of {PRIVATE}")
def main(beside: Path | None, runs: int, quick: bool, write: bool) -> None:
    """Times the command line."""
    checkouts = {**({"before": beside.resolve()} if beside else {}), "now": REPOSITORY}
    figures = {words: measure(asked, checkouts, 2 if quick else runs) for words, asked in ASKED.items()}
    rows = [
        [words, *(f"{one['least_ms']:.0f} / {one['median_ms']:.0f} / {one['cpu_ms']:.0f}" for one in found.values())]
        for words, found in figures.items()
    ]
    text = table(["", *(f"{name}, ms" for name in checkouts)], rows)
    print(text)
    told = f"# How long the command line takes to answer\n\n{machine()}\n\nLeast and median by the clock, least of the "
    told += f"processor, of {2 if quick else runs} whole processes each, in turns.\n\n{text}\n"
    path = write_report("start-up", told, {"machine": machine(), "figures": figures}, REPORTS if write else PRIVATE)
    print(path)


if __name__ == "__main__":
    main()
