"""How many calls one core holds with `passthrough`, and how that grows with cores.

    python -m benchmarks.sessions_per_core            1x1, 1x2, 2x1 servers x cores, 640x480 and 1280x720: 15 min
    python -m benchmarks.sessions_per_core --quick    1x1, 640x480, up to 3 calls of 6 s: 1 min
    python -m benchmarks.sessions_per_core --layout 1x4 --layout 4x1 --size 1280x720

Each server may use so many cores and no others; the callers, in processes of their own, use the remaining ones where
there are any. Calls are added one by one; they are held as long as every one of them shows at least 95 % of its
pictures with p95 of their age (first packet in to last packet out) at most 100 ms. `load` is the processor time of the
servers, decoders included, over wall time and cores.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

import aioice.ice
import click
import numpy as np

from benchmarks.call_latency import processor_s, server
from benchmarks.packet_caller import Coded, Measured, call, encode_loop
from benchmarks.report import machine, table, write_report
from engines.types import Rgb

FPS = 30.0
BITS_PER_S = {(480, 640): 1_200_000, (720, 1280): 2_500_000}
SETTLE_S = 3.0
MOST_CALLS = 16
CALLS_PER_PROCESS = 4
LEAST_SHARE, MOST_AGE_MS = 0.95, 100.0
OPTIONS = ("--max-sessions", "16", "--calls-per-address", "64", "--offers-per-minute", "1000")


@dataclass(frozen=True, slots=True)
class Load:
    """So many calls at once, and how that went. Ages are those of the worst call."""

    servers: int
    cores: int  # of each server
    size: str
    calls: int
    least_fps: float
    age_p50_ms: float
    age_p95_ms: float
    load: float
    share_of_core: float  # processor time of one call

    @property
    def is_held(self) -> bool:
        return self.least_fps >= LEAST_SHARE * FPS and self.age_p95_ms <= MOST_AGE_MS


@contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """What is started meanwhile runs on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def moving(height_px: int, width_px: int) -> tuple[Rgb, ...]:
    """Something that moves, with detail in it."""
    noise = np.random.default_rng(3).integers(0, 255, (height_px // 8, width_px // 8, 3), np.uint8)
    still = noise.repeat(8, 0).repeat(8, 1)
    return tuple(np.roll(still, 4 * number, 1) for number in range(60))


def measure(servers: int, cores: int, size_px: tuple[int, int], calls: int, seconds: float) -> Load:
    """Fresh servers, so many calls spread over them."""
    every = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        running = []
        for number in range(servers):
            mine = every[number * cores : (number + 1) * cores]
            with on_cores(mine):
                running.append(stack.enter_context(server("ours", "passthrough", OPTIONS)))
        stack.enter_context(on_cores(every[servers * cores :] or every))
        callers = [_start_caller(running, first, min(first + CALLS_PER_PROCESS, calls), size_px, seconds)
                   for first in range(0, calls, CALLS_PER_PROCESS)]  # fmt: skip
        for caller in callers:
            assert caller.stdout is not None
            caller.stdout.readline()  # it has encoded its pictures
        before_s = sum(processor_s(pid) for _, pid in running)
        for caller in callers:
            assert caller.stdin is not None
            caller.stdin.write("go\n")
            caller.stdin.flush()
        said = [caller.communicate()[0] for caller in callers]
        used_s = sum(processor_s(pid) for _, pid in running) - before_s
    numbers = np.array([[float(word) for word in line.split()] for text in said for line in text.splitlines()])
    if len(numbers) < calls:
        raise click.ClickException(f"only {len(numbers)} of {calls} calls came about")
    load = used_s / (SETTLE_S + seconds) / (servers * cores)
    size = f"{size_px[1]}x{size_px[0]}"
    return Load(
        servers, cores, size, calls, float(numbers[:, 0].min()), float(numbers[:, 1].max()),
        float(numbers[:, 2].max()), load, load * servers * cores / calls,
    )  # fmt: skip


def _start_caller(
    running: Sequence[tuple[str, int]], first: int, last: int, size_px: tuple[int, int], seconds: float
) -> subprocess.Popen[str]:
    """A process that makes the calls first..last, each to the next server in turn."""
    addresses = [running[number % len(running)][0] for number in range(first, last)]
    words = [sys.executable, "-m", "benchmarks.sessions_per_core", "--caller", f"{size_px[1]}x{size_px[0]}"]
    return subprocess.Popen(
        [*words, "--seconds", str(seconds), *(word for address in addresses for word in ("--address", address))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


async def _call_all(addresses: Sequence[str], loop: Sequence[Coded], seconds: float) -> None:
    calls = [call(address, loop, "VP8", FPS, SETTLE_S + seconds, {}) for address in addresses]
    for measured in await asyncio.gather(*calls):
        click.echo(" ".join(map(str, _figures(measured, seconds))))


def _figures(measured: Measured, seconds: float) -> tuple[float, float, float]:
    """Pictures a second, and the middle and 95th percentile of their age, by the server's last words."""
    fps = sum(back.last_s > measured.back[-1].last_s - seconds for back in measured.back) / seconds
    age = measured.reports[-1]["age_ms"]
    return fps, float(age["p50"] or np.inf), float(age["p95"] or np.inf)


def climb(servers: int, cores: int, size_px: tuple[int, int], most: int, seconds: float) -> list[Load]:
    """One call more each time, until they are not held any more."""
    loads: list[Load] = []
    for calls in range(servers, most + 1, servers):
        loads.append(measure(servers, cores, size_px, calls, seconds))
        click.echo(str(loads[-1]), err=True)
        if not loads[-1].is_held:
            break
    return loads


def report(loads: Sequence[Load]) -> str:
    head = ("servers x cores", "size", "calls", "held", "least fps", "age p50 ms", "age p95 ms", "load", "cores a call")
    rows = [
        (
            f"{one.servers}x{one.cores}", one.size, str(one.calls), "yes" if one.is_held else "no",
            f"{one.least_fps:.1f}", f"{one.age_p50_ms:.1f}", f"{one.age_p95_ms:.1f}", f"{one.load:.0%}",
            f"{one.share_of_core:.2f}",
        )
        for one in loads
    ]  # fmt: skip
    lines = ["# Calls per core", "", f"{machine()}.", ""]
    for key in dict.fromkeys((one.servers, one.cores, one.size) for one in loads):
        held = [one.calls for one in loads if (one.servers, one.cores, one.size) == key and one.is_held]
        lines.append(
            f"- {key[0]} server(s) with {key[1]} core(s), {key[2]} at {FPS:.0f}: **{max(held, default=0)} calls**"
        )
    note = __doc__.split("\n\n")[-1].strip() if __doc__ else ""
    return "\n".join([*lines, "", note, "", table(head, rows)])


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--layout", "layouts", multiple=True, help="servers x cores of each; default 1x1, 1x2, 2x1")
@click.option("--size", "sizes", multiple=True, type=click.Choice(["640x480", "1280x720"]), help="default both")
@click.option("--most", default=MOST_CALLS, help="calls at most")
@click.option("--seconds", default=15.0, help="of each try that count")
@click.option("--quick", is_flag=True, help="1x1, 640x480, up to 3 calls of 6 s")
@click.option("--write", is_flag=True, help="write docs/benchmarks/DATE-sessions-per-core.{md,json}")
@click.option("--caller", hidden=True, type=str)
@click.option("--address", "addresses", hidden=True, multiple=True)
def main(
    layouts: tuple[str, ...], sizes: tuple[str, ...], most: int, seconds: float, quick: bool, write: bool,
    caller: str | None, addresses: tuple[str, ...],
) -> None:  # fmt: skip
    if caller is not None:
        size_px = _size(caller)
        loop = encode_loop(moving(*size_px), "VP8", FPS, BITS_PER_S[size_px])
        click.echo("ready")
        sys.stdin.readline()
        asyncio.run(_call_all(addresses, loop, seconds))
        return
    if quick:
        layouts, sizes, most, seconds = ("1x1",), ("640x480",), 3, 6.0
    cores = len(os.sched_getaffinity(0))
    loads: list[Load] = []
    for layout in layouts or ("1x1", "1x2", "2x1"):
        servers, each = map(int, layout.split("x"))
        if servers * each > cores:
            click.echo(f"{layout}: this machine has {cores} cores", err=True)
            continue
        for size in sizes or ("640x480", "1280x720"):
            loads += climb(servers, each, _size(size), most, seconds)
    text = report(loads)
    click.echo(text)
    if write:
        path = write_report("sessions-per-core", text, {"loads": [asdict(one) for one in loads]})
        click.echo(f"written: {path}", err=True)


def _size(words: str) -> tuple[int, int]:
    """640x480 as (height, width)."""
    width_px, height_px = re.findall(r"\d+", words)
    return int(height_px), int(width_px)


if __name__ == "__main__":
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]  # loopback only
    main()
