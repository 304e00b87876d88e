"""An engine slower than the camera for minutes: pictures must not grow old, and nothing must pile up.

    python -m benchmarks.slow_consumer              66 ms a picture for 10 minutes, the camera at 30 a second: 11 min
    python -m benchmarks.slow_consumer --quick      one minute
    python -m benchmarks.slow_consumer --write

The caller (benchmarks/packet_caller.py) does not do what it is asked for: it goes on sending 30 pictures a second.
Memory: what the server and its decoder process hold that nobody else holds (private pages).
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import aioice.ice
import click
import numpy as np
from aiohttp import web

from benchmarks.call_latency import BITS_PER_S, CLIP, FPS, SETTLE_S, family_of
from benchmarks.corpus import DATA
from benchmarks.packet_caller import Measured, call, encode_loop, matched, pictures
from benchmarks.report import REPOSITORY, machine, table, write_report
from engines import Identity, Session, SessionState, StepResult, SwapSettings, load
from engines.types import Rgb
from streamer.app import create_app
from streamer.config import ServerConfig

SIZE = (480, 640)
SLOW_S = 0.066
SAMPLE_S = 5.0
PARTS = 10
HEAD = ("part", "since s", "fps back", "age p50 ms", "age p95 ms", "age max ms", "memory MB")


class SlowSession:
    """A session of the real engine that takes its time."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def step(self, state: SessionState, rgb_HW3: Rgb, captured_s: float) -> StepResult:
        time.sleep(SLOW_S)
        return self._session.step(state, rgb_HW3, captured_s)


def _load_slow(settings: SwapSettings, identity: Identity | None = None) -> Session:
    return cast(Session, SlowSession(load(settings, identity)))


async def _serve() -> None:
    config = ServerConfig(swap=SwapSettings(engine="passthrough"))
    runner = web.AppRunner(create_app(config, loader=_load_slow), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"a slow server is ready: http://127.0.0.1:{runner.addresses[0][1]}/", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


@contextmanager
def slow_server() -> Iterator[tuple[str, int]]:
    """The server in a process of its own: its address and its process id."""
    command = [sys.executable, "-m", "benchmarks.slow_consumer", "--serve"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = next((line.split()[-1] for line in process.stdout if "is ready: " in line), None)
            if address is None:
                raise click.ClickException("the server ended")
            yield address, process.pid
        finally:
            process.terminate()
            process.wait(20)


def private_bytes(pid: int) -> int:
    """Of a process and its children."""
    total = 0
    for one in family_of(pid):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return total


async def _watched(address: str, pid: int, seconds: float) -> tuple[Measured, list[tuple[float, int]]]:
    loop = encode_loop(pictures(DATA / CLIP, *SIZE), "VP8", FPS, BITS_PER_S)
    memory: list[tuple[float, int]] = []

    async def watch() -> None:
        while True:
            memory.append((time.monotonic(), await asyncio.to_thread(private_bytes, pid)))
            await asyncio.sleep(SAMPLE_S)

    watching = asyncio.create_task(watch())
    measured = await call(address, loop, "VP8", FPS, SETTLE_S + seconds, {})
    watching.cancel()
    return measured, memory


def parts_of(measured: Measured, memory: list[tuple[float, int]]) -> list[tuple[object, ...]]:
    """One row for each tenth of the call."""
    pairs = list(matched(measured, SETTLE_S))
    begin_s, end_s = pairs[0][1].last_s, pairs[-1][1].last_s
    rows: list[tuple[object, ...]] = []
    for part in range(PARTS):
        since_s, until_s = (begin_s + (end_s - begin_s) * share / PARTS for share in (part, part + 1))
        inside = [(sent, back) for sent, back in pairs if since_s <= back.last_s < until_s]
        ages = [(back.last_s - sent.first_s) * 1e3 for sent, back in inside]
        held = [size for at_s, size in memory if since_s <= at_s < until_s]
        p50, p95 = np.percentile(ages, (50, 95))
        rows.append((
            part + 1, f"{since_s - begin_s:.0f}", f"{len(inside) / (until_s - since_s):.1f}", f"{p50:.1f}",
            f"{p95:.1f}",
            f"{max(ages):.1f}", f"{np.median(held) / 1e6:.1f}" if held else "-",
        ))  # fmt: skip
    return rows


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--seconds", default=600.0)
@click.option("--quick", is_flag=True, help="60 s")
@click.option("--serve", is_flag=True, hidden=True)
@click.option("--write", is_flag=True, help="write docs/benchmarks/DATE-slow-consumer.{md,json}")
def main(seconds: float, quick: bool, serve: bool, write: bool) -> None:
    if serve:
        asyncio.run(_serve())
        return
    seconds = 60.0 if quick else seconds
    with slow_server() as (address, pid):
        measured, memory = asyncio.run(_watched(address, pid, seconds))
    rows = parts_of(measured, memory)
    about = __doc__.split("\n\n")[-1].strip() if __doc__ else ""
    title = f"# An engine of {SLOW_S * 1e3:.0f} ms a picture behind a camera of {FPS:.0f} a second, {seconds:.0f} s"
    text = "\n".join([title, "", f"{machine()}.", "", about, "", table(HEAD, rows)])
    click.echo(text)
    if write:
        figures = {"rows": [dict(zip(HEAD, row, strict=True)) for row in rows], "seconds": seconds}
        click.echo(f"written: {write_report('slow-consumer', text, figures)}", err=True)


if __name__ == "__main__":
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]  # loopback only
    main()
