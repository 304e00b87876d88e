"""What one call of the program has read: kept in click's context, for the command that is called."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import click

from streamer.settings_file.layers import Layers, of_command, of_root
from streamer.settings_file.presets import PRESETS
from streamer.settings_file.toml import SettingsFile, find, lies_unread

KEY = "vividstream.settings_file"
LENIENT = "config"  # the command that explains mistakes must start in spite of them


@dataclass(slots=True)
class State:
    """The file, what it says to `vividstream` itself, and the preset that holds."""

    file: SettingsFile = field(default_factory=SettingsFile)
    layers: Layers = field(default_factory=Layers)
    preset: str | None = None


def state_of(context: click.Context) -> State:
    """Of this call."""
    state = context.find_root().meta.setdefault(KEY, State())
    assert isinstance(state, State)
    return state


def read_file(context: click.Context, parameter: click.Parameter, asked_for: Path | None) -> None:
    """Callback of --config, which click calls before it looks at any other option of the group."""
    if context.resilient_parsing:
        return
    state = state_of(context)
    state.file = find(asked_for)
    state.layers = of_root(context.command, state.file)
    context.default_map = state.layers.values
    said = state.file.warnings()
    if lies_unread(asked_for):
        said.append("the vividstream.toml of this folder is not read unless asked for: --config vividstream.toml")
    for line in said:
        click.echo(f"note: {line}", err=True)


def apply(context: click.Context, preset: str | None) -> None:
    """Puts preset and file under the command that is called. Raises SettingError."""
    state = state_of(context)
    state.preset = preset
    name = context.invoked_subcommand
    assert isinstance(context.command, click.Group)
    command = context.command.get_command(context, name) if name else None
    if name is None or command is None:
        return
    if name != LENIENT:
        state.layers.checked()
    layers = of_command((name,), command, state.file, preset)
    context.default_map = {**state.layers.values, name: layers.checked().values}


def options(command: click.decorators.FC) -> click.decorators.FC:
    """--config and --preset, for the group of all commands."""
    command = click.option(
        "--preset", type=click.Choice(list(PRESETS)), help="set of values below the settings file [default: none]"
    )(command)
    return click.option(
        "--config", type=click.Path(path_type=Path), is_eager=True, expose_value=False, callback=read_file,
        help="settings file [default: vividstream.toml in this user's folder of settings]",
    )(command)  # fmt: skip
