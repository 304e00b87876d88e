"""Latency figures: what is counted, and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import read_settings, table, write_report
from benchmarks.step_latency import figures_of, fitted, markdown, percentiles, there_and_back, time_clip
from engines import SettingError, SwapSettings, load
from tests.benchmarks.people import FRAMES, short_clip


def test_passthrough_is_timed_on_a_real_clip(shared_data: Path) -> None:
    frames = [fitted(rgb, 320, 240) for rgb in short_clip(shared_data).frames]
    session = load(SwapSettings(engine="passthrough"))
    timing = time_clip(session, "single_face", frames, FRAMES)
    assert len(timing.step_ms) == FRAMES
    assert timing.statuses == {"drawn": FRAMES}
    assert timing.frames_per_s > 0
    assert set(timing.stage_ms) >= {"draw", "label"}
    assert all(len(values) == FRAMES for values in timing.stage_ms.values())
    assert "## Stages on single_face" in markdown([timing], "a test", "Load unknown")
    assert "single_face" in figures_of([timing])


def test_clips_run_forward_and_back() -> None:
    frames = [np.full((1, 1, 3), value, np.uint8) for value in range(3)]
    assert [int(rgb[0, 0, 0]) for rgb in there_and_back(frames, 7)] == [0, 1, 2, 1, 0, 1, 2]
    assert len(there_and_back(frames[:1], 4)) == 4


def test_a_wide_clip_is_padded_and_not_stretched() -> None:
    picture = fitted(np.full((90, 160, 3), 255, np.uint8), 64, 48)
    assert picture.shape == (48, 64, 3)
    assert np.array_equal(picture[0, 0], (114, 114, 114))
    assert (picture[6:42] == 255).all()


def test_percentiles() -> None:
    assert percentiles(list(range(101))) == (50, 95, 99)


def test_settings_are_read_from_words() -> None:
    settings = read_settings("passthrough", ("tone=mix", "label=false", "hold_ms=100"))
    assert (settings.engine, settings.tone, settings.label, settings.hold_ms) == ("passthrough", "mix", False, 100)
    with pytest.raises(SettingError, match="tone"):
        read_settings("passthrough", ("tonne=mix",))
    with pytest.raises(SettingError, match="key=value"):
        read_settings("passthrough", ("tone",))


def test_reports_are_dated_and_come_in_two_forms(tmp_path: Path) -> None:
    path = write_report("a-test", table(("a", "b"), [(1, float("nan"))]), {"b": float("nan"), "c": 0.12345}, tmp_path)
    assert path.read_text(encoding="utf-8") == "| a | b |\n|---|---|\n| 1 | - |\n"
    assert '"b": null' in path.with_suffix(".json").read_text(encoding="utf-8")
    assert path.name.endswith("-a-test.md")
