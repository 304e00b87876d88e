"""`eval steps` from files of weights and kept examples to a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from distill.evaluate import steps_run
from distill.evaluate.settings import StepsEvalConfig
from distill.evaluate.steps_run import open_weights, run, write
from distill.examples.types import Shown
from engines import SettingError, WeightsError
from engines.models.swapper import Swapper
from engines.weights import ModelCard
from engines.weights import write as write_weights
from tests.distill.evaluate.test_on_examples import SMALL
from tests.distill.made_up import synthetic_batch


def weights(path: Path, stage: str, seed: int = 3, untrained: tuple[str, ...] = ()) -> Path:
    torch.set_num_threads(1)
    card = ModelCard.model_validate(
        {
            "config": SMALL,
            "licence": "none",
            "data": "none",
            "recipe": "test",
            "revision": "unknown",
            "stage": stage,
            "untrained": untrained,
        }
    )
    write_weights(path, Swapper(SMALL).initialise(seed).state_dict(), card)
    return path


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights, and made-up batches in the place of kept examples."""

    def batches(config: StepsEvalConfig, swapper: Swapper) -> Iterator[Shown]:
        return (synthetic_batch(frames=4, seed=seed) for seed in range(config.batches))

    monkeypatch.setattr(steps_run, "held_out", batches)
    weights(tmp_path / "teacher.safetensors", "teacher")
    weights(tmp_path / "causal.safetensors", "causal")
    weights(tmp_path / "student.safetensors", "rollout")
    weights(tmp_path / "other.safetensors", "rollout", seed=4)
    return tmp_path


def config(files: Path, **more: object) -> StepsEvalConfig:
    given = {"examples": files, "batches": 2, "frames": 4, "teacher_steps": (2, 4), "steps": (1, 2)}
    return StepsEvalConfig.read({**given, **more})


@pytest.mark.parametrize("teacher", ["teacher", "causal"])
def test_from_weights_to_a_table(files: Path, teacher: str) -> None:
    said: list[str] = []
    text, stored = run(
        config(files, student=files / "student.safetensors", teacher=files / f"{teacher}.safetensors"), said.append
    )
    name = "causal teacher" if teacher == "causal" else "teacher"
    for row in ("proxy", "truth through the autoencoder", f"{name}, 2 steps", f"{name}, 4 steps", "student, 1 step"):
        assert f"| {row} " in text
    assert f"The reference is {name}, 4 steps" in text
    assert "student, 2 steps: " in text
    assert len(said) == 2
    path = write(text, stored, files / "out")
    found = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert found["curves"][f"{name}, 4 steps"]["latent"] == 0
    assert len(found["curves"]["proxy"]["true_rms"]) == 4
    assert "sha256" in found["facts"]["student weights"]


def test_a_student_alone_has_no_reference(files: Path) -> None:
    text, stored = run(config(files, student=files / "student.safetensors"), lambda line: None)
    assert stored["reference"] is None
    assert "of the proxy's error" in text


def test_what_cannot_be_compared_is_refused(files: Path) -> None:
    with pytest.raises(SettingError, match="give --student FILE"):
        run(config(files), lambda line: None)
    with pytest.raises(SettingError, match="other autoencoders"):
        run(
            config(files, student=files / "other.safetensors", teacher=files / "teacher.safetensors"),
            lambda line: None,
        )
    with pytest.raises(SettingError, match="1 to 8 steps, not 0"):
        run(config(files, student=files / "student.safetensors", steps=(0,)), lambda line: None)
    with pytest.raises(WeightsError, match="nobody trained denoiser"):
        open_weights(weights(files / "part.safetensors", "autoencoder", untrained=("denoiser",)))
