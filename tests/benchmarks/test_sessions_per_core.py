"""How many calls are held is said by what was seen."""

from __future__ import annotations

import os
import sys

import pytest

from benchmarks.sessions_per_core import Load, on_cores, report


def load(calls: int, fps: float = 30.0, age_ms: float = 20.0) -> Load:
    return Load(1, 1, "640x480", calls, fps, 10.0, age_ms, 0.2 * calls, 0.2)


def test_a_call_is_held_by_its_worst_figures() -> None:
    assert load(1).is_held
    assert not load(1, fps=28.0).is_held
    assert not load(1, age_ms=101.0).is_held


def test_the_report_names_the_most_that_were_held() -> None:
    text = report([load(1), load(2), load(3), load(4, fps=20.0)])
    assert "1 server(s) with 1 core(s), 640x480 at 30: **3 calls**" in text
    assert "**0 calls**" in report([load(1, fps=5.0)])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems pin no processes")
def test_cores_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    with on_cores([min(before)]):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before
