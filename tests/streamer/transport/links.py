"""A link with a rate, a queue, a delay and losses, as arithmetic: what a sender's rate does on it, without waiting."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from streamer.transport.feedback import ArrivalLog, SentLog, TolerantRtcp, TransportFeedback
from streamer.transport.rate import RateLimits, SendRate

OTHER_CLOCK_S = 1_000.0  # the receiver's clock is another one
PACKET_BYTES = 1_160


@dataclass
class Moment:
    """At one picture."""

    at_s: float
    target_bps: int
    queue_s: float


@dataclass
class Link:
    """`carries(t)` bits per second; a queue of `queue_s` at most; `loss` of the packets at random."""

    carries: Callable[[float], float]
    rtt_s: float = 0.05
    loss: float = 0.0
    queue_s: float = 0.5
    down: tuple[float, float] = (-1.0, -1.0)
    dice: random.Random = field(default_factory=lambda: random.Random(5))
    _free_s: float = 0.0

    def send(self, at_s: float, size_bytes: int) -> float | None:
        """When the packet arrives; None where it is lost."""
        start_s = max(self._free_s, at_s)
        is_down = self.down[0] <= at_s < self.down[1]
        if start_s - at_s >= self.queue_s or is_down or self.dice.random() < self.loss:
            return None
        self._free_s = start_s + size_bytes * 8 / self.carries(at_s)
        return self._free_s + self.rtt_s / 2

    def queued_s(self, at_s: float) -> float:
        return max(self._free_s - at_s, 0.0)


def drive(link: Link, seconds: float, limits: RateLimits | None = None) -> list[Moment]:
    """A camera of 30 pictures a second whose encoder keeps the rate that it is told, over the link."""
    rate, sent, arrivals = SendRate(limits or RateLimits()), SentLog(), ArrivalLog()
    rate.rtt_s = link.rtt_s
    on_the_way: list[tuple[float, int]] = []
    coming_back: list[tuple[float, bytes]] = []
    moments: list[Moment] = []
    number, now_s = 65_000, 0.0  # so that the numbers wrap
    while now_s < seconds:
        size_bytes = int(rate.target_bps(now_s) / 8 / 30 * link.dice.uniform(0.7, 1.3))
        pieces = -(-size_bytes // PACKET_BYTES)
        for piece in range(pieces):
            sent.add(number % 65_536, now_s + piece * 5e-4, size_bytes // pieces)
            arrived_s = link.send(now_s + piece * 5e-4, size_bytes // pieces)
            if arrived_s is not None:
                heapq.heappush(on_the_way, (arrived_s, number))
            number += 1
        moments.append(Moment(now_s, rate.target_bps(now_s), link.queued_s(now_s)))
        now_s += 1 / 30
        while on_the_way and on_the_way[0][0] <= now_s:
            arrived_s, which = heapq.heappop(on_the_way)
            arrivals.add(which % 65_536, arrived_s + OTHER_CLOCK_S)
        coming_back += [(now_s + link.rtt_s / 2, data) for data in arrivals.take(now_s + OTHER_CLOCK_S, 1, 2)]
        while coming_back and coming_back[0][0] <= now_s:
            (feedback,) = TolerantRtcp.parse(coming_back.pop(0)[1])
            assert isinstance(feedback, TransportFeedback)
            rate.on_feedback(sent.fates(feedback, now_s), now_s)
    return moments
