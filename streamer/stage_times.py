"""How long the stages of a frame take over a whole run, in memory that does not grow with the run."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping

from engines import StrictModel

STEPS_PER_E_FOLD = 100  # bins are 1 % wide, and so is the error of a percentile
LEAST_MS = 1e-4


class StageTime(StrictModel):
    """Percentiles of one stage in milliseconds, within 1 %, and how often it ran."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    count: int


class StageTimes:
    """A logarithmic histogram for each stage."""

    def __init__(self) -> None:
        self._bins: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def add(self, stage: str, took_ms: float) -> None:
        self._bins[stage][round(math.log(max(took_ms, LEAST_MS)) * STEPS_PER_E_FOLD)] += 1

    def add_all(self, stage_ms: Mapping[str, float]) -> None:
        for stage, took_ms in stage_ms.items():
            self.add(stage, took_ms)

    def summary(self) -> dict[str, StageTime]:
        """Every stage, in the order of first use."""
        return {stage: _summary(bins) for stage, bins in self._bins.items()}


def _summary(bins: Counter[int]) -> StageTime:
    count = bins.total()

    def percentile_ms(share: float) -> float:
        """The nearest rank: the smallest value that at least `share` of all do not exceed."""
        seen = 0
        for index in sorted(bins):
            seen += bins[index]
            if seen >= share * count:
                return round(math.exp(index / STEPS_PER_E_FOLD), 3)
        raise AssertionError("a stage is listed only once it has run")

    return StageTime(p50_ms=percentile_ms(0.5), p95_ms=percentile_ms(0.95), p99_ms=percentile_ms(0.99), count=count)
