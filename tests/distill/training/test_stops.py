"""What ends a run before its end leaves a clear word and a good checkpoint."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from distill.errors import DataMissing, NotFinite, NotWritten, OtherRun, RunBusy, TooLittleMemory, WillNotLearn
from distill.examples.types import Shown
from distill.training import checkpoint, preflight
from distill.training.draws import Draws
from distill.training.learner import Learner
from distill.training.loop import Outcome, train
from distill.training.ranks import Ranks
from distill.training.settings import MachineSettings, TrainSettings
from distill.training.stage import Terms
from engines import SettingError
from engines.build.lock import locked
from tests.distill.training.made_up import QUIET, Counted, MadeUp, settings
from tests.distill.training.processes import killed

EVERY = QUIET.model_copy(update={"save_steps": 4})


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def run(
    folder: Path,
    data: Counted | None = None,
    stage: MadeUp | None = None,
    machine: MachineSettings = EVERY,
    given: TrainSettings | None = None,
) -> Outcome:
    return train(stage or MadeUp(), data or Counted(), given or settings(), folder, machine=machine, quiet=True)


def kept(folder: Path) -> tuple[int, dict[str, Tensor]]:
    """The newest checkpoint's step and tensors; none is damaged, nothing half is left."""
    found, refused = checkpoint.newest(folder / "checkpoints")
    assert found is not None
    assert not refused
    assert not list((folder / "checkpoints").glob(".*"))
    return found.place.step, found.tensors()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_a_batch_that_is_no_number_stops_the_run_and_is_kept(tmp_path: Path) -> None:
    with pytest.raises(
        NotFinite, match=r"step 6: net/gradient is nan, net/loss is nan.*checkpoint of step 4 is as it"
    ) as stopped:
        run(tmp_path, Counted(bad_at=6))
    path = tmp_path / "not-finite-000000006" / "rank-0.safetensors"
    assert str(path) in str(stopped.value)
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
        assert torch.isnan(file.get_tensor("truth_BT3SS")).all()
        assert torch.equal(file.get_tensor("mask_BT1SS"), Counted().batch(6).mask_BT1SS)
    assert (about["step"], about["kind"], about["numbers"]) == (6, "image", [12, 13])
    step, tensors = kept(tmp_path)
    assert step == 4
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    run(tmp_path)  # the data mended, the same command goes on
    run(tmp_path / "whole")
    assert same(kept(tmp_path)[1], kept(tmp_path / "whole")[1])


def test_a_gradient_that_is_no_number_stops_it_too(tmp_path: Path) -> None:
    class Steep(MadeUp):
        def loss(self, player: str, shown: Shown, draws: Draws, progress: float) -> Terms:
            terms = super().loss(player, shown, draws, progress)
            zero = (self.net.norm.weight * 0).sum()
            return terms if draws.step < 3 else Terms(terms.total + zero.abs().sqrt())  # its slope at 0 is 0 / 0

    with pytest.raises(NotFinite, match="step 3: net/gradient is nan; the batch"):
        run(tmp_path, stage=Steep())


def test_nothing_is_learned_from_what_is_no_number() -> None:
    stage = MadeUp()
    learner = Learner(stage, settings(), QUIET, Ranks())
    before = {name: tensor.clone() for name, tensor in learner.tensors().items()}
    bad = Counted(bad_at=1).batch(1)
    values = learner.move("net", bad, learner.draws(1, bad.numbers), 0.1)
    assert math.isnan(values["net/loss"])
    assert same(before, learner.tensors())
    assert all(weight.grad is None for weight in stage.net.parameters())


def test_a_shard_missing_in_mid_run_keeps_what_was_learned(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="shard-000003"):
        run(tmp_path, Counted(fails_at=7))
    assert kept(tmp_path)[0] == 7  # not 4: the steps since were good
    run(tmp_path)
    run(tmp_path / "whole")
    assert same(kept(tmp_path)[1], kept(tmp_path / "whole")[1])


def test_sigterm_ends_between_steps_with_a_checkpoint(tmp_path: Path) -> None:
    assert killed(tmp_path, 5, signal.SIGTERM, None) == 0
    assert json.loads((tmp_path / "outcome.json").read_text()) == [False, 6]
    assert kept(tmp_path)[0] == 6
    run(tmp_path)
    run(tmp_path / "whole")
    assert same(kept(tmp_path)[1], kept(tmp_path / "whole")[1])


