"""What the server adds to a picture on its way, over loopback: last packet in to last packet out, by burnt-in ids.

    python -m benchmarks.call_latency               passthrough 1280x720, proxy 640x480, and stock aiortc: 10 min
    python -m benchmarks.call_latency --quick       10 s each: 3 min
    python -m benchmarks.call_latency --codec H264 --case passthrough --write

`vividstream serve` runs as anybody would start it, in a process of its own; so does stock aiortc, in turn with it
(benchmarks/stock_echo.py). The caller (benchmarks/packet_caller.py) sends pictures that were encoded beforehand and
reads the ids only after the call, so that it takes no time from the server. added: last packet out minus last packet
in. age: last packet out minus first packet in. Freeze: over 200 ms without a new picture. One machine, one clock.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import aioice.ice
import click
import numpy as np

from benchmarks.corpus import DATA
from benchmarks.packet_caller import Coded, Measured, call, encode_loop, matched, pictures
from benchmarks.report import REPOSITORY, machine, median, table, write_report

CLIP = "clips/single_face.mp4"
FPS = 30.0
SETTLE_S = 3.0
FREEZE_MS = 200.0
PAUSE_S = 0.5
READY_S = 120.0
BITS_PER_S = 2_500_000

Case = Literal["passthrough", "proxy"]
SIZES: dict[Case, tuple[int, int]] = {"passthrough": (720, 1280), "proxy": (480, 640)}
TARGETS_MS: dict[Case, tuple[float, float]] = {"passthrough": (12.0, 20.0), "proxy": (40.0, 70.0)}
HEAD = (
    "server",
    "codec",
    "added p50",
    "p95",
    "p99",
    "max",
    "age p50",
    "age p95",
    "fps",
    "freezes",
    "duplicates",
    "lost",
    "cores",
)


@dataclass(frozen=True, slots=True)
class Run:
    """Figures of one call, milliseconds."""

    server: str
    case: str
    codec: str
    added_p50: float
    added_p95: float
    added_p99: float
    added_max: float
    age_p50: float
    age_p95: float
    fps: float
    freezes: int
    longest_gap: float
    duplicates: int
    lost: int  # sent while it was measured, and never seen again
    unread: int  # came back without a number: the standby picture
    kbits_per_s: float
    cores: float  # processor time of the server over wall time
    stages: dict[str, dict[str, float]]  # as the server itself says, where it does

    def row(self) -> tuple[object, ...]:
        times = [round(value, 1) for value in (self.added_p50, self.added_p95, self.added_p99, self.added_max)]
        ages = [round(self.age_p50, 1), round(self.age_p95, 1)]
        return (
            self.server, self.codec, *map(str, times), *map(str, ages), f"{self.fps:.1f}",
            f"{self.freezes} (longest gap {self.longest_gap:.0f} ms)", self.duplicates, self.lost, f"{self.cores:.2f}",
        )  # fmt: skip


def figures(server: str, case: str, codec: str, measured: Measured, cores: float) -> Run:
    """A call's figures, without its first seconds."""
    pairs = list(matched(measured, SETTLE_S))
    if len(pairs) < 2:
        raise click.ClickException(f"{server}: {len(measured.sent)} pictures sent, {len(measured.back)} came back")
    added = np.array([back.last_s - sent.last_s for sent, back in pairs]) * 1e3
    age = np.array([back.last_s - sent.first_s for sent, back in pairs]) * 1e3
    fresh = [back for (before, _), (sent, back) in pairwise(pairs) if sent is not before]
    gaps = np.diff([back.last_s for back in fresh]) * 1e3
    span_s = pairs[-1][1].last_s - pairs[0][1].last_s
    seen = {id(sent) for sent, _ in pairs}
    until_s = pairs[-1][0].first_s
    due = [sent for sent in measured.sent if pairs[0][0].first_s <= sent.first_s <= until_s]
    since_s = pairs[0][1].last_s
    p50, p95, p99 = np.percentile(added, (50, 95, 99))
    return Run(
        server, case, codec, float(p50), float(p95), float(p99), float(added.max()),
        float(np.percentile(age, 50)), float(np.percentile(age, 95)), len(fresh) / span_s,
        int((gaps > FREEZE_MS).sum()), float(gaps.max()), sum(a is b for (a, _), (b, _) in pairwise(pairs)),
        sum(id(sent) not in seen for sent in due),
        sum(back.number is None and back.last_s >= since_s for back in measured.back),
        8e-3 * sum(back.size_bytes for back in measured.back if back.last_s >= since_s) / span_s,
        cores, _stages(measured),
    )  # fmt: skip


def _stages(measured: Measured) -> dict[str, dict[str, float]]:
    numbers = measured.reports[-1] if measured.reports else {}
    return {str(name): dict(value) for name, value in numbers.get("stages_ms", {}).items()}


@contextmanager
def server(kind: str, case: str, more: Sequence[str], environment: Mapping[str, str] = {}) -> Iterator[tuple[str, int]]:
    """A server in a process of its own: its address and its process id. case: the engine of ours."""
    if kind == "stock":
        command = [sys.executable, "-m", "benchmarks.stock_echo"]
    else:
        command = [sys.executable, "-m", "streamer", "serve", "--port", "0", "--engine", case, *more]
    told = {**os.environ, **environment}
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, env=told) as process:
        assert process.stdout is not None
        try:
            address = next((line.split()[-1] for line in process.stdout if "is ready: " in line), None)
            if address is None:
                raise click.ClickException(f"the server ended: {' '.join(command)}")
            yield address, process.pid
        finally:
            process.send_signal(signal.SIGINT if kind == "stock" else signal.SIGTERM)
            process.wait(20)


