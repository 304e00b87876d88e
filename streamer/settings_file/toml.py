"""Reading the file, and on which line everything in it stands."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import user_config_path

from engines import SettingError

NAME = "vividstream.toml"
MOST_BYTES = 1 << 20
SECRET_ENDS = ("token", "secret", "password", "passphrase")
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")

Where = tuple[str, ...]  # ("serve", "port")


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """What a file says. `path` None: there is none, and nothing is said."""

    path: Path | None = None
    values: Mapping[str, object] = field(default_factory=dict)
    lines: Mapping[Where, int] = field(default_factory=dict)

    def place(self, where: Where) -> str:
        """`FILE, line 7`; the line of what surrounds it where it has none of its own."""
        for length in range(len(where), 0, -1):
            if where[:length] in self.lines:
                return f"{self.path}, line {self.lines[where[:length]]}"
        return str(self.path)

    def warnings(self) -> list[str]:
        """What others of this machine can do with the file and should not."""
        if self.path is None or os.name != "posix":
            return []
        try:
            mode = self.path.stat().st_mode
        except OSError:
            return []
        if not stat.S_ISREG(mode):
            return []
        said = []
        secrets = [".".join(where) for where, value in leaves(self.values) if value and is_secret(where[-1])]
        if secrets and mode & 0o077:
            said.append(f"{self.path} holds a secret ({secrets[0]}) that others can read: chmod 600 {self.path}")
        if mode & 0o002:
            said.append(f"{self.path} can be changed by everybody on this machine: chmod 600 {self.path}")
        return said


def is_secret(name: str) -> bool:
    """Whether a setting of that name is something that nobody else should read."""
    return name.split("_")[-1] in SECRET_ENDS


def own_file() -> Path:
    """Where this user's file lies, if there is one."""
    return user_config_path("vividstream", appauthor=False) / NAME


def find(asked_for: Path | None) -> SettingsFile:
    """The file that was asked for, else the user's own, else none.

    Not the one of the current folder: a folder that came from somebody else could then switch the label off or put
    another identity in place, without a word on the command line. Raises SettingError.
    """
    if asked_for is not None:
        return read(asked_for)
    path = own_file()
    return read(path) if path.exists() else SettingsFile()


def lies_unread(asked_for: Path | None) -> bool:
    """Whether the current folder has a file of that name that somebody may expect to be read."""
    here = Path(NAME)
    return asked_for is None and here.is_file() and here.resolve() != own_file().resolve()


def read(path: Path) -> SettingsFile:
    """Raises SettingError: no such file, not UTF-8, not TOML."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise SettingError(f"{path}: no such settings file; `vividstream config init` writes an example") from error
    except OSError as error:
        raise SettingError(f"{path}: the settings file cannot be read: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise SettingError(f"{path}: larger than 1 MiB; this is no settings file")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SettingError(f"{path}, line {line}: not UTF-8; save the file as UTF-8 text") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _PLACE.search(str(error))
        line = int(found[1]) if found and found[1] else text.count("\n") + 1
        raise SettingError(f"{path}, line {line}: not TOML: {_PLACE.sub('', str(error))}") from error
    except RecursionError as error:
        raise SettingError(f"{path}: nested too deeply; this is no settings file") from error
    lines: dict[Where, int] = {}
    for where, number in line_numbers(text):
        lines.setdefault(where, number)
    return SettingsFile(path, values, lines)


def line_numbers(text: str) -> Iterator[tuple[Where, int]]:
    """Where every section and every key of a valid document is named, by tomllib itself; a section more than once.

    A statement is as many lines as it takes until they are TOML on their own.
    """
    header: Where = ()
    statement: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        statement.append(line)
        try:
            parsed = tomllib.loads("\n".join(statement))
        except tomllib.TOMLDecodeError:
            continue
        first = number - len(statement) + 1
        is_header = statement[0].lstrip().startswith("[")
        statement = []
        if is_header:
            header = next(branches(parsed), ())
            yield from ((header[:length], first) for length in range(1, len(header) + 1))
        else:
            yield from ((header + where, first) for where in branches(parsed))


def branches(values: Mapping[str, object], above: Where = ()) -> Iterator[Where]:
    """Every key and section, the deepest first."""
    for key, value in values.items():
        where = (*above, key)
        inner = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else value
        if isinstance(inner, dict):
            yield from branches(inner, where)
        yield where


def leaves(values: Mapping[str, object], above: Where = ()) -> Iterator[tuple[Where, object]]:
    """Every key that is no section, with its value."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value
