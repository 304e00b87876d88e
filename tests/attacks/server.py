"""The server under attack: `vividstream serve` as it is, in a process of its own, that tells how it feels when asked.

    python -m tests.attacks.server '{"max_sessions": 4}'

prints the page's address, and a line of JSON for every line on its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import threading
import time
from pathlib import Path

from engines import SwapSettings
from streamer.app import run_server
from streamer.config import GuardSettings, ServerConfig
from streamer.transport import hardening

TICK_S = 0.005


class Pulse:
    """How long the event loop was away at most: by the clock, and in processor time of its own thread.

    The second does not depend on what else runs on the machine.
    """

    def __init__(self) -> None:
        self.lag_ms = self.busy_ms = 0.0

    async def beat(self) -> None:
        while True:
            at_s, busy_s = time.monotonic(), time.thread_time()
            await asyncio.sleep(TICK_S)
            self.lag_ms = max(self.lag_ms, (time.monotonic() - at_s - TICK_S) * 1e3)
            self.busy_ms = max(self.busy_ms, (time.thread_time() - busy_s) * 1e3)

    def numbers(self) -> dict[str, object]:
        lag_ms, busy_ms, self.lag_ms, self.busy_ms = self.lag_ms, self.busy_ms, 0.0, 0.0
        return {
            "lag_ms": round(lag_ms, 1),
            "busy_ms": round(busy_ms, 1),
            "rss_mb": round(sum(rss_mb(pid) for pid in family(os.getpid())), 1),
            "files": len(os.listdir("/proc/self/fd")),
            "threads": threading.active_count(),
            "tasks": len(asyncio.all_tasks()),
            "cpu_s": round(time.process_time(), 2),
            "refused": dict(hardening.refused),
        }


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:
            continue
        for child in children:
            found += family(int(child))
    return found


def rss_mb(pid: int) -> float:
    """Memory that the process has to itself in main memory; that of one that has just ended is none."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def answer(pulse: Pulse) -> None:
    if sys.stdin.readline():
        say(json.dumps(pulse.numbers()))


def main(overrides: dict[str, object]) -> None:
    guard = GuardSettings.model_validate_json(json.dumps(overrides.pop("guard", {})))
    swap = SwapSettings(engine="passthrough")
    config = ServerConfig.read({"port": 0, "swap": swap, "guard": guard, **overrides}).resolve()
    kept: list[object] = []

    def ready(sentence: str) -> None:
        loop, pulse = asyncio.get_running_loop(), Pulse()
        kept.append(loop.create_task(pulse.beat()))
        loop.add_reader(0, answer, pulse)
        say(sentence.split()[-1])

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    run_server(config, ready)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
