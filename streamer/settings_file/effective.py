"""What holds for a command, and where each value comes from: as click itself resolves it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import click
from click.core import ParameterSource

from engines import SettingError, nearest
from streamer.settings_file.check import expected
from streamer.settings_file.layers import Layers, Words, of_command
from streamer.settings_file.toml import SettingsFile
from streamer.settings_file.tree import Setting, settings_of, subcommands

HIDDEN = "(hidden)"
DEFAULT, ENVIRONMENT, FLAG = "default", "environment", "flag"


@dataclass(frozen=True, slots=True)
class Effective:
    """One setting as it holds."""

    setting: Setting
    value: object
    origin: str  # default | environment VARIABLE | flag --x | preset NAME | FILE, line 3
    problem: str | None = None

    @property
    def is_default(self) -> bool:
        return self.origin == DEFAULT

    @property
    def public(self) -> object:
        """The value, for everybody's eyes."""
        return HIDDEN if self.setting.is_secret and self.value not in (None, "", ()) else self.value


def find(root: click.Command, words: Sequence[str]) -> tuple[Words, click.Command, list[str]]:
    """The command that the first words call, and the words after them. Raises SettingError."""
    command, rest = root, list(words)
    path: Words = ()
    while rest and not rest[0].startswith("-") and isinstance(command, click.Group):
        below = subcommands(command, path)
        if rest[0] not in below:
            raise SettingError(f'no command "{" ".join((*path, rest[0]))}"; {nearest(rest[0], below)}')
        path, command = (*path, rest[0]), below[rest[0]]
        del rest[0]
    return path, command, rest


def of(
    root: click.Context, words: Words, file: SettingsFile, preset: str | None, flags: Sequence[str]
) -> list[Effective]:
    """Every setting of the command, given these flags. Raises SettingError for what the file says wrongly."""
    top = root.command
    _, first, _ = find(top, words[:1])
    layers = of_command(words[:1], first, file, preset).checked()
    context = click.Context(
        top, info_name="vividstream", auto_envvar_prefix="VIVIDSTREAM", default_map={words[0]: layers.values}
    )
    command: click.Command = top
    for number, word in enumerate(words):
        command = subcommands(command, words[:number])[word]
        if number + 1 < len(words):
            context = click.Context(command, parent=context, info_name=word)
    inner = command.make_context(words[-1], list(flags), parent=context, resilient_parsing=True)
    command.make_parser(click.Context(command, parent=context, info_name=words[-1])).parse_args(list(flags))  # raises
    held = [_effective(setting, inner, layers) for setting in settings_of(command, words).values()]
    for one in held:
        if one.value is None and one.origin.startswith(FLAG):
            raise SettingError(f"{one.setting.flag} must be {expected(one.setting)}")
    return held


def of_root(root: click.Context, layers: Layers) -> list[Effective]:
    """The settings of `vividstream` itself, as they hold for this very call."""
    return [_effective(setting, root, layers) for setting in settings_of(root.command, ()).values()]


def _effective(setting: Setting, context: click.Context, layers: Layers) -> Effective:
    name = setting.option.name or ""
    source, value = context.get_parameter_source(name), context.params.get(name)
    if source is ParameterSource.COMMANDLINE:
        return Effective(setting, value, f"{FLAG} {setting.flag}")
    if source is ParameterSource.ENVIRONMENT:
        variable = setting.variable
        problem = None
        if value is None and os.environ.get(variable):
            shown = HIDDEN if setting.is_secret else f'"{os.environ[variable][:60]}"'
            problem = f"{variable} is {shown}; it must be {expected(setting)}"
        return Effective(setting, value, f"{ENVIRONMENT} {variable}", problem)
    if source is ParameterSource.DEFAULT_MAP:
        return Effective(setting, value, layers.origins[setting.command, name])
    return Effective(setting, setting.default, DEFAULT)
