"""The line that says how far a long command is: redrawn on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

import click

TERMINAL_EVERY_S, LINE_EVERY_S = 0.2, 10.0
BAR_CELLS = 24


class ProgressLine:
    """Ask `is_due` as often as you like; make the words only when it is."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._start_s = self._shown_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._start_s

    def is_due(self) -> bool:
        """Whether enough time has passed since the last line; counts this one as shown."""
        now_s = time.monotonic()
        if now_s - self._shown_s < (TERMINAL_EVERY_S if self._terminal else LINE_EVERY_S):
            return False
        self._shown_s = now_s
        return True

    def show(self, line: str) -> None:
        """Takes the last line's place on a terminal."""
        click.echo(f"\r{line:78}" if self._terminal else line, err=True, nl=not self._terminal)

    def end(self) -> None:
        """Leaves the line."""
        if self._terminal:
            click.echo("", err=True)


def bar(done: int, total: int) -> str:
    """`[######..................]`."""
    full = done * BAR_CELLS // max(total, 1)
    return f"[{'#' * full}{'.' * (BAR_CELLS - full)}]"
