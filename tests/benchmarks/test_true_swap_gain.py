"""The arithmetic of benchmarks.true_swap_gain."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from benchmarks.true_swap_gain import gains, report, wanted
from distill.evaluate.held_out import POSES
from distill.evaluate.true_swap_report import Figures, Measured, Report

ZERO = Figures(**{one.name: 0.0 for one in fields(Figures)})


def frame(number: int, db: float | None, pose: str = POSES[0], front: str = "none") -> Measured:
    figures = None if db is None else replace(ZERO, face_psnr=db)
    return Measured(0, number, pose, "even", "none", front, db is not None, figures, None, ZERO, 0.0)


def made(*frames: Measured, fingerprint: str = "one") -> Report:
    return Report("engine", "identity", 256, True, fingerprint, frames, ())


def test_only_frames_that_both_drew_are_compared() -> None:
    mine = made(frame(0, 24.0), frame(1, 40.0), frame(2, None), frame(3, 26.0))
    theirs = made(frame(0, 20.0), frame(1, None), frame(2, 20.0), frame(3, 24.0))
    found = gains(mine, theirs)[0]
    assert (found.group, found.frames, found.gain_db, found.median_db) == ("all", 2, 3.0, 3.0)
    assert (found.mine_db, found.theirs_db, found.drawn, found.theirs_drawn) == (25.0, 22.0, 0.75, 0.75)


def test_every_pose_and_what_is_in_front_has_its_line() -> None:
    mine = made(*(frame(place, 24.0, pose) for place, pose in enumerate(POSES)), frame(9, 21.0, front="hand"))
    theirs = made(*(frame(place, 20.0, pose) for place, pose in enumerate(POSES)), frame(9, 20.0, front="hand"))
    lines = {line.what.removeprefix("gain, dB: "): line for line in wanted(gains(mine, theirs))}
    assert {f"turned {pose} degrees" for pose in POSES} <= set(lines)
    assert lines["nothing in front"].found == 4.0
    assert lines["... a hand"].holds is False
    assert lines["... a held thing"].holds is False, "what no frame shows, nothing is said of"
    assert not any("glasses" in name or "light" in name for name in lines)
    assert "| ... a hand | 1 |" in report("tiny", "proxy", gains(mine, theirs))


def test_other_swaps_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different swaps"):
        gains(made(), made(fingerprint="two"))
