"""Minutes of calls over bad lines, simulated: how long a receiver stands still, and how old what it shows is."""

from __future__ import annotations

from itertools import product

import pytest

from tests.streamer.transport.simulated import Simulation

RTTS_S = (0.02, 0.08, 0.2)
RATES = (0.5e6, 1e6, 3e6)
LINES = list(product(RTTS_S, RATES))


@pytest.mark.parametrize(("rtt_s", "rate"), LINES)
def test_no_freeze_over_500_ms_at_one_per_cent_loss(rtt_s: float, rate: float) -> None:
    simulation = Simulation(0.01, rtt_s, rate)
    shown = simulation.run(60.0)
    assert shown.longest_gap_s(1.0, 60.0) <= 0.5
    assert shown.age_p95_s() <= rtt_s / 2 + max(2 * rtt_s, 0.1) + 0.05
    assert len(shown.at_s) > 59 * 30 * 0.98


@pytest.mark.parametrize(("rtt_s", "rate"), LINES)
@pytest.mark.parametrize("outage_s", [0.5, 2.0, 10.0])
def test_pictures_are_back_within_a_second(rtt_s: float, rate: float, outage_s: float) -> None:
    simulation = Simulation(0.0, rtt_s, rate)
    shown = simulation.run(4.0 + outage_s, (2.0, 2.0 + outage_s))
    after_s = [at_s - 2.0 - outage_s for at_s in shown.at_s if at_s > 2.0 + outage_s]
    assert after_s[0] < 1.0
    assert shown.ages_s[-1] < rtt_s / 2 + 0.2


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("rtt_s", "rate"), LINES)
@pytest.mark.parametrize(("loss", "longest_s"), [(0.005, 0.5), (0.01, 0.5), (0.03, 1.0), (0.05, 2.0)])
def test_twenty_minutes(loss: float, longest_s: float, rtt_s: float, rate: float) -> None:
    shown = Simulation(loss, rtt_s, rate, seed=11).run(1200.0)
    assert shown.longest_gap_s(1.0, 1200.0) <= longest_s
    assert shown.age_p95_s() <= rtt_s / 2 + max(2 * rtt_s, 0.1) + 0.1
