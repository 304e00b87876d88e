"""From the command line to files of weights: autoencoder, teacher, the three stages of distillation, all made small.

The networks are a hundredth of `tiny`'s, and learn nothing in so few steps: what counts is what is handed on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner, Result

from distill import recipes
from distill.data import ResumeState
from distill.errors import CannotConverge, DataMissing, OtherRun
from distill.examples.cache import Record
from distill.examples.settings import BatchSettings
from distill.examples.types import Shown
from distill.recipes import RunConfig
from distill.stages.make import begun, held, make
from distill.training import checkpoint, run
from distill.training.command import distill_command, train_group
from distill.training.loop import train
from distill.training.overrides import changed
from engines import SettingError, WeightsError
from engines.weights import inspect
from tests.distill.made_up import synthetic_batch
from tests.distill.training.made_up import QUIET
from tests.distill.training.small import SMALL

CPU = torch.device("cpu")
BRIEF = ("train.steps=2", "data.images_a_batch=1", "data.videos_a_batch=1", "machine.tensorboard=no")


@dataclass(frozen=True)
class Made:
    """In the place of `distill.examples.batches.Batches`."""

    settings: BatchSettings
    rank: int = 0
    ranks: int = 1
    workers: int = 0
    device: str = "cpu"
    split: str = "train"
    fails_at: int | None = None

    def batches(self, state: ResumeState | None = None) -> Iterator[tuple[Shown, ResumeState]]:
        if self.split == "held_out":
            raise SettingError("no held_out image examples in it")
        step = 0 if state is None else state.step
        while step != self.fails_at:
            kinds = (("image", self.settings.images_a_batch), ("video", self.settings.videos_a_batch))
            kind, rows = kinds[step % 2]
            shown = synthetic_batch("video" if kind == "video" else "image", rows, 6, 64, 16, 32, seed=step)
            step += 1
            yield shown, ResumeState(step, 0, 0, "made up")
        raise DataMissing("gone")

    def describe(self) -> str:
        return "made up"


def call(command: click.Command, *words: str | Path) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=True)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder with `ae`, `teacher` and `student`."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "Batches", Made)
        made = [
            call(train_group, "autoencoder", folder / "ae", *SMALL, *BRIEF),
            call(train_group, "teacher", folder / "teacher", *SMALL, *BRIEF, "--start", folder / "ae" / run.RESULT),
            call(
                distill_command, folder / "student", *BRIEF, "rollout.train.learning_rate=3e-6",
                "causal.train.factors.painter.face_encoder=0", "--size", "tiny",
                "--teacher", folder / "teacher" / run.RESULT,
            ),
        ]  # fmt: skip
        assert [(one.exit_code, one.exception) for one in made] == [(0, None)] * 3
        assert made[2].stdout == f"{folder / 'student' / run.RESULT}\n"
        yield folder


def test_each_file_says_what_it_is(chain: Path) -> None:
    places = ("ae", "teacher", "student/causal", "student/consistency", "student/rollout")
    cards = {place: inspect(chain / place / run.RESULT).card for place in places}
    stages = ["autoencoder", "teacher", "causal", "consistency", "rollout"]
    assert [card.stage for card in cards.values()] == stages
    assert [card.recipe.split()[0] for card in cards.values()] == [
        f"{recipes.OF_STAGE.get(stage, stage)}_tiny" for stage in stages
    ]
    assert [card.untrained for card in cards.values()] == [("denoiser", "face_encoder"), (), (), (), ()]
    assert {card.data for card in cards.values()} == {"made up"}
    assert all(len(card.revision) >= 5 for card in cards.values())
    shas = {place: inspect(chain / place / run.RESULT).sha256 for place in places}
    assert shas["student/causal"] in cards["student/consistency"].sources[1]
    assert shas["teacher"] in cards["student/rollout"].sources[1]
    assert inspect(chain / "student" / run.RESULT).sha256 == shas["student/rollout"]
    assert cards["student/rollout"].metrics
    config = json.loads((chain / "student" / "rollout" / "config.json").read_text())
    assert config["train"]["learning_rate"] == 3e-6
    read = RunConfig.model_validate_json(json.dumps({**config, "data": {**config["data"], "folder": "x"}}))
    assert read.start == shas["student/consistency"]


def test_what_comes_out_is_the_average_and_the_rest_is_untouched(chain: Path) -> None:
    teacher = held(chain / "teacher" / run.RESULT, CPU)
    found, _ = checkpoint.newest(chain / "teacher" / "checkpoints")
    assert found is not None
    tensors = found.tensors()
    weights = teacher.swapper.state_dict()
    name = "denoiser.conv_out.weight"
    average = next(value for key, value in tensors.items() if key.startswith("averages/") and key.endswith(name))
    own = next(value for key, value in tensors.items() if key.startswith("players/") and key.endswith(name))
    assert torch.equal(weights[name], average)
    assert not torch.equal(weights[name], own)
    before = held(chain / "ae" / run.RESULT, CPU).swapper.state_dict()
    frozen = [key for key in before if key.startswith("autoencoder.")]
    assert frozen
    assert all(torch.equal(before[key], weights[key]) for key in frozen)


def test_a_retouch_needs_an_autoencoder_alone(chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And examples whose drivers are others; what comes out is a student's, with the decoder that it learned."""
    monkeypatch.setattr(run, "Batches", Made)
    small = [one.replace('"kind":"tiny"', '"kind":"tiny","light":16') for one in SMALL]
    words: tuple[str | Path, ...] = (
        "--start",
        chain / "ae" / run.RESULT,
        *small,
        *BRIEF,
        "swapper.denoiser.driver=soft",
    )
    Record(tmp_path / "shown", {"train sources": {"stills": 1.0}}).write()
    refused = call(train_group, "retouch", tmp_path / "no", "--examples", tmp_path / "shown", *words)
    assert isinstance(refused.exception, SettingError)
    Record(tmp_path / "kept", {"train sources": {"stills": 1.0}, "disguise": True}).write()
    made = call(train_group, "retouch", tmp_path / "run", "--examples", tmp_path / "kept", *words)
    assert (made.exit_code, made.exception) == (0, None)
    card = inspect(tmp_path / "run" / run.RESULT).card
    assert (card.stage, card.untrained, card.config.draws) == ("rollout", (), "change")
    before, after = (held(one / run.RESULT, CPU).swapper.autoencoder for one in (chain / "ae", tmp_path / "run"))
    kept = {name for name, weight in before.state_dict().items() if torch.equal(weight, after.state_dict()[name])}
    assert kept >= {name for name in before.state_dict() if not name.startswith("decoder.")}
    assert "decoder.conv_out.weight" not in kept


