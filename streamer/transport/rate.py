"""How much a link carries, told from what happened to packets on it. Pure: packets' fates and `now_s` in, a rate out.

`DelayRate` watches how the time on the way grows (a queue is filling) and backs off before anything is lost; it works
for what we send (by the other side's transport-wide feedback) and for what we receive (by abs-send-time). `LossRate` is
the net below it. After "A Google Congestion Control Algorithm for Real-Time Communication"
(draft-ietf-rmcat-gcc-02), with the trend line that later versions of WebRTC use in place of its Kalman filter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

GROUP_S = 0.005  # packets sent within this time are one group: a picture leaves in bursts
WINDOW = 20  # groups that the trend line goes through
SMOOTHING = 0.9
GAIN = 4.0
MOST_DELTAS = 60
FIRST_THRESHOLD_MS, LEAST_THRESHOLD_MS, MOST_THRESHOLD_MS = 12.5, 6.0, 600.0
THRESHOLD_UP, THRESHOLD_DOWN = 0.0087, 0.039
MOST_ADAPT_MS = 15.0
OVERUSE_S = 0.010
RESTART_S = 2.0  # a hole in the stream after which the past says nothing

BACK_OFF = 0.85
GROWTH_PER_S = 1.08
FIRST_GROWTH_PER_S = 1.5  # until the link has shown for the first time that it is full
AHEAD, AHEAD_BPS = 1.5, 10_000  # the estimate never runs further ahead of what was really carried
METER_S = 0.5
MOST_METERED = 4_096
PACKET_BITS = 9_600
REACTION_S = 0.100
LEAST_ADDITIVE_BPS_PER_S = 4_000
CAPACITY_SHARE = 0.05  # weight of a new measurement of what the link carries when it is full
CAPACITY_DEVIATIONS = 3.0

STANDING_S, DRAINED_S = 0.120, 0.050  # a queue that stays on the way although it does not grow, and its end
DRAIN_SHARE = 0.6
LONGEST_DRAIN_S = 2.5
STUCK_SHARE = 0.6  # of the queue, still there after that
LATELY_S = 0.25
LEAST_QUEUE_S = 0.012  # below which a growing delay is jitter
SHORTEST_WAY_S = 10.0  # two such spans are remembered for the shortest time on the way

LOSS_LOW, LOSS_HIGH = 0.02, 0.10
LOSS_NOISE = 0.06  # that a bad radio makes: no reason not to grow where no queue is to be seen
NO_QUEUE_S = 0.020
LOSS_EVERY_S = 0.3
LEAST_LOSS_PACKETS = 50  # fewer say little: of 20 at 5 %, every fifth sample has 10 % and more
OUTAGE_LOSS = 0.9  # nearly everything gone is a link that is down, not one that is full
OUTAGE_S = 0.1  # so is everything gone for so long
REMB_HOLDS_S = 10.0
HEARD_S = 1.0


class Usage(Enum):
    NORMAL = "normal"
    OVER = "over"
    UNDER = "under"


@dataclass(frozen=True, slots=True)
class PacketFate:
    """One packet on its way. `arrived_s` is by the other side's clock; None: it was lost."""

    sent_s: float
    arrived_s: float | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Bits per second."""

    least_bps: int = 100_000
    start_bps: int = 500_000
    most_bps: int = 4_000_000

    def clamp(self, bps: float) -> int:
        return round(min(max(bps, self.least_bps), self.most_bps))


@dataclass(slots=True)
class Trend:
    """Whether the time on the way is growing, from groups of packets."""

    usage: Usage = Usage.NORMAL
    threshold_ms: float = FIRST_THRESHOLD_MS
    _group: tuple[float, float, float] | None = None  # first sent, last sent, last arrived
    _before: tuple[float, float] | None = None  # last sent, last arrived, of the group before
    _line: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=WINDOW))  # (arrived, delay), in ms
    _first_arrived_s: float | None = None
    _sum_ms: float = 0.0
    _smoothed_ms: float = 0.0
    _deltas: int = 0
    _over_s: float | None = None
    _slope_before: float = 0.0
    _adapted_s: float | None = None

    def add(self, sent_s: float, arrived_s: float) -> Usage:
        """One packet that arrived; packets in the order of their arrival."""
        group = self._group
        if group is None:
            self._group = (sent_s, sent_s, arrived_s)
            return self.usage
        first_s, last_s, _ = group
        if sent_s - last_s > RESTART_S:
            self._restart(sent_s, arrived_s)
        elif sent_s < first_s:
            return self.usage  # overtaken by a later group
        elif sent_s - first_s <= GROUP_S:
            self._group = (first_s, max(last_s, sent_s), arrived_s)
        else:
            if self._before is not None:
                self._between(last_s - self._before[0], group[2] - self._before[1], group[2])
            self._before = (last_s, group[2])
            self._group = (sent_s, sent_s, arrived_s)
        return self.usage

    def _restart(self, sent_s: float, arrived_s: float) -> None:
        self._group, self._before = (sent_s, sent_s, arrived_s), None
        self._line.clear()
        self._sum_ms = self._smoothed_ms = 0.0
        self._deltas, self._over_s, self._first_arrived_s = 0, None, None
        self.usage = Usage.NORMAL

    def _between(self, sent_delta_s: float, arrived_delta_s: float, arrived_s: float) -> None:
        """Two groups: how much longer the second one was on its way."""
        self._deltas = min(self._deltas + 1, MOST_DELTAS)
        self._sum_ms += (arrived_delta_s - sent_delta_s) * 1e3
        self._smoothed_ms = SMOOTHING * self._smoothed_ms + (1 - SMOOTHING) * self._sum_ms
        if self._first_arrived_s is None:
            self._first_arrived_s = arrived_s
        self._line.append(((arrived_s - self._first_arrived_s) * 1e3, self._smoothed_ms))
        slope = _slope(self._line) if len(self._line) == WINDOW else 0.0
        self._detect(slope, sent_delta_s, arrived_s)

    def _detect(self, slope: float, sent_delta_s: float, arrived_s: float) -> None:
        trend_ms = self._deltas * slope * GAIN
        if trend_ms > self.threshold_ms:
            self._over_s = sent_delta_s / 2 if self._over_s is None else self._over_s + sent_delta_s
            if self._over_s > OVERUSE_S and slope >= self._slope_before:
                self._over_s = 0.0
                self.usage = Usage.OVER
        else:
            self._over_s = None
            self.usage = Usage.UNDER if trend_ms < -self.threshold_ms else Usage.NORMAL
        self._slope_before = slope
        self._adapt(abs(trend_ms), arrived_s)

    def _adapt(self, trend_ms: float, arrived_s: float) -> None:
        """The threshold follows the noise of the link, so that a rival flow does not push this one to nothing."""
        elapsed_ms = min(max(arrived_s - self._adapted_s, 0.0), 0.1) * 1e3 if self._adapted_s is not None else 0.0
        self._adapted_s = arrived_s
        if trend_ms > self.threshold_ms + MOST_ADAPT_MS:
            return
        gain = THRESHOLD_DOWN if trend_ms < self.threshold_ms else THRESHOLD_UP
        moved_ms = self.threshold_ms + gain * (trend_ms - self.threshold_ms) * elapsed_ms
        self.threshold_ms = min(max(moved_ms, LEAST_THRESHOLD_MS), MOST_THRESHOLD_MS)


@dataclass(slots=True)
class Meter:
    """Bits per second over the last half second."""

    _seen: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=MOST_METERED))
    _total_bytes: int = 0

    def add(self, at_s: float, size_bytes: int) -> None:
        if len(self._seen) == MOST_METERED:
            self._total_bytes -= self._seen.popleft()[1]
        self._seen.append((at_s, size_bytes))
        self._total_bytes += size_bytes
        self._forget(at_s)

    def bps(self, now_s: float) -> float | None:
        """None while too little was seen to say."""
        self._forget(now_s)
        if len(self._seen) < 2:
            return None
        span_s = max(now_s - self._seen[0][0], METER_S / 2)
        return 8 * self._total_bytes / span_s

    def _forget(self, now_s: float) -> None:
        while self._seen and self._seen[0][0] < now_s - METER_S:
            self._total_bytes -= self._seen.popleft()[1]


@dataclass(slots=True)
class Standing:
    """How long packets stand in queues: the quickest of the last quarter of a second against the quickest of all.

    A computer that stopped for a moment, on either side, makes some packets late; a queue makes every packet late.
    Clocks need not agree.
    """

    _shortest_s: float | None = None  # of the span before
    _span: tuple[float, float] | None = None  # (when it began, shortest in it)
    _lately: deque[tuple[float, float]] = field(default_factory=deque)  # (arrived, time on the way), growing

    def add(self, sent_s: float, arrived_s: float) -> None:
        way_s = arrived_s - sent_s
        if self._span is None:
            self._span = (arrived_s, way_s)
        began_s, shortest_s = self._span
        if arrived_s - began_s > SHORTEST_WAY_S:
            self._shortest_s, self._span = shortest_s, (arrived_s, way_s)
        else:
            self._span = (began_s, min(shortest_s, way_s))
        while self._lately and self._lately[-1][1] >= way_s:
            self._lately.pop()
        self._lately.append((arrived_s, way_s))
        while self._lately[0][0] < arrived_s - LATELY_S or len(self._lately) > MOST_METERED:
            self._lately.popleft()

    @property
    def queue_s(self) -> float:
        if self._span is None:
            return 0.0
        base_s = self._span[1] if self._shortest_s is None else min(self._span[1], self._shortest_s)
        return self._lately[0][1] - base_s

    def forget(self) -> None:
        """The way itself has become longer."""
        self._shortest_s, self._span = None, None
        self._lately.clear()


@dataclass(slots=True)
class DelayRate:
    """The rate that keeps the queues on the way short. Starts from `limits.start_bps`."""

    limits: RateLimits = field(default_factory=RateLimits)
    rtt_s: float = 0.2
    bps: float = 0.0
    trend: Trend = field(default_factory=Trend)
    meter: Meter = field(default_factory=Meter)
    _changed_s: float | None = None
    _reduced_s: float | None = None
    _capacity_kbps: float | None = None  # what the link carried when it was full
    _capacity_variance: float = 0.4
    standing: Standing = field(default_factory=Standing)
    _drain_since_s: float | None = None
    _drain_from_s: float = 0.0
    _drained: bool = False  # at least once

    def __post_init__(self) -> None:
        self.bps = self.bps or float(self.limits.start_bps)

    def packet(self, sent_s: float, arrived_s: float, size_bytes: int) -> None:
        """A packet that arrived, in the order of arrival."""
        self.meter.add(arrived_s, size_bytes)
        self.trend.add(sent_s, arrived_s)
        self.standing.add(sent_s, arrived_s)

    def update(self, arrived_s: float) -> int:
        """The rate from now on. `arrived_s`: when the last packet arrived, by the clock of the arrivals."""
        carried_bps = self.meter.bps(arrived_s)
        elapsed_s = min(max(arrived_s - self._changed_s, 0.0), 1.0) if self._changed_s is not None else 0.0
        drains = carried_bps is not None and self._drains(carried_bps, arrived_s)
        if self.trend.usage is Usage.OVER:
            if self.standing.queue_s > LEAST_QUEUE_S:
                self._reduce(carried_bps, arrived_s)
        elif self.trend.usage is Usage.NORMAL and carried_bps is not None and not drains:
            self._grow(carried_bps, elapsed_s)
        self._changed_s = arrived_s
        self.bps = float(self.limits.clamp(self.bps))
        return round(self.bps)

    def _drains(self, carried_bps: float, arrived_s: float) -> bool:
        """Whether a standing queue is being emptied. The trend does not see one: it neither grows nor shrinks."""
        if self._drain_since_s is None:
            if self.standing.queue_s < STANDING_S:
                return False
            self._drain_since_s, self._drain_from_s = arrived_s, self.standing.queue_s
            self._drained = True
            self.bps = min(self.bps, DRAIN_SHARE * carried_bps)
        elif self.standing.queue_s < DRAINED_S:
            self._drain_since_s = None
        elif arrived_s - self._drain_since_s > LONGEST_DRAIN_S:
            if self.standing.queue_s > STUCK_SHARE * self._drain_from_s:
                self.standing.forget()  # the way has become longer, or the queue is not ours to empty
            self._drain_since_s = None
        return True

    @property
    def is_full(self) -> bool:
        """Whether the link has lately shown that it carries no more."""
        return self._capacity_kbps is not None or self._drain_since_s is not None

    def _reduce(self, carried_bps: float | None, arrived_s: float) -> None:
        wait_s = min(max(self.rtt_s, 0.01), 0.2)
        far_below = carried_bps is not None and carried_bps < 0.5 * self.bps
        if self._reduced_s is not None and arrived_s - self._reduced_s < wait_s and not far_below:
            return
        carried = self.bps if carried_bps is None else carried_bps
        self.bps = min(self.bps, BACK_OFF * carried)
        self._reduced_s = arrived_s
        self._note_capacity(carried / 1e3)

    def _grow(self, carried_bps: float, elapsed_s: float) -> None:
        if self._capacity_kbps is not None and carried_bps / 1e3 > self._capacity_kbps + self._deviation_kbps():
            self._capacity_kbps = None  # the link carries more than it did
        if self._capacity_kbps is not None:
            growth_bps = max(PACKET_BITS / (self.rtt_s + REACTION_S), LEAST_ADDITIVE_BPS_PER_S) * elapsed_s
        else:
            growth_per_s = FIRST_GROWTH_PER_S if self._reduced_s is None and not self._drained else GROWTH_PER_S
            growth_bps = max(self.bps * (growth_per_s**elapsed_s - 1), 1_000 * elapsed_s)
        ceiling_bps = AHEAD * carried_bps + AHEAD_BPS
        self.bps = max(self.bps, min(self.bps + growth_bps, ceiling_bps))

    def _note_capacity(self, kbps: float) -> None:
        if self._capacity_kbps is not None and kbps < self._capacity_kbps - self._deviation_kbps():
            self._capacity_kbps = None
        if self._capacity_kbps is None:
            self._capacity_kbps = kbps
            return
        error = kbps - self._capacity_kbps
        self._capacity_kbps += CAPACITY_SHARE * error
        relative = error * error / max(self._capacity_kbps, 1.0)
        moved = (1 - CAPACITY_SHARE) * self._capacity_variance + CAPACITY_SHARE * relative
        self._capacity_variance = min(max(moved, 0.4), 2.5)

    def _deviation_kbps(self) -> float:
        return CAPACITY_DEVIATIONS * float((self._capacity_variance * (self._capacity_kbps or 0.0)) ** 0.5)


@dataclass(slots=True)
class LossRate:
    """The rate that losses allow: below 2 % it grows, above 10 % it falls, between them it stays."""

    limits: RateLimits = field(default_factory=RateLimits)
    bps: float = 0.0
    loss: float = 0.0  # of the last interval, 0..1
    _lost: int = 0
    _expected: int = 0
    _reduced: bool = False  # at least once
    _since_s: float | None = None

    def __post_init__(self) -> None:
        self.bps = self.bps or float(self.limits.start_bps)

    def report(
        self, lost: int, expected: int, now_s: float, carried_bps: float | None = None, no_queue: bool = False
    ) -> int:
        """So many packets were lost of so many. `no_queue`: none waited. Returns the rate from now on."""
        self._lost += lost
        self._expected += expected
        if self._since_s is None:
            self._since_s = now_s
        elapsed_s = now_s - self._since_s
        if elapsed_s >= LOSS_EVERY_S and self._expected >= LEAST_LOSS_PACKETS:
            self.loss = self._lost / self._expected
            self._apply(min(elapsed_s, 1.0), carried_bps, LOSS_NOISE if no_queue else LOSS_LOW)
            self._lost = self._expected = 0
            self._since_s = now_s
        return round(self.bps)

    def _apply(self, elapsed_s: float, carried_bps: float | None, growing_below: float) -> None:
        if self.loss >= OUTAGE_LOSS:
            return
        if self.loss > LOSS_HIGH:
            self.bps *= 1 - 0.5 * self.loss
            self._reduced = True
        elif self.loss < growing_below:
            growth_per_s = GROWTH_PER_S if self._reduced else FIRST_GROWTH_PER_S
            grown_bps = self.bps * growth_per_s**elapsed_s + 1_000 * elapsed_s
            ceiling_bps = float("inf") if carried_bps is None else AHEAD * carried_bps + AHEAD_BPS
            self.bps = max(self.bps, min(grown_bps, ceiling_bps))
        self.bps = float(self.limits.clamp(self.bps))


@dataclass(slots=True)
class SendRate:
    """The rate of one stream that we send: the least of what delay, loss and the receiver allow."""

    limits: RateLimits = field(default_factory=RateLimits)
    delay: DelayRate = field(default_factory=DelayRate)
    by_loss: LossRate = field(default_factory=LossRate)
    rtt_s: float | None = None
    has_feedback: bool = False  # transport-wide: only then is the delay known here
    _remb: tuple[int, float] | None = None  # (rate, when it came)
    _heard_s: float | None = None  # when the first report came

    def __post_init__(self) -> None:
        self.delay, self.by_loss = DelayRate(self.limits), LossRate(self.limits)

    def on_feedback(self, fates: Sequence[PacketFate], now_s: float) -> None:
        """Transport-wide feedback on some packets."""
        if not fates:
            return
        self.has_feedback = True
        self._heard_s = self._heard_s or now_s
        if self.rtt_s is not None:
            self.delay.rtt_s = self.rtt_s
        arrived = _arrived(fates)
        for sent_s, arrived_s, size_bytes in arrived:
            self.delay.packet(sent_s, arrived_s, size_bytes)
        carried_bps = None
        if arrived:
            carried_bps = self.delay.meter.bps(arrived[-1][1])
            self.delay.update(arrived[-1][1])
        no_queue = self.delay.standing.queue_s < NO_QUEUE_S and not self.delay.is_full
        lost = _lost_one_by_one(fates)
        self.by_loss.report(lost, len(arrived) + lost, now_s, carried_bps, no_queue)

    def on_report(self, lost_share: float, packets: int, now_s: float) -> None:
        """A receiver report: of use only where there is no feedback on each packet."""
        self._heard_s = self._heard_s or now_s
        if not self.has_feedback:
            self.by_loss.report(round(lost_share * packets), packets, now_s)

    def on_remb(self, bps: int, now_s: float) -> None:
        """The receiver's own estimate of what it can take."""
        self._remb = (bps, now_s)

    @property
    def has_room(self) -> bool:
        """Whether packets do not wait on the way: what is lost is lost to noise."""
        return not self.has_feedback or self.delay.standing.queue_s < DRAINED_S

    def is_free(self, now_s: float) -> bool:
        """Whether the other side has reported for a second and nothing says that the link is full."""
        if self._heard_s is None or now_s - self._heard_s < HEARD_S:
            return False
        remb_is_far = self._remb is None or self._remb[0] > AHEAD * self.target_bps(now_s)
        return remb_is_far and not self.delay.is_full and self.by_loss.loss < LOSS_LOW

    def target_bps(self, now_s: float) -> int:
        """Bits per second to send from now on, packet headers included."""
        allowed = [self.by_loss.bps]
        if self.has_feedback:
            allowed.append(self.delay.bps)
        if self._remb is not None and now_s - self._remb[1] < REMB_HOLDS_S:
            allowed.append(float(self._remb[0]))
        return self.limits.clamp(min(allowed))


def _arrived(fates: Iterable[PacketFate]) -> list[tuple[float, float, int]]:
    """(sent, arrived, bytes) of those that arrived, in the order of arrival."""
    found = [(fate.sent_s, fate.arrived_s, fate.size_bytes) for fate in fates if fate.arrived_s is not None]
    return sorted(found, key=lambda fate: (fate[1], fate[0]))


def _lost_one_by_one(fates: Sequence[PacketFate]) -> int:
    """How many were lost, those of an outage not counted."""
    lost, run = 0, list[float]()
    for fate in (*fates, PacketFate(0.0, 0.0, 0)):
        if fate.arrived_s is None:
            run.append(fate.sent_s)
            continue
        if run and run[-1] - run[0] < OUTAGE_S:
            lost += len(run)
        run.clear()
    return lost


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    below = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / below if below else 0.0
