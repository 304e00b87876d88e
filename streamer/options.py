"""Command line options made from settings models, so that a setting exists once and its option says the same."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from engines import StrictModel
from streamer.completion import COMPLETIONS

Command = TypeVar("Command", bound=Callable[..., Any])


class SettingOption(click.Option):
    """An option that a field of a settings model became; the settings file is checked against that field."""

    def __init__(self, *names: Any, model: type[StrictModel], field: str, **rest: Any) -> None:
        super().__init__(*names, shell_complete=COMPLETIONS.get(field), **rest)
        self.model = model
        self.field = field


def options_of(model: type[StrictModel], skip: Collection[str] = ()) -> Callable[[Command], Command]:
    """A decorator that adds one option for each field; fields that are models themselves are left out.

    An option that is not given is passed on as None, and the model's own default holds.
    """

    def add(command: Command) -> Command:
        for name, field in reversed(model.model_fields.items()):
            if name not in skip and not _is_model(field):
                command = _option(model, name, field)(command)
        return command

    return add


def given(values: Mapping[str, object], model: type[StrictModel]) -> dict[str, object]:
    """The values that were given and belong to the model."""
    return {name: value for name, value in values.items() if value is not None and name in model.model_fields}


def ask_for_consent(values: Mapping[str, object]) -> dict[str, object]:
    """The values, and what a consent cannot be without, asked for where somebody sits before a terminal."""
    asked = dict(values)
    if not sys.stdin.isatty():
        return asked
    for name, question, kind in (
        ("who", "Who is on the photos, and agreed", click.STRING),
        ("purpose", "What did they agree to", click.STRING),
        ("age", "What do they state of their age", click.Choice(["adult", "minor"])),
    ):
        if not asked.get(name):
            asked[name] = click.prompt(question, type=kind)
    if asked.get("age") == "minor" and not asked.get("guardian"):
        asked["guardian"] = click.prompt("Which guardian agreed")
    return asked


def _is_model(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, StrictModel)


def _option(model: type[StrictModel], name: str, field: FieldInfo) -> Callable[[Command], Command]:
    flag = "--" + name.replace("_", "-")
    text = field.description or ""
    default = field.get_default()
    rest: dict[str, Any]
    if isinstance(default, bool):
        text += f" [default: {'yes' if default else 'no'}]"
        flag, rest = f"{flag}/--no-{flag[2:]}", {"default": None}
    elif get_origin(field.annotation) is tuple:  # once for each value; by an environment variable between blanks
        rest = {"type": _kind(get_args(field.annotation)[0]), "multiple": True}
    else:
        if default not in (None, "") and not field.is_required():
            text += f" [default: {default}]"
        rest = {"type": _kind(field.annotation), "required": field.is_required()}
    return click.option(flag, name, cls=SettingOption, model=model, field=name, help=text, **rest)


def _kind(annotation: Any) -> click.ParamType[Any]:
    choices = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) is Literal:
        return click.Choice(choices)
    kind = choices[0] if choices else annotation
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    if kind is Path:
        return click.Path(path_type=Path)
    kinds: dict[type, click.ParamType[Any]] = {int: click.INT, float: click.FLOAT, str: click.STRING}
    return kinds[kind]
