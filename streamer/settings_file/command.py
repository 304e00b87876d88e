"""`vividstream config`: what holds and why, an example file, and a check."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from engines import SettingError
from streamer.settings_file import effective
from streamer.settings_file.effective import Effective
from streamer.settings_file.example import example, written
from streamer.settings_file.layers import Words, check_shared, of_command
from streamer.settings_file.state import State, state_of
from streamer.settings_file.toml import own_file
from streamer.settings_file.tree import walk


@click.group(
    "config",
    context_settings={"help_option_names": ["-h", "--help"]},
    short_help="The settings file: what holds, an example, mistakes.",
)
def config_group() -> None:
    """The settings file vividstream.toml: what holds, an example, and a check."""


@config_group.command("show", context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.option("--all", "everything", is_flag=True, help="also what is at its default, of every command")
@click.pass_context
def show_command(context: click.Context, command: tuple[str, ...], as_json: bool, everything: bool) -> None:
    """Show what holds for COMMAND and where each value comes from; secrets are hidden.

    Without COMMAND: whatever is not at its default, of every command. After COMMAND, its flags may follow, after --:
    `vividstream config show serve -- --port 9000` shows what that call would have.
    """
    root, state = context.find_root(), state_of(context)
    words, found, flags = effective.find(root.command, command)
    if words:
        chosen = [(words, found)]
    elif flags:
        raise SettingError(f"{flags[0]} is no option of `config show`; which command is it of?")
    else:
        chosen = list(walk(root.command))[1:]
    held: dict[Words, list[Effective]] = {(): effective.of_root(root, state.layers)}
    held |= {path: effective.of(root, path, state.file, state.preset, flags) for path, _ in chosen}
    if not words and not everything:
        held = {path: [one for one in settings if not one.is_default] for path, settings in held.items()}
    if as_json:
        click.echo(json.dumps(_as_json(state, held), indent=1))
        return
    click.echo(f"file: {state.file.path or f'none ({own_file()} does not exist)'}")
    for path, settings in held.items():
        if settings:
            click.echo(f"\n[{'.'.join(path)}]" if path else "")
            _print(settings)


@config_group.command("check")
@click.pass_context
def check_command(context: click.Context) -> None:
    """Check the whole file, and what the environment sets, for every command there is.

    Says every mistake with its line; the exit status is 1 if there is one.
    """
    root, state = context.find_root(), state_of(context)
    problems, values = [*state.layers.problems, *check_shared(state.file)], 0
    for words, command in walk(root.command):
        if not words:
            continue
        if len(words) == 1:
            problems += of_command(words, command, state.file, state.preset).problems
        if not problems:
            held = effective.of(root, words, state.file, state.preset, ())
            problems += [f"{one.problem}" for one in held if one.problem]
            problems += [f"{state.file.path}: [{'.'.join(words)}] {text}" for text in _together(held)]
            values += sum(not one.is_default for one in held)
    for problem in dict.fromkeys(problems):
        click.echo(problem, err=True)
    if problems:
        sys.exit(1)
    click.echo(f"{state.file.path or 'no settings file'}: no mistake; {values} settings differ from their defaults")


@config_group.command("init")
@click.argument("command", nargs=-1)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="file to write [default: this user's own]; - prints it"
)
@click.option("--overwrite", is_flag=True, help="replace a file that exists")
@click.pass_context
def init_command(context: click.Context, command: tuple[str, ...], output: Path | None, overwrite: bool) -> None:
    """Write an example file in which every setting is explained, and changed nowhere.

    With COMMANDs: only their sections.
    """
    root = context.find_root().command
    for name in command:
        effective.find(root, [name])
    text = example(root, command)
    if output is not None and str(output) == "-":
        click.echo(text, nl=False)
        return
    path = output or own_file()
    _write(path, text, overwrite)
    click.echo(str(path))


def _write(path: Path, text: str, overwrite: bool) -> None:
    """For this user's eyes only: secrets will be written into it."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_EXCL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise SettingError(f"{path} exists; --overwrite replaces it, -o - prints the example instead") from error
    except OSError as error:
        raise SettingError(f"{path} cannot be written: {error.strerror}; -o names another file") from error


def _together(held: Sequence[Effective]) -> list[str]:
    """What the settings models have against values that are each possible, but not together."""
    models = {one.setting.model for one in held if one.setting.model is not None and not one.is_default}
    problems = []
    for model in models:
        values = {
            one.setting.option.name: one.value
            for one in held
            if one.setting.model is model and not one.is_default and one.problem is None
        }
        try:
            model.read(values)
        except SettingError as error:
            if not str(error).startswith('setting "'):
                problems.append(str(error))
    return problems


def _as_json(state: State, held: Mapping[Words, Sequence[Effective]]) -> dict[str, object]:
    return {
        "file": str(state.file.path) if state.file.path else None,
        "preset": state.preset,
        "commands": {
            " ".join(path): {one.setting.name: {"value": _plain(one.public), "from": one.origin} for one in settings}
            for path, settings in held.items()
        },
    }


def _plain(value: object) -> object:
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _print(settings: Sequence[Effective]) -> None:
    rows = [(one.setting.name, "" if one.public is None else written(one.public), one.origin) for one in settings]
    names, values = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, value, origin in rows:
        click.echo(f"{name:<{names}} = {value:<{min(values, 60)}}  # {origin}")
