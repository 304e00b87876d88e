"""What a call is doing, in numbers: bounded memory, time passed in, read from one thread."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate

from streamer.transport.types import PictureTimes

WINDOW_S = 10.0
LATELY_S = 2.0
MOST_SAMPLES = 1_200  # 120 pictures a second for the whole window

# What a picture passes on its way, in order, and when it has passed each: the name in PictureTimes.
STAGES = {
    "assembled": "last_packet_s",  # its last packet is in
    "decoded": "decoded_s",
    "taken": "taken_s",  # by the worker: it waited for the one before it
    "drawn": "drawn_s",  # by the engine, and converted for the encoder
    "encoded": "encoded_s",
    "sent": "sent_s",  # its last packet is out
}
BUCKETS_MS = (5, 10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 500, 1_000)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """p50, p95 and p99 of a window in milliseconds, and from how many samples; NaN where there are none."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    count: int

    def as_json(self) -> dict[str, float | int | None]:
        """Rounded to a tenth of a millisecond; JSON knows no NaN, so None stands for it."""
        values = {"p50": self.p50_ms, "p95": self.p95_ms, "p99": self.p99_ms}
        rounded: dict[str, float | int | None] = {
            name: None if math.isnan(value) else round(value, 1) for name, value in values.items()
        }
        return {**rounded, "count": self.count}


class Window:
    """Samples of the last seconds. Old ones leave by age, and by number where too many come."""

    def __init__(self, window_s: float = WINDOW_S, most: int = MOST_SAMPLES) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, float]] = deque(maxlen=most)

    def add(self, now_s: float, value: float) -> None:
        self._samples.append((now_s, value))

    def values(self, now_s: float) -> list[float]:
        """The samples not older than the window, oldest first."""
        while self._samples and self._samples[0][0] < now_s - self._window_s:
            self._samples.popleft()
        return [value for _, value in self._samples]

    def rate_per_s(self, now_s: float) -> float:
        """How many samples a second came in, over the time between the first and the last one of the window."""
        count = len(self.values(now_s))
        if count < 2:
            return 0.0
        span_s = max(self._samples[-1][0] - self._samples[0][0], now_s - self._samples[-1][0])
        return (count - 1) / span_s if span_s > 0 else 0.0

    def quantiles(self, now_s: float) -> Quantiles:
        """Nearest-rank quantiles of the window's values, taken as milliseconds."""
        values = sorted(self.values(now_s))
        if not values:
            return Quantiles(math.nan, math.nan, math.nan, 0)

        def rank(share: float) -> float:
            return values[max(math.ceil(share * len(values)) - 1, 0)]

        return Quantiles(rank(0.50), rank(0.95), rank(0.99), len(values))


class Histogram:
    """How many samples were at most so large, for ever: what can be added up over calls and time."""

    def __init__(self, bounds: tuple[float, ...] = BUCKETS_MS) -> None:
        self.bounds = bounds
        self.total = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def add(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def merge(self, other: Histogram) -> None:
        """Adds what the other one, of the same bounds, has counted."""
        self._counts = [one + more for one, more in zip(self._counts, other._counts, strict=True)]
        self.total += other.total

    def cumulative(self) -> tuple[int, ...]:
        """For each bound how many samples were not above it; the last number is all of them."""
        return tuple(accumulate(self._counts))


class Journey:
    """How old pictures are when they have passed each stage, and how long each stage took."""

    def __init__(self) -> None:
        self.age = {stage: Window() for stage in STAGES}  # since the picture's first packet came in
        self.took = {stage: Window() for stage in STAGES}  # since the stage before
        self.added = Window()  # by the server: the last packet in to the last packet out
        self.age_ms = {stage: Histogram() for stage in STAGES}

    def add(self, times: PictureTimes, now_s: float) -> None:
        """A picture that was sent. A stage that it did not pass, or that nobody timed, is left out."""
        before_s = times.first_packet_s
        for stage, name in STAGES.items():
            at_s: float | None = getattr(times, name)
            if at_s is None:
                continue
            age_ms = (at_s - times.first_packet_s) * 1e3
            self.age[stage].add(now_s, age_ms)
            self.age_ms[stage].add(age_ms)
            self.took[stage].add(now_s, (at_s - before_s) * 1e3)
            before_s = at_s
        if times.sent_s is not None:
            self.added.add(now_s, (times.sent_s - times.last_packet_s) * 1e3)

    def merge(self, other: Journey) -> None:
        """Adds the other one's counts for ever; its latest seconds are gone."""
        for stage, histogram in other.age_ms.items():
            self.age_ms[stage].merge(histogram)

    def as_json(self, now_s: float) -> dict[str, object]:
        return {
            "added_ms": self.added.quantiles(now_s).as_json(),
            "ages_ms": {stage: window.quantiles(now_s).as_json() for stage, window in self.age.items()},
            "stages_ms": {stage: window.quantiles(now_s).as_json() for stage, window in self.took.items()},
        }


@dataclass(slots=True)
class CallStats:
    """Counts of one call. `age` is the age of the picture: its first packet in, its last packet out."""

    age: Window = field(default_factory=Window)
    age_lately: Window = field(default_factory=lambda: Window(LATELY_S))  # what the sound follows
    journey: Journey = field(default_factory=Journey)
    pictures_in: Window = field(default_factory=Window)
    pictures_out: Window = field(default_factory=Window)
    step: Window = field(default_factory=Window)
    shown: Counter[str] = field(default_factory=Counter)  # pictures sent, by what they show
    dropped: Counter[str] = field(default_factory=Counter)  # pictures not sent, by reason
    faults: int = 0
    follower: Callable[[PictureTimes, str], None] | None = None  # is told of every picture that was sent
    bits_per_s: float = 0.0  # sent
    bits_per_s_in: float = 0.0

    def came_in(self, now_s: float) -> None:
        self.pictures_in.add(now_s, 0.0)

    def went_out(self, times: PictureTimes, shows: str) -> None:
        """A picture made from the camera's was sent: `times.sent_s` says when."""
        assert times.sent_s is not None
        self.pictures_out.add(times.sent_s, 0.0)
        age_ms = (times.sent_s - times.first_packet_s) * 1e3
        self.age.add(times.sent_s, age_ms)
        self.age_lately.add(times.sent_s, age_ms)
        self.journey.add(times, times.sent_s)
        self.shown[shows] += 1
        if self.follower is not None:
            self.follower(times, shows)

    def card_went_out(self) -> None:
        """The standby card was sent, since there was no picture young enough. It has no age."""
        self.shown["card"] += 1

    def as_json(self, now_s: float) -> dict[str, object]:
        """One snapshot for the page and for /metrics."""
        return {
            "fps_in": round(self.pictures_in.rate_per_s(now_s), 1),
            "fps_out": round(self.pictures_out.rate_per_s(now_s), 1),
            "age_ms": self.age.quantiles(now_s).as_json(),
            **self.journey.as_json(now_s),
            "step_ms": self.step.quantiles(now_s).as_json(),
            "shown": dict(self.shown),
            "dropped": dict(self.dropped),
            "faults": self.faults,
            "bits_per_s": round(self.bits_per_s),
            "bits_per_s_in": round(self.bits_per_s_in),
        }
