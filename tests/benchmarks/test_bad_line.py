"""The bad line of the impairment benchmark loses, delays and throttles as it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bad_line import UDP, Queue, Way, can_run

ROOT = Path(__file__).parents[2]


def packet(size_bytes: int = 1000, protocol: int = UDP) -> bytes:
    return bytes(9) + bytes([protocol]) + bytes(size_bytes - 10)


def test_packets_come_out_after_the_delay_and_in_order() -> None:
    queue = Queue(1, Way(delay_s=0.1))
    for number in range(3):
        queue.put(packet(100 + number), number * 0.01)
    assert queue.next_s == pytest.approx(0.1)
    assert queue.take(0.0999) == []
    assert [len(data) for data in queue.take(0.115)] == [100, 101]
    assert [len(data) for data in queue.take(1.0)] == [102]
    assert queue.carried_bytes == 303


def test_the_throttle_keeps_its_rate_and_drops_what_waits_too_long() -> None:
    queue = Queue(1, Way(bits_per_s=80_000, queue_s=0.31))  # one packet of 1000 bytes in 100 ms
    for _ in range(10):
        queue.put(packet(), 0.0)
    assert queue.dropped == 6
    assert [len(queue.take(at_s)) for at_s in (0.05, 0.1001, 0.2001, 1.0)] == [0, 1, 1, 2]


def test_losses_are_as_often_as_asked_and_the_same_in_every_run() -> None:
    runs = []
    for _ in range(2):
        queue = Queue(3, Way(loss=0.05))
        runs.append([len(data) for at in range(20_000) for data in _through(queue, at)])
    assert runs[0] == runs[1]
    assert len(runs[0]) == pytest.approx(19_000, abs=150)


def _through(queue: Queue, at: int) -> list[bytes]:
    queue.put(packet(20 + at % 7), float(at))
    return queue.take(float(at))


def test_signalling_is_spared_and_a_dead_line_spares_nothing() -> None:
    queue = Queue(1, Way(loss=1.0))
    queue.put(packet(protocol=6), 0.0)
    assert len(queue.take(0.0)) == 1
    queue.way = Way(dead=True)
    queue.put(packet(protocol=6), 0.0)
    assert queue.take(9.0) == []


@pytest.mark.long
@pytest.mark.timeout(180)
def test_a_call_over_a_real_bad_line() -> None:
    fault = can_run()
    if fault is not None:
        pytest.skip(fault)
    command = "-m benchmarks.impairment --loss 1 --rtt 80 --mbit 3 --outage 0.5 --steady 10".split()
    ran = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "Calls that could not be made: 0" in ran.stdout
    assert "Recoveries within 1 s after an outage: 1 of 1" in ran.stdout, ran.stdout
