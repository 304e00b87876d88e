"""`vividstream config init`: every setting there is, as a comment, with its default and what it takes."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence

import click

from streamer.settings_file.check import expected
from streamer.settings_file.presets import PRESETS
from streamer.settings_file.toml import own_file
from streamer.settings_file.tree import SHARED, Setting, settings_of, walk

WIDTH = 118
HEAD = """\
vividstream's settings. What is commented out shows the default; a line `# key =` has none.
Below: presets. Above: environment variables (VIVIDSTREAM_SERVE_PORT), and flags (--port) over them.
`vividstream config check` looks for mistakes, `vividstream config show` says what holds and why.
Relative paths lie beside this file. Read from {path}, or from --config FILE.
"""


def example(root: click.Command, only: Sequence[str] = ()) -> str:
    """The whole file, or the sections of these commands. All of it is comments and section names."""
    commands = [(words, one) for words, one in walk(root) if words and (not only or words[0] in only)]
    lines = [*_comment(HEAD.format(path=own_file())), ""]
    for setting in settings_of(root, ()).values():
        lines += _setting(setting)
        if setting.name == "preset":
            lines += [f"#   {name}: {preset.what}" for name, preset in PRESETS.items()]
    for section in SHARED:
        sharing = {words: settings for words, one in commands if (settings := _of(section, words, one))}
        if sharing:
            names = ", ".join(" ".join(words) for words in sharing)
            lines += ["", *_comment(f"Settings of {names}; what stands in their own sections wins."), f"[{section}]"]
            lines += [line for setting in next(iter(sharing.values())) for line in _setting(setting)]
    for words, command in commands:
        own = _of(None, words, command)
        if own:
            summary = command.get_short_help_str(WIDTH)
            lines += ["", *_comment(f"vividstream {' '.join(words)}: {summary}"), f"[{'.'.join(words)}]"]
            lines += [line for setting in own for line in _setting(setting)]
    return "\n".join(lines) + "\n"


def written(value: object) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(written(one) for one in value)}]"
    return json.dumps(str(value), ensure_ascii=False)  # TOML's basic strings have JSON's escapes


def _of(section: str | None, words: tuple[str, ...], command: click.Command) -> list[Setting]:
    settings = settings_of(command, words).values()
    return [one for one in settings if one.shared == section and one.may_be_in_a_file]


def _setting(setting: Setting) -> Iterator[str]:
    text = " ".join((setting.option.help or "").split("[default:")[0].split())
    yield ""
    yield from _comment(f"{text}; {expected(setting)}")
    yield f"# {setting.name} =" if setting.default in (None, ()) else f"# {setting.name} = {written(setting.default)}"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for part in text.splitlines() for line in textwrap.wrap(part, WIDTH, break_on_hyphens=False)]
