"""Preset and file as click's `default_map`, which lies under environment and flags for every command there is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from engines import SettingError, nearest
from streamer.settings_file.check import shown, value_of
from streamer.settings_file.presets import PRESETS
from streamer.settings_file.toml import SettingsFile
from streamer.settings_file.tree import SHARED, Setting, settings_of, subcommands, walk

Words = tuple[str, ...]
Said = Mapping[str, tuple[Words, object]]  # a key to where it stands and what it says


@dataclass(slots=True)
class Layers:
    """What preset and file say to one command and those below it."""

    values: dict[str, Any] = field(default_factory=dict)  # click's default_map
    origins: dict[tuple[Words, str], str] = field(default_factory=dict)  # (command, parameter) to "FILE, line 3"
    problems: list[str] = field(default_factory=list)

    def checked(self) -> Layers:
        """Raises SettingError with the first problem."""
        if self.problems:
            raise SettingError(self.problems[0])
        return self


def of_root(root: click.Command, file: SettingsFile) -> Layers:
    """The file's own keys, before any section: settings of `vividstream` itself, and which sections there may be."""
    layers = Layers()
    settings = settings_of(root, ())
    context = click.Context(root)
    sections = (*(root.list_commands(context) if isinstance(root, click.Group) else ()), *SHARED)
    for key, raw in file.values.items():
        if key in sections:
            if not isinstance(raw, dict):
                _problem(layers, file, (key,), f'"{key}" must be a section: [{key}], not {shown(raw)}')
        elif key in settings:
            _take(layers, file, settings[key], (key,), raw, layers.values)
        else:
            kind = "section" if isinstance(raw, dict) else "setting"
            _problem(layers, file, (key,), f'unknown {kind} "{key}"; {nearest(key, (*settings, *sections))}')
    return layers


def of_command(words: Words, command: click.Command, file: SettingsFile, preset: str | None) -> Layers:
    """What holds for the command that these words call, and for those below it."""
    layers = Layers()
    section: object = file.values
    for word in words:
        section = section.get(word, {}) if isinstance(section, dict) else {}
    layers.values = _map(layers, words, command, section, {}, file, preset)
    return layers


def check_shared(file: SettingsFile) -> list[str]:
    """What is wrong with the sections that hold for several commands, in which only known keys may stand."""
    layers = Layers()
    for section, model in SHARED.items():
        said = file.values.get(section, {})
        for key in said if isinstance(said, dict) else ():
            if key not in model.model_fields:
                text = f'unknown setting "{key}" in [{section}]; {nearest(key, model.model_fields)}'
                _problem(layers, file, (section, key), text)
    return layers.problems


def _map(
    layers: Layers,
    words: Words,
    command: click.Command,
    section: object,
    above: Said,
    file: SettingsFile,
    preset: str | None,
) -> dict[str, Any]:
    """default_map of the command. `above`: what the sections of the groups that it is in say to all in them."""
    settings, below = settings_of(command, words), subcommands(command, words)
    values: dict[str, Any] = {}
    _take_shared(layers, settings.values(), file, preset, values)
    for key, (where, raw) in above.items():
        if key in settings:
            _take(layers, file, settings[key], where, raw, values)
    said = section if isinstance(section, dict) else {}
    for_all: dict[str, tuple[Words, object]] = {}
    for key, raw in said.items():
        where, name = (*words, key), ".".join(words)
        if key in below:
            if not isinstance(raw, dict):
                _problem(layers, file, where, f'"{key}" must be a section: [{name}.{key}], not {shown(raw)}')
        elif key in settings:
            _take(layers, file, settings[key], where, raw, values)
        elif any(key in settings_of(one, path) for path, one in walk(command, words)):
            for_all[key] = (where, raw)
        else:
            known = {one for path, inner in walk(command, words) for one in settings_of(inner, path)}
            text = f'unknown {_what(command, key)} "{key}" in [{name}]; {nearest(key, sorted({*known, *below}))}'
            _problem(layers, file, where, text)
    for key, one in below.items():
        values[key] = _map(layers, (*words, key), one, said.get(key, {}), {**above, **for_all}, file, preset)
    return values


def _take_shared(
    layers: Layers, settings: Iterable[Setting], file: SettingsFile, preset: str | None, values: dict[str, Any]
) -> None:
    of_preset = PRESETS[preset].values if preset else {}
    for setting in settings:
        section = setting.shared
        if section is None:
            continue
        parameter = setting.option.name or ""
        if setting.name in of_preset.get(section, {}):
            values[parameter] = of_preset[section][setting.name]
            layers.origins[setting.command, parameter] = f"preset {preset}"
        said = file.values.get(section)
        if isinstance(said, dict) and setting.name in said:
            _take(layers, file, setting, (section, setting.name), said[setting.name], values)
    for problem in check_shared(file):
        if problem not in layers.problems and any(setting.shared for setting in settings):
            layers.problems.append(problem)


def _take(
    layers: Layers, file: SettingsFile, setting: Setting, where: Words, raw: object, values: dict[str, Any]
) -> None:
    name = f'"{where[-1]}"' + (f" in [{'.'.join(where[:-1])}]" if where[:-1] else "")
    if not setting.may_be_in_a_file:
        _problem(layers, file, where, f"{name} is said each time and cannot stand in a file: {setting.flag}")
        return
    try:
        value = value_of(setting, raw, file.path.parent if file.path else None)
    except SettingError as error:
        _problem(layers, file, where, f"{name} {error}")
        return
    parameter = setting.option.name or ""
    values[parameter] = value
    layers.origins[setting.command, parameter] = file.place(where)


def _problem(layers: Layers, file: SettingsFile, where: Words, text: str) -> None:
    layers.problems.append(f"{file.place(where)}: {text}")


def _what(command: click.Command, key: str) -> str:
    is_argument = any(isinstance(one, click.Argument) and one.name == key for one in command.params)
    return "setting (an argument is given on the command line)" if is_argument else "setting"
