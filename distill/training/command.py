"""`vividstream train autoencoder|teacher` and `vividstream distill`. Torch comes in when one of them runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from distill.evaluate.command import need_torch

if TYPE_CHECKING:
    from distill.recipes import RunConfig

RESULT = "swapper.safetensors"
STOPPED = 143  # as by SIGTERM: saved, and the same command goes on
SHARES: Mapping[str, float] = MappingProxyType({"causal": 0.25, "consistency": 0.45, "rollout": 0.30})  # of --minutes
STAGES = tuple(SHARES)

Command = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Job:
    """One run: its configuration, its folder, what it begins with and whom it learns from."""

    config: RunConfig
    folder: Path
    start: Path | None
    teacher: Path | None


def common(command: Command) -> Command:
    """Arguments and options of every kind of run."""
    decorators = (
        click.argument("run", type=click.Path(path_type=Path)),
        click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]..."),
        click.option(
            "--examples", type=click.Path(path_type=Path), help="what `vividstream examples` made [default: examples]"
        ),
        click.option("--minutes", type=float, help="fit the run to this time, instead of a number of steps"),
        click.option("--show", is_flag=True, help="print the resolved configuration as JSON, and train nothing"),
    )
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


@click.group("train")
def train_group() -> None:
    """Train what distillation begins with."""


@train_group.command("autoencoder")
@common
@click.option("--size", help="of the networks: toy, tiny, base, full [default: tiny]")
@click.option("--start", type=click.Path(path_type=Path), help="weights to begin with [default: random]")
@click.option("--teacher", type=click.Path(path_type=Path), help="a larger autoencoder, whose latents to take over")
def autoencoder_command(size: str | None, start: Path | None, teacher: Path | None, **values: Any) -> None:
    """Learn pixels to latents and back, in the folder RUN; the result is RUN/swapper.safetensors.

    Settings are changed by KEY=VALUE, such as train.learning_rate=1e-4 (docs/settings.md). The same command goes on
    where a run was ended.
    """
    _run([Job(_trained("autoencoder", size, values), values["run"], start, teacher)], values["show"])


@train_group.command("teacher")
@common
@click.option("--size", help="of the networks: toy, tiny, base, full [default: tiny]")
@click.option(
    "--start", required=True, type=click.Path(path_type=Path), help="weights with a trained autoencoder in them"
)
def teacher_command(size: str | None, start: Path, **values: Any) -> None:
    """Train the bidirectional teacher in the folder RUN; the result is RUN/swapper.safetensors.

    Settings are changed by KEY=VALUE, such as stage.given=2 (docs/settings.md). The same command goes on where a run
    was ended.
    """
    _run([Job(_trained("teacher", size, values), values["run"], start, None)], values["show"])


@train_group.command("retouch")
@common
@click.option("--size", help="of the networks: toy, tiny [default: tiny]")
@click.option(
    "--start", required=True, type=click.Path(path_type=Path), help="weights with a trained autoencoder in them"
)
def retouch_command(size: str | None, start: Path, **values: Any) -> None:
    """Learn to make the proxy's picture better, in the folder RUN; the result is RUN/swapper.safetensors.

    One step, no teacher: what is drawn begins as the proxy's picture and is changed towards the truth. The examples'
    drivers must not be the identity themselves (`vividstream examples` disguises them). Settings are changed by
    KEY=VALUE. The same command goes on where a run was ended.
    """
    _run([Job(_trained("retouch", size, values), values["run"], start, None)], values["show"])


@click.command("distill", short_help="Make a causal student of few steps of a teacher.")
@common
@click.option("--teacher", required=True, type=click.Path(path_type=Path), help="weights of the teacher")
@click.option("--stage", type=click.Choice(STAGES), help="only this one [default: all three, one after the other]")
@click.option("--start", type=click.Path(path_type=Path), help="weights to begin with [default: the teacher's]")
@click.option("--size", help="whose recipe to take [default: the teacher's own size]")
def distill_command(teacher: Path, stage: str | None, start: Path | None, size: str | None, **values: Any) -> None:
    """Make a causal student of few steps in the folder RUN; the result is RUN/swapper.safetensors.

    Stages: causal (the teacher on its own clean past), consistency (few steps; its teacher is the causal one), rollout
    (on the student's own past). Without --stage all of them, in RUN/causal, RUN/consistency, RUN/rollout, which share
    --minutes; then KEY=VALUE goes to all, or to one: consistency.stage.method=lcm. The same command goes on where a
    run was ended.
    """
    run: Path = values["run"]
    if stage is not None:
        config = _distilled(stage, size, teacher, values["overrides"], values, values["minutes"])
        _run([Job(config, run, start or teacher, teacher)], values["show"])
        return
    jobs = []
    begin = start or teacher
    for one, share in SHARES.items():
        minutes = None if values["minutes"] is None else share * values["minutes"]
        config = _distilled(one, size, teacher, of_stage(values["overrides"], one), values, minutes)
        jobs.append(Job(config, run / one, begin, begin if one == "consistency" else teacher))
        begin = run / one / RESULT
    _run(jobs, values["show"], run / RESULT)


def of_stage(overrides: tuple[str, ...], stage: str) -> tuple[str, ...]:
    """What goes to every stage, then what goes to this one, without its name."""
    to_all = [one for one in overrides if one.split(".")[0] not in STAGES]
    return (*to_all, *(one.removeprefix(f"{stage}.") for one in overrides if one.startswith(f"{stage}.")))


def _trained(stage: str, size: str | None, values: Mapping[str, Any]) -> RunConfig:
    from distill import recipes
    from distill.training.overrides import changed

    recipe = recipes.of(stage, size or "tiny", values["examples"] or recipes.EXAMPLES)
    return changed(recipe, (*_minutes(values["minutes"]), *values["overrides"]))


def _distilled(
    stage: str,
    size: str | None,
    teacher: Path,
    overrides: tuple[str, ...],
    values: Mapping[str, Any],
    minutes: float | None,
) -> RunConfig:
    """The recipe of the teacher's size, with the teacher's own networks and the recipe's few steps and memory."""
    from distill import recipes
    from distill.training.overrides import changed
    from engines.weights import inspect

    own = inspect(teacher).card.config
    recipe = recipes.of(stage, size or own.name, values["examples"] or recipes.EXAMPLES)
    schedule = own.schedule.model_copy(update={"times": recipe.swapper.schedule.times})
    window = own.window.model_copy(update={"memory": recipe.swapper.window.memory})
    swapper = own.model_copy(update={"schedule": schedule, "window": window})
    return changed(recipe.model_copy(update={"swapper": swapper}), (*_minutes(minutes), *overrides))


def _minutes(minutes: float | None) -> tuple[str, ...]:
    return () if minutes is None else (f"train.minutes={minutes}",)


def _run(jobs: Sequence[Job], show: bool, result: Path | None = None) -> None:
    """One after the other. result: where the last one's result goes as well."""
    if show:
        found = [job.config.model_dump(mode="json") for job in jobs]
        click.echo(json.dumps(found[0] if len(found) == 1 else found, indent=1))
        return
    need_torch("train")
    from distill.training.ranks import started
    from distill.training.run import copied, run

    machine = jobs[0].config.machine
    with started(machine.device, machine.ranks, machine.timeout_s) as ranks:
        for job in jobs:
            outcome = run(job.config, job.folder, ranks, job.start, job.teacher)
            if outcome is not None and not outcome.finished:
                click.echo(f"{job.folder}: saved at step {outcome.place.step}; the same command goes on", err=True)
                sys.exit(STOPPED)
        if ranks.first:
            click.echo(jobs[-1].folder / RESULT if result is None else copied(jobs[-1].folder / RESULT, result))
