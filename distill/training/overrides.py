"""`key=value` on the command line: a new configuration with some fields changed, by dotted paths."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from engines import SettingError, StrictModel, nearest

Config = TypeVar("Config", bound=StrictModel)
WORDS: Mapping[str, Any] = {"yes": True, "no": False, "none": None}


def changed(config: Config, overrides: Iterable[str]) -> Config:
    """`train.steps=100`, `stage.method=lcm`, `train.averages=[0.99,0.999]`, `train.factors.student.middle=0.1`.

    Values are JSON, or yes, no, none, or plain text. Raises SettingError that names the nearest field, or what is wrong
    with a value.
    """
    values = config.model_dump(mode="json")
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path:
            raise SettingError(f'"{override}" is no key=value, such as train.steps=100')
        _set(config, values, path, _value(text))
    return read(type(config), values)


def read(model: type[Config], values: Mapping[str, Any]) -> Config:
    """From JSON's values. Raises SettingError of one line."""
    try:
        return model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors()[0]
        kind = values.get("stage", {}).get("kind")  # stands in the place as well, since it says which model it is
        path = ".".join(str(part) for n, part in enumerate(first["loc"]) if (n, part) != (1, kind))
        raise SettingError(f"{path}: {first['msg']}; it was given {first['input']!r}") from error


def _set(model: Any, values: Any, path: str, value: Any) -> None:
    """Goes down the model and what it is as JSON side by side; below a table of free names the rest is one name."""
    rest, here = path, ""
    while True:
        if not isinstance(model, BaseModel):
            if isinstance(model, Mapping):
                values[rest] = value
                return
            raise SettingError(f'unknown setting "{path}": {here.rstrip(".")} has no parts; it is {model!r}')
        name, dot, below = rest.partition(".")
        fields = type(model).model_fields
        if name not in fields:
            raise SettingError(f'unknown setting "{path}"; {nearest(here + name, [here + one for one in fields])}')
        if not dot:
            values[name] = value
            return
        model, values, rest, here = getattr(model, name), values[name], below, f"{here}{name}."


def _value(text: str) -> Any:
    if text in WORDS:
        return WORDS[text]
    try:
        return json.loads(text)
    except ValueError:
        return text
