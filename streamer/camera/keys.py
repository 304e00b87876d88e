"""Commands from the keyboard, one key each, where there is a terminal."""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from engines import VividError
from streamer.control import Controllable

LOOK_S = 0.2


class Keys:
    """What each key does. Engines and identities are taken in the order of their lists."""

    def __init__(
        self, live: Controllable, engines: Sequence[str], stop: Callable[[], object], say: Callable[[str], object]
    ) -> None:
        self._live, self._engines, self._stop, self._say = live, tuple(engines), stop, say
        self._hidden = False

    def help(self) -> str:
        """The keys, one line."""
        names = [f"{number} {name}" for number, name in enumerate(self._live.identities[:9], 1)]
        return "keys: " + ", ".join([*names, "e next engine", "space standby", "s status", "q quit"])

    def press(self, key: str) -> None:
        """Does it, and says what was done or why not."""
        try:
            self._press(key)
        except VividError as error:
            self._say(" ".join(str(error).split()))

    def _press(self, key: str) -> None:
        names = self._live.identities[:9]
        if key.isascii() and key.isdigit() and 1 <= int(key) <= len(names):
            self._live.swap_identity(names[int(key) - 1])
            self._say(f"now {names[int(key) - 1]}")
        elif key == "e" and self._engines:
            now = str(self._live.numbers().get("engine"))
            following = self._engines[
                (self._engines.index(now) + 1) % len(self._engines) if now in self._engines else 0
            ]
            if following == now:
                self._say(f"{now} is the only engine here")
                return
            self._say(f"loading {following}")
            self._live.swap_engine(following)
            self._say(f"now drawn by {following}")
        elif key == " ":
            self._hidden = not self._hidden
            self._live.pause(self._hidden)
            self._say("standby card; space goes on" if self._hidden else "going on")
        elif key == "s":
            self._say(status_line(self._live.numbers()))
        elif key in ("q", "\x03", "\x04"):
            self._stop()
        elif key in ("h", "?"):
            self._say(self.help())


def status_line(numbers: dict[str, object]) -> str:
    """What a person wants to know, in one line."""
    age = numbers["age_ms"]
    assert isinstance(age, dict)
    readers = numbers["readers"]
    watched = "nobody watches" if readers == 0 else "watched" if readers is None else f"{readers} watching"
    old = f", {age['p50']:.0f} ms old (95 %: {age['p95']:.0f})" if age["count"] else ""
    card = f" ({numbers['why_card']})" if numbers["why_card"] else ""
    who = f"{numbers['identity']} by {numbers['engine']}"
    return f"{who}: {numbers['showing']}{card}, {numbers['fps']} a second{old}; {watched}"


@contextmanager
def listening(keys: Keys, terminal: TextIO = sys.stdin) -> Iterator[None]:
    """Takes keys as they are pressed, and leaves the terminal as it was."""
    number = terminal.fileno()
    before = termios.tcgetattr(number)
    ended = threading.Event()

    def listen() -> None:
        while not ended.is_set():
            if not select.select([number], [], [], LOOK_S)[0]:
                continue
            typed = os.read(number, 16)
            if not typed:
                return
            for key in typed.decode("utf-8", "ignore"):
                keys.press(key)

    thread = threading.Thread(target=listen, name="keys", daemon=True)
    try:
        tty.setcbreak(number)
        thread.start()
        yield
    finally:
        ended.set()
        thread.join(5 * LOOK_S)
        termios.tcsetattr(number, termios.TCSADRAIN, before)
