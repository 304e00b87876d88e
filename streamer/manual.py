"""`vividstream manual`: man pages, made of what the commands say of themselves."""

from __future__ import annotations

import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path

import click

from engines import SettingError
from streamer.settings_file.presets import PRESETS
from streamer.settings_file.toml import own_file
from streamer.settings_file.tree import settings_of, subcommands, walk

SECTION = "1"
LINE = 78
ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
EXIT_STATUS = (
    ("0", "all is well"),
    ("1", "an error, said in one line"),
    ("2", "a wrong call"),
    ("130", "stopped by Ctrl-C"),
)


def pages(root: click.Command, program: str = "vividstream") -> dict[str, str]:
    """Every page by its file's name: one of the program, one of each command and group."""
    found = {}
    for words, command in walk(root):
        name = "-".join((program, *words))
        found[f"{name}.{SECTION}"] = "\n".join(_page(name, (program, *words), command)) + "\n"
    return found


def _page(name: str, words: tuple[str, ...], command: click.Command) -> Iterator[str]:
    help_text = _paragraphs(command.help or "")
    made_by = f"vividstream {version('vividstream')}"
    yield f'.TH "{_text(name.upper())}" "{SECTION}" "{date.today()}" "{made_by}" "User Commands"'
    yield ".nh"
    yield ".ad l"
    yield ".SH NAME"
    yield f"{_text(name)} \\-"
    yield from _sentences(command.get_short_help_str(200).rstrip("."))
    yield ".SH SYNOPSIS"
    context = click.Context(command, info_name=" ".join(words))
    yield f".B {_text(' '.join(words))}"
    yield from _sentences(" ".join(command.collect_usage_pieces(context)))
    yield ".SH DESCRIPTION"
    for number, paragraph in enumerate(help_text):
        if number:
            yield ".PP"
        yield from _sentences(paragraph)
    yield from _options(words, command)
    below = subcommands(command, words[1:])
    if below:
        yield ".SH COMMANDS"
        for sub, one in below.items():
            yield from _item(f"\\fB{_text(sub)}\\fR", [one.get_short_help_str(200)])
    yield from (_program() if len(words) == 1 else _see_also(words))


def _options(words: tuple[str, ...], command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=" ".join(words))
    settings = {one.option.name: one for one in settings_of(command, words[1:]).values()}
    records = [(one, one.get_help_record(context)) for one in command.get_params(context)]
    shown = [(one, record) for one, record in records if record is not None]
    if shown:
        yield ".SH OPTIONS"
    for option, (flags, text) in shown:
        setting = settings.get(option.name)
        said = [text[:1].upper() + text[1:]]
        if setting is not None and setting.command:
            key = f"In the settings file: {setting.name}. " if setting.may_be_in_a_file else ""
            said.append(f"{key}Variable: {setting.variable}.")
        yield from _item(_flags(flags), said)


def _program() -> Iterator[str]:
    yield ".SH PRESETS"
    for name, preset in PRESETS.items():
        values = ", ".join(f"{key} {value}" for part in preset.values.values() for key, value in part.items())
        yield from _item(f"\\fB{_text(name)}\\fR", [f"{preset.what}: {values}."])
    yield ".SH FILES"
    yield from _item(f"\\fI{_text(_home(own_file()))}\\fR", ["Settings of all commands; see vividstream config."])
    yield ".SH ENVIRONMENT"
    yield from _item(
        "\\fBVIVIDSTREAM_\\fICOMMAND\\fB_\\fISETTING\\fR",
        ["Any setting of any command; over the settings file, under the flags. Each is named on its command's page."],
    )
    yield ".SH EXIT STATUS"
    for status, meaning in EXIT_STATUS:
        yield from _item(f"\\fB{status}\\fR", [meaning[:1].upper() + meaning[1:] + "."])


def _see_also(words: tuple[str, ...]) -> Iterator[str]:
    yield ".SH SEE ALSO"
    above = ["-".join(words[:length]) for length in range(1, len(words))]
    yield ",\n".join(f".BR {_text(name)} ({SECTION})" for name in above).replace(",\n", " ,\n")


def _home(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return str(path)


def _item(head: str, paragraphs: list[str]) -> Iterator[str]:
    yield ".TP"
    yield head
    for number, paragraph in enumerate(paragraphs):
        if number:
            yield ".br"
        yield from _sentences(paragraph)


def _flags(flags: str) -> str:
    bold = re.sub(r"(?<!\w)((?:\\-){1,2}\w(?:\w|\\-)*)", r"\\fB\1\\fR", _text(flags))
    return bold.replace("|", "|\\:")  # where a long list of choices may be broken


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def _sentences(paragraph: str) -> Iterator[str]:
    """A line for each sentence, as roff wants it."""
    for sentence in re.split(r"(?<=[.!?]) +", paragraph.strip()):
        for line in textwrap.wrap(_text(sentence), LINE, break_long_words=False, break_on_hyphens=False):
            yield f"\\&{line}" if line[0] in ".'" or line.startswith("\\(aq") else line


def _text(text: str) -> str:
    return "".join(ESCAPES.get(letter, letter) for letter in " ".join(text.split()))


@click.command("manual", short_help="Write man pages into a folder.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.pass_context
def manual_command(context: click.Context, folder: Path) -> None:
    """Write man pages into FOLDER: vividstream.1, and one of each command.

    They are made of what is installed, so commands of other packages have theirs too. For everybody FOLDER is
    /usr/local/share/man/man1; for one person ~/.local/share/man/man1, where man looks once ~/.local/bin is in PATH.
    """
    written: Mapping[str, str] = pages(context.find_root().command)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in written.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{error.filename or folder} cannot be written: {error.strerror}") from error
    click.echo(f"{folder}: {len(written)} pages; `{how_to_read(folder)}` shows the first")


def how_to_read(folder: Path) -> str:
    """The command that shows a page of this folder, as man finds it here."""
    above = folder.resolve().parent
    try:
        ran = subprocess.run(["manpath", "-q"], capture_output=True, text=True, timeout=5, check=False)
        places = [Path(one).resolve() for one in ran.stdout.strip().split(":") if one]
    except (OSError, subprocess.TimeoutExpired):
        places = []
    return "man vividstream" if above in places else shlex.join(["man", "-M", str(above), "vividstream"])
