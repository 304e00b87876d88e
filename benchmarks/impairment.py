"""A call over bad lines: loss, round trip, rate and outages, between two network namespaces, by burnt-in ids.

    python -m benchmarks.impairment --quick            4 lines, shorter: 2 min
    python -m benchmarks.impairment --write            the whole matrix, 45 lines x 3 outages: 40 min
    python -m benchmarks.impairment --quick --stock    stock aiortc on both sides, beside it
    python -m benchmarks.impairment --loss 1 --rtt 80 --mbit 1 --direction up

`vividstream serve --engine passthrough` and an aiortc client with this layer, 640x480 at 30 a second, the line bad in
both directions alike (`--direction` makes one of them bad). Half of the round trip is waited each way; loss falls on
every UDP packet by seeded dice; the throttle keeps at most 300 ms of packets. Age: from the camera to the far end of
the loop, through encoder, line, server, line and decoder. Freeze: over 500 ms without a new picture, standby pictures
not counted as pictures. Back: from the line's return to the first picture taken after it. Linux only.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from itertools import product
from typing import Literal

import aiohttp
import click
import numpy as np

from benchmarks.bad_line import FAR, NEAR, BadLine, Way, can_run, is_inside, open_end, run_inside, start_beyond
from benchmarks.impairment_call import Call, Plane, calling, scenes
from benchmarks.report import machine, table, to_json, write_report
from streamer.transport import pin

LOSSES = (0.0, 0.5, 1.0, 3.0, 5.0)  # per cent
RTTS_MS = (20, 80, 200)
RATES_MBIT = (0.5, 1.0, 3.0)
OUTAGES_S = (0.5, 2.0, 10.0)
QUICK = ((0.0, 20, 3.0), (1.0, 80, 1.0), (1.0, 200, 3.0), (5.0, 80, 0.5))
SETTLE_S, STEADY_S, AFTER_S = 6.0, 20.0, 4.0
FREEZE_S = 0.5
READY_S = 60.0
HEAD = (
    "loss %", "RTT ms", "Mbit/s", "fps", "age p50", "age p95", "age max", "freezes", "longest gap",
    "back 0.5 s", "2 s", "10 s", "age p95 after", "kbit/s up", "down",
)  # fmt: skip

Direction = Literal["both", "up", "down"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One line, and what a call over it was like. Times in milliseconds."""

    kind: str
    loss: float
    rtt_ms: int
    mbit: float
    fps: float
    age_p50: float
    age_p95: float
    age_max: float
    freezes: int
    longest_gap: float
    back: dict[str, float | None]  # by the outage's length in seconds; None: not before the next one
    age_p95_after: float  # of the seconds after every outage together
    kbits_up: float
    kbits_down: float
    unread: int
    told: dict[str, object]  # what both sides counted over the whole call, outages included
    error: str = ""

    def row(self) -> tuple[object, ...]:
        if self.error:
            return (f"{self.loss:g}", self.rtt_ms, f"{self.mbit:g}", self.error, *[""] * (len(HEAD) - 4))
        back = ["-" if ms is None else f"{ms:.0f}" for ms in self.back.values()]
        ages = [f"{ms:.0f}" for ms in (self.age_p50, self.age_p95, self.age_max)]
        return (
            f"{self.loss:g}", self.rtt_ms, f"{self.mbit:g}", f"{self.fps:.1f}", *ages, self.freezes,
            f"{self.longest_gap:.0f}", *back, f"{self.age_p95_after:.0f}", f"{self.kbits_up:.0f}",
            f"{self.kbits_down:.0f}",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each cell is looked at, and which outages it has."""

    direction: Direction
    codec: str
    settle_s: float
    steady_s: float
    outages_s: tuple[float, ...]


def ways(direction: Direction, bad: Way) -> tuple[Way, Way]:
    """(up, down). A way that is not bad still takes half of the round trip."""
    good = Way(delay_s=bad.delay_s)
    return (bad if direction != "down" else good), (bad if direction != "up" else good)


async def measure(
    kind: str, line: BadLine, address: str, pictures: list[Plane], loss: float, rtt_ms: int, mbit: float, plan: Plan
) -> Cell:
    """One call over one line."""
    bad = Way(loss / 100, rtt_ms / 2e3, mbit * 1e6)
    line.set(*ways(plan.direction, Way(delay_s=bad.delay_s)))
    async with calling(address, pictures, plan.codec) as call:
        line.set(*ways(plan.direction, bad))
        await asyncio.sleep(plan.settle_s)
        before, since_s = line.set(*ways(plan.direction, bad)), time.monotonic()
        await asyncio.sleep(plan.steady_s)
        after, until_s = line.set(*ways(plan.direction, bad)), time.monotonic()
        back, ages_after = await outages(call, line, bad, plan)
    ages_ms = np.array(call.ages_s(since_s, until_s) or [float("nan")]) * 1e3
    gaps_s = call.gaps_s(since_s, until_s)
    p50, p95, most = np.percentile(ages_ms, (50, 95, 100))
    up, down = (8e-3 * (after[name] - before[name]) / (until_s - since_s) for name in ("up_bytes", "down_bytes"))
    return Cell(
        kind, loss, rtt_ms, mbit, (len(gaps_s) - 1) / (until_s - since_s), float(p50), float(p95), float(most),
        sum(gap_s > FREEZE_S for gap_s in gaps_s), max(gaps_s) * 1e3, back,
        float(np.percentile(ages_after or [float("nan")], 95)) * 1e3, up, down, call.watched.unread, told(call),
    )  # fmt: skip


def told(call: Call) -> dict[str, object]:
    """What both sides counted."""
    numbers: dict[str, object] = {"server": call.reports}
    for transceiver in call.connection.getTransceivers():
        for name, side in (("receiver", transceiver.receiver), ("sender", transceiver.sender)):
            counters = getattr(side, "counters", None)
            if is_dataclass(counters) and not isinstance(counters, type):
                numbers[f"client_{name}"] = asdict(counters)
    return numbers


async def outages(call: Call, line: BadLine, bad: Way, plan: Plan) -> tuple[dict[str, float | None], list[float]]:
    """(how soon pictures were back in ms, by outage; the ages of all pictures shown after them, in s)"""
    back: dict[str, float | None] = {}
    ages_s: list[float] = []
    for outage_s in plan.outages_s:
        dead = Way(bad.loss, bad.delay_s, bad.bits_per_s, dead=True)
        line.set(dead, dead)
        await asyncio.sleep(outage_s)
        line.set(*ways(plan.direction, bad))
        alive_s = time.monotonic()
        await asyncio.sleep(AFTER_S)
        took_s = call.back_s(alive_s)
        back[f"{outage_s:g}"] = None if took_s is None else took_s * 1e3
        first_s = alive_s + (took_s or 0.0)
        ages_s += call.ages_s(first_s, alive_s + AFTER_S)
    return back, ages_s


@contextmanager
def server(kind: str) -> Iterator[tuple[str, int]]:
    """A server at the far end: its address, and the far end's TUN device."""
    serve = ["-m", "streamer", "serve", "--host", FAR, "--port", "0", "--engine", "passthrough"]
    started, end = start_beyond([sys.executable, *(serve if kind == "ours" else ["-m", "benchmarks.stock_echo", FAR])])
    assert started.stdout is not None
    try:
        address = next((line.split()[-1] for line in started.stdout if "ready: " in line), None)
        if address is None:
            raise click.ClickException("the server ended")
        yield address, end
    finally:
        started.send_signal(signal.SIGTERM if kind == "ours" else signal.SIGINT)
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()


def run(kind: str, cells: Sequence[tuple[float, int, float]], plan: Plan, verbose: bool) -> list[Cell]:
    """All cells against one server, each with a call of its own."""
    here, pictures, found = open_end(NEAR), scenes(), []
    if kind == "ours":
        pin.install()
    with server(kind) as (address, there):
        line = BadLine(here, there)
        try:
            for loss, rtt_ms, mbit in cells:
                try:
                    cell = asyncio.run(measure(kind, line, address, pictures, loss, rtt_ms, mbit, plan))
                except (OSError, RuntimeError, aiohttp.ClientError) as error:  # TimeoutError is an OSError
                    nan = float("nan")
                    cell = Cell(kind, loss, rtt_ms, mbit, 0, nan, nan, nan, 0, nan, {}, nan, 0, 0, 0, {}, repr(error))
                found.append(cell)
                click.echo("  ".join(map(str, cell.row())))
                if verbose:
                    click.echo(to_json(cell.told))
        finally:
            line.close()
    return found


def verdict(cells: Sequence[Cell]) -> list[str]:
    """What was asked for, line by line."""
    calm = [cell for cell in cells if cell.loss <= 1 and not cell.error]
    backs = [ms for cell in cells for ms in cell.back.values()]
    late = sum(ms is None or ms > 1000 for ms in backs)
    ages = [cell.age_p95 for cell in cells if not cell.error]
    after = [cell.age_p95_after for cell in cells if not cell.error]
    longest = max((cell.longest_gap for cell in calm), default=float("nan"))
    return [
        f"- Freezes over 500 ms at no more than 1 % loss: {sum(cell.freezes for cell in calm)} in {len(calm)} lines; "
        f"longest gap {longest:.0f} ms.",
        f"- Recoveries within 1 s after an outage: {len(backs) - late} of {len(backs)}.",
        f"- Age p95: at most {max(ages, default=float('nan')):.0f} ms; after outages {max(after, default=0):.0f} ms.",
        f"- Calls that could not be made: {sum(bool(cell.error) for cell in cells)}.",
    ]


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="four lines, shorter")
@click.option("--stock", is_flag=True, help="stock aiortc on both sides instead")
@click.option("--loss", "losses", type=float, multiple=True, help="per cent")
@click.option("--rtt", "rtts", type=int, multiple=True, help="milliseconds")
@click.option("--mbit", "rates", type=float, multiple=True, help="Mbit/s")
@click.option("--outage", "lengths", type=float, multiple=True, help="seconds")
@click.option("--direction", type=click.Choice(["both", "up", "down"]), default="both")
@click.option("--codec", type=click.Choice(["VP8", "H264"]), default="VP8")
@click.option("--steady", type=float, help="seconds that each line is looked at")
@click.option("--verbose", is_flag=True, help="shows what both sides counted")
@click.option("--write", is_flag=True, help="writes docs/benchmarks")
def main(
    quick: bool, stock: bool, losses: tuple[float, ...], rtts: tuple[int, ...], rates: tuple[float, ...],
    lengths: tuple[float, ...], direction: Direction, codec: str, steady: float | None,
    verbose: bool, write: bool,
) -> None:  # fmt: skip
    fault = can_run()
    if fault is not None:
        raise click.ClickException(fault)
    if not is_inside():
        sys.exit(run_inside(["-m", "benchmarks.impairment", *sys.argv[1:]]))
    cells = list(product(losses or LOSSES, rtts or RTTS_MS, rates or RATES_MBIT))
    if quick and not (losses or rtts or rates):
        cells = list(QUICK)
    outages_s = lengths or (OUTAGES_S[:2] if quick else OUTAGES_S)
    plan = Plan(direction, codec, 3.0 if quick else SETTLE_S, steady or (8.0 if quick else STEADY_S), outages_s)
    click.echo("  ".join(HEAD))
    began_s = time.monotonic()
    kind = "stock" if stock else "ours"
    found = run(kind, cells, plan, verbose)
    took_min = (time.monotonic() - began_s) / 60
    text = "\n".join(verdict(found))
    click.echo(f"{text}\n{took_min:.0f} min")
    if write:
        name = "impairment" + ("-stock" if stock else "") + ("" if direction == "both" else f"-{direction}")
        asked = __doc__.split("\n\n")[-1].strip() if __doc__ else ""
        parts = [f"# Calls over bad lines{' (stock aiortc)' if stock else ''}", "", f"{machine()}.", "", asked, ""]
        parts += [f"{codec}, bad: {direction}. {took_min:.0f} minutes.", "", text, ""]
        parts.append(table(HEAD, (cell.row() for cell in found)))
        click.echo(write_report(name, "\n".join(parts), {"cells": [asdict(cell) for cell in found]}))


if __name__ == "__main__":
    main()
