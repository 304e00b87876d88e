"""Man pages: of every command and option there is, and nothing that man or mandoc has something against."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from streamer import cli
from streamer.manual import pages
from streamer.settings_file.presets import PRESETS
from streamer.settings_file.tree import walk
from tests.conftest import lacking


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("man") / "man1"
    cli.main(["manual", str(made)])
    return made


def test_every_command_has_a_page_with_all_its_options(folder: Path) -> None:
    commands = dict(walk(cli.vividstream))
    assert {path.name for path in folder.iterdir()} == {"-".join(("vividstream", *words)) + ".1" for words in commands}
    for words, command in commands.items():
        text = (folder / ("-".join(("vividstream", *words)) + ".1")).read_text(encoding="utf-8")
        plain = re.sub(r"\\f[BRI]|\\:", "", text).replace("\\-", "-")
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert max(option.opts, key=len) in plain, f"{words} {option.name}"
        for name in command.list_commands(click.Context(command)) if isinstance(command, click.Group) else ():
            assert f"\n{name}\n" in plain, f"{words} {name}"


def test_the_first_page_has_the_presets_and_the_files(folder: Path) -> None:
    text = (folder / "vividstream.1").read_text(encoding="utf-8")
    for word in (*PRESETS, "vividstream.toml", "EXIT STATUS"):
        assert word.replace("-", "\\-") in text


def test_words_that_roff_would_take_for_its_own() -> None:
    @click.group()
    def odd() -> None:
        """'tis a \\fB back-slash. .So is this. 'q ~ ^ `x`"""

    page = pages(odd, "odd")["odd.1"]
    assert "\\efB" in page
    assert not re.search(r"^[.'](?![A-Z]{1,2}\b|nh|ad|br)", page, re.MULTILINE)


@pytest.mark.parametrize("program", ["mandoc", "man"])
def test_nothing_is_warned_of(program: str, folder: Path) -> None:
    if shutil.which(program) is None:
        lacking(program)
    files = sorted(str(path) for path in folder.iterdir())
    if program == "mandoc":
        done = subprocess.run(["mandoc", "-Tlint", *files], capture_output=True, text=True, timeout=100)
        assert (done.stdout + done.stderr, done.returncode) == ("", 0)
        return
    for file in ("vividstream.1", "vividstream-serve.1", "vividstream-engines-import.1"):
        done = subprocess.run(
            ["man", "--warnings", "-l", str(folder / file)], capture_output=True, text=True, timeout=60,
            env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "MANWIDTH": "80"},
        )  # fmt: skip
        assert (done.stderr, done.returncode) == ("", 0)
        assert "VIVIDSTREAM" in done.stdout


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        cli.main(["manual", str(tmp_path / "file" / "man1")])
    assert "cannot be written" in capsys.readouterr().err


def test_the_command_that_it_names_shows_the_page(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if shutil.which("man") is None:
        lacking("man")
    cli.main(["manual", str(tmp_path / "man1")])
    told = re.search("`(.*)`", capfd.readouterr().out)
    assert told is not None
    shown = subprocess.run(
        shlex.split(told[1]), capture_output=True, text=True, timeout=60, env={**os.environ, "MANPAGER": "cat"}
    )
    assert "VIVIDSTREAM" in shown.stdout, shown.stderr
