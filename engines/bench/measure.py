"""Steps sessions over the same pictures, in turns, and counts what each stage and the whole of it took."""

from __future__ import annotations

import math
import mmap
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from engines.identity import Identity
from engines.session import Session, SessionState, load
from engines.settings import SwapSettings
from engines.types import Rgb

SETTLE_STEPS = 20  # after warm-up: caches, clocks of the processor and filters come to rest
ROUNDS = 5  # a machine's speed wanders: engines take turns, so that all of them meet the same weather
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Subject:
    """An engine to be measured. flop: of the learned part of one frame, None for geometry alone."""

    label: str
    settings: SwapSettings
    flop: float | None = None
    precision: str | None = None  # the peak it is held against, "torch bfloat16"


@dataclass(slots=True)
class Run:
    """One subject's session and what was noted of it. Times in milliseconds."""

    subject: Subject
    session: Session
    state: SessionState
    load_s: float
    grown_mb: float
    step_ms: list[float] = field(default_factory=list)
    cpu_ms: float = 0.0  # of all threads, over all frames counted: steady where other programs take turns
    stage_ms: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    next_frame: int = 0

    def step(self, rgb_HW3: Rgb, fps: float, count_it: bool = True) -> None:
        cpu_since_s, since_ns = time.process_time(), time.perf_counter_ns()
        result = self.session.step(self.state, rgb_HW3, self.next_frame / fps)
        took_ms, cpu_s = (time.perf_counter_ns() - since_ns) / 1e6, time.process_time() - cpu_since_s
        self.next_frame += 1
        if not count_it:
            return
        self.step_ms.append(took_ms)
        self.cpu_ms += 1000 * cpu_s
        self.statuses[str(result.status)] += 1
        for name, value in result.stage_ms.items():
            self.stage_ms.setdefault(name, []).append(value)


def measure(
    subjects: Sequence[Subject], identity: Identity, pictures: Sequence[Rgb], frames: int, fps: float
) -> Iterator[Run]:
    """Steps every subject over `frames` pictures in `ROUNDS` turns, and yields them in order when all is done.

    Pictures run forward and back, so that there is no jump. Raises what `engines.load` raises.
    """
    runs = [_open(subject, identity, pictures[0]) for subject in subjects]
    try:
        for run in runs:
            for _ in range(SETTLE_STEPS):
                run.step(there_and_back(pictures, run.next_frame), fps, count_it=False)
        for turn in range(ROUNDS):
            share = frames * (turn + 1) // ROUNDS - frames * turn // ROUNDS
            for run in runs if turn % 2 == 0 else reversed(runs):
                for _ in range(share):
                    run.step(there_and_back(pictures, run.next_frame), fps)
        yield from runs
    finally:
        for run in runs:
            run.session.close()


def there_and_back(pictures: Sequence[Rgb], index: int) -> Rgb:
    """The picture of a frame number when a clip runs forward and backward for ever."""
    if len(pictures) == 1:
        return pictures[0]
    place = index % (2 * len(pictures) - 2)
    return pictures[place if place < len(pictures) else 2 * len(pictures) - 2 - place]


def percentiles(values_ms: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99, milliseconds."""
    return {f"p{p}": float(np.percentile(values_ms, p)) for p in PERCENTILES}


def resident_mb() -> float:
    """Memory of this process now, MB; not a number where the system does not say (only Linux does)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * mmap.PAGESIZE / 1e6
    except FileNotFoundError:
        return math.nan


def _open(subject: Subject, identity: Identity, picture: Rgb) -> Run:
    before_mb, since_s = resident_mb(), time.perf_counter()
    session = load(subject.settings, identity)
    session.warm_up(*picture.shape[:2])
    return Run(subject, session, session.init(), time.perf_counter() - since_s, max(resident_mb() - before_mb, 0.0))
