"""Progress lines and stage times: what is said, and when."""

from __future__ import annotations

import io
import random

import pytest

from streamer.progress import LINE_EVERY_S, Progress, clock_text, progress_text
from streamer.stage_times import StageTimes


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (754, "12:34"), (3723, "1:02:03"), (-3, "0:00"), (59.6, "1:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


@pytest.mark.parametrize(
    ("done", "total", "elapsed_s", "text"),
    [
        (0, 100, 0.0, "  0% [........................] 0/100 frames, 0.0 fps, --:-- left"),
        (50, 100, 2.0, " 50% [############............] 50/100 frames, 25.0 fps, 0:02 left"),
        (100, 100, 4.0, "100% [########################] 100/100 frames, 25.0 fps, 0:00 left"),
        (120, 100, 4.0, "100% [########################] 120/120 frames, 30.0 fps, 0:00 left"),
        (3, 100, 0.5, "  3% [........................] 3/100 frames, 6.0 fps, --:-- left"),
        (30, 0, 10.0, "30 frames, 3.0 fps, 0:10 so far"),
    ],
)
def test_line(done: int, total: int, elapsed_s: float, text: str) -> None:
    assert progress_text(done, total, elapsed_s) == text


def test_a_terminal_gets_a_bar_that_is_redrawn_and_wiped_before_words() -> None:
    to = Terminal()
    progress = Progress(to, 100, start_s=0.0)
    for done in range(1, 101):
        progress.show(done, done * 0.02)
    progress.say("done")
    written = to.getvalue()
    assert written.count("\r") == 9 + 2
    assert written.count("\n") == 1
    assert written.endswith("\rdone\n")
    assert " 20% [####" in written


def test_elsewhere_a_line_comes_now_and_then() -> None:
    to = io.StringIO()
    progress = Progress(to, 0, start_s=0.0)
    for second in range(1, 36):
        progress.show(second, float(second))
    lines = to.getvalue().splitlines()
    assert len(lines) == 35 // LINE_EVERY_S
    assert "\r" not in to.getvalue()


def test_percentiles_are_within_one_percent_and_memory_is_bounded() -> None:
    chance = random.Random(4)
    values = [chance.lognormvariate(2, 1) for _ in range(20_000)]
    times = StageTimes()
    for value in values:
        times.add("draw", value)
    values.sort()
    summary = times.summary()["draw"]
    assert summary.count == 20_000
    assert summary.p50_ms == pytest.approx(values[9_999], rel=0.011)
    assert summary.p95_ms == pytest.approx(values[18_999], rel=0.011)
    assert summary.p99_ms == pytest.approx(values[19_799], rel=0.011)
    assert len(times._bins["draw"]) < 1_500


def test_stages_come_in_the_order_of_their_first_use() -> None:
    times = StageTimes()
    times.add_all({"track": 1.0, "draw": 0.0})
    times.add_all({"label": 0.1, "draw": 2.0})
    assert list(times.summary()) == ["track", "draw", "label"]
    assert times.summary()["draw"].count == 2
