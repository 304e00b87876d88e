"""The belt: order, its bound, and that neither end can hang the other."""

from __future__ import annotations

import threading
import time

import pytest

from streamer.belt import Belt


def test_order_is_kept_and_the_bound_holds() -> None:
    belt: Belt[int] = Belt(3)

    def fill() -> None:
        for number in range(500):
            assert belt.put(number)
        belt.close()

    thread = threading.Thread(target=fill)
    thread.start()
    assert list(belt) == list(range(500))
    thread.join()
    seen = belt.statistics
    assert (seen.bound, seen.passed) == (3, 500)
    assert 1 <= seen.highest <= 3


def test_a_full_belt_makes_its_maker_wait_and_counts_it() -> None:
    belt: Belt[int] = Belt(2)

    def fill() -> None:
        for number in range(3):
            belt.put(number)
        belt.close()

    maker = threading.Thread(target=fill)
    maker.start()
    time.sleep(0.1)
    assert maker.is_alive()
    assert belt.statistics.highest == 2
    assert list(belt) == [0, 1, 2]
    maker.join()
    assert belt.statistics.full_s >= 0.05


def test_an_abandoned_belt_frees_its_maker() -> None:
    belt: Belt[int] = Belt(1)
    taken: list[bool] = []
    maker = threading.Thread(target=lambda: taken.extend(belt.put(number) for number in range(3)))
    maker.start()
    time.sleep(0.05)
    belt.abandon()
    maker.join(5)
    assert not maker.is_alive()
    assert taken == [True, False, False]
    assert list(belt) == []


def test_a_closed_belt_still_gives_what_lies_on_it() -> None:
    belt: Belt[str] = Belt(5)
    belt.put("a")
    belt.put("b")
    belt.close()
    assert list(belt) == ["a", "b"]
    assert list(belt) == []


def test_the_wait_is_measured_on_the_given_clock() -> None:
    ticks = iter(range(100))
    belt: Belt[int] = Belt(5, clock_s=lambda: float(next(ticks)))
    belt.put(1)
    belt.close()
    assert list(belt) == [1]
    assert belt.statistics.full_s == pytest.approx(1.0)
    assert belt.statistics.empty_s == pytest.approx(2.0)
