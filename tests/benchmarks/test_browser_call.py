"""The arithmetic of benchmarks.browser_call: samples from counters, growth, and which lines hold."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.browser_call import (
    HEIGHT_PX,
    WIDTH_PX,
    Measured,
    Moment,
    Sample,
    Start,
    busy_s,
    drawn_count,
    growth,
    report,
    sample,
    wanted,
    write_camera,
)  # fmt: skip
from benchmarks.server_watch import Census

HELD = Census(calls=1, descriptors=40, threads=20, processes=2, tasks=30, memory_mb=512.0, lags=0)
GOOD = Sample(10.0, 28.0, 28.0, 0, 60.0, 90.0, 80.0, 500.0, 1.0, 0.4, 0.1, 30.0, 640.0)
START = Start(1.0, 1.4, 2.5, 2.4)


def seen(**data: str) -> dict[str, object]:
    return {"shownMs": [0.0, 40.0, 80.0, 400.0], "width": 640, "data": data}


def test_a_sample_is_what_two_moments_differ_by() -> None:
    before, now = Moment(100.0, 50.0, 3.0, 5.0, 10.0), Moment(110.0, 300.0, 11.0, 17.0, 27.0)
    page = seen(ageKind="camera-to-screen", ageP50Ms="70", ageP95Ms="110", serverAgeP95Ms="80")
    found = sample(before, now, 90.0, page, HELD, 30.0)
    assert (found.at_s, found.drawn_per_s, found.shown_per_s, found.freezes) == (20.0, 25.0, 0.4, 1)
    assert (found.server_cores, found.browser_cores, found.other_cores) == pytest.approx((0.8, 0.4, 0.5))
    assert (found.age_p50, found.age_p95, found.memory_mb, found.width_px) == (70.0, 110.0, 512.0, 640.0)


def test_an_age_that_is_not_of_the_screen_is_none() -> None:
    moments = Moment(0.0, 0.0, 0.0, 0.0, 0.0), Moment(1.0, 0.0, 0.0, 0.0, 0.0)
    found = sample(*moments, 0.0, seen(ageKind="in-the-server", ageP50Ms="5", ageP95Ms="6"), HELD, 30.0)
    assert math.isnan(found.age_p50)
    assert math.isnan(found.server_age_p95)


def test_growth_is_of_thirds_without_the_first_value() -> None:
    assert growth([99.0, 1.0, 2.0, 3.0, 9.0, 9.0, 9.0, 4.0, 5.0, 6.0]) == (2.0, 5.0)
    assert growth([7.0]) == (7.0, 7.0)


def test_each_line_fails_by_itself() -> None:
    good = [replace(GOOD, at_s=10.0 * number) for number in range(10)]
    assert all(line.holds for line in wanted([START], good))
    broken = {
        "first picture": wanted([replace(START, first_s=3.2)], good),
        "drawn pictures": wanted([START], [replace(one, drawn_per_s=20.0) for one in good]),
        "shown pictures": wanted([START], [replace(one, shown_per_s=20.0) for one in good]),
        "width": wanted([START], [replace(one, width_px=320.0) for one in good]),
        "age p50": wanted([START], [replace(one, age_p50=95.0) for one in good]),
        "age p95, ms, median": wanted([START], [replace(one, age_p95=151.0) for one in good]),
        "age p95, ms, last": wanted([START], [replace(one, age_p95=70.0 + one.at_s) for one in good]),
        "memory, MB, at most": wanted([START], [replace(one, memory_mb=1001.0) for one in good]),
        "memory, MB, last": wanted([START], [replace(one, memory_mb=500.0 + one.at_s) for one in good]),
    }
    for name, lines in broken.items():
        assert [line.what for line in lines if not line.holds] == [one.what for one in lines if name in one.what], name
    assert len(broken) == len(wanted([START], good)), "a line that no case here breaks"


def test_an_age_that_nobody_knows_holds_nothing() -> None:
    lines = wanted([START], [replace(GOOD, age_p50=math.nan)])
    assert [line.what for line in lines if not line.holds] == ["age p50, ms, median of all windows"]


def test_what_the_server_counts_and_the_machine() -> None:
    text = 'vividstream_shown_total{call="1",what="standby"} 7\nvividstream_shown_total{call="1",what="drawn"} 41\n'
    assert drawn_count(text) == 41
    assert drawn_count("") == 0
    assert busy_s() > 0


def test_the_camera_shows_whole_pictures_forth_and_back(tmp_path: Path) -> None:
    rgbs = [np.full((90, 160, 3), level, np.uint8) for level in (0, 100, 200)]
    write_camera(rgbs, tmp_path / "camera.y4m")
    size = len(b"FRAME\n") + HEIGHT_PX * WIDTH_PX * 3 // 2
    content = (tmp_path / "camera.y4m").read_bytes()
    head = content.index(b"\n") + 1
    assert len(content) == head + 4 * size
    assert [content[head + 10 + place * size] for place in (1, 3)] == [content[head + 10 + size]] * 2


def test_the_report_holds_a_cold_start_to_no_time() -> None:
    warm = report([Measured("tiny", False, [START], [GOOD])], "clip")
    cold = report([Measured("tiny", True, [START], [])], "clip")
    assert "first picture" in warm
    assert "nothing compiled before" in cold
    assert "wanted" not in cold
