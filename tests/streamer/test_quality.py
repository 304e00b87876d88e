"""What the camera is asked for under pressure: decided on numbers alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streamer.quality import FULL_FPS, LADDER, MOST_PATIENCE_S, SETTLE_S, Ask, Pressure, Quality

CALM = Pressure(share=0.2, came=30, dropped=0, bits_per_s=2_000_000, pixels=640 * 480)


def engine_of(step_s: float) -> Callable[[Ask], Pressure]:
    """A worker whose engine takes so long for a picture of full size, less for smaller ones."""

    def pressure(ask: Ask) -> Pressure:
        each_s = step_s / ask.scale**2
        drawn = min(ask.fps, 1 / each_s)
        pixels = round(640 * 480 / ask.scale**2)
        return Pressure(min(drawn * each_s, 1.0), ask.fps, round(ask.fps - drawn), bits_per_s=2_000_000, pixels=pixels)

    return pressure


def run(quality: Quality, pressure: Callable[[Ask], Pressure], seconds: int, since_s: int = 0) -> list[Ask]:
    """What was asked for after each second."""
    asked = []
    for second in range(since_s, since_s + seconds):
        quality.look(float(second), pressure(quality.ask))
        asked.append(quality.ask)
    return asked


def test_nothing_is_asked_for_while_all_is_well() -> None:
    quality = Quality()
    assert all(quality.look(float(second), CALM) is None for second in range(600))
    assert quality.ask == Ask()


def test_an_engine_slower_than_the_camera_gets_fewer_pictures_in_a_few_seconds() -> None:
    quality = Quality()
    asked = run(quality, engine_of(0.045), 60)
    assert next(ask.fps for ask in asked if ask != Ask()) == 15, "at once, not step by step"
    assert asked[4].fps < FULL_FPS
    assert asked[-1] == Ask(15, 1.0, "engine"), "18.9 a second are possible at 85 %: the rate is lowered, not the size"
    assert len(set(asked[10:])) == 1, "and that stays"


def test_where_the_rate_is_not_enough_pictures_get_smaller() -> None:
    quality = Quality()
    asked = run(quality, engine_of(0.120), 60)
    assert asked[-1].scale > 1
    assert asked[-1].fps == 15
    first = next(ask for ask in asked if ask.scale > 1)
    assert asked[asked.index(first) - 1].fps == 15, "the size only after the rate"


def test_one_bad_second_changes_nothing() -> None:
    quality = Quality()
    bad = Pressure(share=1.0, came=30, dropped=20)
    for second in range(0, 100, 2):
        assert quality.look(float(second), bad) is None
        assert quality.look(second + 1.0, CALM) is None


def test_it_goes_up_again_when_the_machine_is_free() -> None:
    quality = Quality()
    run(quality, engine_of(0.060), 30)
    assert quality.ask != Ask()
    asked = run(quality, engine_of(0.010), 100, 30)
    assert asked[-1] == Ask()


def test_a_step_up_that_was_too_early_is_tried_again_less_and_less_often() -> None:
    """An engine that seems to have room below, and has none above."""
    quality = Quality()

    def treacherous(ask: Ask) -> Pressure:
        over = ask.fps > 20
        return Pressure(1.0 if over else 0.3, ask.fps, ask.fps // 3 if over else 0)

    asked = run(quality, treacherous, 1_800)
    changes = [second for second, (one, other) in enumerate(pairwise(asked)) if one != other]
    gaps = [later - earlier for earlier, later in pairwise(changes)]
    assert max(gaps) >= MOST_PATIENCE_S
    assert sum(ask.fps > 20 for ask in asked) < 0.15 * len(asked)


def test_a_starved_line_gets_less_to_carry() -> None:
    quality = Quality()

    def line(ask: Ask) -> Pressure:
        return Pressure(0.2, ask.fps, 0, bits_per_s=60_000, pixels=round(640 * 480 / ask.scale**2))

    asked = run(quality, line, 60)
    assert asked[-1].why == "line"
    pixels_per_s = asked[-1].fps * 640 * 480 / asked[-1].scale ** 2
    assert pixels_per_s < 30 * 640 * 480 / 2


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 60), st.integers(0, 60), st.integers(0, 10**7)), max_size=200)
)
def test_whatever_comes_the_ask_is_on_the_ladder_and_changes_are_apart(
    seconds: list[tuple[float, int, int, int]],
) -> None:
    quality, changed = Quality(), float("-inf")
    for second, (share, came, dropped, bits_per_s) in enumerate(seconds):
        new = quality.look(float(second), Pressure(share, came, dropped, 0.0, bits_per_s, 100_000))
        if new is not None:
            assert second - changed >= SETTLE_S
            changed = float(second)
            assert new == quality.ask
        assert (quality.ask.fps, quality.ask.scale) in LADDER
        assert quality.ask.bits_per_s(640 * 480) > 0
