"""What leaves training draws the same elsewhere, says what it is, and comes whole or not at all."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from distill.errors import NotWritten
from distill.export.command import built, export_command
from distill.export.package import GRAPHS, METADATA, package, read_specs
from engines import SettingError, WeightsError, store
from engines.models.step import SwapStep
from engines.models.swapper import Swapper
from engines.weights import ModelCard, check, load_into, write
from tests.engines.small_engine import SMALL

Stage = Literal["", "autoencoder", "teacher", "causal", "consistency", "rollout"]


def student(path: Path, stage: Stage = "rollout", untrained: tuple[str, ...] = ()) -> Path:
    card = ModelCard(
        config=SMALL,
        licence="CC0-1.0",
        data="none",
        recipe="test",
        revision="unknown",
        stage=stage,
        untrained=untrained,
    )
    write(path, Swapper(SMALL).initialise(3).state_dict(), card)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of files that the command makes, and the store with its engine."""
    folder = tmp_path_factory.mktemp("export")
    weights = student(folder / "swapper.safetensors")
    out, engines = folder / "student", folder / "store"
    result = CliRunner().invoke(export_command, [str(weights), "-o", str(out), "--no-build", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"folder": str(out), "weights": str(out / "small.safetensors"), "engines": []}
    built(out / "small.safetensors", "ort", "cpu", engines, rollout=3)
    return out, engines


def test_the_onnx_file_draws_what_the_weights_draw(made: tuple[Path, Path]) -> None:
    out, _ = made
    swapper = Swapper(SMALL)
    load_into(swapper, out / "small.safetensors", SMALL)
    step = SwapStep(swapper).eval()
    spec = read_specs(out / GRAPHS)["step"]
    assert spec == step.spec
    generator = np.random.default_rng(5)
    given = {}
    for tensor in (*spec.inputs, *(memory.kept for memory in spec.memories)):
        whole = tensor.dtype == "int64"
        given[tensor.name] = (
            np.zeros(tensor.shape, np.int64) if whole else generator.normal(0, 0.5, tensor.shape).astype(np.float32)
        )
    session = onnxruntime.InferenceSession(str(out / "step.onnx"), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = step(*(torch.from_numpy(array) for array in given.values()))
    drawn = session.run(None, given)
    assert len(drawn) == len(wanted) == len(spec.outputs) + len(spec.memories)
    for one, other in zip(drawn, wanted, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=2e-4)
    assert float(np.std(drawn[0])) > 0.01


def test_the_files_say_how_they_are_used(made: tuple[Path, Path]) -> None:
    out, _ = made
    description = json.loads((out / GRAPHS).read_text())
    assert description["schedule"]["times"] == list(SMALL.schedule.times)
    assert description["window"] == {"frames": 4, "sinks": 1, "memory": "last_step"}
    assert description["weights_sha256"] == check(out / "small.safetensors").sha256
    for name in ("step", "identity"):
        model = onnx.load(str(out / f"{name}.onnx"))
        onnx.checker.check_model(model)
        inside = {one.key: json.loads(one.value) for one in model.metadata_props}[METADATA]
        assert inside["graphs"][name] == description["graphs"][name]
        assert inside["schedule"] == description["schedule"]
    assert json.loads((out / "small.json").read_text())["file"] == "small.safetensors"


def test_the_engine_is_in_the_store_and_of_these_weights(made: tuple[Path, Path]) -> None:
    out, engines = made
    entries, broken = store.entries(engines)
    assert not broken
    assert [entry.manifest.weights.file_sha256 for entry in entries] == [check(out / "small.safetensors").sha256]


@pytest.mark.parametrize(
    ("stage", "untrained", "words"),
    [
        ("teacher", (), "vividstream distill RUN --teacher"),
        ("autoencoder", ("denoiser",), "vividstream train teacher RUN"),
        ("causal", (), "tens of steps"),
        ("consistency", ("face_encoder",), "still random: face_encoder"),
    ],
)
def test_what_cannot_draw_in_few_steps_is_refused_with_what_comes_next(
    tmp_path: Path, stage: Stage, untrained: tuple[str, ...], words: str
) -> None:
    weights = student(tmp_path / "swapper.safetensors", stage, untrained)
    with pytest.raises(WeightsError, match=words):
        package(weights, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_weights_and_a_folder_that_is_there_are_refused(tmp_path: Path) -> None:
    weights = student(tmp_path / "swapper.safetensors")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    with pytest.raises(SettingError, match="is there already"):
        package(weights, tmp_path / "there")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["mine.txt"]
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="truncated"):
        package(weights, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = student(tmp_path / "swapper.safetensors")
    before = sorted(tmp_path.iterdir())

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"begun")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(NotWritten, match="No space left"):
        package(weights, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before
