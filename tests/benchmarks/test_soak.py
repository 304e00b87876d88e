"""Connects and soak say what is worse, and only that."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from benchmarks.connects import Result
from benchmarks.server_watch import Census, metric
from benchmarks.soak import Sample, Soak

CALM = Census(calls=0, descriptors=20, threads=10, processes=1, tasks=6, memory_mb=200.0, lags=0)


def test_one_metric_is_read() -> None:
    text = '# HELP vividstream_calls calls\nvividstream_calls 3\nvividstream_lag_bucket{le="0.1"} 7\n'
    assert metric(text, "calls") == 3
    assert metric(text, "lag_bucket", 'le="0.1"') == 7
    assert metric(text, "lag_bucket", 'le="0.2"') is None
    assert metric(text, "tasks") is None


def soak(memory_mb: list[float], age_ms: list[float], pictures: int = 100, after: Census = CALM) -> Soak:
    samples = [
        Sample(300.0 * n, replace(CALM, memory_mb=mb), (pictures, 100), (ms, 10.0))
        for n, (mb, ms) in enumerate(zip(memory_mb, age_ms))
    ]
    return Soak(CALM, after, samples)


def test_a_calm_soak_has_no_faults() -> None:
    assert soak([150, *[200, 205, 195] * 3], [90, *[10, 12, 11] * 3]).faults() == []


def test_what_is_worse_is_said() -> None:
    steady = [200.0] * 10
    assert "memory" in soak([200 + 5 * n for n in range(10)], steady).faults()[0]
    assert "age p95 of call 1" in soak(steady, [10.0 * n for n in range(10)]).faults()[0]
    assert "without pictures" in soak(steady, steady, pictures=0).faults()[0]
    left = replace(CALM, descriptors=21, tasks=7, calls=1)
    assert soak(steady, steady, after=left).faults() == [
        "descriptors: 20 before, 21 after", "tasks: 6 before, 7 after", "1 calls have not ended",
    ]  # fmt: skip


def test_ages_do_not_count_while_other_programs_have_the_processors() -> None:
    steady = [200.0] * 10
    late = soak(steady, [10.0 * n for n in range(10)], pictures=0)

    def seen(waited_share: float, used_share: float) -> list[str]:
        late.samples = [replace(one, waited_share=waited_share, used_share=used_share) for one in late.samples]
        return late.faults()

    assert len(seen(0.05, 0.1)) == 2
    assert len(seen(0.5, 0.9)) == 2, "the server itself has them"
    assert seen(0.5, 0.1) == []
    growing = soak([200 + 5.0 * n for n in range(10)], steady)
    growing.samples = [replace(one, waited_share=0.5) for one in growing.samples]
    assert "memory" in growing.faults()[0], "memory counts always"


def connects(made: int, *watched: Census) -> Result:
    return Result(Counter(delete=made), watched=list(enumerate(watched)))


def test_connects_are_compared_with_before() -> None:
    assert connects(1_000, *[CALM] * 9).faults() == []
    assert connects(10, CALM, replace(CALM, descriptors=25)).faults() == ["descriptors: 20 before, 25 after"]
    assert connects(10, CALM, replace(CALM, threads=14)).faults() == [], "helpers of asyncio's pool"
    assert connects(10, CALM, replace(CALM, threads=15)).faults() == ["threads: 10 before, 15 after"]
    growing = [replace(CALM, memory_mb=200.0 + 4 * n) for n in range(20)]
    assert "memory" in connects(1_000, *growing).faults()[0]
    assert connects(100, *growing).faults() == [], "too few to say"
