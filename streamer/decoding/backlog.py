"""What waits for the decoder: bounded in number, bytes and time. Where it overflows, it goes on at the next key frame.

Dropping a picture makes all that follow it worthless until a key frame, so dropping one means dropping the rest.
Decisions only: no clock, no socket.
"""

from __future__ import annotations

from collections import deque

from streamer.transport.types import CodedPicture

# The pictures behind a lost packet come all at once when it was sent again, up to a second's worth (jitter.py): that is
# no decoder that is behind. Eight, and the time since their last packet, were the bounds before; then every loss on a
# line of 200 ms cost a key frame, and 0.6 to 1.4 s, although nothing was missing any more.
MOST_PICTURES = 64
MOST_BYTES = 4 << 20
MOST_WAIT_S = 0.25  # of one picture, here


class Backlog:
    """Coded pictures in order. `wants_key`: only a key frame is taken now."""

    def __init__(self) -> None:
        self.wants_key = True
        self.overflows = 0  # how often it was full, or a picture waited for too long
        self.dropped_full = 0  # pictures dropped because of that
        self.dropped_for_key = 0  # pictures dropped because one before them is missing
        self.skipped = 0  # pictures dropped because a key frame came behind them
        self._waiting: deque[tuple[CodedPicture, float]] = deque()  # with when it came here
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
        self._waiting.append((picture, now_s))
        self._bytes += len(picture.payload)
        return None

    def take(self) -> CodedPicture | None:
        """The picture to decode next."""
        if not self._waiting:
            return None
        picture, _ = self._waiting.popleft()
        self._bytes -= len(picture.payload)
        return picture

    def reset(self) -> None:
        """The decoder lost its state: only a key frame helps."""
        self.dropped_for_key += len(self._waiting)
        self._clear()
        self.wants_key = True

    def _is_over(self, more_bytes: int, now_s: float) -> bool:
        too_long = bool(self._waiting) and now_s - self._waiting[0][1] > MOST_WAIT_S
        return too_long or len(self._waiting) >= MOST_PICTURES or self._bytes + more_bytes > MOST_BYTES

    def _overflow(self, huge: bool) -> str:
        self.overflows += 1
        self.dropped_full += len(self._waiting) + 1
        self._clear()
        self.wants_key = True
        return "a key frame is larger than any camera's" if huge else "the decoder is behind"

    def _clear(self) -> None:
        self._waiting.clear()
        self._bytes = 0