def family_of(pid: int) -> dict[int, int]:
    """A process and its children, living ones: process id -> processor time in ticks, of those that ended too."""
    parents: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parts = (folder / "stat").read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            ticks[int(folder.name)] = sum(map(int, parts[11:15]))
            parents.setdefault(int(parts[1]), []).append(int(folder.name))
    todo, found = [pid], dict[int, int]()
    while todo:
        one = todo.pop()
        if one in ticks:
            found[one] = ticks[one]
        todo += parents.get(one, [])
    return found


def processor_s(pid: int) -> float:
    """Processor time of a process and its children."""
    return sum(family_of(pid).values()) / os.sysconf("SC_CLK_TCK")


def run_once(kind: str, case: Case, codec: str, loop: Sequence[Coded], seconds: float, more: Sequence[str]) -> Run:
    """One call to a fresh server."""
    choice: dict[str, str] | None = {} if kind != "stock" else None
    with server(kind, case, more) as (address, pid):
        before_s = processor_s(pid)
        measured = asyncio.run(call(address, loop, codec, FPS, SETTLE_S + seconds, choice))
        cores = (processor_s(pid) - before_s) / (SETTLE_S + seconds)
    return figures(kind, case, codec, measured, cores)


def middle(runs: Sequence[Run]) -> Run:
    """The run whose p50 is the median one."""
    return sorted(runs, key=lambda run: run.added_p50)[(len(runs) - 1) // 2]


def report(runs: Sequence[Run]) -> str:
    """The tables."""
    parts = [
        "# Call latency: what the server adds",
        "",
        f"{machine()}.",
        "",
        __doc__.split("\n\n")[-1].strip() if __doc__ else "",
    ]
    for case in dict.fromkeys(run.case for run in runs):
        mine = [run for run in runs if run.case == case]
        height_px, width_px = SIZES[case]  # type: ignore[index]
        target = TARGETS_MS[case]  # type: ignore[index]
        parts += [
            "", f"## {case}, {width_px}x{height_px} at {FPS:.0f} a second", "",
            f"Target: added p50 <= {target[0]:.0f}, p95 <= {target[1]:.0f} ms. Each row is one call to a fresh server.",
            "",
            table(HEAD, (run.row() for run in mine)),
        ]  # fmt: skip
        for key in dict.fromkeys((run.server, run.codec) for run in mine):
            same = [run for run in mine if (run.server, run.codec) == key]
            parts += [
                "", f"{key[0]} {key[1]}, median of {len(same)}: p50 {median([r.added_p50 for r in same]):.1f}, "
                f"p95 {median([r.added_p95 for r in same]):.1f}, p99 {median([r.added_p99 for r in same]):.1f} ms, "
                f"{median([r.kbits_per_s for r in same]):.0f} kbit/s back.",
            ]  # fmt: skip
            stages = middle(same).stages
            if stages:
                rows = [
                    (name, *(str(value.get(q, "-")) for q in ("p50", "p95", "p99"))) for name, value in stages.items()
                ]
                parts += ["", table(("stage (the server's own account)", "p50 ms", "p95 ms", "p99 ms"), rows)]
    return "\n".join(parts)


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--case", "cases", multiple=True, type=click.Choice(list(SIZES)), help="one engine; default both")
@click.option("--codec", "codecs", multiple=True, type=click.Choice(["VP8", "H264"]), help="default both")
@click.option("--seconds", default=30.0, help="of each call that count")
@click.option("--repeat", default=2, help="calls of each kind, in turn")
@click.option("--quick", is_flag=True, help="10 s, once each")
@click.option("--only", type=click.Choice(["ours", "stock"]), help="without the other one")
@click.option("--serve-option", "more", multiple=True, help="passed on to `vividstream serve`, word by word")
@click.option("--write", is_flag=True, help="write docs/benchmarks/DATE-call-latency.{md,json}")
def main(
    cases: tuple[Case, ...], codecs: tuple[str, ...], seconds: float, repeat: int, quick: bool, only: str | None,
    more: tuple[str, ...], write: bool,
) -> None:  # fmt: skip
    if quick:
        seconds, repeat = 10.0, 1
    kinds = [only] if only else ["ours", "stock"]
    runs: list[Run] = []
    for case in cases or tuple(SIZES):
        rgbs = pictures(DATA / CLIP, *SIZES[case])
        for codec in codecs or ("VP8", "H264"):
            loop = encode_loop(rgbs, codec, FPS, BITS_PER_S)
            for _ in range(repeat):
                for kind in kinds:
                    run = run_once(kind, case, codec, loop, seconds, more)
                    click.echo(f"{case} {run.row()} {run.stages or ''}", err=True)
                    runs.append(run)
    text = report(runs)
    click.echo(text)
    if write:
        click.echo(f"written: {write_report('call-latency', text, {'runs': [asdict(run) for run in runs]})}", err=True)


if __name__ == "__main__":
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]  # loopback only
    main()