def test_another_configuration_is_refused_by_its_fields(tmp_path: Path) -> None:
    run(tmp_path, given=settings(steps=4))
    before = kept(tmp_path)
    with pytest.raises(OtherRun, match=r"train.beta2 is 0.99 there and 0.999 here; train.steps is 4 there and 8 here"):
        run(tmp_path, given=settings(steps=8, beta2=0.999))
    other = MadeUp()
    other.frozen["teacher"].load_state_dict({**other.frozen["teacher"].state_dict(), "last.bias": torch.ones(3)})
    with pytest.raises(OtherRun, match="the frozen teacher has other weights"):
        run(tmp_path, stage=other, given=settings(steps=4))
    assert same(before[1], kept(tmp_path)[1])
    assert run(tmp_path, machine=QUIET, given=settings(steps=4)).finished  # the machine may be another


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    other = locked(tmp_path, "training teacher", print, wait=False, name="run.lock")
    with other, pytest.raises(RunBusy, match=rf"in use by process {os.getpid()} on .*training teacher"):
        run(tmp_path)
    run(tmp_path, given=settings(steps=2))


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """The operating system refuses to write further, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size_bytes", [50_000, 2_500], ids=["the tensors", "the log"])
def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint(tmp_path: Path, size_bytes: int) -> None:
    run(tmp_path, given=settings(steps=20), data=Counted(), stage=Interrupts(4))
    step, before = kept(tmp_path)
    with files_of_at_most(size_bytes), pytest.raises(NotWritten, match="cannot be written"):
        run(tmp_path)
    assert same(before, kept(tmp_path)[1])
    run(tmp_path)  # there is room again
    run(tmp_path / "whole")
    assert (step, kept(tmp_path)[0]) == (5, 20)
    assert same(kept(tmp_path)[1], kept(tmp_path / "whole")[1])


class Interrupts(MadeUp):
    """Asks the run to end in mid-step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    def after_step(self, step: int, progress: float) -> None:
        super().after_step(step, progress)
        if step == self._step:
            signal.raise_signal(signal.SIGINT)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    run(tmp_path)
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    whole = kept(tmp_path)[1]
    content = bytearray((newest / "tensors.safetensors").read_bytes())
    content[-5] ^= 1
    (newest / "tensors.safetensors").write_bytes(content)
    found, refused = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None
    assert found.place.step == 16
    assert "passed over, since it is damaged" in refused[0]
    (newest / "about.json").write_text("{")
    assert "passed over" in checkpoint.newest(tmp_path / "checkpoints")[1][0]
    run(tmp_path)
    assert same(whole, kept(tmp_path)[1])
    assert (len((tmp_path / "log.jsonl").read_text().splitlines())) == 20


def test_checkpoints_roll(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".part-step-000000003").mkdir(parents=True)  # of a writer that died
    run(tmp_path, machine=QUIET.model_copy(update={"save_steps": 3, "keep": 3}))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-000000015", "step-000000018", "step-000000020"]


def test_preflight_says_what_does_not_fit_or_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Large(MadeUp):
        def loss(self, player: str, shown: Shown, draws: Draws, progress: float) -> Terms:
            torch.empty(1 << 50)
            return super().loss(player, shown, draws, progress)

    with pytest.raises(TooLittleMemory, match=r"does not fit into memory: set train.accumulate higher"):
        run(tmp_path, stage=Large(), machine=QUIET.model_copy(update={"preflight": True}))
    with pytest.raises(TooLittleMemory, match=r"optimisers' state alone takes 2048.0 GiB"):
        preflight._reserve(2 << 40, torch.device("cpu"))
    overfit = QUIET.model_copy(update={"overfit_steps": 30})
    with pytest.raises(WillNotLearn, match="seen 30 times, went from"):
        run(tmp_path, given=settings(learning_rate=1e-9), machine=overfit)
    run(tmp_path, machine=overfit)
    run(tmp_path / "plain", machine=QUIET)
    assert same(kept(tmp_path)[1], kept(tmp_path / "plain")[1])  # it leaves nothing behind


def test_factors_name_parts_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r'trains no "net.frist"; did you mean "net.first"'):
        run(tmp_path, given=settings(factors={"net.frist": 0.1}))
