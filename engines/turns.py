"""Who is served next on one accelerator, and who may still be let in. Arithmetic only: time is passed in.

Each place (one person of one session) asks for one frame at a time. Places of one group share a graph of B rows, so
the frames that wait in a group are computed together. The group whose frame waits longest is served first: nobody waits
for more than one run of every other group. A group with B > 1 rows may wait a moment for a neighbour, but only while
one is due within the deadline; a neighbour whose thread is itself waiting here cannot come, and is not waited for.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

MOST_WAIT_S = 0.003
STEADY = 0.3  # how fast a place's rhythm is learned
SLEEPS_AFTER = 3.0  # periods after which a place that asks no more is not expected


@dataclass(frozen=True, slots=True)
class Place:
    """One row of one group."""

    group: int
    row: int


@dataclass(slots=True)
class _Rhythm:
    asked_s: float
    caller: int
    period_s: float = float("inf")

    def next(self, now_s: float) -> None:
        gap_s = max(now_s - self.asked_s, 0.0)
        learned = self.period_s + STEADY * (gap_s - self.period_s)
        self.period_s = gap_s if self.period_s == float("inf") else learned
        self.asked_s = now_s

    def expected(self, now_s: float, by_s: float) -> bool:
        """Whether the next question should come between now and `by_s`. One that is late may still come."""
        awake = now_s - self.asked_s < SLEEPS_AFTER * self.period_s
        return awake and self.asked_s + self.period_s <= by_s


@dataclass(slots=True)
class Turns:
    """The queue. At most one frame of each place is in it: it is bounded by the places."""

    most_wait_s: float = MOST_WAIT_S
    _asked: OrderedDict[Place, float] = field(default_factory=OrderedDict)
    _rhythms: dict[Place, _Rhythm] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, place: Place, caller: int, now_s: float) -> None:
        """A frame of `place` waits from now on. caller: which thread waits for it. Raises ValueError if one does."""
        if place in self._asked:
            raise ValueError(f"{place} asks for a frame while another one of it waits")
        self._asked[place] = now_s
        rhythm = self._rhythms.get(place)
        if rhythm is None:
            self._rhythms[place] = _Rhythm(now_s, caller)
        else:
            rhythm.caller = caller
            rhythm.next(now_s)

    def forget(self, place: Place) -> None:
        """The place is given up."""
        self._asked.pop(place, None)
        self._rhythms.pop(place, None)

    def next(self, now_s: float) -> tuple[tuple[Place, ...], float]:
        """The frames to compute together now, or none and for how many seconds to wait at most (inf: nobody asks)."""
        soonest_s, judged = float("inf"), set()
        for place, since_s in self._asked.items():  # longest waiting first
            if place.group in judged:
                continue
            judged.add(place.group)
            by_s = since_s + self.most_wait_s
            if now_s >= by_s or not self._somebody_is_due(place.group, now_s, by_s):
                together = tuple(sorted((one for one in self._asked if one.group == place.group), key=_row))
                for one in together:
                    del self._asked[one]
                return together, 0.0
            soonest_s = min(soonest_s, by_s - now_s)
        return (), soonest_s

    def _somebody_is_due(self, group: int, now_s: float, by_s: float) -> bool:
        stuck = {self._rhythms[place].caller for place in self._asked}
        return any(
            place.group == group
            and place not in self._asked
            and rhythm.caller not in stuck
            and rhythm.expected(now_s, by_s)
            for place, rhythm in self._rhythms.items()
        )


def _row(place: Place) -> int:
    return place.row


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of an accelerator's time may be promised.

    share       of every second that sessions may use together: the rest is for what is not steady
    frames_s    frames a second that are promised to each session
    """

    share: float = 0.9
    frames_s: float = 25.0

    def refusal(self, sessions: int, frame_ms: float, together: float) -> str | None:
        """Why one more session may not come in, in words, or None where it may.

        sessions   how many are in already; the first is always let in
        frame_ms   measured, of one run; 0 where nothing was measured yet
        together   frames that one run serves on average once there is one more, 1 and up
        """
        needed_ms = self.needed_ms(sessions + 1, frame_ms, together)
        if sessions == 0 or needed_ms <= 1000 * self.share:
            return None
        used_ms = self.needed_ms(sessions, frame_ms, min(together, float(sessions)))
        serves = "1 session" if sessions == 1 else f"{sessions} sessions"
        return (
            f"the engine serves {serves} of {self.frames_s:g} frames/s, which take {used_ms:.0f} ms of every second at "
            f"{frame_ms:.1f} ms a run; one more would make it {needed_ms:.0f} of {1000 * self.share:.0f} ms. "
            f"Try again when one has ended"
        )

    def needed_ms(self, sessions: int, frame_ms: float, together: float) -> float:
        """Milliseconds of every second that so many sessions take."""
        return sessions * self.frames_s * frame_ms / max(together, 1.0)
