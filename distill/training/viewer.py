"""Looks at a stage in mid-run, if it can be looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from distill.examples.types import Shown
from distill.training import watch
from distill.training.batches import Data, first_batches
from distill.training.checkpoint import Place
from distill.training.draws import Draws
from distill.training.learner import Learner
from distill.training.report import Report

FOLDER = "watch"


class Viewer:
    """metrics: of the last look."""

    def __init__(self, path: Path, data: Data, learner: Learner, report: Report) -> None:
        self._folder, self._learner, self._report = path / FOLDER, learner, report
        self._stage = learner.stage if isinstance(learner.stage, watch.Watch) else None
        self._shown: list[Shown] = first_batches(data) if self._stage is not None else []
        self.metrics: dict[str, float] = {}
        self._looked = -1

    def look(self, place: Place) -> Mapping[str, float]:
        """Pictures and metrics of the average's weights. The first rank writes; all take part, for FSDP's sake."""
        if self._stage is None or self._looked == place.step:
            return self.metrics
        self._looked = place.step
        ranks = self._learner.ranks
        for shown in self._shown:
            draws = Draws(self._learner.settings.seed, 0, shown.numbers, str(ranks.device))
            seen = self._learner.look(self._stage.watch, shown, draws)
            self.metrics |= {name: value for name, value in seen.metrics.items() if math.isfinite(value)}
            if ranks.first:
                watch.write(self._folder / f"step-{place.step:09}", shown.kind, seen)
        if self.metrics:
            self._report.write({"step": place.step - 1, "metrics": self.metrics})
            self._report.curves(place.step, self.metrics)
            named = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
            self._report.say(f"step {place.step}: {named}")
        return self.metrics
