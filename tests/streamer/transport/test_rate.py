"""The rate that a link carries: found, kept, given back. On links that are arithmetic, so minutes take milliseconds."""

from __future__ import annotations

from statistics import mean, quantiles

import pytest

from streamer.transport.rate import (
    DelayRate,
    LossRate,
    Meter,
    PacketFate,
    RateLimits,
    SendRate,
    Standing,
    Trend,
    Usage,
)
from tests.streamer.transport.links import Link, Moment, drive

LIMITS = RateLimits(100_000, 1_500_000, 4_000_000)
MODEST = RateLimits(100_000, 500_000, 4_000_000)  # as a call begins


def between(moments: list[Moment], begin_s: float, end_s: float) -> list[Moment]:
    return [moment for moment in moments if begin_s <= moment.at_s < end_s]


def queue_p95_s(moments: list[Moment]) -> float:
    return quantiles([moment.queue_s for moment in moments], n=20)[-1]


@pytest.mark.parametrize("rtt_s", [0.02, 0.08, 0.2])
@pytest.mark.parametrize("capacity_bps", [500_000, 1_000_000, 3_000_000])
def test_a_link_is_used_and_its_queue_stays_short(capacity_bps: int, rtt_s: float) -> None:
    moments = drive(Link(lambda _: capacity_bps, rtt_s=rtt_s), 40)
    settled = between(moments, 10, 40)
    assert mean(moment.target_bps for moment in settled) > 0.7 * capacity_bps
    assert queue_p95_s(settled) < 0.2


def test_a_wide_link_is_used_up_to_the_limit() -> None:
    moments = drive(Link(lambda _: 50e6), 20)
    assert moments[-1].target_bps == LIMITS.most_bps
    assert max(moment.queue_s for moment in moments) < 0.02


def test_when_the_link_narrows_the_queue_empties_within_seconds() -> None:
    moments = drive(Link(lambda at_s: 3e6 if at_s < 10 else 5e5), 30)
    assert moments[300].target_bps > 1_500_000
    assert queue_p95_s(between(moments, 20, 30)) < 0.25
    assert max(moment.target_bps for moment in between(moments, 12, 30)) < 900_000


def test_when_the_link_widens_again_the_rate_follows() -> None:
    moments = drive(Link(lambda at_s: 5e5 if at_s < 10 else 3e6), 45)
    assert moments[-1].target_bps > 2_000_000


@pytest.mark.parametrize("loss", [0.005, 0.01, 0.03, 0.05])
def test_losses_of_a_bad_radio_do_not_choke_a_wide_link(loss: float) -> None:
    """Up to 10 % without a queue is noise, not congestion."""
    moments = drive(Link(lambda _: 50e6, loss=loss), 30)
    assert min(moment.target_bps for moment in moments) > 0.8 * MODEST.start_bps
    assert mean(moment.target_bps for moment in between(moments, 15, 30)) > 1_200_000


@pytest.mark.parametrize("capacity_bps", [500_000, 1_000_000])
def test_a_call_begins_without_filling_a_slow_link(capacity_bps: int) -> None:
    moments = drive(Link(lambda _: capacity_bps), 10, MODEST)
    assert max(moment.queue_s for moment in moments) < 0.3


def test_a_wide_link_is_found_within_seconds() -> None:
    moments = drive(Link(lambda _: 50e6), 8, MODEST)
    assert moments[-1].target_bps == MODEST.most_bps


def test_an_outage_is_not_taken_for_congestion() -> None:
    moments = drive(Link(lambda _: 50e6, down=(10, 12)), 20)
    before_bps = between(moments, 9.5, 10)[-1].target_bps
    assert between(moments, 12.5, 13)[0].target_bps > 0.7 * before_bps


def test_a_longer_way_costs_one_dip_only() -> None:
    """The path changes and takes 200 ms more: that is not a queue, and cannot be emptied."""
    rate = DelayRate(LIMITS)
    now_s = 0.0
    lowest_bps, rates = LIMITS.most_bps, []
    while now_s < 40:
        way_s = 0.02 if now_s < 15 else 0.22
        rate.packet(now_s, now_s + way_s, 6_000)
        bps = rate.update(now_s + way_s)
        if now_s > 15:
            lowest_bps = min(lowest_bps, bps)
        rates.append(bps)
        now_s += 1 / 30
    assert 0.35 * 1_440_000 < lowest_bps < 0.75 * 1_440_000  # of what was carried
    assert rates[-1] > 1_440_000


def test_computers_that_stop_for_a_moment_are_not_taken_for_queues() -> None:
    """Every second the receiver sees nothing for 150 ms, then all at once."""
    rate = DelayRate(LIMITS)
    rates = []
    for index in range(1_200):
        sent_s = index / 30
        arrived_s = sent_s + 0.02
        if sent_s % 1.0 > 0.8:
            arrived_s = max(arrived_s, sent_s - sent_s % 1.0 + 0.97 + index * 1e-6)
        rate.packet(sent_s, arrived_s, 6_000)
        rates.append(rate.update(arrived_s))
    assert min(rates) >= LIMITS.start_bps


