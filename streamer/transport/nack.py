"""Which packets are missing, and when to ask for them again: arithmetic only, packets are unwrapped numbers.

aiortc asks once, when a gap shows, and again only when another gap shows: a packet that is lost twice stays lost. Here
each missing packet is asked for again and again until it comes or is given up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MOST_MISSING = 512
RETRY_LEAST_S, RETRY_MOST_S = 0.02, 0.5
BUDGET, BUDGET_SHARE = 64.0, 0.3  # requests at once, and for each packet that comes
MOST_GIVEN_UP = 256
EAGER = 3  # requests that follow each other twice in a round trip; later ones once
MOST_WAIT_S = 0.03  # for packets that only overtook each other
WAIT_DECAY = 0.98  # per gap that needed no waiting


@dataclass(slots=True)
class Wanted:
    """One packet that has not come."""

    noticed_s: float
    due_s: float  # infinite: not asked for any more
    asked: int = 0
    first_asked_s: float = 0.0
    last_asked_s: float = 0.0


class Missing:
    """The packets that are missing below the newest one, oldest first.

    The wait before the first request is zero until packets are seen to overtake each other. The next ones follow twice
    a round trip, so that two are on their way: a request or its answer may be lost like any packet.
    """

    def __init__(self, most: int = MOST_MISSING) -> None:
        self.requests = 0  # packets asked for, repetitions included
        self.held_back = 0  # requests that had to wait because too many were made
        self._most = most
        self._given_up: dict[int, Wanted] = {}  # asked for in vain: their answers still tell the round trip
        self._budget = BUDGET
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
            self._give_up(next(iter(self._wanted)))
        if self._wanted:
            due_s = now_s + self._wait_s
            self._next_s = due_s if self._next_s is None else min(self._next_s, due_s)

    def arrived(self, number: int, resent: bool, now_s: float) -> Wanted | None:
        """A packet came. Returns what was known of it where it was missing, given up or not."""
        self._budget = min(self._budget + BUDGET_SHARE, BUDGET)
        wanted = self._wanted.pop(number, None) or self._given_up.pop(number, None)
        if not self._wanted:
            self._next_s = None
        if wanted is not None and not resent and wanted.asked == 0:
            late_s = now_s - wanted.noticed_s  # it was never lost: others had overtaken it
            self._wait_s = min(max(self._wait_s, 1.25 * late_s), MOST_WAIT_S)
        return wanted

    def forget_below(self, number: int) -> None:
        """Nobody needs these any more."""
        while self._wanted and (first := next(iter(self._wanted))) < number:
            self._give_up(first)
        if not self._wanted:
            self._next_s = None

    @property
    def asking(self) -> int:
        """How many are still asked for."""
        return sum(wanted.due_s != math.inf for wanted in self._wanted.values())

    def mute(self) -> None:
        """Asks for none of these any more: a key frame will make up for all of them."""
        for wanted in self._wanted.values():
            wanted.due_s = math.inf
        self._next_s = None

    def clear(self) -> None:
        """Nothing is missing any more, and no answer is expected."""
        self._wanted.clear()
        self._given_up.clear()
        self._next_s = None

    def _give_up(self, number: int) -> None:
        wanted = self._wanted.pop(number)
        if wanted.asked:
            self._given_up[number] = wanted
            if len(self._given_up) > MOST_GIVEN_UP:
                del self._given_up[next(iter(self._given_up))]

    def noticed_until(self, then_s: float, below: int | None = None) -> int | None:
        """The newest packet (below that number) that was noticed at or before then; None where there is none."""
        newest = None
        for number, wanted in self._wanted.items():
            if wanted.noticed_s > then_s or (below is not None and number >= below):
                break
            newest = number
        return newest

    def due(self, now_s: float, rtt_s: float) -> list[int]:
        """The packets to ask for now; they count as asked for."""
        if self._next_s is None or now_s < self._next_s:
            return []
        retry_s = min(max(rtt_s / 2, RETRY_LEAST_S), RETRY_MOST_S)
        patient_s = min(max(rtt_s, RETRY_LEAST_S), RETRY_MOST_S)
        numbers = []
        for number, wanted in self._wanted.items():
            if wanted.due_s <= now_s:
                if self._budget < 1:
                    self.held_back += 1
                    wanted.due_s = now_s + RETRY_LEAST_S
                    continue
                self._budget -= 1
                wanted.first_asked_s = wanted.first_asked_s if wanted.asked else now_s
                wanted.asked += 1
                wanted.last_asked_s = now_s
                wanted.due_s = now_s + (retry_s if wanted.asked < EAGER else patient_s)
                numbers.append(number)
        next_s = min(wanted.due_s for wanted in self._wanted.values())
        self._next_s = None if next_s == math.inf else next_s
        self.requests += len(numbers)
        return numbers


def answered_in_s(wanted: Wanted, now_s: float) -> float | None:
    """The round trip that an answer measured; None where nothing was asked.

    Which of several requests it answers cannot be told. Most likely the first: on a line that keeps packets waiting
    the later ones were asked too soon, and to take their answers for quick ones would let them be asked sooner still.
    """
    return now_s - wanted.first_asked_s if wanted.asked else None
