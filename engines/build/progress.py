"""How far a build is and how long it still takes: from what earlier builds took, and from this one's own pace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

Say = Callable[[str], None]
SAY_EVERY_S = 2.0
ALIVE_EVERY_S = 10.0
LEAST_EXPECTED_S = 5.0  # less than that done says nothing about the pace
PACE_RANGE = (0.2, 5.0)


class Progress:
    """Stages in order, each with the seconds that it is expected to take."""

    def __init__(self, expected_s: Mapping[str, float], say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        self.taken_s: dict[str, float] = {}
        self._expected_s = dict(expected_s)
        self._say, self._clock = say, clock
        self._stage, self._since_s, self._said_s = "", 0.0, 0.0
        self._share = 0.0  # of the stage that is done, by its own count

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Does one stage: says that it begins, and remembers what it took."""
        self._stage, self._since_s, self._share = name, self._clock(), 0.0
        self._tell(name)
        over = threading.Event()
        threading.Thread(target=self._repeat, args=(name, over), name="build progress", daemon=True).start()
        try:
            yield
        finally:
            over.set()
        self.taken_s[name] = round(self._clock() - self._since_s, 3)

    def _repeat(self, name: str, over: threading.Event) -> None:
        """A sign of life from stages that say nothing themselves for minutes."""
        while not over.wait(ALIVE_EVERY_S):
            if self._clock() - self._said_s >= ALIVE_EVERY_S:
                self._tell(f"{name}, {duration(self._clock() - self._since_s)} so far")

    def step(self, done: int, of: int) -> None:
        """Some of the stage's own steps are done. Says so now and then."""
        self._share = done / of
        if self._clock() - self._said_s >= SAY_EVERY_S:
            self._tell(f"{self._stage} {done}/{of}")

    def left_s(self) -> float:
        """Seconds until the end of the build."""
        taken = self._clock() - self._since_s
        whole = taken / self._share if self._share else self._expected_s.get(self._stage, 0.0) * self._pace()
        later = sum(self._expected_s[name] for name in self._later())
        return max(whole - taken, 0.0) + later * self._pace()

    def _pace(self) -> float:
        """What this machine needs now for a second of what was expected."""
        expected = sum(self._expected_s.get(name, 0.0) for name in self.taken_s)
        if expected < LEAST_EXPECTED_S:
            return 1.0
        return min(max(sum(self.taken_s.values()) / expected, PACE_RANGE[0]), PACE_RANGE[1])

    def _later(self) -> list[str]:
        names = list(self._expected_s)
        return names[names.index(self._stage) + 1 :] if self._stage in names else []

    def _tell(self, what: str) -> None:
        self._said_s = self._clock()
        number, of = list(self._expected_s).index(self._stage) + 1, len(self._expected_s)
        self._say(f"[{number}/{of}] {what}, {duration(self.left_s())} left")


def duration(seconds: float) -> str:
    """For a person: `under a second`, `8 s`, `3 min`, `1.5 h`."""
    if seconds < 1:
        return "under a second"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
