"""Two processes over gloo compute what one computes; one that dies is no harm to what is on disk."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distill.training import checkpoint
from distill.training.loop import train
from distill.training.ranks import Ranks, started
from engines import SettingError
from tests.distill.training.made_up import QUIET, Counted, MadeUp, settings
from tests.distill.training.processes import DIES_AT, STEPS, gradients, two_ranks


def close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("form", ["copies", "shards"])
def test_two_processes_are_one(tmp_path: Path, form: str) -> None:
    """Stills and clips: the layer over time has no gradient in stills, on either rank."""
    torch.set_num_threads(1)
    assert two_ranks("gradients", tmp_path, form) == [0, 0]
    alone = {f"{kind}/{name}": g for kind in (0, 1) for name, g in gradients(Ranks(), kind).items()}
    found = torch.load(tmp_path / "gradients.pt", weights_only=True)
    assert "0/over_time.weight" not in found
    close(found, alone)

    train(MadeUp(), Counted(4), settings(steps=STEPS), tmp_path / "alone", machine=QUIET, quiet=True)
    one, _ = checkpoint.newest(tmp_path / "alone" / "checkpoints")
    two, _ = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert one is not None
    assert two is not None
    assert (one.place.examples, two.place.examples) == (4 * STEPS, 4 * STEPS)
    close(two.tensors(), one.tensors())
    said = [json.loads((tmp_path / f"failed-{rank}.json").read_text()) for rank in (0, 1)]
    assert said == ["another process of this run has no data to go on with", "shard-000003.tar: is not there any more"]
    goes_on = train(
        MadeUp(), Counted(4), settings(steps=STEPS), tmp_path / "run", machine=QUIET, quiet=True
    )  # what two wrote, one can read
    assert goes_on.finished


def test_a_killed_rank_stops_the_others_and_spoils_nothing(tmp_path: Path) -> None:
    assert two_ranks("a_rank_is_killed", tmp_path) == [0, -signal.SIGKILL]
    assert "another process of this run died or fell silent" in json.loads((tmp_path / "said.json").read_text())
    kept, refused = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert kept is not None
    assert not refused
    assert kept.place.step == DIES_AT
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [kept.path.name]


def test_without_torchrun_there_is_one_and_no_device_is_made_up() -> None:
    with started("cpu", "copies", 1) as ranks:
        assert (ranks.count, ranks.device.type, ranks.agree(0.5, 0, 1)) == (1, "cpu", [0.5, 0, 1])
    if not torch.cuda.is_available():
        with pytest.raises(SettingError, match="no such device"), started("cuda", "copies", 1):
            pass
