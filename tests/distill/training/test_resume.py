"""O11: 20 steps are 10, a kill and 10 more, to the bit; and what a run's folder holds."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.errors import DataMissing
from distill.training import checkpoint
from distill.training.loop import Outcome, train
from tests.distill.training.made_up import QUIET, Counted, MadeUp, settings
from tests.distill.training.processes import killed


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def run(folder: Path, given: list[int] | None = None, **changed: Any) -> Outcome:
    data = Counted(given=([] if given is None else given,))
    machine = QUIET.model_copy(update={"save_steps": 10})
    return train(MadeUp(), data, settings(**changed), folder, machine=machine, quiet=True)


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
    with (tmp_path / "parts" / "log.jsonl").open("a") as log:
        log.write('{"step": 10, "progress": 0.5}\n{"step": 11, "prog')  # steps that the checkpoint does not have
    goes_on: list[int] = []
    assert run(tmp_path / "parts", goes_on).finished

    assert same(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))
    kinds = {name.split("/")[0] for name in tensors(tmp_path / "whole")}
    assert kinds == {"players", "optimisers", "averages", "stage"}  # weights, moments, EMA, target
    assert taken == list(range(21))  # the last one is looked up, and not used
    assert goes_on == list(range(10, 21))
    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")
    assert [line["step"] for line in lines(tmp_path / "parts")] == list(range(20))


@pytest.mark.parametrize("given", [{"channels_last": True}, {"optimiser": "radam"}, {"precision": "bfloat16"}])
def test_o11_in_other_layouts_and_with_other_optimisers(tmp_path: Path, given: dict[str, Any]) -> None:
    """Moments have to come back in their weights' layout: fused kernels go through memory and look at no strides."""
    run(tmp_path / "whole", **given)
    with pytest.raises(DataMissing):
        train(MadeUp(), Counted(fails_at=7), settings(**given), tmp_path / "parts", machine=QUIET, quiet=True)
    run(tmp_path / "parts", **given)
    assert same(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))
