"""How long it takes to the other side and back: arithmetic only."""

from __future__ import annotations

ASSUMED_S = 0.1  # until something was measured
LEAST_S, MOST_S = 0.001, 2.0
RISE, FALL = 0.5, 0.125  # too short costs pictures, too long costs a few milliseconds: so it rises faster than it falls


class RoundTrip:
    """A smoothed round-trip time out of whatever measures it: ICE checks, answered requests, RTCP reports."""

    def __init__(self) -> None:
        self.samples = 0
        self._smooth_s = ASSUMED_S

    @property
    def rtt_s(self) -> float:
        return self._smooth_s

    def add(self, sample_s: float) -> None:
        """One measurement. What no network does is clipped."""
        sample_s = min(max(sample_s, LEAST_S), MOST_S)
        off_s = sample_s - self._smooth_s
        self._smooth_s = self._smooth_s + off_s * (RISE if off_s > 0 else FALL) if self.samples else sample_s
        self.samples += 1
