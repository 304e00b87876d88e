"""What can be asked of this installation's engines without a call: `vividstream doctor` shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines import store
from engines.identity_store import IdentityStore
from engines.session import load
from engines.settings import SwapSettings
from engines.types import Status

WEARER, WORN = "amara", "henrik"  # two of the built-in people who do not exist
PUPPET_FRAMES, SETTLE_STEPS = 12, 5


@dataclass(frozen=True, slots=True)
class BuiltEngines:
    """The engine store: those that can be read, in words, and what is wrong with the others."""

    folder: Path
    whole: tuple[str, ...]
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QuickBench:
    """How fast an engine drew. Times of one picture in milliseconds, tracking and label included."""

    engine: str
    why: str
    warm_up_s: float
    frames: int
    drawn: int
    p50_ms: float
    p95_ms: float
    cpu_ms: float  # of all threads, a picture: what it would take if nothing else ran


def built_engines() -> BuiltEngines:
    """What is in the store. Raises EngineUnavailable where it cannot be read."""
    whole, broken = store.entries()
    names = tuple(
        f"{entry.manifest.key.name} for {entry.manifest.key.runtime}, {entry.manifest.created[:10]}" for entry in whole
    )
    return BuiltEngines(store.default_store(), names, tuple(str(error) for error in broken))


def quick_bench(
    seconds: float, settings: SwapSettings | None = None, clock: Callable[[], float] = time.perf_counter
) -> QuickBench:
    """Draws a puppet's face, 640x480, for that long, with the engine that the settings choose (by default `auto`).

    Warming up comes on top; on a new machine it compiles, for up to a minute. Raises what `engines.load` raises.
    """
    from engines.bench.measure import there_and_back
    from engines.bench.puppet import Puppet

    people = IdentityStore(None)
    since_s = clock()
    pictures = list(Puppet(people.load(WEARER), 480, 640).frames(PUPPET_FRAMES))
    session = load(SwapSettings() if settings is None else settings, people.load(WORN))
    try:
        session.warm_up(480, 640)
        state = session.init()
        for index in range(SETTLE_STEPS):
            session.step(state, there_and_back(pictures, index), index / 25)
        warm_up_s, took_ms, drawn = clock() - since_s, list[float](), 0
        end_s, cpu_since_s = clock() + seconds, time.process_time()
        while not took_ms or clock() < end_s:
            index, began_s = SETTLE_STEPS + len(took_ms), clock()
            result = session.step(state, there_and_back(pictures, index), index / 25)
            took_ms.append(1000 * (clock() - began_s))
            drawn += result.status == Status.DRAWN
        cpu_ms = 1000 * (time.process_time() - cpu_since_s) / len(took_ms)
        p50_ms, p95_ms = map(float, np.percentile(took_ms, (50, 95)))
        return QuickBench(session.engine, session.why, warm_up_s, len(took_ms), drawn, p50_ms, p95_ms, cpu_ms)
    finally:
        session.close()
