"""O11: 20 steps are 10, a kill and 10 more, to the bit; and what a run's folder holds."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distill.training import checkpoint
from distill.training.loop import Outcome, train
from tests.distill.training.made_up import QUIET, Counted, MadeUp, settings
from tests.distill.training.processes import killed


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def run(folder: Path, given: list[int] | None = None, stage: MadeUp | None = None) -> Outcome:
    data = Counted(given=([] if given is None else given,))
    machine = QUIET.model_copy(update={"save_steps": 10})
    return train(stage or MadeUp(), data, settings(), folder, machine=machine, quiet=True)


def tensors(folder: Path, step: int = 20) -> dict[str, Tensor]:
    found, refused = checkpoint.newest(folder / "checkpoints")
    assert found is not None
    assert not refused
    assert found.place.step == step
    return found.tensors()


def lines(folder: Path) -> list[dict[str, float]]:
    """The log without what is of the clock."""
    read = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "elapsed_s"} for line in read]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_o11_twenty_steps_are_ten_a_kill_and_ten(tmp_path: Path) -> None:
    taken: list[int] = []
    assert run(tmp_path / "whole", taken).finished
    assert killed(tmp_path / "parts", 13, signal.SIGKILL, 10) == -signal.SIGKILL
    assert len(tensors(tmp_path / "parts", 10)) > 0
    goes_on: list[int] = []
    assert run(tmp_path / "parts", goes_on).finished

    assert same(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))
    kinds = {name.split("/")[0] for name in tensors(tmp_path / "whole")}
    assert kinds == {"players", "optimisers", "averages", "stage"}  # weights, moments, EMA, target
    assert taken == list(range(20))
    assert goes_on == list(range(10, 20))
    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")
    assert [line["step"] for line in lines(tmp_path / "parts")] == list(range(20))
