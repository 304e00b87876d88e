"""A bounded, ordered queue between two threads: nothing is dropped, a full belt makes its maker wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BeltStatistics:
    """What went over a belt.

    bound      items that fit on it
    passed     items that came out
    highest    most items that lay on it at once
    full_s     how long its maker waited for room: the part after it is the slow one
    empty_s    how long its taker waited for an item: the part before it is the slow one
    """

    bound: int
    passed: int
    highest: int
    full_s: float
    empty_s: float


class Belt(Generic[T]):
    """One thread puts, one thread iterates. Either may end it. Errors go by the threads' futures, not over the belt."""

    def __init__(self, bound: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._bound = bound
        self._clock_s = clock_s
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._closed = False
        self._abandoned = False
        self._passed = self._highest = 0
        self._full_s = self._empty_s = 0.0

    def put(self, item: T) -> bool:
        """Waits for room. False: nobody takes from this belt any more, and the item is gone."""
        with self._changed:
            since_s = self._clock_s()
            self._changed.wait_for(lambda: len(self._items) < self._bound or self._abandoned)
            self._full_s += self._clock_s() - since_s
            if self._abandoned:
                return False
            self._items.append(item)
            self._highest = max(self._highest, len(self._items))
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """Nothing more will come; the taker still gets what lies on the belt."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Nothing more will be taken; what lies on the belt is thrown away."""
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                since_s = self._clock_s()
                self._changed.wait_for(lambda: bool(self._items) or self._closed or self._abandoned)
                self._empty_s += self._clock_s() - since_s
                if not self._items:
                    return
                item = self._items.popleft()
                self._passed += 1
                self._changed.notify_all()
            yield item

    @property
    def statistics(self) -> BeltStatistics:
        with self._changed:
            return BeltStatistics(
                self._bound, self._passed, self._highest, round(self._full_s, 3), round(self._empty_s, 3)
            )
