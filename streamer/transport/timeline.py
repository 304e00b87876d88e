"""One growing clock out of a stream's timestamps, even where the sender begins a new stream: arithmetic only."""

from __future__ import annotations

from streamer.transport.types import RTP_CLOCK_HZ

MOST_OFF_S = 5.0  # that timestamps may run apart from arrivals between two pictures


class Timeline:
    """Maps unwrapped RTP timestamps. A leap that the arrival times do not share is taken out, so that time goes on."""

    def __init__(self, clock_hz: int = RTP_CLOCK_HZ) -> None:
        self.leaps = 0
        self._clock_hz = clock_hz
        self._offset = 0
        self._last: tuple[int, float] | None = None  # as handed out, and when it came

    def __call__(self, timestamp: int, arrived_s: float) -> int:
        mapped = timestamp + self._offset
        if self._last is not None:
            last, last_s = self._last
            expected = last + round((arrived_s - last_s) * self._clock_hz)
            if abs(mapped - expected) > MOST_OFF_S * self._clock_hz:
                self.leaps += 1
                self._offset += expected - mapped
                mapped = max(expected, last + 1)
        self._last = (mapped, arrived_s)
        return mapped
