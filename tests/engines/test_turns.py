"""Who is served next: nobody starves, nobody waits beyond the deadline, nobody is waited for who cannot come."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.turns import MOST_WAIT_S, Budget, Place, Turns

PERIOD_S = 1 / 30


def two_awake(apart_s: float) -> Turns:
    """Places 0 and 1 of one group have asked twice each, 1 always `apart_s` after 0; all were served."""
    turns = Turns()
    for frame in range(2):
        for row in range(2):
            turns.ask(Place(0, row), row, frame * PERIOD_S + row * apart_s)
            served, _ = turns.next(math.inf)
            assert served == (Place(0, row),)
    return turns


def test_one_alone_is_served_at_once() -> None:
    turns = Turns()
    turns.ask(Place(0, 0), 1, 5.0)
    assert turns.next(5.0) == ((Place(0, 0),), 0.0)
    assert turns.next(5.0) == ((), math.inf)


def test_frames_that_wait_in_a_group_are_computed_together() -> None:
    turns = Turns()
    for row in (2, 0, 1):
        turns.ask(Place(0, row), row, 1.0)
    turns.ask(Place(1, 0), 9, 1.0)
    assert turns.next(1.0)[0] == (Place(0, 0), Place(0, 1), Place(0, 2))
    assert turns.next(1.0)[0] == (Place(1, 0),)


def test_a_neighbour_who_is_due_is_waited_for_and_then_served_with() -> None:
    turns = two_awake(apart_s=0.002)
    now_s = 2 * PERIOD_S
    turns.ask(Place(0, 0), 0, now_s)
    served, wait_s = turns.next(now_s)
    assert served == ()
    assert wait_s == pytest.approx(MOST_WAIT_S)
    turns.ask(Place(0, 1), 1, now_s + 0.002)
    assert turns.next(now_s + 0.002)[0] == (Place(0, 0), Place(0, 1))


def test_the_deadline_is_honoured_when_the_neighbour_does_not_come() -> None:
    turns = two_awake(apart_s=0.002)
    now_s = 2 * PERIOD_S
    turns.ask(Place(0, 0), 0, now_s)
    assert turns.next(now_s + MOST_WAIT_S - 1e-4)[0] == ()
    assert turns.next(now_s + MOST_WAIT_S)[0] == (Place(0, 0),)


@pytest.mark.parametrize("apart_s", [0.004, 0.015, 0.029])
def test_a_neighbour_who_comes_later_than_the_deadline_is_not_waited_for(apart_s: float) -> None:
    turns = two_awake(apart_s)
    turns.ask(Place(0, 0), 0, 2 * PERIOD_S)
    assert turns.next(2 * PERIOD_S)[0] == (Place(0, 0),)


def test_a_neighbour_whose_thread_waits_here_is_not_waited_for() -> None:
    """The server's one worker thread steps all calls: while it waits for one, no other can ask."""
    turns = two_awake(apart_s=0.002)
    turns.ask(Place(0, 0), 1, 2 * PERIOD_S)
    assert turns.next(2 * PERIOD_S)[0] == (Place(0, 0),)


def test_a_neighbour_who_fell_asleep_is_not_waited_for() -> None:
    turns = two_awake(apart_s=0.002)
    for frame in range(2, 6):
        turns.ask(Place(0, 0), 0, frame * PERIOD_S)
        turns.next(math.inf)
    turns.ask(Place(0, 0), 0, 6 * PERIOD_S)
    assert turns.next(6 * PERIOD_S)[0] == (Place(0, 0),)


def test_one_who_left_is_neither_served_nor_waited_for() -> None:
    turns = two_awake(apart_s=0.002)
    turns.ask(Place(0, 1), 1, 2 * PERIOD_S)
    turns.forget(Place(0, 1))
    assert len(turns) == 0
    turns.ask(Place(0, 0), 0, 2 * PERIOD_S)
    assert turns.next(2 * PERIOD_S)[0] == (Place(0, 0),)


def test_a_second_question_of_the_same_place_is_refused() -> None:
    turns = Turns()
    turns.ask(Place(0, 0), 0, 0.0)
    with pytest.raises(ValueError, match="another one of it waits"):
        turns.ask(Place(0, 0), 0, 0.1)


@given(st.integers(1, 6), st.integers(1, 3), st.lists(st.integers(0, 17), max_size=300))
def test_starvation_is_impossible(groups: int, rows: int, greedy: list[int]) -> None:
    """Whoever asks is served after at most one run of every other group, however often the others ask."""
    turns, runs_since, now_s = Turns(), dict[Place, int](), 0.0
    places = [Place(group, row) for group in range(groups) for row in range(rows)]
    for chosen in greedy:
        place = places[chosen % len(places)]
        if place not in runs_since:
            turns.ask(place, chosen, now_s)
            runs_since[place] = 0
        if chosen % 2:
            now_s += MOST_WAIT_S
            served, _ = turns.next(now_s)
            assert served, "somebody waits and the deadline is over"
            assert len({one.group for one in served}) == 1
            for one in served:
                assert runs_since.pop(one) <= groups - 1
            for other in runs_since:
                runs_since[other] += 1


def test_a_session_is_let_in_while_there_is_time_and_refused_in_words_after_that() -> None:
    budget = Budget(share=0.9, frames_s=25)
    assert budget.refusal(0, 500.0, 1) is None, "one session is always let in, however slow"
    assert budget.refusal(1, 0.0, 1) is None, "nothing measured yet"
    assert budget.refusal(2, 12.0, 1) is None, "3 x 25 x 12 = 900"
    refusal = budget.refusal(2, 12.1, 1)
    assert refusal is not None
    for figure in ("2 sessions", "25 frames/s", "605 ms", "12.1 ms", "908 of 900 ms"):
        assert figure in refusal
    assert "\n" not in refusal


def test_sessions_that_share_runs_cost_less() -> None:
    budget = Budget(share=0.9, frames_s=25)
    assert budget.refusal(3, 30.0, 4) is None, "four in one run: 25 x 30 = 750"
    assert budget.refusal(3, 30.0, 2) is not None, "two in one run: 1500"
