"""Completion: what is offered, and the Tab key pressed in a real bash, zsh and fish."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from streamer import cli
from streamer.completion import PROGRAM, SHELLS, VARIABLE, place_of
from tests.conftest import lacking

LONGEST_S = 60.0
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
SET_UP = {
    "bash": 'PS1="ready> "; bind "set completion-query-items 0"; eval "$(vividstream completion bash)"',
    "zsh": 'PROMPT="ready> "; autoload -Uz compinit; compinit -u -D; eval "$(vividstream completion zsh)"',
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's folder with two identities, and this program in PATH."""
    store = tmp_path / "data" / "vividstream" / "identities"
    store.mkdir(parents=True)
    for name in ("ada", "grace"):
        (store / f"{name}.safetensors").touch()
    for variable, folder in (("HOME", ""), ("XDG_DATA_HOME", "data"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("BASH_COMPLETION_USER_DIR", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "some", "never"),
    [
        ("ident", {"identities"}, {"serve"}),
        ("engines v", {"verify"}, set()),
        ("serve --max-f", {"--max-faces"}, {"--host"}),
        ("serve --tone ", {"identity", "driver", "mix"}, set()),
        ("file --engine p", {"proxy", "passthrough"}, {"auto"}),
        ("serve --identity ", {"ada", "grace"}, set()),
        ("serve --identities-dir /nowhere --identity a", set(), {"ada"}),
        ("consent show g", {"grace"}, {"ada"}),
        ("--preset ", {"low-latency", "quality", "laptop"}, set()),
    ],
)
def test_what_is_offered(line: str, some: set[str], never: set[str]) -> None:
    words = line.split(" ")
    asked = BashComplete(cli.vividstream, {"auto_envvar_prefix": "VIVIDSTREAM"}, PROGRAM, VARIABLE)
    offered = {item.value for item in asked.get_completions(words[:-1], words[-1])}
    assert some <= offered
    assert not never & offered


def test_the_tab_key_waits_for_nothing_heavy() -> None:
    """All commands with their help lines, as at `vividstream <Tab>` in zsh, and names of identities."""
    heavy = ("numpy", "numba", "scipy", "PIL", "cryptography", "av", "aiohttp", "asyncio", "torch")
    code = (
        "import sys; from streamer import cli; from click.shell_completion import ZshComplete;"
        "asked = ZshComplete(cli.vividstream, {}, 'vividstream', 'X'); offered = asked.get_completions([], '');"
        "assert all(item.help for item in offered), offered;"
        "assert asked.get_completions(['serve', '--identity'], 'a');"
        f"print(len(offered), [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    number, _, found = done.stdout.strip().partition(" ")
    assert (int(number) >= 20, found) == (True, "[]")


def test_nothing_is_offered_and_nothing_said_of_a_broken_store(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(home / "data" / "vividstream")
    (home / "data" / "vividstream").touch()
    test_what_is_offered("serve --identity a", set(), {"ada"})
    assert capfd.readouterr() == ("", "")


class Terminal:
    """A shell in a pseudo-terminal, as a person sits before it."""

    def __init__(self, shell: str) -> None:
        self._process, self._end = pty.fork()
        if self._process == 0:
            os.environ["TERM"] = "dumb" if shell == "bash" else "xterm"
            os.execvp(START[shell][0], START[shell])
        self._seen = ""
        self.type(SET_UP[shell] + "\n")
        self.type("echo set''up\n")
        self.wait_for("setup")

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def wait_for(self, text: str) -> None:
        """Until the shell has written the text, after what was waited for last."""
        until_s = time.monotonic() + LONGEST_S
        while text not in self._seen:
            assert time.monotonic() < until_s, f"{text!r} is not in {self._seen[-500:]!r}"
            if select.select([self._end], [], [], 0.2)[0]:
                self._seen += os.read(self._end, 65_536).decode(errors="replace")
        self._seen = self._seen.split(text, 1)[1]

    def close(self) -> None:
        os.close(self._end)
        os.waitpid(self._process, 0)


def asked_in(shell: str, *questions: tuple[str, str]) -> None:
    """Each question is typed with Tab, and the shell has to write the rest of the word."""
    if shutil.which(shell) is None:
        lacking(shell)
    terminal = Terminal(shell)
    try:
        for typed, written in questions:
            terminal.type(f"\x15{typed}\t")
            terminal.wait_for(typed)
            terminal.wait_for(written)
    finally:
        terminal.close()


def test_the_tab_key_in_bash() -> None:
    asked_in("bash", ("vividstream serve --identity g", "race"))


@pytest.mark.long
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_tab_key_for_all_kinds_of_words(shell: str) -> None:
    options = ("vividstream serve --max-f", "aces"), ("vividstream file --engine pro", "xy")
    asked_in(shell, ("vividstream ident", "ities"), ("vividstream serve --identity g", "race"), *options)


@pytest.mark.long
def test_the_tab_key_in_fish() -> None:
    if shutil.which("fish") is None:
        lacking("fish")
    cli.main(["completion", "fish", "--install"])
    asked = "complete -C 'vividstream serve --identity '; complete -C 'vividstream ident'"
    done = subprocess.run(["fish", "-c", asked], capture_output=True, text=True, timeout=LONGEST_S, check=True)
    offered = {line.split("\t")[0] for line in done.stdout.splitlines()}
    assert {"ada", "grace", "identities"} <= offered


@pytest.mark.parametrize("shell", SHELLS)
def test_install_writes_where_the_shell_looks(shell: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["completion", shell, "--install"])
    place = place_of(shell)
    assert place.is_relative_to(home)
    assert VARIABLE in place.read_text(encoding="utf-8")
    assert capsys.readouterr().out.startswith(str(place))


def test_the_login_shell_is_taken_where_none_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    cli.main(["completion"])
    assert "complete --no-files" in capsys.readouterr().out
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    with pytest.raises(SystemExit):
        cli.main(["completion"])
    assert capsys.readouterr().err == "error: which shell? `vividstream completion bash|zsh|fish`\n"


def test_a_place_that_cannot_be_written_is_one_sentence(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "data" / "zsh").touch()
    with pytest.raises(SystemExit):
        cli.main(["completion", "zsh", "--install"])
    assert "cannot be written" in capsys.readouterr().err
