"""The commands of this package: light to import, one line for every error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distill.evaluate import command
from distill.evaluate.command import eval_group, need_torch
from distill.evaluate.settings import StepsEvalConfig, SwapEvalConfig, TrueSwapConfig
from engines import EngineUnavailable, SettingError, StrictModel, UnknownEngine, VividError

ROOT = Path(__file__).parents[3]
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def call(*arguments: str) -> None:
    eval_group.main(list(arguments), standalone_mode=False)


def test_importing_the_commands_brings_in_nothing_heavy() -> None:
    code = "import sys, distill.evaluate.command; print([m for m in ('torch', 'mediapipe', 'av') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_without_torch_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match=r"vividstream\[train\]") as raised:
        need_torch("eval true-swap")
    assert "\n" not in str(raised.value)
    with pytest.raises(EngineUnavailable, match="extra `train`"):
        call("true-swap", "--quick")


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(UnknownEngine, match='did you mean "proxy"'):
        call("true-swap", "--engine", "prxy")


def test_missing_data_is_named(tmp_path: Path) -> None:
    from distill.errors import DataMissing

    with pytest.raises(DataMissing, match="nowhere"):
        call("true-swap", "--quick", "--data", str(tmp_path / "nowhere"))


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(SettingError, match="quick"):
        TrueSwapConfig.read({"quik": True})


@pytest.mark.parametrize(
    ("command", "model"), [("true-swap", TrueSwapConfig), ("swap", SwapEvalConfig), ("steps", StepsEvalConfig)]
)
def test_every_setting_is_an_option_and_documented(command: str, model: type[StrictModel]) -> None:
    options = {parameter.name for parameter in eval_group.commands[command].params}
    section = SETTINGS.split(f"## {model.__name__}")[1].split("\n## ")[0]
    assert set(model.model_fields) == options
    for name in model.model_fields:
        assert f"| `{name}` |" in section
    assert f"vividstream eval {command}" in section


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["swap"], "--clips VIDEO"),
        (["swap", "--rendered", "--set", "stps=2"], "steps"),
        (["swap", "--frames", "nowhere"], "nowhere: no such folder"),
        (["swap", "--clips", "nowhere.mp4", "--engine", "onnx"], "--model FILE"),
        (["swap", "--rendered", "--judge", "arcfce=x"], "arcface"),
        (["table", "nowhere"], "is no report"),
        (["steps", "--examples", "nowhere"], "--student FILE"),
    ],
)
def test_a_wrong_call_is_one_line(words: list[str], says: str) -> None:
    with pytest.raises(VividError, match=says) as raised:
        call(*words)
    assert "\n" not in str(raised.value)
