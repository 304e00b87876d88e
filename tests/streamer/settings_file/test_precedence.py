"""Defaults < preset < file < environment < flags, for every setting of every command there is.

What a command is called with is looked at where click hands it over: nothing between is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from streamer import cli
from streamer.settings_file.example import written
from streamer.settings_file.presets import PRESETS
from streamer.settings_file.tree import SHARED, Setting, settings_of
from tests.streamer.settings_file.samples import argument, commands, fill, samples

COMMANDS = commands(cli.vividstream)
NAMES = [" ".join(words) for words in COMMANDS]


class Handed(Exception):
    """What the command would have been called with."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__()
        self.values = values


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("settings")
    fill(made)
    return made


@pytest.fixture(autouse=True)
def caught(monkeypatch: pytest.MonkeyPatch) -> None:
    invoke = click.Command.invoke

    def catch(self: click.Command, context: click.Context) -> Any:
        if isinstance(self, click.Group):
            return invoke(self, context)
        raise Handed(context.params)

    monkeypatch.setattr(click.Command, "invoke", catch)


def called(folder: Path, words: tuple[str, ...], file: str = "", *flags: str, preset: str = "") -> dict[str, Any]:
    """The values that the command gets; required arguments and options are made up."""
    path = folder / "settings.toml"
    path.write_text(file, encoding="utf-8")
    command = COMMANDS[words]
    given = [flag for flag in flags if flag.startswith("-")]
    needed: list[str] = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument) and parameter.required:
            needed += [argument(parameter, folder)] * max(parameter.nargs, 1)
        elif isinstance(parameter, click.Option) and parameter.required and not {*parameter.opts} & {*given}:
            setting = Setting(words, parameter)
            stands = f"\n{setting.name} = " in file or setting.variable in os.environ
            value = samples(setting, folder)[0]
            needed += [] if stands else [parameter.opts[0], str(value[0] if isinstance(value, list) else value)]
    start = ["--config", str(path), *(["--preset", preset] if preset else []), *words]
    with pytest.raises(Handed) as handed:
        cli.main([*start, *needed, *flags])
    return handed.value.values


def as_flags(setting: Setting, value: object) -> list[str]:
    if isinstance(value, bool):
        if value:
            return [setting.flag]
        return [setting.option.secondary_opts[0]] if setting.option.secondary_opts else []
    return [setting.flag, str(value[0] if isinstance(value, list) else value)]


def as_variable(value: object) -> str:
    return str(value[0] if isinstance(value, list) else value)


def plain(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def settings_for(words: tuple[str, ...]) -> list[Setting]:
    return [one for one in settings_of(COMMANDS[words], words).values() if one.may_be_in_a_file]


def rounds(words: tuple[str, ...], folder: Path) -> Iterator[tuple[list[Setting], int]]:
    """All settings at once, with the first or second of their two values."""
    for which in (0, 1):
        yield [one for one in settings_for(words) if len(samples(one, folder)) == 2], which


def sections(settings: list[Setting], which: int, folder: Path, header: str) -> str:
    lines = [f"{one.name} = {written(samples(one, folder)[which])}" for one in settings]
    return "\n".join([f"[{header}]", *lines, ""])


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_two_values_to_try(name: str, folder: Path) -> None:
    for setting in settings_for(tuple(name.split())):
        assert len(samples(setting, folder)) == 2, setting.name


@pytest.mark.parametrize("name", NAMES)
def test_file_over_default_variable_over_file_flag_over_variable(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tuple(name.split())
    for settings, which in rounds(words, folder):
        wanted = {one.option.name: samples(one, folder)[which] for one in settings}
        other = {one.option.name: samples(one, folder)[1 - which] for one in settings}
        file = sections(settings, which, folder, ".".join(words))
        opposite = sections(settings, 1 - which, folder, ".".join(words))

        got = called(folder, words, file)
        assert {key: plain(got[key]) for key in wanted} == wanted, "file over default"

        with monkeypatch.context() as environment:
            for one in settings:
                environment.setenv(one.variable, as_variable(wanted[one.option.name]))
            got = called(folder, words, opposite)
            assert {key: plain(got[key]) for key in wanted} == wanted, "variable over file"

            flags = [flag for one in settings for flag in as_flags(one, other[one.option.name])]
            said = {one.option.name for one in settings if as_flags(one, other[one.option.name])}
            got = called(folder, words, file, *flags)
            assert {key: plain(got[key]) for key in said} == {key: other[key] for key in said}, "flag over variable"


@pytest.mark.parametrize("name", NAMES)
def test_without_a_file_nothing_is_set(name: str, folder: Path) -> None:
    words = tuple(name.split())
    before = called(folder, words)
    for setting in settings_for(words):
        if not setting.option.required:
            model_default = setting.model is None or before[setting.option.name or ""] in (None, ())
            assert model_default, setting.name


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", NAMES)
def test_preset_over_default_and_file_over_preset(name: str, preset: str, folder: Path) -> None:
    words = tuple(name.split())
    of_preset = {
        (section, key): value for section, values in PRESETS[preset].values.items() for key, value in values.items()
    }
    here = {
        one.name: of_preset[section, one.name]
        for one in settings_for(words)
        for section in (one.shared or "", ".".join(words))
        if (section, one.name) in of_preset
    }
    by_name = {one.name: one for one in settings_for(words)}
    for where in (f'preset = "{preset}"\n', ""):
        got = called(folder, words, where, preset="" if where else preset)
        assert {key: got[by_name[key].option.name or ""] for key in here} == here
    for key, value in here.items():
        other = next(one for one in samples(by_name[key], folder) if one != value)
        header = by_name[key].shared or ".".join(words)
        got = called(folder, words, f'preset = "{preset}"\n[{header}]\n{key} = {written(other)}\n')
        assert got[by_name[key].option.name or ""] == other


@pytest.mark.parametrize("section", SHARED)
def test_a_shared_section_reaches_every_command_that_has_its_settings(section: str, folder: Path) -> None:
    reached = 0
    for words in COMMANDS:
        mine = [one for one in settings_for(words) if one.shared == section]
        for which in (0, 1) if mine else ():
            file = sections(mine, which, folder, section)
            wanted = {one.option.name: samples(one, folder)[which] for one in mine}
            got = called(folder, words, file)
            assert {key: plain(got[key]) for key in wanted} == wanted
            own = sections(mine, 1 - which, folder, ".".join(words))
            got = called(folder, words, file + own)
            assert {key: plain(got[key]) for key in wanted} != wanted, "its own section wins"
            reached += 1
    assert reached >= 2