def test_the_same_command_does_nothing_again_and_another_is_refused(chain: Path) -> None:
    before = (chain / "ae" / run.RESULT).stat().st_mtime_ns
    assert call(train_group, "autoencoder", chain / "ae", *SMALL, *BRIEF).exit_code == 0
    assert (chain / "ae" / run.RESULT).stat().st_mtime_ns == before
    other = call(train_group, "autoencoder", chain / "ae", *SMALL, *BRIEF, "stage.kl=0.5")
    assert isinstance(other.exception, OtherRun)
    assert "stage.kl is 0.0001 there and 0.5 here" in str(other.exception)


def test_what_cannot_be_is_said(chain: Path) -> None:
    teacher = chain / "teacher" / run.RESULT
    assert isinstance(
        call(distill_command, chain / "x", "--teacher", chain / "none.safetensors").exception, WeightsError
    )
    wrong = call(distill_command, chain / "x", *BRIEF, "--size", "tiny", "--stage", "consistency", "--teacher", teacher)
    assert isinstance(wrong.exception, CannotConverge)  # the bidirectional teacher
    random = call(train_group, "teacher", chain / "x", *SMALL, *BRIEF, "--start", teacher, "swapper.denoiser.heads=4")
    assert "denoiser.heads is 2, not 4" in str(random.exception)
    assert "usage" in call(train_group, "teacher", chain / "x").output.lower()
    small = changed(recipes.teacher_tiny(), SMALL)
    with pytest.raises(SettingError, match="the autoencoder is still random"):
        make(small, begun(small.swapper, None, 0, CPU), None, CPU)
    shown = call(distill_command, chain / "x", "--size", "tiny", "--teacher", teacher, "--minutes", "20", "--show")
    minutes = [config["train"]["minutes"] for config in json.loads(shown.stdout)]
    assert minutes == [5.0, 9.0, 6.0]
    assert not (chain / "x" / "causal").exists()


STAGES = {
    "autoencoder": ("ae", "stage.adversarial=0.1", "stage.adversarial_from=0.0"),
    "teacher": ("ae",),
    "causal": ("teacher",),
    "consistency": ("student/causal",),
    "lcm": ("student/causal", "stage.method=lcm", "stage.levels=2", "stage.target_ema=0.2", "train.steps=13"),
    "progressive": ("student/causal", "stage.method=progressive", "stage.levels=4"),
    "rollout": ("student/consistency", "stage.matching=0.5", "stage.fake_updates=2"),
}


PLAIN = ("teacher", "causal", "consistency")  # have no more to come back than the made-up stage of test_resume.py


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in PLAIN else []) for name in STAGES]
)
def test_o11_of_every_stage(chain: Path, tmp_path: Path, name: str) -> None:
    """Four steps are two and, in another process's place, two more: to the bit, targets and critics included."""
    torch.set_num_threads(1)
    begin, *more = STAGES[name]
    kind = name if name in ("autoencoder", "teacher", "causal", "rollout") else "consistency"
    config = changed(recipes.of(kind, "tiny"), (*SMALL, *BRIEF, "train.steps=4", *more))
    teacher = chain / ("teacher" if kind == "rollout" else begin) / run.RESULT

    def sit(folder: str, fails_at: int) -> None:
        own = begun(config.swapper, chain / begin / run.RESULT, 0, CPU)
        stage = make(config, own, None if kind in ("autoencoder", "teacher") else held(teacher, CPU), CPU)
        with suppress(DataMissing):
            data = Made(config.data, fails_at=fails_at)
            train(stage, data, config.train, tmp_path / folder, machine=QUIET, quiet=True)

    sit("whole", 4)
    sit("parts", 2)
    sit("parts", 4)
    whole, _ = checkpoint.newest(tmp_path / "whole" / "checkpoints")
    parts, _ = checkpoint.newest(tmp_path / "parts" / "checkpoints")
    assert whole is not None
    assert parts is not None
    assert whole.place.step == parts.place.step == 4
    ours, theirs = whole.tensors(), parts.tensors()
    assert set(ours) == set(theirs)
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
