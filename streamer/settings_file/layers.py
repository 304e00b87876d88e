"""Preset and file as click's `default_map`, which lies under environment and flags for every command there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from engines import SettingError, nearest
from streamer.settings_file.check import shown, value_of
from streamer.settings_file.presets import preset_value
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
    reading = _Reading(file, None)
    settings = settings_of(root, ())
    context = click.Context(root)
    sections = (*(root.list_commands(context) if isinstance(root, click.Group) else ()), *SHARED)
    for key, raw in file.values.items():
        if key in sections:
            if not isinstance(raw, dict):
                reading.problem((key,), f'"{key}" must be a section: [{key}], not {shown(raw)}')
        elif key in settings:
            reading.take(settings[key], (key,), raw, reading.layers.values)
        else:
            kind = "section" if isinstance(raw, dict) else "setting"
            reading.problem((key,), f'unknown {kind} "{key}"; {nearest(key, (*settings, *sections))}')
    return reading.layers


def of_command(words: Words, command: click.Command, file: SettingsFile, preset: str | None) -> Layers:
    """What holds for the command of this one word, and for those below it."""
    reading = _Reading(file, preset)
    section = file.values.get(words[0], {})
    reading.layers.values = reading.command(words, command, section if isinstance(section, dict) else {}, {})
    if any(setting.shared for path, one in walk(command, words) for setting in settings_of(one, path).values()):
        reading.layers.problems += check_shared(file)
    return reading.layers


def check_shared(file: SettingsFile) -> list[str]:
    """What is wrong with the sections that hold for several commands, in which only known keys may stand."""
    reading = _Reading(file, None)
    for section, model in SHARED.items():
        said = file.values.get(section, {})
        for key in said if isinstance(said, dict) else ():
            if key not in model.model_fields:
                reading.problem(
                    (section, key), f'unknown setting "{key}" in [{section}]; {nearest(key, model.model_fields)}'
                )
    return reading.layers.problems


class _Reading:
    """One way through the file."""

    def __init__(self, file: SettingsFile, preset: str | None) -> None:
        self.layers = Layers()
        self._file, self._preset = file, preset

    def command(self, words: Words, command: click.Command, said: Mapping[str, object], above: Said) -> dict[str, Any]:
        """default_map of the command. `above`: what the sections of the groups that it is in say to all in them."""
        settings, below = settings_of(command, words), subcommands(command, words)
        values: dict[str, Any] = {}
        for setting in settings.values():
            self._take_preset(setting, values)
            self._take_shared(setting, values)
        for key, (where, raw) in above.items():
            if key in settings:
                self.take(settings[key], where, raw, values)
        for_all = dict(above)
        for key, raw in said.items():
            where = (*words, key)
            if key in settings:
                self.take(settings[key], where, raw, values)
            elif key in below:
                if not isinstance(raw, dict):
                    self.problem(where, f'"{key}" must be a section: [{".".join(where)}], not {shown(raw)}')
            elif any(key in settings_of(one, path) for path, one in walk(command, words)):
                for_all[key] = (where, raw)
            else:
                self._unknown(words, command, key)
        for key, one in below.items():
            inner = said.get(key)
            values[key] = self.command((*words, key), one, inner if isinstance(inner, dict) else {}, for_all)
        return values

    def take(self, setting: Setting, where: Words, raw: object, values: dict[str, Any]) -> None:
        """One value of the file."""
        name = f'"{where[-1]}"' + (f" in [{'.'.join(where[:-1])}]" if where[:-1] else "")
        if not setting.may_be_in_a_file:
            self.problem(where, f"{name} is said each time and cannot stand in a file: {setting.flag}")
            return
        try:
            value = value_of(setting, raw, self._file.path.parent if self._file.path else None)
        except SettingError as error:
            self.problem(where, f"{name} {error}")
            return
        self._set(setting, value, self._file.place(where), values)

    def problem(self, where: Words, text: str) -> None:
        self.layers.problems.append(f"{self._file.place(where)}: {text}")

    def _take_preset(self, setting: Setting, values: dict[str, Any]) -> None:
        value = preset_value(self._preset, (setting.shared or "", ".".join(setting.command)), setting.name)
        if value is not None:
            self._set(setting, value, f"preset {self._preset}", values)

    def _take_shared(self, setting: Setting, values: dict[str, Any]) -> None:
        said = self._file.values.get(setting.shared) if setting.shared else None
        if isinstance(said, dict) and setting.shared and setting.name in said:
            self.take(setting, (setting.shared, setting.name), said[setting.name], values)

    def _set(self, setting: Setting, value: object, origin: str, values: dict[str, Any]) -> None:
        parameter = setting.option.name or ""
        values[parameter] = value
        self.layers.origins[setting.command, parameter] = origin

    def _unknown(self, words: Words, command: click.Command, key: str) -> None:
        known = {
            name for path, one in walk(command, words) for name in (*settings_of(one, path), *subcommands(one, path))
        }
        is_argument = any(isinstance(one, click.Argument) and one.name == key for one in command.params)
        text = f'unknown setting "{key}" in [{".".join(words)}]; {nearest(key, sorted(known))}'
        self.problem((*words, key), f"{text}; an argument is given on the command line" if is_argument else text)
