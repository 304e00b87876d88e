"""When packets leave: pictures are spread out a little, so that a key frame does not overflow a router's queue. Pure.

An average picture leaves at once (nothing is gained by holding it back). What is beyond that leaves at 2.5 times the
bit rate, or faster where it would wait for too long: 60 ms, and 10 ms where the link has shown that it carries more.
Retransmissions go first.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

BURST_S = 0.050  # of the bit rate may leave at once: an average picture and a half at 30 a second
MOST_BURST_S = 0.150  # where pictures are fewer, and larger
LEAST_BURST_BYTES = 4_000
FACTOR = 2.5
LONGEST_WAIT_S = 0.060
SHORT_WAIT_S = 0.010
MOST_PACKETS = 2_048


@dataclass(slots=True)
class Pacer(Generic[T]):
    """A bounded queue of packets with a clock. What does not fit is refused and counted."""

    bps: int = 1_000_000
    longest_wait_s: float = LONGEST_WAIT_S
    burst_s: float = BURST_S
    refused: int = 0
    _urgent: deque[tuple[T, int]] = field(default_factory=deque)
    _queue: deque[tuple[T, int]] = field(default_factory=deque)
    _queued_bytes: int = 0
    _allowance_bytes: float = float(LEAST_BURST_BYTES)
    _rate_bytes_per_s: float = 0.0
    _filled_s: float | None = None

    @property
    def waiting(self) -> int:
        """Packets in the queue."""
        return len(self._queue) + len(self._urgent)

    def wait_s(self) -> float:
        """How long a packet that is added now would wait."""
        return max(self._queued_bytes - self._allowance_bytes, 0.0) / max(self._speed(), 1.0)

    def add(self, packet: T, size_bytes: int, now_s: float, *, urgent: bool = False) -> bool:
        """Queues a packet. False: there are too many already."""
        self._fill(now_s)
        if self.waiting >= MOST_PACKETS:
            self.refused += 1
            return False
        (self._urgent if urgent else self._queue).append((packet, size_bytes))
        self._queued_bytes += size_bytes
        self._rate_bytes_per_s = max(self._rate_bytes_per_s, self._queued_bytes / self.longest_wait_s)
        return True

    def due(self, now_s: float) -> list[T]:
        """The packets that leave now."""
        self._fill(now_s)
        found: list[T] = []
        while self.waiting and self._allowance_bytes > 0:
            packet, size_bytes = (self._urgent or self._queue).popleft()
            self._allowance_bytes -= size_bytes
            self._queued_bytes -= size_bytes
            found.append(packet)
        if not self.waiting:
            self._rate_bytes_per_s = 0.0
        return found

    def next_s(self, now_s: float) -> float | None:
        """When the next packet is due; None where nothing waits."""
        if not self.waiting:
            return None
        return now_s + max(-self._allowance_bytes, 0.0) / self._speed() + 1e-4

    def clear(self) -> None:
        """Forgets what waits."""
        self._queue.clear()
        self._urgent.clear()
        self._queued_bytes, self._rate_bytes_per_s = 0, 0.0

    def _speed(self) -> float:
        """Bytes per second."""
        return max(FACTOR * self.bps / 8, self._rate_bytes_per_s)

    def _fill(self, now_s: float) -> None:
        if self._filled_s is not None:
            most_bytes = max(self.bps / 8 * self.burst_s, LEAST_BURST_BYTES)
            earned_bytes = max(now_s - self._filled_s, 0.0) * self._speed()
            self._allowance_bytes = min(self._allowance_bytes + earned_bytes, most_bytes)
        self._filled_s = now_s
