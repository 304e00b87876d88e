"""A server in a process of its own, for a while: calls that stay, come, go and are harmed leave it as it was.

The long forms are what CI runs at night: two hours, and a thousand connects and disconnects.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import aioice.ice
import pytest

from benchmarks import connects, soak
from benchmarks.call_latency import server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts what a process holds in /proc")


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@pytest.fixture
def serving() -> Iterator[tuple[str, int]]:
    with server("ours", "passthrough", connects.OPTIONS) as running:
        yield running


def soaked(serving: tuple[str, int], minutes: float) -> None:
    seen = asyncio.run(soak.soak(*serving, minutes, seed=1))
    assert seen.faults() == [], soak.report(seen, minutes)
    assert seen.made.total() - seen.made["refused"] >= 2
    assert seen.harm.total() >= 1


@pytest.mark.timeout(120)
def test_a_short_soak(serving: tuple[str, int]) -> None:
    soaked(serving, 0.15)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_soak_of_five_minutes(serving: tuple[str, int]) -> None:
    soaked(serving, 5)


@pytest.mark.long
@pytest.mark.timeout(9_000)
def test_a_soak_of_two_hours(serving: tuple[str, int]) -> None:
    soaked(serving, 120)


@pytest.mark.long
@pytest.mark.timeout(3_000)
def test_a_thousand_connects_and_disconnects(serving: tuple[str, int]) -> None:
    seen = asyncio.run(connects.measure(*serving, count=1_000, at_once=4, seed=1))
    assert seen.faults() == [], connects.report(seen)
    assert set(seen.made) == {"delete", "close", "vanish", "early", "never"}
