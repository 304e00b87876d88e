"""What may be sent and when, decided on numbers alone."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engines import Status
from streamer.pacing import CARD_EVERY_S, HOLD_S, MOST_SOUND_DELAY_S, SLEW_S_PER_S, Curtain, SoundDelay, Verdict


def test_nothing_is_due_before_the_first_picture_came_in() -> None:
    curtain = Curtain()
    assert curtain.wait_s(1_000.0) == math.inf
    curtain.begin(10.0)
    assert math.isclose(curtain.wait_s(10.0), HOLD_S)
    assert curtain.wait_s(10.0 + HOLD_S) == 0


def test_a_picture_stays_for_300_ms_after_its_capture_then_the_card_falls() -> None:
    curtain = Curtain()
    curtain.begin(0.0)
    assert curtain.judge(Status.DRAWN, 1.0, 90_000, 1.1) is Verdict.SEND
    assert math.isclose(curtain.wait_s(1.1), 0.2)
    assert curtain.wait_s(1.3) == 0
    curtain.card(120_000, 1.3)
    assert math.isclose(curtain.wait_s(1.3), CARD_EVERY_S)


def test_a_result_that_took_too_long_is_not_shown_at_all() -> None:
    curtain = Curtain()
    assert curtain.judge(Status.DRAWN, 1.0, 90_000, 1.31) is Verdict.TOO_OLD


def test_a_held_picture_is_as_old_as_the_swap_that_it_repeats() -> None:
    curtain = Curtain()
    assert curtain.judge(Status.DRAWN, 1.0, 0, 1.05) is Verdict.SEND
    assert curtain.judge(Status.NO_FACE, 1.2, 18_000, 1.25) is Verdict.SEND
    assert math.isclose(curtain.wait_s(1.25), 0.05)
    assert curtain.judge(Status.NO_FACE, 1.29, 26_100, 1.34) is Verdict.TOO_OLD


def test_a_blurred_scene_is_young_by_itself() -> None:
    curtain = Curtain()
    assert curtain.judge(Status.DRAWN, 1.0, 0, 1.05) is Verdict.SEND
    assert curtain.judge(Status.STANDBY, 5.0, 360_000, 5.05) is Verdict.SEND


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["result", "card"]),
            st.sampled_from(list(Status)),
            st.floats(0, 1.0),  # how old the result is when it comes
            st.floats(0.001, 0.5),  # time until the next event
        ),
        max_size=60,
    )
)
def test_whatever_comes_timestamps_rise_and_nothing_old_is_sent(
    events: list[tuple[str, Status, float, float]],
) -> None:
    curtain = Curtain()
    curtain.begin(0.0)
    now_s, sent, good_s = 1.0, [-1], None
    for kind, status, age_s, pause_s in events:
        captured_s = now_s - age_s
        pts = int(captured_s * 90_000)
        if kind == "card" and curtain.wait_s(now_s) == 0:
            sent.append(curtain.card(pts, now_s))
            good_s = None
        elif kind == "result" and curtain.judge(status, captured_s, pts, now_s) is Verdict.SEND:
            assert age_s <= HOLD_S + 1e-9
            sent.append(pts)
            good_s = captured_s
        if good_s is not None:
            assert now_s + curtain.wait_s(now_s) <= max(good_s + HOLD_S, now_s) + 1e-9
        now_s += pause_s
    assert all(later > earlier for earlier, later in pairwise(sent))


def test_sound_follows_the_picture_slowly_and_within_bounds() -> None:
    delay = SoundDelay()
    assert delay.follow(None, 0.0) == 0.0
    assert delay.follow(0.120, 0.0) == 0.120
    assert math.isclose(delay.follow(0.300, 1.0), 0.120 + SLEW_S_PER_S)
    assert math.isclose(delay.follow(None, 2.0), 0.120 + SLEW_S_PER_S)
    for second in range(3, 60):
        delay.follow(9.0, float(second))
    assert math.isclose(delay.delay_s, MOST_SOUND_DELAY_S)


@given(st.lists(st.tuples(st.floats(-1, 5), st.floats(0, 10)), min_size=2))
def test_sound_never_jumps(steps: list[tuple[float, float]]) -> None:
    delay, now_s = SoundDelay(), 0.0
    before_s = delay.follow(*(steps[0][0], now_s))
    for age_s, pause_s in steps[1:]:
        now_s += pause_s
        after_s = delay.follow(age_s, now_s)
        assert 0 <= after_s <= MOST_SOUND_DELAY_S
        assert abs(after_s - before_s) <= SLEW_S_PER_S * pause_s + 1e-9
        before_s = after_s
