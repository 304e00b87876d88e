"""What waits for the decoder: bounded in number, bytes and age. Where it overflows, it goes on at the next key frame.

Dropping a picture makes all that follow it worthless until a key frame, so dropping one means dropping the rest.
Decisions only: no clock, no socket.
"""

from __future__ import annotations

from collections import deque

from streamer.transport.types import CodedPicture

MOST_PICTURES = 8
MOST_BYTES = 4 << 20
MOST_AGE_S = 0.25


class Backlog:
    """Coded pictures in order. `wants_key`: only a key frame is taken now."""

    def __init__(self) -> None:
        self.wants_key = True
        self.overflows = 0  # how often it was full, or too old
        self.dropped_full = 0  # pictures dropped because of that
        self.dropped_for_key = 0  # pictures dropped because one before them is missing
        self.skipped = 0  # pictures dropped because a key frame came behind them
        self._waiting: deque[CodedPicture] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, picture: CodedPicture, now_s: float) -> str | None:
        """Takes a picture. Returns why a key frame is wanted, or None where none is."""
        if picture.is_key:
            self.skipped += len(self._waiting)  # nothing that waits is newer, and nothing behind needs it
            self._clear()
            self.wants_key = False
        elif self.wants_key:
            self.dropped_for_key += 1
            return "no picture can be decoded until a key frame comes"
        if self._is_over(len(picture.payload), now_s):
            return self._overflow(picture.is_key and len(picture.payload) > MOST_BYTES)
        self._waiting.append(picture)
        self._bytes += len(picture.payload)
        return None

    def take(self) -> CodedPicture | None:
        """The picture to decode next."""
        if not self._waiting:
            return None
        picture = self._waiting.popleft()
        self._bytes -= len(picture.payload)
        return picture

    def reset(self) -> None:
        """The decoder lost its state: only a key frame helps."""
        self.dropped_for_key += len(self._waiting)
        self._clear()
        self.wants_key = True

    def _is_over(self, more_bytes: int, now_s: float) -> bool:
        too_old = bool(self._waiting) and now_s - self._waiting[0].last_packet_s > MOST_AGE_S
        return too_old or len(self._waiting) >= MOST_PICTURES or self._bytes + more_bytes > MOST_BYTES

    def _overflow(self, huge: bool) -> str:
        self.overflows += 1
        self.dropped_full += len(self._waiting) + 1
        self._clear()
        self.wants_key = True
        return "a key frame is larger than any camera's" if huge else "the decoder is behind"

    def _clear(self) -> None:
        self._waiting.clear()
        self._bytes = 0
