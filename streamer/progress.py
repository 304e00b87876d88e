"""The progress line of a run: a bar that is redrawn on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from contextlib import suppress
from typing import TextIO

BAR_CELLS = 24
TERMINAL_EVERY_S = 0.2
LINE_EVERY_S = 10.0
SETTLED_S = 1.0  # before this a speed says nothing about the time that is left


def clock_text(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    whole = max(round(seconds), 0)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def progress_text(done: int, total: int, elapsed_s: float) -> str:
    """One line: share and bar where the total is known, pictures, speed, time left. `total` 0: not known.

    A total computed from a file's header may be too small; then the line never claims to be past the end.
    """
    fps = done / elapsed_s if elapsed_s > 0 else 0.0
    speed = f"{fps:.1f} fps"
    if total <= 0:
        return f"{done} frames, {speed}, {clock_text(elapsed_s)} so far"
    total = max(total, done)
    full = done * BAR_CELLS // total
    bar = "#" * full + "." * (BAR_CELLS - full)
    left = f"{clock_text((total - done) / fps)} left" if fps > 0 and elapsed_s >= SETTLED_S else "--:-- left"
    return f"{100 * done // total:3d}% [{bar}] {done}/{total} frames, {speed}, {left}"


class Progress:
    """Writes progress to a text stream, seldom enough to cost nothing. Time is passed in."""

    def __init__(self, to: TextIO, total: int, start_s: float) -> None:
        self._to = to
        self._total = total
        self._start_s = start_s
        self._redraws = to.isatty()
        self._every_s = TERMINAL_EVERY_S if self._redraws else LINE_EVERY_S
        self._next_s = start_s + self._every_s
        self._width = 0

    def show(self, done: int, now_s: float) -> None:
        """Call after every frame."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._every_s
        text = progress_text(done, self._total, now_s - self._start_s)
        if self._redraws:
            self._write(f"\r{text.ljust(self._width)}")
            self._width = len(text)
        else:
            self._write(f"{text}\n")

    def say(self, text: str) -> None:
        """A line of its own, which never lands on the bar."""
        wiped = "\r" + " " * self._width + "\r" if self._width else ""
        self._width = 0
        self._write(f"{wiped}{text}\n")

    def _write(self, text: str) -> None:
        """A terminal that was closed, or a pipe that nobody reads, must not end the run."""
        with suppress(OSError):
            self._to.write(text)
            self._to.flush()
