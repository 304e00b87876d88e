"""Numbers about a call: right, bounded, and forgotten after ten seconds."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamer.stats import MOST_SAMPLES, STAGES, WINDOW_S, CallStats, Histogram, Journey, Window
from streamer.transport.types import PictureTimes


@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=300))
def test_quantiles_are_samples_and_ordered(values: list[float]) -> None:
    window = Window()
    for value in values:
        window.add(0.0, value)
    found = window.quantiles(0.0)
    assert found.p50_ms <= found.p95_ms <= found.p99_ms <= max(values)
    assert {found.p50_ms, found.p95_ms, found.p99_ms} <= set(values)
    assert sum(value <= found.p50_ms for value in values) * 2 >= len(values)
    assert found.count == len(values)


def test_quantiles_of_a_hundred() -> None:
    window = Window()
    for value in range(1, 101):
        window.add(0.0, float(value))
    found = window.quantiles(0.0)
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == (50.0, 95.0, 99.0)


def test_old_samples_leave_and_memory_is_bounded() -> None:
    window = Window()
    for number in range(10 * MOST_SAMPLES):
        window.add(number * 1e-6, 1.0)
    assert len(window.values(0.0)) == MOST_SAMPLES
    assert window.values(WINDOW_S * 2) == []
    assert window.quantiles(WINDOW_S * 2).count == 0


def test_the_rate_is_of_now_even_when_nothing_comes_any_more() -> None:
    window = Window()
    for number in range(31):
        window.add(number / 30, 0.0)
    assert math.isclose(window.rate_per_s(1.0), 30.0)
    assert window.rate_per_s(3.0) < 16.0
    assert window.rate_per_s(30.0) == 0.0


def test_the_snapshot_is_json_without_nan() -> None:
    stats = CallStats()
    json.dumps(stats.as_json(0.0), allow_nan=False)
    stats.came_in(1.0)
    stats.went_out(PictureTimes(1.0, 1.01, 1.02, 1.03, 1.05, 1.08, 1.1), "drawn")
    stats.card_went_out()
    snapshot = stats.as_json(1.1)
    json.dumps(snapshot, allow_nan=False)
    assert snapshot["shown"] == {"drawn": 1, "card": 1}
    assert snapshot["age_ms"] == {"p50": 100.0, "p95": 100.0, "p99": 100.0, "count": 1}


def test_a_picture_s_stages_add_up_to_its_age() -> None:
    journey = Journey()
    journey.add(PictureTimes(1.0, 1.01, 1.03, 1.04, 1.07, 1.08, 1.1), 1.1)
    journey.add(PictureTimes(2.0, 2.01, None, 2.04, 2.07, None, None), 2.1)  # on its way it was lost
    snapshot: dict[str, Any] = journey.as_json(2.1)
    json.dumps(snapshot, allow_nan=False)
    ages = [age["p95"] for age in snapshot["ages_ms"].values()]
    assert ages == [10.0, 30.0, 40.0, 70.0, 80.0, 100.0]
    took = [took["p50"] for took in snapshot["stages_ms"].values()]
    assert took == [10.0, 20.0, 10.0, 30.0, 10.0, 20.0]
    assert snapshot["added_ms"]["p50"] == 90.0
    assert [snapshot["ages_ms"][stage]["count"] for stage in STAGES] == [2, 1, 2, 2, 1, 1]
    assert journey.age_ms["sent"].cumulative()[-1] == 1


@given(st.lists(st.floats(0, 5_000)))
def test_a_histogram_counts_every_sample_once(values: list[float]) -> None:
    one, other = Histogram(), Histogram()
    for value in values[::2]:
        one.add(value)
    for value in values[1::2]:
        other.add(value)
    one.merge(other)
    counts = one.cumulative()
    assert counts == tuple(sum(value <= bound for value in values) for bound in (*one.bounds, math.inf))
    assert math.isclose(one.total, sum(values), abs_tol=1e-6)
