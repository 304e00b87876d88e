"""What a server holds: its processes, threads, descriptors, memory, tasks, as the kernel and its /metrics say."""

from __future__ import annotations

import asyncio
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

SETTLE_S = 25.0
HELD = ("descriptors", "threads", "processes", "tasks")
HELPERS = 4  # threads: asyncio's pool starts its helpers (cores and four more) as they are first wanted


@dataclass(frozen=True, slots=True)
class Census:
    """A server at one moment. `processes` is without the server itself; memory is of all of them, shared pages once."""

    calls: int
    descriptors: int
    threads: int
    processes: int
    tasks: int | None  # None where the server does not say
    memory_mb: float
    lags: int | None  # how often its event loop was over 100 ms late, since it began
    waited_s: float = 0.0  # for how long its event loop could have gone on and had no processor, since it began
    used_s: float = 0.0  # processor time of all its processes that are there

    def held(self) -> tuple[int, int, int, int | None]:
        """What must be as before when all calls have ended, in the order of HELD."""
        return self.descriptors, self.threads, self.processes, self.tasks


def left_over(before: Census, after: Census) -> list[str]:
    """What a server holds when all calls have ended that it did not hold before them, in words."""
    found = [
        f"{name}: {was} before, {now} after"
        for name, was, now in zip(HELD, before.held(), after.held(), strict=True)
        if was is not None and now is not None and now > was + (HELPERS if name == "threads" else 0)
    ]
    return [*found, f"{after.calls} calls have not ended"] if after.calls else found


async def settled(http: aiohttp.ClientSession, address: str, pid: int, before: Census | None) -> Census:
    """The server when all calls are over, and holds no more than before if it comes to that in time."""
    until_s = time.monotonic() + SETTLE_S
    while True:
        now = await census(http, address, pid)
        as_before = now.calls == 0 if before is None else not left_over(before, now)
        if as_before or time.monotonic() > until_s:
            return now
        await asyncio.sleep(0.25)


async def census(http: aiohttp.ClientSession, address: str, pid: int) -> Census:
    """Asks a server at `address` whose process is `pid`."""
    base, _, query = address.partition("?")
    async with http.get(f"{base}metrics?{query}") as response:
        text = await response.text()
    children = _descendants(pid)
    own = Path(f"/proc/{pid}")
    tasks, beats = metric(text, "tasks"), metric(text, "loop_lag_seconds_count")
    in_time = metric(text, "loop_lag_seconds_bucket", 'le="0.1"')
    return Census(
        calls=int(metric(text, "calls") or 0),
        descriptors=sum(1 for _ in (own / "fd").iterdir()),
        threads=sum(1 for _ in (own / "task").iterdir()),
        processes=len(children),
        tasks=None if tasks is None else int(tasks),
        memory_mb=sum(map(_memory_kb, [pid, *children])) / 1024,
        lags=None if beats is None or in_time is None else int(beats - in_time),
        waited_s=_waited_s(pid),
        used_s=sum(map(_used_s, [pid, *children])),
    )


def metric(text: str, name: str, label: str = "") -> float | None:
    """One value of Prometheus' text format."""
    labels = rf"\{{[^}}]*{re.escape(label)}[^}}]*\}}" if label else r"(?:\{\})?"
    found = re.search(rf"^vividstream_{name}{labels} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    except OSError:
        return []
    direct = [int(child) for child in children]
    return [*direct, *(one for child in direct for one in _descendants(child))]


def _memory_kb(pid: int) -> int:
    """Proportional set size: a page that n processes share counts as 1/n in each."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def _waited_s(pid: int) -> float:
    """Of the process's first thread, as the scheduler counts it; 0 where it does not."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="utf-8").split()[1]) / 1e9
    except OSError:
        return 0.0


def _used_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
