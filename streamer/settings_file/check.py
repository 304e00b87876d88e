"""One value of the file against the setting that it is for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from engines import SettingError
from streamer.options import SettingOption
from streamer.settings_file.tree import Setting

SHOWN_CHARACTERS = 60
KINDS: dict[type, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "a section",
}  # fmt: skip
LIMITS = {"ge": "{} or more", "gt": "above {}", "le": "{} at most", "lt": "below {}", "multiple_of": "a multiple of {}"}
LENGTHS = {"min_length": "{} characters or more", "max_length": "{} characters at most"}


def value_of(setting: Setting, raw: object, base: Path | None) -> object:
    """The value as the command takes it. Relative paths lie beside the file, in `base`.

    Raises SettingError that says what is expected; the caller knows the line.
    """
    option = setting.option
    several = option.multiple or option.nargs != 1
    if several and not isinstance(raw, list):
        raise SettingError(f"must be {expected(setting)}, not {shown(raw)}")
    parts = raw if several and isinstance(raw, list) else [raw]
    for part in parts:
        if not _fits(option, part):
            raise SettingError(f"must be {expected(setting)}, not {shown(part)}")
    if isinstance(option.type, (click.Path, click.File)):
        parts = [_path(part, base) for part in parts]
    value: object = tuple(parts) if several else parts[0]
    try:
        converted = option.type_cast_value(click.Context(click.Command("config")), value)
    except click.BadParameter as error:
        if isinstance(option.type, (click.Choice, type(click.INT), type(click.FLOAT))):
            raise SettingError(f"must be {expected(setting)}, not {_plainly(raw)}") from error
        raise SettingError(f"is not right: {error.message.rstrip('.')}") from error
    if isinstance(option, SettingOption):
        _hold_against_model(setting, option, converted, raw)
    return value


def expected(setting: Setting) -> str:
    """In words, what values the setting takes."""
    option, kind = setting.option, setting.option.type
    if isinstance(kind, click.Choice):
        words = "one of " + ", ".join(_plainly(choice) for choice in kind.choices)
    elif isinstance(kind, (click.Path, click.File)):
        words = "a path in quotes"
    else:
        words = KINDS.get(_python_kind(option), "a text")
    limits = _limits(setting)
    words += f" ({limits})" if limits else ""
    return f"a list of values in [ ], each {words}" if option.multiple or option.nargs != 1 else words


def shown(value: object) -> str:
    """A value of the file for a sentence: its kind, and what was written."""
    kind = KINDS.get(type(value), "a date")
    return kind if isinstance(value, (list, dict)) else f"{kind}: {_plainly(value)}"


def _plainly(value: object) -> str:
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    text = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
    return f'"{text}"' if isinstance(value, str) else text


def _python_kind(option: click.Option) -> type:
    if option.count or isinstance(option.type, type(click.INT)):
        return int
    if isinstance(option.type, type(click.FLOAT)):
        return float
    return bool if isinstance(option.type, type(click.BOOL)) else str


def _fits(option: click.Option, part: object) -> bool:
    if isinstance(option.type, click.Choice):
        return type(part) in {type(choice) for choice in option.type.choices}
    kind = _python_kind(option)
    if kind is float:
        return isinstance(part, (int, float)) and not isinstance(part, bool) and math.isfinite(part)
    return type(part) is kind


def _path(text: object, base: Path | None) -> str:
    path = Path(str(text)).expanduser()
    return str(path if base is None else base / path)


def _hold_against_model(setting: Setting, option: SettingOption, value: object, raw: object) -> None:
    """Raises SettingError for what the model has against this one value, whatever else it lacks."""
    try:
        option.model.model_validate({option.field: value})
    except ValidationError as error:
        for one in error.errors():
            if one["loc"][:1] != (option.field,):
                continue
            if one["type"] == "value_error":  # the model's own words
                raise SettingError(f"is not right: {one['msg'].removeprefix('Value error, ')}") from error
            meant = f"; {(option.help or '').split(' [default')[0]}" if one["type"] == "string_pattern_mismatch" else ""
            raise SettingError(f"must be {expected(setting)}, not {_plainly(raw)}{meant}") from error


def _limits(setting: Setting) -> str:
    kind = setting.option.type
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        return _range(kind.min, kind.max, ())
    if not isinstance(setting.option, SettingOption):
        return ""
    of_text = _python_kind(setting.option) is str and not setting.option.multiple
    names = (*LIMITS, *LENGTHS) if of_text else tuple(LIMITS)
    metadata = setting.option.model.model_fields[setting.option.field].metadata
    said = {name: getattr(one, name) for one in metadata for name in names if hasattr(one, name)}
    low, high = said.pop("ge", None), said.pop("le", None)
    return _range(low, high, ({**LIMITS, **LENGTHS}[name].format(value) for name, value in said.items()))


def _range(low: Any, high: Any, further: Iterable[str]) -> str:
    if low is not None and high is not None:
        words = [f"{low} to {high}"]
    else:
        words = [LIMITS[name].format(value) for name, value in (("ge", low), ("le", high)) if value is not None]
    return ", ".join([*words, *further])
