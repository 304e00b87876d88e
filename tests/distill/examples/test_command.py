"""`vividstream examples`: every setting is an option, and what is wrong is said in a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from distill.examples.cache import Record
from distill.examples.command import examples_command
from distill.examples.settings import ExampleSettings
from engines import SettingError

NOTHING = ("--stills", "0", "--clips", "0", "--held-out-stills", "0", "--held-out-clips", "0", "--moved", "0")


def test_every_setting_is_an_option() -> None:
    assert {parameter.name for parameter in examples_command.params} == set(ExampleSettings.model_fields)


def test_a_run_of_nothing_leaves_a_record(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    done = CliRunner().invoke(examples_command, [str(folder), *NOTHING, "--size-px", "128", "--no-degrade"])
    assert done.exit_code == 0, done.output
    assert done.output == f"0 stills and 0 clips, and 0 and 0 of people kept apart, in {folder}\n"
    assert (Record.read(folder).settings["size_px"], Record.read(folder).settings["degrade"]) == (128, False)


def test_impossible_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="size_px"):
        CliRunner().invoke(examples_command, [str(tmp_path), "--size-px", "100"], catch_exceptions=False)
    assert not any(tmp_path.iterdir())
