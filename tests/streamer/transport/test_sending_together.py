"""Rate, pacer, history, key frames, feedback and reception together, on lines that are arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.simulated_calls import SimulatedCall

SETTLE_S = 6.0


@pytest.mark.parametrize(("loss", "rtt_s", "mbit"), [(0.0, 0.02, 0.5), (0.01, 0.08, 1.0), (0.01, 0.2, 3.0)])
def test_pictures_come_young_and_without_holes(loss: float, rtt_s: float, mbit: float) -> None:
    shown = SimulatedCall(loss, rtt_s, mbit * 1e6).run(25.0)
    ages_s = [age_s for at_s, age_s in zip(shown.at_s, shown.ages_s, strict=True) if at_s > SETTLE_S]
    assert max(shown.gaps_s(SETTLE_S, 25.0)) < 0.5
    assert float(np.percentile(ages_s, 95)) < 0.1 + 1.5 * rtt_s
    assert len(ages_s) > 0.95 * 30 * (25 - SETTLE_S)
    assert shown.keys <= 3


@pytest.mark.parametrize("outage_s", [0.5, 2.0, 10.0])
def test_after_an_outage_pictures_are_back_within_a_second(outage_s: float) -> None:
    call = SimulatedCall(0.01, 0.08, 1e6)
    shown = call.run(20.0 + outage_s, dead=(10.0, 10.0 + outage_s))
    assert shown.back_s(10.0 + outage_s) < 1.0
    late_s = [age_s for at_s, age_s in zip(shown.at_s, shown.ages_s, strict=True) if at_s > 12.0 + outage_s]
    assert float(np.percentile(late_s, 95)) < 0.3


def test_a_call_begins_without_a_freeze_on_a_slow_line() -> None:
    shown = SimulatedCall(0.0, 0.08, 0.5e6).run(SETTLE_S)
    assert shown.at_s[0] < 0.5
    assert max(shown.gaps_s(0.0, SETTLE_S)) < 0.5


def test_what_is_lost_twice_is_rare_where_it_is_sent_twice() -> None:
    """5 % of all packets at 200 ms: of pictures that need a second retransmission hardly any is left."""
    shown = SimulatedCall(0.05, 0.2, 3e6).run(25.0)
    assert sum(gap_s > 0.5 for gap_s in shown.gaps_s(SETTLE_S, 25.0)) <= 2
