"""Which settings there are: the options of all commands, those of installed packages included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click

from engines import StrictModel, SwapSettings
from streamer.encoding.settings import EncodingSettings
from streamer.options import SettingOption
from streamer.settings_file.toml import is_secret

# Sections that hold for every command that has these settings; a command's own section wins over them.
SHARED: Mapping[str, type[StrictModel]] = {"swap": SwapSettings, "encoding": EncodingSettings}
NOT_SETTINGS = ("config", "help", "version")


@dataclass(frozen=True, slots=True)
class Setting:
    """One option of one command, as the file knows it."""

    command: tuple[str, ...]  # the words that call it; none: `vividstream` itself
    option: click.Option

    @property
    def name(self) -> str:
        """Its key in the file: the flag, with _ for -."""
        return self.flag.lstrip("-").replace("-", "_")

    @property
    def flag(self) -> str:
        return max(self.option.opts, key=len)

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "_".join(("vividstream", *self.command, self.option.name or "")).replace("-", "_").upper()

    @property
    def model(self) -> type[StrictModel] | None:
        return self.option.model if isinstance(self.option, SettingOption) else None

    @property
    def shared(self) -> str | None:
        """The section that it may stand in for all commands."""
        return next((name for name, model in SHARED.items() if model is self.model), None)

    @property
    def is_secret(self) -> bool:
        return _extra(self).get("secret") is True or (
            is_secret(self.name) and not isinstance(self.option.type, click.Path)
        )

    @property
    def may_be_in_a_file(self) -> bool:
        return _extra(self).get("in_file") is not False

    @property
    def default(self) -> object:
        """What holds where nobody says anything."""
        if isinstance(self.option, SettingOption):
            field = self.option.model.model_fields[self.option.field]
            return None if field.is_required() else field.get_default(call_default_factory=True)
        alone = click.Command("default", params=[self.option])
        return alone.make_context("default", [], resilient_parsing=True).params.get(self.option.name or "")


def settings_of(command: click.Command, words: tuple[str, ...]) -> dict[str, Setting]:
    """The command's settings by their keys; arguments are none."""
    found = {}
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden and option.name not in NOT_SETTINGS:
            setting = Setting(words, option)
            found[setting.name] = setting
    return found


def subcommands(command: click.Command, words: tuple[str, ...] = ()) -> dict[str, click.Command]:
    """What the group's further words call."""
    if not isinstance(command, click.Group):
        return {}
    context = click.Context(command, info_name=words[-1] if words else None)
    found = {name: command.get_command(context, name) for name in command.list_commands(context)}
    return {name: one for name, one in found.items() if one is not None and not one.hidden}


def walk(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The command and all below it, each with the words that call it."""
    yield words, command
    for name, one in subcommands(command, words).items():
        yield from walk(one, (*words, name))


def _extra(setting: Setting) -> Mapping[str, Any]:
    """What the model, or its field, says about files."""
    if not isinstance(setting.option, SettingOption):
        return {}
    model = setting.option.model
    said: dict[str, Any] = {}
    for extra in (
        model.model_config.get("json_schema_extra"),
        model.model_fields[setting.option.field].json_schema_extra,
    ):
        if isinstance(extra, dict):
            said |= extra
    return said
