"""Runs in processes of their own, which can be killed: torch is imported once for all of them, by a fork server."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path

import torch

from distill.errors import RankLost
from distill.training.learner import Learner
from distill.training.loop import train
from distill.training.ranks import Ranks, started
from engines import VividError
from tests.distill.training.made_up import QUIET, Counted, MadeUp, Watched, settings

STEPS = 4  # of a run of two ranks
DIES_AT = 2


class Dies(MadeUp):
    """Gets a signal after so many steps."""

    def __init__(self, step: int, number: int) -> None:
        super().__init__()
        self._dies = step, number

    def after_step(self, step: int, progress: float) -> None:
        super().after_step(step, progress)
        if step == self._dies[0]:
            os.kill(os.getpid(), self._dies[1])


def killed(folder: Path, step: int, number: int, save_steps: int | None) -> int | None:
    """A run that gets a signal after so many steps. Its exit status."""
    return _statuses([(_dies, (folder, step, number, save_steps))])[0]


def two_ranks(what: str, folder: Path, form: str = "copies") -> list[int | None]:
    """`gradients` or `a_rank_is_killed` in two processes, with what torchrun gives them. Their exit statuses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return _statuses([(_rank, (what, folder, form, rank, port)) for rank in range(2)])


def _statuses(calls: list[tuple[object, tuple[object, ...]]]) -> list[int | None]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    processes = [context.Process(target=target, args=given) for target, given in calls]  # type: ignore[arg-type]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        process.kill()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def _dies(folder: Path, step: int, number: int, save_steps: int | None) -> None:
    torch.set_num_threads(1)
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_DFL)
    machine = QUIET.model_copy(update={"save_steps": save_steps})
    outcome = train(Dies(step, number), Counted(), settings(), folder, machine=machine, quiet=True)
    (folder / "outcome.json").write_text(json.dumps([outcome.finished, outcome.place.step]))


def _rank(what: str, folder: Path, form: str, rank: int, port: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with started("cpu", "shards" if form == "shards" else "copies", 60) as ranks:
        {"gradients": both_kinds, "a_rank_is_killed": a_rank_is_killed}[what](folder, ranks)


def both_kinds(folder: Path, ranks: Ranks) -> None:
    """Gradients of a still batch and of clips, then a short run in two sittings."""
    found = {f"{kind}/{name}": g for kind in (0, 1) for name, g in gradients(ranks, kind).items()}
    machine = QUIET.model_copy(update={"ranks": ranks.form, "save_steps": 2, "watch_steps": 1})
    data = Counted(2, ranks.rank, ranks.count)
    for fails_at in (STEPS // 2, None):  # at first on the second rank alone
        data = replace(data, fails_at=None if ranks.first else fails_at)
        try:
            train(Watched(), data, settings(steps=STEPS), folder / "run", machine=machine, ranks=ranks, quiet=True)
        except VividError as error:
            (folder / f"failed-{ranks.rank}.json").write_text(json.dumps(str(error)))
    if ranks.first:
        torch.save(found, folder / "gradients.pt")


def gradients(ranks: Ranks, step: int) -> dict[str, torch.Tensor]:
    """Of four examples on all ranks together, before anything has moved."""
    learner = Learner(MadeUp(), settings(clip=1e9), QUIET.model_copy(update={"ranks": ranks.form}), ranks)
    shown = Counted(4 // ranks.count, ranks.rank, ranks.count).batch(step)
    learner.gradients("net", shown, learner.draws(step, shown.numbers), 0.5)
    weights = {name: weight.grad for name, weight in learner.stage.players["net"].named_parameters()}
    return ranks.gathered({name: gradient for name, gradient in weights.items() if gradient is not None})


def a_rank_is_killed(folder: Path, ranks: Ranks) -> None:
    stage = MadeUp() if ranks.first else Dies(DIES_AT, signal.SIGKILL)
    machine = QUIET.model_copy(update={"save_steps": 2})
    data = Counted(2, ranks.rank, ranks.count)
    try:
        train(stage, data, settings(), folder / "run", machine=machine, ranks=ranks, quiet=True)
    except RankLost as error:
        (folder / "said.json").write_text(json.dumps(str(error)))
