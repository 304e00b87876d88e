"""O11: 20 steps are 10, a kill and 10 more, to the bit; and what a run's folder holds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distill.errors import OtherRun
from distill.training import checkpoint
from distill.training.loop import Outcome, train
from tests.distill.training.made_up import QUIET, Counted, MadeUp, settings

ROOT = Path(__file__).parents[3]
KILLED = """
import os, signal, sys, torch
from pathlib import Path
torch.set_num_threads(1)
from distill.training.loop import train
from tests.distill.training.made_up import QUIET, Counted, MadeUp, settings

class Dies(MadeUp):
    def after_step(self, step, progress):
        super().after_step(step, progress)
        if step == int(sys.argv[2]):
            os.kill(os.getpid(), int(sys.argv[3]))

save_steps = int(sys.argv[4]) or None
train(Dies(), Counted(), settings(), Path(sys.argv[1]), machine=QUIET.model_copy(update={"save_steps": save_steps}))
"""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def killed(folder: Path, step: int, number: int, save_steps: int) -> int:
    """A run in a process of its own, which gets a signal after so many steps. Its exit status."""
    words = [sys.executable, "-c", KILLED, str(folder), str(step), str(number), str(save_steps)]
    return subprocess.run(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode


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
