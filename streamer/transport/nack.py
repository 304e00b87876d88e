"""Which packets are missing, and when to ask for them again: arithmetic only, packets are unwrapped numbers.

aiortc asks once, when a gap shows, and again only when another gap shows: a packet that is lost twice stays lost. Here
each missing packet is asked for again and again until it comes or is given up.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_MISSING = 512
RETRY_LEAST_S, RETRY_MOST_S = 0.02, 0.25
MOST_WAIT_S = 0.03  # for packets that only overtook each other
WAIT_DECAY = 0.98  # per gap that needed no waiting


@dataclass(slots=True)
class Wanted:
    """One packet that has not come."""

    noticed_s: float
    due_s: float
    asked: int = 0
    first_asked_s: float = 0.0
    last_asked_s: float = 0.0


class Missing:
    """The packets that are missing below the newest one, oldest first.

    The wait before the first request is zero until packets are seen to overtake each other. Later requests follow
    twice a round trip, so that two are on their way: a request or its answer may be lost like any packet.
    """

    def __init__(self, most: int = MOST_MISSING) -> None:
        self.requests = 0  # packets asked for, repetitions included
        self._most = most
        self._wanted: dict[int, Wanted] = {}  # in order, since packets are noticed in order
        self._next_s: float | None = None  # when the first request may be due; never later than it is
        self._wait_s = 0.0

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def next_s(self) -> float | None:
        """When to call `due` at the latest; None while nothing is missing."""
        return self._next_s

    @property
    def oldest(self) -> tuple[int, Wanted] | None:
        return next(iter(self._wanted.items()), None)

    def notice(self, first: int, end: int, now_s: float) -> None:
        """Packets first..end-1 have not come, but `end` has. The oldest are forgotten where too many are missing."""
        for number in range(max(first, end - self._most), end):
            self._wanted[number] = Wanted(now_s, now_s + self._wait_s)
        self._wait_s *= WAIT_DECAY
        while len(self._wanted) > self._most:
            del self._wanted[next(iter(self._wanted))]
        if self._wanted:
            due_s = now_s + self._wait_s
            self._next_s = due_s if self._next_s is None else min(self._next_s, due_s)

    def arrived(self, number: int, resent: bool, now_s: float) -> Wanted | None:
        """A packet came. Returns what was known of it where it was missing."""
        wanted = self._wanted.pop(number, None)
        if not self._wanted:
            self._next_s = None
        if wanted is not None and not resent and wanted.asked == 0:
            late_s = now_s - wanted.noticed_s  # it was never lost: others had overtaken it
            self._wait_s = min(max(self._wait_s, 1.25 * late_s), MOST_WAIT_S)
        return wanted

    def forget_below(self, number: int) -> None:
        """Nobody needs these any more."""
        while self._wanted and (first := next(iter(self._wanted))) < number:
            del self._wanted[first]
        if not self._wanted:
            self._next_s = None

    def clear(self) -> None:
        """Nothing is missing any more."""
        self._wanted.clear()
        self._next_s = None

    def noticed_until(self, then_s: float) -> int | None:
        """The newest packet that was noticed at or before then; None where there is none."""
        newest = None
        for number, wanted in self._wanted.items():
            if wanted.noticed_s > then_s:
                break
            newest = number
        return newest

    def due(self, now_s: float, rtt_s: float) -> list[int]:
        """The packets to ask for now; they count as asked for."""
        if self._next_s is None or now_s < self._next_s:
            return []
        retry_s = min(max(rtt_s / 2, RETRY_LEAST_S), RETRY_MOST_S)
        numbers = []
        for number, wanted in self._wanted.items():
            if wanted.due_s <= now_s:
                wanted.first_asked_s = wanted.first_asked_s if wanted.asked else now_s
                wanted.last_asked_s, wanted.due_s = now_s, now_s + retry_s
                wanted.asked += 1
                numbers.append(number)
        self._next_s = min(wanted.due_s for wanted in self._wanted.values())
        self.requests += len(numbers)
        return numbers


def answered_in_s(wanted: Wanted, rtt_s: float, now_s: float) -> float | None:
    """The round trip that one answered request measured; None where it cannot be told which request was answered."""
    if wanted.asked == 1:
        return now_s - wanted.first_asked_s
    if wanted.asked > 1 and now_s - wanted.last_asked_s < rtt_s / 2:
        return now_s - wanted.first_asked_s  # sooner than an answer to the last request could be here
    return None
