"""The socket over which what runs live is told things: who may, and what is refused."""

from __future__ import annotations

import json
import os
import pty
import socket
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engines import IdentityError, SettingError
from streamer.camera.keys import Keys, listening, status_line
from streamer.control import MOST_LINE_BYTES, obey, serve_control, tell


@dataclass
class Told:
    """Remembers what it was told."""

    identities: tuple[str, ...] = ("ada", "bo")
    did: list[tuple[str, object]] = field(default_factory=list)
    engine: str = "proxy"

    def swap_identity(self, name: str) -> None:
        if name not in self.identities:
            raise IdentityError(f'unknown identity "{name}";\nvalid: ada, bo')
        self.did.append(("identity", name))

    def swap_engine(self, name: str) -> None:
        self.did.append(("engine", name))
        self.engine = name

    def pause(self, paused: bool) -> None:
        self.did.append(("standby", paused))

    def numbers(self) -> dict[str, object]:
        age = {"p50": 120.0, "p95": 150.0, "p99": 160.0, "count": 9}
        return {
            "engine": self.engine, "identity": "ada", "readers": 1, "age_ms": age, "fps": 25.0, "showing": "drawn",
            "why_card": "",
        }  # fmt: skip


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def stopped() -> threading.Event:
    return threading.Event()


@pytest.fixture
def path(tmp_path: Path, told: Told, stopped: threading.Event) -> Iterator[Path]:
    with serve_control(tmp_path / "own" / "c.sock", told, stopped.set) as path:
        yield path
    assert not path.exists()


def test_commands_are_done_and_answered(path: Path, told: Told, stopped: threading.Event) -> None:
    assert tell(path, {"do": "identity", "name": "bo"}) == {"ok": True, "identity": "bo"}
    assert tell(path, {"do": "engine", "name": "tiny"}) == {"ok": True, "engine": "tiny"}
    assert tell(path, {"do": "standby", "on": True}) == {"ok": True, "standby": True}
    assert tell(path, {"do": "identities"})["identities"] == ["ada", "bo"]
    assert tell(path, {"do": "status"})["fps"] == 25.0
    assert not stopped.is_set()
    assert tell(path, {"do": "quit"})["ok"]
    assert stopped.is_set()
    assert told.did == [("identity", "bo"), ("engine", "tiny"), ("standby", True)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "one JSON object a line"),
        (b"\xff\xfe", "one JSON object a line"),
        (b"[1]", "valid dictionary"),
        (b'{"do": "fly"}', 'setting "do"'),
        (b'{"do": "status", "naem": "ada"}', 'unknown setting "naem"; did you mean "name"?'),
        (b'{"do": "identity"}', 'needs a "name"'),
        (b'{"do": "identity", "name": 7}', 'setting "name"'),
        (b'{"do": "identity", "name": "' + b"x" * 65 + b'"}', 'setting "name"'),
        (b'{"do": "identity", "name": "eve"}', 'unknown identity "eve"; valid: ada, bo'),
        (b'{"do": "standby", "on": 1}', 'setting "on"'),
        (b'{"do": "standby"}', 'needs "on"'),
    ],
)
def test_what_is_not_a_command_is_refused_in_one_line(told: Told, line: bytes, said: str) -> None:
    answer = obey(told, lambda: None, line)
    assert answer["ok"] is False
    assert said in str(answer["error"])
    assert "\n" not in str(answer["error"])
    assert not told.did


def test_only_this_user_may_connect(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_many_lines_over_one_connection_and_one_that_is_too_long(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b'{"do": "status"}\nnonsense\n{"do": "identities"}\n')
        answers = connection.makefile("rb")
        assert [json.loads(answers.readline())["ok"] for _ in range(3)] == [True, False, True]
        connection.sendall(b"x" * MOST_LINE_BYTES)
        assert b"at most 4096 bytes" in answers.readline()
        assert answers.readline() == b""
    assert tell(path, {"do": "status"})["ok"]


def test_a_place_where_one_is_listening_is_refused_and_one_that_was_left_is_taken(path: Path, told: Told) -> None:
    with pytest.raises(SettingError, match="another one is already running"), serve_control(path, told, lambda: None):
        pass
    left = path.parent / "left.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(left))
    with serve_control(left, told, lambda: None):
        assert tell(left, {"do": "status"})["ok"]
    (path.parent / "file").write_text("mine")
    with pytest.raises(SettingError, match="no socket"), serve_control(path.parent / "file", told, lambda: None):
        pass
    assert (path.parent / "file").read_text() == "mine"


def test_asking_where_nothing_runs_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="start `vividstream camera` first"):
        tell(tmp_path / "none.sock", {"do": "status"})


def test_keys_do_what_the_help_says(told: Told, stopped: threading.Event) -> None:
    said: list[str] = []
    keys = Keys(told, ("proxy", "tiny"), stopped.set, said.append)
    assert keys.help() == "keys: 1 ada, 2 bo, e next engine, space standby, s status, q quit"
    for key in "2e  x9s":
        keys.press(key)
    assert told.did == [("identity", "bo"), ("engine", "tiny"), ("standby", True), ("standby", False)]
    assert said[-1] == "ada by tiny: drawn, 25.0 a second, 120 ms old (95 %: 150); 1 watching"
    keys.press("q")
    assert stopped.is_set()


def test_keys_are_read_from_a_real_terminal_and_it_is_left_as_it_was(told: Told, stopped: threading.Event) -> None:
    import termios

    master, slave = pty.openpty()
    with os.fdopen(slave, "r") as terminal:
        before = termios.tcgetattr(terminal)
        with listening(Keys(told, (), stopped.set, lambda _: None), terminal):
            os.write(master, b"1 q")
            end_s = time.monotonic() + 10
            while not stopped.is_set() and time.monotonic() < end_s:
                time.sleep(0.01)
        assert termios.tcgetattr(terminal) == before
    os.close(master)
    assert stopped.is_set()
    assert told.did == [("identity", "ada"), ("standby", True)]


def test_the_status_line_says_why_there_is_a_card() -> None:
    numbers = Told().numbers() | {"showing": "card", "why_card": "nobody watches", "readers": 0}
    assert "card (nobody watches)" in status_line(numbers)
    assert status_line(numbers).endswith("nobody watches")
