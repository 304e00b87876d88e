"""What benchmarks.inswapper_work counts, and that its graph is one: the work of the published network, no less."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import inswapper_work
from benchmarks.inswapper_work import (
    HALF,
    WHOLE,
    Big,
    Timed,
    convolutions,
    multiply_adds,
    report,
    times_faster,
    wanted,
    weights,
)


def test_the_work_is_as_large_as_what_is_published() -> None:
    assert multiply_adds(WHOLE) / 1e9 == pytest.approx(174.7, rel=0.002)
    assert 2 * multiply_adds(HALF) / 1e9 == pytest.approx(174.7, rel=0.004)
    count = sum(conv.out * conv.into * conv.kernel_px**2 + conv.out for conv in convolutions(WHOLE))
    count += WHOLE * inswapper_work.SOURCE * 2 * inswapper_work.WIDTH
    assert count / 1e6 == pytest.approx(138.3, rel=0.001)


def test_frames_a_second_are_compared_by_medians() -> None:
    mine = Timed("tiny", [10.0, 12.0, 500.0], [6.0], [20.0])
    big = Timed("big", [120.0], [120.0], [240.0])
    assert (times_faster(mine, big), times_faster(mine, big, "network")) == (10.0, 20.0)
    assert times_faster(mine, big, "cpu") == 12.0
    assert np.isnan(times_faster(Timed("proxy", [10.0], [], [9.0]), big, "network"))
    assert [line.holds for line in wanted(mine, big)] == [True]
    assert [line.holds for line in wanted(Timed("slow", [16.0]), big)] == [False]
    assert "| tiny / big | 10.000 | 20.000 | 12.000 |" in report([mine], {WHOLE: big, HALF: big}, "2 threads")


@pytest.mark.parametrize("styled", [WHOLE, HALF])
def test_the_graph_runs_and_wears_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, styled: int) -> None:
    pytest.importorskip("onnx", reason="the extra train is not installed")
    monkeypatch.setattr(inswapper_work, "WIDTH", 32)
    monkeypatch.setattr(inswapper_work, "SIDE_PX", 32)
    big = Big(tmp_path, styled, 1)
    shown = big.step()
    assert shown.shape == (1, 3, 32, 32)
    assert 0.05 < float(np.abs(shown).mean()) < 0.95, "neither dead nor saturated"
    big._given = {**big._given, "source": -np.asarray(big._given["source"])}
    assert np.abs(big.step() - shown).mean() > 0.01
    assert len(big.timed.whole_ms) == 2
    assert not list(tmp_path.iterdir())
    big.close()
    assert sum(name.endswith(".style") for name, _ in weights(styled)) == styled
