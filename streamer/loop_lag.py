"""How late the event loop is: a task that wakes up ten times a second and sees how much too late it was."""

from __future__ import annotations

import asyncio
import time

from streamer.stats import Histogram, Window

EVERY_S = 0.1


class LoopLag:
    """The lag of one event loop, in milliseconds. `watch` is its task."""

    def __init__(self) -> None:
        self.window = Window()
        self.all_ms = Histogram()

    def add(self, lag_s: float, now_s: float) -> None:
        self.window.add(now_s, lag_s * 1e3)
        self.all_ms.add(lag_s * 1e3)

    async def watch(self) -> None:
        """Measures until cancelled."""
        while True:
            due_s = time.monotonic() + EVERY_S
            await asyncio.sleep(EVERY_S)
            now_s = time.monotonic()
            self.add(max(now_s - due_s, 0.0), now_s)
