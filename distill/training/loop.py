"""The one training loop: of every stage, on one processor or many, for minutes or weeks.

A run is a folder. The same command goes on where it ended, however it ended:

    config.json          the resolved configuration
    log.jsonl            a line for each step
    checkpoints/         step-000001200, best-...: whole or not there
    watch/               pictures in mid-run
    not-finite-.../      the batch that gave a loss which is no number

A step is a function of the state, the batch, the step's number and its progress: all else that is drawn by lot comes
from `Draws`. So 10 steps, a kill and 10 more are 20 steps, to the bit; by minutes, with the log's progress.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from distill.data import ResumeState
from distill.errors import TrainingStopped
from distill.examples.types import TENSORS, Shown
from distill.training import folder, preflight
from distill.training.batches import Data
from distill.training.checkpoint import Place
from distill.training.keeper import Keeper
from distill.training.learner import Learner
from distill.training.pace import Due, Pace
from distill.training.ranks import Ranks
from distill.training.report import Report
from distill.training.settings import MachineSettings, TrainSettings
from distill.training.stage import Stage
from distill.training.viewer import Viewer
from engines import VividError


@dataclass(frozen=True, slots=True)
class Outcome:
    """finished: to the end, not stopped by a signal. metrics: of the last look, if the stage can be looked at."""

    place: Place
    finished: bool
    metrics: Mapping[str, float] = field(default_factory=dict)


def train(
    stage: Stage,
    data: Data,
    settings: TrainSettings,
    path: Path,
    *,
    watched: Data | None = None,
    machine: MachineSettings | None = None,
    ranks: Ranks | None = None,
    configuration: Mapping[str, Any] | None = None,
    clock: Callable[[], float] = time.monotonic,
    quiet: bool = False,
) -> Outcome:
    """Trains until the run's end, or until SIGTERM or Ctrl-C. Then the first player has its first average's weights.

    watched        what is looked at in mid-run: of people kept apart; None: the data's first batches
    configuration  of all that decides the numbers, resolved, as JSON has it; a checkpoint of another one is refused

    Raises TrainingStopped and what is below it, NotWritten, and whatever the data raises.
    """
    machine, ranks = machine or MachineSettings(), ranks or Ranks()
    with ExitStack() as stack:
        signals = stack.enter_context(folder.ours(path, stage.name, ranks))
        learner = Learner(stage, settings, machine, ranks)
        keeper = Keeper(path, machine, learner, configuration or {"train": settings.model_dump(mode="json")})
        place = keeper.resume()
        report = stack.enter_context(Report(path, machine, place.step, ranks.first, quiet))
        report.say(*keeper.passed_over)
        viewer = Viewer(path, watched or data, learner, report)
        if place.step == 0:
            preflight.check(learner, data, machine, report)
        pace = Pace.of(settings, clock, machine.replay)
        save = Due(place.step, machine.save_steps, machine.save_minutes, clock)
        look = Due(place.step, machine.watch_steps, machine.watch_minutes, clock)
        batches = data.batches(place.data)

        pace.start(place.spent_s)
        while True:
            shown, goes_on, failure = _next(batches)
            progress, asked, failed, saving, looking = ranks.agree(
                pace.progress(place.step),
                signals.asked,
                failure is not None,
                save.now(place.step),
                look.now(place.step),
            )
            if looking:
                keeper.keep_best(place, viewer.look(place))
            if saving or asked or failed or progress >= 1:
                keeper.save(place, report)
            if asked or progress >= 1:
                break
            if failed:
                raise failure or TrainingStopped("another process of this run has no data to go on with")

            values: dict[str, float] = {}
            plan = list(stage.plan(place.step))
            for turn, player in enumerate(plan):
                draws = learner.draws(place.step, shown.numbers, plan[:turn].count(player))
                values |= learner.move(player, shown, draws, progress)
                keeper.stop_unless_finite(values, shown, place, progress)
            if learner.outcome in plan:
                learner.average()
            stage.after_step(place.step, progress)
            report.step(place, progress, shown.kind, values, pace.elapsed_s)
            place = Place(place.step + 1, place.examples + len(shown) * ranks.count, pace.elapsed_s, progress, goes_on)

        finished = progress >= 1
        if finished:
            keeper.keep_best(place, viewer.look(place))
            learner.leave_average()
        return Outcome(place, finished, viewer.metrics)


def _next(batches: Iterator[tuple[Shown, ResumeState]]) -> tuple[Shown, ResumeState, VividError | None]:
    """The next batch, or why there is none: all ranks have to know before one of them goes away."""
    try:
        return *next(batches), None
    except VividError as error:
        return Shown("image", **dict.fromkeys(TENSORS, torch.empty(0)), numbers=()), ResumeState(), error
