"""Connects and disconnects, a thousand of them: what the server holds afterwards must be what it held before.

    python -m benchmarks.connects            1,000 calls: 10 min on 2 cores
    python -m benchmarks.connects --quick    20 calls: 20 s

`vividstream serve` runs in a process of its own. The calls end in every way: by DELETE, by a closed page, by a network
that is gone, before they are connected, or without ever connecting. Counted: descriptors, threads, child processes,
asyncio tasks, memory. Exits with 1 where they are not as before (memory: the last quarter against the second).
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

import aiohttp
import aioice.ice
import click

from benchmarks.brief_call import ENDINGS, brief_call, small_loop
from benchmarks.call_latency import server
from benchmarks.report import machine, median, table, write_report
from benchmarks.server_watch import HELD, Census, census, left_over, settled

HANDSHAKE_S, SILENCE_S = 10.0, 8.0
OPTIONS = (
    "--max-sessions", "16", "--calls-per-address", "64", "--offers-per-minute", "100000",
    "--handshake-s", str(HANDSHAKE_S), "--first-media-s", str(SILENCE_S), "--silence-s", str(SILENCE_S),
)  # fmt: skip
WEIGHTS = (0.4, 0.3, 0.05, 0.2, 0.05)  # of the endings; a vanished call keeps its place for seconds
WARM_CALLS = 8
MOST_GROWTH_MB = 15.0  # it goes up and down by as much from one look to the next
SWEPT_S = 1.5  # from a call's end until what it leaves behind has been collected
LEAST_CALLS = 200  # from which on memory says something


@dataclass
class Result:
    """What was counted."""

    made: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    pictureless: int = 0  # connected, or tried to, and never saw a picture
    first_picture_s: list[float] = field(default_factory=list)
    watched: list[tuple[int, Census]] = field(default_factory=list)  # calls made so far, and then
    wall_s: float = 0.0

    def faults(self) -> list[str]:
        """Why the server is not as before, in words."""
        (_, before), (_, after) = self.watched[0], self.watched[-1]
        found = left_over(before, after)
        if self.pictureless:
            found.append(f"{self.pictureless} calls never showed a picture")
        quarter = len(self.watched) // 4
        if self.made.total() >= LEAST_CALLS:
            was_mb, now_mb = (
                median([one.memory_mb for _, one in part])
                for part in (self.watched[quarter : 2 * quarter], self.watched[-quarter:])
            )
            if now_mb > was_mb + MOST_GROWTH_MB:
                found.append(f"memory: {was_mb:.0f} MB in the second quarter, {now_mb:.0f} MB in the last")
        return found


async def measure(address: str, pid: int, count: int, at_once: int, seed: int) -> Result:
    """Makes so many calls, some at once, and watches the server."""
    result, loop, chance = Result(), small_loop(), random.Random(seed)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:

        async def one() -> None:
            (ending,) = chance.choices(ENDINGS, WEIGHTS)
            try:
                took_s = await brief_call(http, address, loop, ending, chance.uniform(0.0, 0.3))
            except RuntimeError:
                result.refused += 1
                await asyncio.sleep(0.5)
                return
            except TimeoutError:
                result.pictureless += 1
                return
            result.made[ending] += 1
            if took_s is not None:
                result.first_picture_s.append(took_s)

        async def watch() -> None:
            before = result.watched[0][1] if result.watched else None
            await settled(http, address, pid, before)
            await asyncio.sleep(SWEPT_S)
            result.watched.append((result.made.total(), await census(http, address, pid)))

        await asyncio.gather(*(one() for _ in range(WARM_CALLS)))  # what the first calls load and start is no leak
        result.made.clear()
        result.first_picture_s.clear()
        since_s = time.monotonic()
        await watch()
        step = max(count // 20, at_once)
        while result.made.total() < count:
            enough = min(result.made.total() + step, count)

            async def caller(enough: int = enough) -> None:
                while result.made.total() < enough:
                    await one()

            await asyncio.gather(*(caller() for _ in range(at_once)))
            await watch()
            click.echo(f"{result.watched[-1]}", err=True)
        result.wall_s = time.monotonic() - since_s
    return result


def report(result: Result) -> str:
    head = ("calls made", *HELD, "memory MB")
    rows = [
        (str(made), *("-" if held is None else held for held in one.held()), f"{one.memory_mb:.1f}")
        for made, one in result.watched
    ]
    took = sorted(result.first_picture_s)
    made = ", ".join(f"{count} {ending}" for ending, count in sorted(result.made.items()))
    faults = result.faults()
    return "\n".join(
        [
            "# Connects and disconnects", "", f"{machine()}.", "",
            f"{result.made.total()} calls in {result.wall_s:.0f} s ({made}; {result.refused} refused while places were "
            f"taken). From the answer to the first picture back: median {median(took) * 1e3:.0f} ms, "
            f"95th percentile {took[int(0.95 * (len(took) - 1))] * 1e3:.0f} ms.", "",
            table(head, rows), "", "As before." if not faults else "Not as before: " + "; ".join(faults) + ".",
        ]
    )  # fmt: skip


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--count", default=1_000, help="calls")
@click.option("--at-once", default=4, help="of them at the same time")
@click.option("--seed", default=1, help="of the endings and lengths")
@click.option("--quick", is_flag=True, help="20 calls")
@click.option("--write", is_flag=True, help="write docs/benchmarks/DATE-connects.{md,json}")
def main(count: int, at_once: int, seed: int, quick: bool, write: bool) -> None:
    with server("ours", "passthrough", OPTIONS) as (address, pid):
        result = asyncio.run(measure(address, pid, 20 if quick else count, at_once, seed))
    text = report(result)
    click.echo(text)
    if write:
        figures = {"result": asdict(result), "faults": result.faults()}
        click.echo(f"written: {write_report('connects', text, figures)}", err=True)
    sys.exit(bool(result.faults()))


if __name__ == "__main__":
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]  # loopback only
    main()
