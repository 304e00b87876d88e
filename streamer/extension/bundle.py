"""Modules to one script: content scripts cannot be modules, and a call's code is the page client's own.

It knows the few forms of import and export that these sources use, and refuses any other.
"""

from __future__ import annotations

import re
from pathlib import Path

IMPORT = re.compile(r'^import \{ (?P<names>[\w, ]+) \} from "(?P<path>[\w./-]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (?P<name>\w+))", re.MULTILINE)
LEFT = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)


def bundle(entry: Path, static: Path) -> str:
    """One classic script of the module `entry` and all that it imports.

    static  where `/static/...` lies. Raises ValueError for a form that is not known here.
    """
    done: dict[Path, str] = {}
    _add(entry.resolve(), static, done)
    body = "\n".join(done.values())
    return f'// Made of several modules by `vividstream extension`.\n(() => {{\n"use strict";\n{body}}})();\n'


def _add(path: Path, static: Path, done: dict[Path, str]) -> None:
    text = path.read_text(encoding="utf-8")
    imports = list(IMPORT.finditer(text))
    lines = []
    for found in imports:
        other = _place(found["path"], path, static)
        if other not in done:
            _add(other, static, done)
        lines.append(f"const {{ {found['names']} }} = {_name(other)};\n")
    names = [found["name"] for found in EXPORT.finditer(text)]
    text = EXPORT.sub("", IMPORT.sub("", text))
    if (left := LEFT.search(text)) is not None:
        raise ValueError(f"{path.name}: {left.group()}")
    exported = f"return {{ {', '.join(names)} }};\n" if names else ""
    done[path] = f"const {_name(path)} = (() => {{\n{''.join(lines)}{text}{exported}}})();\n"


def _place(imported: str, by: Path, static: Path) -> Path:
    if imported.startswith("/static/"):
        return (static / imported.removeprefix("/static/")).resolve()
    return (by.parent / imported).resolve()


def _name(path: Path) -> str:
    return "module_" + re.sub(r"\W", "_", path.stem)
