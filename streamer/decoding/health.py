"""When a decoder is ended, and when no more is tried. Decisions only: time is passed in."""

from __future__ import annotations

from collections import deque


class Often:
    """Whether something happened more than `most` times within `window_s` seconds."""

    def __init__(self, most: int, window_s: float) -> None:
        self._most, self._window_s = most, window_s
        self._at_s: deque[float] = deque(maxlen=most + 1)

    def note(self, now_s: float) -> bool:
        """It happened now. Returns whether that was once too often."""
        self._at_s.append(now_s)
        return len(self._at_s) > self._most and now_s - self._at_s[0] <= self._window_s

    def clear(self) -> None:
        self._at_s.clear()


class SizeStorm:
    """Tells a sender that adapts its size, a few times a minute, from one that makes decoders allocate all the time."""

    MOST, WINDOW_S = 8, 10.0

    def __init__(self) -> None:
        self.changes = 0
        self._last: tuple[str, int, int] | None = None
        self._often = Often(self.MOST, self.WINDOW_S)

    def saw(self, codec: str, height_px: int, width_px: int, now_s: float) -> bool:
        """A picture of this codec and size came out. Returns whether it has become a storm."""
        before, self._last = self._last, (codec, height_px, width_px)
        if before is None or before == self._last:
            return False
        self.changes += 1
        return self._often.note(now_s)

    def restart(self) -> None:
        """A new decoder: its first picture is no change."""
        self._last = None
        self._often.clear()


class Restarts:
    """A decoder that dies is replaced, but not for ever."""

    MOST, WINDOW_S = 5, 60.0

    def __init__(self) -> None:
        self.count = 0
        self._often = Often(self.MOST, self.WINDOW_S)

    def allow(self, now_s: float) -> bool:
        """A decoder died. Whether to start another."""
        self.count += 1
        return not self._often.note(now_s)