def test_a_queue_that_came_too_slowly_for_the_trend_is_emptied() -> None:
    rate = DelayRate(LIMITS)
    lowest_bps = rate.bps
    for index in range(330):
        sent_s = index / 30
        rate.packet(sent_s, sent_s + 0.02 + min(sent_s * 0.016, 0.14), 6_000)
        lowest_bps = min(lowest_bps, rate.update(sent_s + 0.2))
        assert rate.trend.usage is not Usage.OVER
    assert lowest_bps == pytest.approx(0.6 * 1_440_000, rel=0.1)


def test_the_rate_does_not_run_ahead_of_what_is_sent() -> None:
    """An encoder that needs less says nothing of what the link would carry."""
    rate = DelayRate(LIMITS)
    for index in range(1_800):
        rate.packet(index / 30, index / 30 + 0.02, 5_000)
        rate.update(index / 30 + 0.02)
    assert rate.bps < 1.7 * 5_000 * 8 * 30


def test_heavy_loss_lowers_the_rate_and_little_loss_lets_it_grow() -> None:
    rate = LossRate(LIMITS)
    assert rate.report(0, 10, 0.0) == LIMITS.start_bps  # too few to say
    rate.report(0, 100, 0.5)
    grown_bps = rate.bps
    assert grown_bps > LIMITS.start_bps
    rate.report(5, 100, 1.0)
    assert rate.bps == grown_bps  # between 2 and 10 %
    rate.report(30, 100, 1.5)
    assert rate.bps == pytest.approx(0.85 * grown_bps)
    rate.report(100, 100, 2.0)
    assert rate.bps == pytest.approx(0.85 * grown_bps)  # an outage


def test_the_receivers_own_estimate_is_a_ceiling_for_a_while() -> None:
    rate = SendRate(LIMITS)
    rate.on_remb(700_000, 0.0)
    assert rate.target_bps(1.0) == 700_000
    assert rate.target_bps(20.0) == LIMITS.start_bps
    rate.on_remb(2**81, 21.0)
    assert rate.target_bps(21.0) == LIMITS.start_bps
    rate.on_remb(0, 22.0)
    assert rate.target_bps(22.0) == LIMITS.least_bps


def test_receiver_reports_count_only_without_feedback_on_packets() -> None:
    rate = SendRate(LIMITS)
    rate.on_report(0.5, 100, 0.0)
    rate.on_report(0.5, 100, 1.0)
    assert rate.target_bps(1.0) < LIMITS.start_bps
    rate = SendRate(LIMITS)
    rate.on_feedback([PacketFate(0.0, 0.02, 1_000)], 0.1)
    rate.on_report(0.5, 100, 0.2)
    rate.on_report(0.5, 100, 1.0)
    assert rate.target_bps(1.0) >= LIMITS.start_bps


def test_a_link_counts_as_free_only_after_a_second_of_good_news() -> None:
    rate = SendRate(LIMITS)
    assert not rate.is_free(5.0)
    rate.on_feedback([PacketFate(4.9, 5.0, 1_000)], 5.0)
    assert not rate.is_free(5.5)
    assert rate.is_free(6.1)
    rate.on_remb(1_000_000, 6.2)
    assert not rate.is_free(6.3)


def test_a_growing_time_on_the_way_is_noticed_and_a_steady_one_is_not() -> None:
    trend = Trend()
    for index in range(60):
        trend.add(index / 30, index / 30 + 0.05 + (0.001 if index % 2 else 0.0))
    assert trend.usage is Usage.NORMAL
    seen = [trend.add((60 + index) / 30, (60 + index) / 30 + 0.05 + index * 0.01) for index in range(30)]
    assert Usage.OVER in seen
    falling = [trend.add((90 + index) / 30, (90 + index) / 30 + 0.35 - index * 0.01) for index in range(30)]
    assert Usage.UNDER in falling


def test_after_a_hole_the_past_does_not_count() -> None:
    trend = Trend()
    for index in range(40):
        trend.add(index / 30, index / 30 + index * 0.01)
    assert trend.usage is Usage.OVER
    assert trend.add(30.0, 30.1) is Usage.NORMAL


def test_a_standing_queue_is_seen_and_a_longer_way_forgotten() -> None:
    standing = Standing()
    for index in range(100):
        standing.add(index / 30, index / 30 + (0.02 if index < 20 else 0.22))
    assert standing.queue_s == pytest.approx(0.2, rel=0.01)
    standing.forget()
    standing.add(4.0, 4.22)
    assert standing.queue_s == 0.0


def test_the_meter_tells_bits_per_second_and_is_bounded() -> None:
    meter = Meter()
    assert meter.bps(0.0) is None
    for index in range(20_000):
        meter.add(index / 20_000, 125)
    assert (meter.bps(1.0) or 0) > 10_000_000
    assert len(meter._seen) <= 4_096
    assert meter.bps(9.0) is None
