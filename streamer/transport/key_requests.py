"""When to ask the camera's side for a key frame: arithmetic only.

A key frame is many times larger than other pictures: asked for too often on a slow line, key frames are all that comes.
"""

from __future__ import annotations

LEAST_S = 0.3  # between two requests
MOST_S = 1.0
GROWTH = 1.5  # of the wait, while none comes
FRESH_S = 1.0  # a side that has sent nothing for longer is not asked


class KeyAsker:
    """Asks at once, then at most every 300 ms, less and less often, until a key frame has come."""

    def __init__(self) -> None:
        self.asked = 0
        self.why = ""  # the latest reason
        self._wanted = False
        self._asked_s: float | None = None
        self._wait_s = LEAST_S

    @property
    def wanted(self) -> bool:
        return self._wanted

    def want(self, why: str) -> None:
        self._wanted, self.why = True, why

    def got(self) -> None:
        """A key frame came, whole."""
        self._wanted, self._wait_s = False, LEAST_S

    def withdraw(self, why: str) -> None:
        """What was wanted for this reason alone is not needed any more."""
        if self.why == why:
            self._wanted = False

    def next_s(self) -> float | None:
        """When `due` may next say yes; None while nothing is wanted."""
        if not self._wanted:
            return None
        return float("-inf") if self._asked_s is None else self._asked_s + self._wait_s

    def due(self, now_s: float, arriving: bool) -> bool:
        """Whether to ask now; it counts as asked. `arriving`: parts of a key frame are coming in at this moment."""
        next_s = self.next_s()
        if next_s is None or now_s < next_s or (arriving and self._asked_s is not None):
            return False
        if self._asked_s is not None and now_s - self._asked_s < 2 * MOST_S:
            self._wait_s = min(self._wait_s * GROWTH, MOST_S)
        self._asked_s = now_s
        self.asked += 1
        return True
