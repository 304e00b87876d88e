"""A server for hours: calls that stay, calls that come and go, and everything that goes wrong in life meanwhile.

    python -m benchmarks.soak                  2 hours
    python -m benchmarks.soak --minutes 5

`vividstream serve` runs in a process of its own. Two calls stay: one of them sees its decoder killed and its camera
fall silent for two seconds, in turns. Others come and go in every way that calls end. Watched: descriptors, threads,
child processes, tasks, memory, lag of the event loop, age of the pictures of the calls that stay. Exits with 1 where
the last third is worse than the first: memory over 10 MB and 3 % up, age p95 over half again and 20 ms up, a call that
stayed is gone or sends no pictures, or something is left when all calls have ended. Ages and pictures say nothing of
the server while other programs have its processors: such moments (its event loop waited for one more than a fifth of
the time, and it used less than half of them itself) are left out, and counted in the report.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import aioice.ice
import click

from benchmarks.brief_call import ENDINGS, FPS, BriefCall, brief_call, small_loop
from benchmarks.call_latency import server
from benchmarks.connects import OPTIONS, WEIGHTS
from benchmarks.packet_caller import Coded
from benchmarks.report import machine, median, table, write_report
from benchmarks.server_watch import HELD, Census, census, left_over, settled
from streamer.stats import WINDOW_S

STAYING = 2
WATCH_EVERY_S = 10.0
MOST_SAMPLES = 720
SILENT_S = 2.0
MOST_GROWTH_MB, MOST_GROWTH_SHARE = 10.0, 0.03
MOST_AGE_GROWTH, MOST_AGE_MORE_MS = 1.5, 20.0
MOST_WAITING_SHARE, OWN_SHARE = 0.2, 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """The server and the calls that stay, at one moment."""

    at_s: float
    server: Census
    pictures: tuple[int, ...]  # that came back since the moment before, of each call that stays
    age_p95_ms: tuple[float, ...]
    waited_share: float = 0.0  # of the time since then, for which the event loop had no processor
    used_share: float = 0.0  # of all processors in that time, by the server itself

    @property
    def is_disturbed(self) -> bool:
        """Other programs had the processors."""
        return self.waited_share > MOST_WAITING_SHARE and self.used_share < OWN_SHARE


@dataclass
class Soak:
    """What was seen."""

    before: Census
    after: Census | None = None
    samples: list[Sample] = field(default_factory=list)
    made: Counter[str] = field(default_factory=Counter)
    harm: Counter[str] = field(default_factory=Counter)

    def thirds(self) -> tuple[list[Sample], list[Sample]]:
        """The first third and the last one, without the first sample: engines and caches are still warming then."""
        samples = self.samples[1:]
        size = max(len(samples) // 3, 1)
        return samples[:size], samples[-size:]

    def _calm(self, part: Sequence[Sample]) -> list[Sample]:
        """Those in whose ages, which are of the latest seconds, other programs have no share."""
        loud_s = [one.at_s for one in self.samples if one.is_disturbed]
        return [one for one in part if not any(0 <= one.at_s - at_s < WINDOW_S for at_s in loud_s)]

    def faults(self) -> list[str]:
        """What is worse at the end than at the beginning, in words."""
        first, last = self.thirds()
        found = []
        was_mb, now_mb = (median([one.server.memory_mb for one in part]) for part in (first, last))
        if now_mb > was_mb + max(MOST_GROWTH_MB, MOST_GROWTH_SHARE * was_mb):
            found.append(f"memory: {was_mb:.0f} MB at first, {now_mb:.0f} MB at last")
        first, last = self._calm(first), self._calm(last)
        for call in range(STAYING if first and last else 0):
            was_ms, now_ms = (median([one.age_p95_ms[call] for one in part]) for part in (first, last))
            if now_ms > was_ms * MOST_AGE_GROWTH + MOST_AGE_MORE_MS:
                found.append(f"age p95 of call {call + 1}: {was_ms:.0f} ms at first, {now_ms:.0f} ms at last")
            if any(one.pictures[call] == 0 for one in last):
                found.append(f"call {call + 1} was without pictures")
        if self.after is not None:
            found += left_over(self.before, self.after)
        return found


class Staying:
    """A call that stays, and the harm that is done to it."""

    def __init__(self, http: aiohttp.ClientSession, address: str, loop: Sequence[Coded]) -> None:
        self.call = BriefCall(http, address, loop)
        self._seen = 0

    async def begin(self) -> None:
        await self.call.connect(await self.call.offer())

    def news(self) -> int:
        """Pictures that came back since it was asked before; what is noted of them is forgotten."""
        count = self.call.forget()
        self._seen += count
        return count

    async def fall_silent(self, seconds: float) -> None:
        """The camera gives nothing for a while."""
        self.call.pause(True)
        await asyncio.sleep(seconds)
        self.call.pause(False)


async def soak(address: str, pid: int, minutes: float, seed: int) -> Soak:
    """Runs for so long."""
    loop, chance = small_loop(), random.Random(seed)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        await asyncio.gather(*(brief_call(http, address, loop, "delete", 0.2) for _ in range(4)))
        await asyncio.sleep(1.0)
        result = Soak(await census(http, address, pid))
        staying = [Staying(http, address, loop) for _ in range(STAYING)]
        for one in staying:
            await one.begin()
        until_s = time.monotonic() + 60 * minutes
        every_s = max(WATCH_EVERY_S, 60 * minutes / MOST_SAMPLES) if minutes > 2 else minutes * 60 / 8
        await asyncio.gather(
            _come_and_go(http, address, loop, chance, until_s, result),
            # Between two looks the camera gives pictures half of the time at least: none is the server's fault.
            _harm(staying[0], pid, chance, until_s, min(SILENT_S, every_s / 2), result),
            _watch(http, address, pid, staying, every_s, until_s, result),
        )
        for one in staying:
            await one.call.end("delete")
        result.after = await settled(http, address, pid, result.before)
    return result


async def _come_and_go(
    http: aiohttp.ClientSession,
    address: str,
    loop: Sequence[Coded],
    chance: random.Random,
    until_s: float,
    result: Soak,
) -> None:
    while time.monotonic() < until_s:
        (ending,) = chance.choices(ENDINGS, WEIGHTS)
        try:
            await brief_call(http, address, loop, ending, chance.uniform(0.0, 3.0))
            result.made[ending] += 1
        except (RuntimeError, TimeoutError):
            result.made["refused"] += 1
        await asyncio.sleep(chance.uniform(0.0, 2.0))


async def _harm(one: Staying, pid: int, chance: random.Random, until_s: float, silent_s: float, result: Soak) -> None:
    """Every few seconds something happens to the first call that stays."""
    pause_s = min(20.0, (until_s - time.monotonic()) / 4)
    while time.monotonic() + pause_s < until_s:
        await asyncio.sleep(pause_s)
        if chance.random() < 0.5:
            result.harm["decoder killed"] += _kill_a_decoder(pid)
        else:
            await one.fall_silent(silent_s)
            result.harm["camera silent"] += 1


def _kill_a_decoder(pid: int) -> bool:
    """The oldest process below the nursery: that of the first call."""
    nurseries = _children(pid)
    decoders = [one for nursery in nurseries for one in _children(nursery)]
    if decoders:
        os.kill(min(decoders), signal.SIGKILL)
    return bool(decoders)


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]
    except OSError:
        return []


async def _watch(
    http: aiohttp.ClientSession, address: str, pid: int, staying: Sequence[Staying], every_s: float, until_s: float,
    result: Soak,
) -> None:  # fmt: skip
    since_s, before_s, before = time.monotonic(), 0.0, await census(http, address, pid)
    while time.monotonic() < until_s:
        await asyncio.sleep(every_s)
        numbers = [await one.call.numbers() for one in staying]
        ages = tuple(float(number["age_ms"]["p95"] or 0.0) for number in numbers)
        pictures = tuple(one.news() for one in staying)
        now, at_s = await census(http, address, pid), time.monotonic() - since_s
        took_s = max(at_s - before_s, 1e-3)
        waited_s, used_s = now.waited_s - before.waited_s, now.used_s - before.used_s
        shares = waited_s / took_s, used_s / took_s / (os.cpu_count() or 1)
        before, before_s = now, at_s
        result.samples.append(Sample(at_s, now, pictures, ages, *shares))
        click.echo(f"{result.samples[-1]}", err=True)


def report(result: Soak, minutes: float) -> str:
    first, last = result.thirds()
    head = ("", "first third", "last third", "worst")
    values: list[tuple[str, Any]] = [
        ("memory MB", lambda one: one.server.memory_mb),
        ("descriptors", lambda one: one.server.descriptors),
        ("threads", lambda one: one.server.threads),
        ("processes", lambda one: one.server.processes),
        ("tasks", lambda one: one.server.tasks or 0),
        ("loop over 100 ms late", lambda one: one.server.lags or 0),
        *((f"age p95 ms, call {call + 1}", lambda one, call=call: one.age_p95_ms[call]) for call in range(STAYING)),
        *((f"pictures, call {call + 1}", lambda one, call=call: one.pictures[call]) for call in range(STAYING)),
    ]
    rows = [
        (
            name, f"{median([float(of(one)) for one in first]):.1f}", f"{median([float(of(one)) for one in last]):.1f}",
            f"{(min if name.startswith('pictures') else max)(float(of(one)) for one in result.samples):.1f}",
        )
        for name, of in values
    ]  # fmt: skip
    made = ", ".join(f"{count} {how}" for how, count in sorted(result.made.items()))
    harm = ", ".join(f"{count} x {what}" for what, count in sorted(result.harm.items()))
    faults = result.faults()
    return "\n".join(
        [
            "# Soak", "", f"{machine()}.", "",
            f"{minutes:g} minutes, {STAYING} calls that stay (320x240 at {FPS:.0f}), others that come and go ({made}). "
            f"Harm done: {harm or 'none'}. Medians of the samples. Other programs disturbed "
            f"{sum(one.is_disturbed for one in result.samples)} of {len(result.samples)}.", "",
            table(head, rows), "",
            f"Before all calls and after: {result.before.held()} and {result.after.held() if result.after else None} "
            f"({', '.join(HELD)}).", "",
            "Nothing is worse at last." if not faults else "Worse: " + "; ".join(faults) + ".",
        ]
    )  # fmt: skip


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--minutes", default=120.0, help="how long")
@click.option("--seed", default=1, help="of what happens")
@click.option("--write", is_flag=True, help="write docs/benchmarks/DATE-soak.{md,json}")
def main(minutes: float, seed: int, write: bool) -> None:
    with server("ours", "passthrough", OPTIONS) as (address, pid):
        result = asyncio.run(soak(address, pid, minutes, seed))
    text = report(result, minutes)
    click.echo(text)
    if write:
        figures = {"result": asdict(result), "faults": result.faults()}
        click.echo(f"written: {write_report('soak', text, figures)}", err=True)
    sys.exit(bool(result.faults()))


if __name__ == "__main__":
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]  # loopback only
    main()
