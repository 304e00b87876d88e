"""How far a run is, 0 to 1: by steps, by the clock, or as another run was.

What a step does depends on the clock through this number alone. It is in the log at full precision for every step, so
that a run by minutes can be gone through again, bit for bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from distill.training.settings import TrainSettings
from engines import SettingError


@dataclass(slots=True)
class Pace:
    """clock: monotonic seconds. spent_s: what earlier sittings took, up to the checkpoint that was resumed."""

    steps: int
    minutes: float | None
    clock: Callable[[], float]
    replayed: Mapping[int, float] | None = None
    spent_s: float = 0.0
    start_s: float = 0.0

    @classmethod
    def of(cls, settings: TrainSettings, clock: Callable[[], float], replay: Path | None = None) -> Pace:
        """Raises SettingError for a log that cannot be read."""
        return cls(settings.steps, settings.minutes, clock, None if replay is None else _logged(replay))

    def start(self, spent_s: float) -> None:
        self.spent_s, self.start_s = spent_s, self.clock()

    @property
    def elapsed_s(self) -> float:
        """Of the run, all sittings together."""
        return self.spent_s + self.clock() - self.start_s

    def progress(self, step: int) -> float:
        """Of the step that comes next; 1: there is none."""
        if self.replayed is not None:
            return self.replayed.get(step, 1.0)
        if self.minutes is not None:
            return min(self.elapsed_s / (60 * self.minutes), 1.0)
        return min(step / self.steps, 1.0)


def learning_rate(settings: TrainSettings, step: int, progress: float) -> float:
    """Linear warm-up by steps, then half a cosine by progress, or constant."""
    rate = settings.learning_rate * min((step + 1) / (settings.warm_up_steps + 1), 1.0)
    return rate if settings.schedule == "constant" else rate * 0.5 * (1 + math.cos(math.pi * progress))


def _logged(path: Path) -> dict[int, float]:
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {line["step"]: line["progress"] for line in lines if "progress" in line}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(f"{path}: is no log whose progress could be gone through again: {error}") from error


class Due:
    """Whether it is time for something that is done every so many steps, or minutes. start: of this sitting."""

    def __init__(self, start: int, steps: int | None, minutes: float, clock: Callable[[], float]) -> None:
        self._start, self._steps, self._every_s, self._clock = start, steps, 60 * minutes, clock
        self._last_s = clock()

    def now(self, step: int) -> bool:
        """step: steps made."""
        if self._steps is not None:
            return step > self._start and step % self._steps == 0
        if self._clock() - self._last_s < self._every_s:
            return False
        self._last_s = self._clock()
        return True
