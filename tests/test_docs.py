"""What the documents promise is there, and what is there is documented."""

from __future__ import annotations

import ast
import re
import shlex
import stat
import subprocess
from pathlib import Path

import click
import pytest

from distill.data import DataSettings
from distill.degrade import DegradeSettings
from distill.evaluate.settings import StepsEvalConfig, SwapEvalConfig, TrueSwapConfig
from distill.examples.settings import BatchSettings, ExampleSettings
from distill.prepare.settings import PrepareSettings
from distill.recipes import RunConfig
from distill.stages.settings import (
    AutoencoderSettings,
    CausalSettings,
    ConditionSettings,
    ConsistencySettings,
    RolloutSettings,
    TeacherSettings,
    TimeSettings,
)
from distill.training.settings import MachineSettings, TrainSettings
from engines import StrictModel, SwapSettings
from engines.build.settings import BuildSettings
from streamer import config
from streamer.camera.settings import CameraSettings
from streamer.cli import vividstream
from streamer.doctor.settings import DoctorSettings
from streamer.encoding.settings import EncodingSettings
from streamer.extension.settings import ExtensionSettings
from streamer.joining.settings import JanusSettings, JoinSettings, LivekitSettings, WhipSettings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
MODELS: tuple[type[StrictModel], ...] = (
    SwapSettings,
    BuildSettings,
    config.GuardSettings,
    config.ReachSettings,
    EncodingSettings,
    config.TelemetrySettings,
    CameraSettings,
    DoctorSettings,
    ExtensionSettings,
    config.ServerConfig,
    config.SigningSettings,
    config.FileConfig,
    config.AgreementSettings,
    config.EnrollConfig,
    config.IdentitiesConfig,
    JoinSettings,
    JanusSettings,
    WhipSettings,
    LivekitSettings,
    PrepareSettings,
    ExampleSettings,
    BatchSettings,
    TrueSwapConfig,
    SwapEvalConfig,
    StepsEvalConfig,
    RunConfig,
    AutoencoderSettings,
    TeacherSettings,
    CausalSettings,
    ConsistencySettings,
    RolloutSettings,
    ConditionSettings,
    TimeSettings,
    TrainSettings,
    MachineSettings,
    DataSettings,
    DegradeSettings,
)


def setup_commands() -> list[str]:
    return re.findall(r"^    (python3 -m venv .*)$", README, re.MULTILINE)


def leaf_commands(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    """Every command by the words that call it, those of installed packages included."""
    context = click.Context(group, info_name=group.name)
    found: dict[str, click.Command] = {}
    for name in group.list_commands(context):
        command, path = group.get_command(context, name), f"{prefix}{name}"
        assert command is not None, path
        found |= leaf_commands(command, path + " ") if isinstance(command, click.Group) else {path: command}
    return found


def rows(model: type[StrictModel]) -> dict[str, str]:
    """Setting name to documented default, from the model's section."""
    section = re.search(rf"^## {model.__name__}\n(.*?)(?=^## |\Z)", SETTINGS, re.MULTILINE | re.DOTALL)
    assert section, f"docs/settings.md has no section {model.__name__}"
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) ?\|", section[1], re.MULTILINE))


def test_readme_has_exactly_two_setup_commands() -> None:
    serve, tests = setup_commands()
    assert serve.endswith("vividstream serve")
    assert tests.endswith("-m pytest -n 2 --dist loadfile")


def test_ci_run_is_the_second_setup_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.rstrip().splitlines()[-1] == setup_commands()[1]
    assert "VIVIDSTREAM_REQUIRE_SYSTEM=1" in script


@pytest.mark.parametrize("script", sorted((ROOT / ".ci").iterdir()), ids=lambda path: path.name)
def test_ci_scripts_can_be_run(script: Path) -> None:
    assert script.stat().st_mode & stat.S_IXUSR
    if script.read_text(encoding="utf-8").startswith("#!/bin/sh"):
        subprocess.run(["sh", "-n", script], check=True)
    assert f".ci/{script.name}" in README


@pytest.mark.parametrize("line", re.findall(r"^    \.venv/bin/vividstream (.*?)(?: *#.*)?$", README, re.MULTILINE))
def test_every_command_in_the_readme_parses(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with the bodies taken out: unknown commands and options would raise."""
    words = shlex.split(line)
    command: click.Command = vividstream
    context = click.Context(vividstream, info_name="vividstream")
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    command.make_context(command.name, words, parent=context)


def test_every_command_is_documented() -> None:
    for name in leaf_commands(vividstream):
        assert f"vividstream {name}" in README, name
        assert f"vividstream {name}" in SETTINGS, name


def test_every_command_and_option_has_a_help_text() -> None:
    for path, command in {"": vividstream, **leaf_commands(vividstream)}.items():
        assert command.help, path
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help, f"{path} {parameter.name}"


def settings_models() -> set[str]:
    """Strict models that a person fills in: all of distill and of streamer/config.py, and what is called settings."""
    found = set()
    for package in ("distill", "engines", "streamer"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and "StrictModel" in {ast.unparse(base) for base in node.bases}:
                    of_people = package == "distill" or path == ROOT / "streamer" / "config.py"
                    if of_people or node.name.endswith("Settings"):
                        found.add(node.name)
    return found


def test_the_list_of_settings_models_is_complete() -> None:
    assert settings_models() == {model.__name__ for model in MODELS}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_setting_is_documented_with_its_default(model: type[StrictModel]) -> None:
    documented = rows(model)
    assert set(documented) == set(model.model_fields)
    for name, field in model.model_fields.items():
        if not isinstance(field.default, StrictModel):
            assert documented[name] == ("" if field.is_required() else shown(field.get_default())), name


def shown(default: object) -> str:
    """How a default is written in the table."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return "none" if default is None else f"`{default}`" if default != "" else "empty"


def test_every_file_in_the_readme_tree_exists_and_none_is_missing() -> None:
    tree = re.search(r"```\n(streamer/.*?)```", README, re.DOTALL)
    assert tree
    named: set[str] = set()
    folder = ""
    for line in tree[1].splitlines():
        name = line.split()[0]
        path = folder + name if line.startswith("  ") else name
        folder = folder if line.startswith("  ") else name
        named.add(path)
        assert (ROOT / path).exists(), path
    for package in ("streamer", "engines", "distill"):
        for source in (ROOT / package).glob("*.py"):
            path = f"{package}/{source.name}"
            assert path in named or source.name == "__init__.py", f"README's tree lacks {path}"


def test_licence_and_notices_are_there() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for name in ("MediaPipe", "ICT-FaceKit", "MakeHuman", "SFHQ-T2I"):
        assert name in notice
    assert "## UNRELEASED" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("decision", sorted((ROOT / "docs" / "decisions").iterdir()), ids=lambda path: path.name)
def test_decisions_are_numbered(decision: Path) -> None:
    assert re.fullmatch(r"\d{3}-[a-z0-9-]+\.md", decision.name)


@pytest.mark.parametrize("document", sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]), ids=lambda p: p.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (document.parent / target).exists(), target
