"""Runs checks in a process of their own, so that one that hangs or crashes, in a driver's library say, is only a line.

The child (`python -m streamer.doctor.child`) takes settings and names of checks as JSON, and writes a line of JSON when
it begins a check and one when it is through. Where it dies or is late, the check it was at has failed, and a new child
goes on with the next.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from streamer.doctor.checks import Check
from streamer.doctor.finding import Found, fail, from_json, quoted, warn
from streamer.doctor.settings import DoctorSettings

START_S = 150.0  # a child's imports, on a busy or emulated machine; `limit_s` ends it before
CHILD = (sys.executable, "-m", "streamer.doctor.child")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one check found."""

    name: str
    found: tuple[Found, ...]
    took_s: float


class Crashed(Exception):
    """The child died or said something else than agreed; the message says which."""


def run_fenced(checks: Sequence[Check], config: DoctorSettings, command: Sequence[str] = CHILD) -> Iterator[Answer]:
    """The answer of every check, in order. Takes `config.limit_s` at most; raises nothing of a check's."""
    end_s = time.monotonic() + config.limit_s
    left = list(checks)
    while left:
        with _Child(left, config, command) as child:
            while left:
                check = left.pop(0)
                answer = child.answer(check, end_s)
                yield answer
                if child.over:
                    break


class _Child:
    def __init__(self, checks: Sequence[Check], config: DoctorSettings, command: Sequence[str]) -> None:
        self.over = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed with the child
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=sys.platform != "win32",
        )
        self._lines: queue.Queue[str | None] = queue.Queue(maxsize=1000)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        threading.Thread(target=_pump, args=(self._process.stdout, self._lines), daemon=True).start()
        order = {"config": config.model_dump(mode="json"), "checks": [check.name for check in checks]}
        with suppress(BrokenPipeError):  # it is dead already; `answer` says so
            self._process.stdin.write(json.dumps(order).encode())
            self._process.stdin.close()

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it, and whatever it started (a browser, say)."""
        if sys.platform != "win32":
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._errors.close()

    def answer(self, check: Check, end_s: float) -> Answer:
        """What the check found; or that it did not end, or crashed, and then `over` is true."""
        since_s = time.monotonic()
        again = quoted("vividstream", "doctor", "--only", check.name, "--limit-s", 600)
        if since_s >= end_s:
            self.over = True
            return Answer(check.name, (warn("not looked at: the time was up", again),), 0.0)
        try:
            self._line("begin", min(since_s + START_S, end_s))
            since_s = time.monotonic()
            values = self._line("found", min(since_s + check.limit_s, end_s))
            found = tuple(from_json(one) for one in values)
        except TimeoutError:
            self.over = True
            waited_s = time.monotonic() - since_s
            found = (fail(f"the check did not end within {waited_s:.0f} s", again),)
        except (Crashed, ValueError, KeyError, TypeError) as error:
            self.over = True
            found = (fail(f"the check itself failed: {error}", again),)
        return Answer(check.name, found, time.monotonic() - since_s)

    def _line(self, key: str, until_s: float) -> Any:
        try:
            line = self._lines.get(timeout=max(until_s - time.monotonic(), 0.0))
        except queue.Empty:
            raise TimeoutError from None
        if line is None:
            raise Crashed(self._last_words())
        values = json.loads(line)
        if key not in values:
            raise Crashed(f"{key} was to come, not {line[:80]}")
        return values[key]

    def _last_words(self) -> str:
        """How it ended, and the last line that it wrote."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return f"{how}{': ' + lines[-1][:200] if lines else ''}"


def _pump(stream: IO[bytes], lines: queue.Queue[str | None]) -> None:
    with stream:
        for line in stream:
            lines.put(line.decode(errors="replace"))
    lines.put(None)
