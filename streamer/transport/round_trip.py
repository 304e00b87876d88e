"""How long it takes to the other side and back, and how long packets wait in queues on the way: arithmetic only."""

from __future__ import annotations

ASSUMED_S = 0.1  # until something was measured
LEAST_S, MOST_S = 0.001, 2.0
RISE, FALL = 0.5, 0.125  # too short costs pictures, too long costs a few milliseconds: so it rises faster than it falls
MOST_WAITING_S = 1.0
WINDOW_S = 10.0  # clocks run apart: what was quickest is looked for again after so long


class RoundTrip:
    """A smoothed round-trip time out of whatever measures it: ICE checks, answered requests, RTCP reports.

    Those come seldom. How much later than the quickest one a packet comes is known with each packet: it waited in a
    queue, and what is asked for now will wait there too.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._smooth_s = ASSUMED_S
        self._least_s = MOST_S
        self._waiting_s = 0.0
        self._quickest_s: tuple[float, float] | None = None  # transit (of two clocks) in this window and the one before
        self._window_s = 0.0

    @property
    def rtt_s(self) -> float:
        return min(max(self._smooth_s, self._least_s + self._waiting_s), MOST_S) if self.samples else self._smooth_s

    def add(self, sample_s: float) -> None:
        """One measurement. What no network does is clipped."""
        sample_s = min(max(sample_s, LEAST_S), MOST_S)
        off_s = sample_s - self._smooth_s
        self._smooth_s = self._smooth_s + off_s * (RISE if off_s > 0 else FALL) if self.samples else sample_s
        self._least_s = min(self._least_s, sample_s)
        self.samples += 1

    def transit(self, transit_s: float, now_s: float) -> None:
        """A packet took so long, by two clocks that need not agree: its arrival minus its timestamp."""
        if self._quickest_s is None:
            self._quickest_s, self._window_s = (transit_s, transit_s), now_s
        elif now_s - self._window_s > WINDOW_S:
            self._quickest_s, self._window_s = (transit_s, self._quickest_s[0]), now_s
        self._quickest_s = (min(self._quickest_s[0], transit_s), self._quickest_s[1])
        self._waiting_s = min(transit_s - min(self._quickest_s), MOST_WAITING_S)
