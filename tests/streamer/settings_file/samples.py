"""Two values of every setting there is, found by what the setting takes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click

from engines import SettingError
from streamer.settings_file.check import value_of
from streamer.settings_file.tree import Setting, walk

TEXTS = (
    "a-text-of-one", "a-text-of-two", "cpu", "cuda", "50000-50099", "50100-50199", "http://one.example",
    "http://two.example", "https://one.example", "https://two.example", "192.0.2.1", "192.0.2.2", "640x480",
    "320x240", "1", "2",
)  # fmt: skip
NUMBERS = (1, 2, 3, 64, 128, 256, 512, 500, 1000, 4000, 0.5, 0.25, 1.5, 1500, 1025)


@cache
def samples(setting: Setting, folder: Path) -> list[object]:
    """Up to two different values, each of which the setting takes; for a list, each alone in one."""
    found: list[object] = []
    for candidate in candidates(setting.option, folder):
        value = [candidate] if setting.option.multiple or setting.option.nargs != 1 else candidate
        try:
            value_of(setting, value, folder)
        except SettingError:
            continue
        if value not in found:
            found.append(value)
        if len(found) == 2:
            break
    return found


def candidates(option: click.Option, folder: Path) -> Iterator[object]:
    if isinstance(option.type, click.Choice):
        yield from option.type.choices
    elif isinstance(option.type, click.Path):
        for name in ("one", "two"):
            yield str(folder / f"folder-{name}")
            yield str(folder / f"file-{name}")
    elif isinstance(option.type, type(click.BOOL)):
        yield from (True, False)
    else:
        yield from TEXTS
        yield from NUMBERS


def fill(folder: Path) -> None:
    """Files and folders that paths may have to lead to."""
    for name in ("one", "two"):
        (folder / f"folder-{name}").mkdir()
        (folder / f"file-{name}").write_text(name, encoding="utf-8")


def argument(parameter: click.Argument, folder: Path) -> str:
    """Something that the argument takes."""
    if isinstance(parameter.type, click.Choice):
        return str(parameter.type.choices[0])
    if isinstance(parameter.type, click.Path):
        return str(folder / ("folder-one" if not parameter.type.file_okay else "file-one"))
    return "1"


def commands(root: click.Command) -> dict[tuple[str, ...], click.Command]:
    """Every command that does something, by its words."""
    return {words: one for words, one in walk(root) if words and not isinstance(one, click.Group)}
