"""The arithmetic of benchmarks.live_quality, and that an engine which changes nothing is found to change nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.corpus import QUICK_CLIPS
from benchmarks.likeness import SessionSwapper
from benchmarks.live_quality import (
    Sample,
    TruthSwapper,
    gallery_of,
    looks_of,
    markdown,
    movement_errors,
    rank,
    sampled,
    summary,
    wanted,
)
from benchmarks.report import read_settings
from benchmarks.wanted import Line
from distill.evaluate.faces import FaceReader
from distill.evaluate.judge import Judge, judge_is_available
from distill.evaluate.swap_run import TASK
from engines import Status, load
from tests.benchmarks.people import short_clip, synthetic_person

ONE = Sample(
    "tiny", "t0001", "light", "clip", 3, True,
    to_identity=0.40, to_driver=0.80, rank=1.0, expression=0.3, movement=0.2, pose=1.0,
    warp=3.0, own_warp=2.0, light=1.0, own_light=2.0,
)  # fmt: skip
UNDRAWN = Sample("tiny", "t0001", "light", "clip", 4, False)


def test_what_was_not_drawn_counts_as_that_and_nothing_else() -> None:
    found = summary([ONE, UNDRAWN])
    assert found["drawn"] == 0.5
    assert found["to_identity"] == 0.40
    assert found["flicker"] == 1.5
    assert found["light"] == 0.5


def test_flicker_is_of_whole_swaps_so_that_a_still_frame_does_not_rule() -> None:
    still = replace(ONE, warp=0.2, own_warp=0.02)  # ten times the input's, of next to nothing
    assert summary([ONE, still])["flicker"] == pytest.approx(3.2 / 2.02)
    other = replace(ONE, person="t0002", warp=2.0)
    assert summary([ONE, still, other])["flicker"] == pytest.approx((3.2 / 2.02 + 1.0) / 2)


def test_who_is_as_near_as_the_right_one_counts_as_nearer() -> None:
    seen = np.zeros(2)
    gallery = {"own": np.array([0.4, 0.0]), "far": np.array([0.9, 0.0])}
    assert rank(seen, gallery, "own") == 1
    assert rank(seen, {**gallery, "same": np.array([0.0, 0.4])}, "own") == 2


def test_movement_is_without_the_form_of_the_face() -> None:
    driver = np.random.default_rng(0).random((4, 52))
    result = driver + np.linspace(0, 0.5, 52)  # another face that moves alike
    assert movement_errors(np.stack([driver, result], axis=1)) == pytest.approx([0.0] * 4)
    result[0, 7] += 0.4  # once, of four: its own mean takes a quarter of it
    assert movement_errors(np.stack([driver, result], axis=1)) == pytest.approx([0.3, 0.1, 0.1, 0.1])
    assert np.isnan(movement_errors(np.zeros((1, 2, 52)))).all()


def test_each_line_that_is_wanted_holds_and_fails_where_it_should() -> None:
    dark = replace(ONE, person="t0002", tone="dark", to_identity=0.44)
    lines = {line.what: line for line in wanted([ONE, dark], [replace(ONE, expression=0.6)])}
    assert lines["identity to result"].found == pytest.approx(0.42)
    assert lines["worst skin tone, identity to result over the mean"].found == pytest.approx(0.02)
    assert lines["blendshape error over the other engine's"].found == pytest.approx(0.5)
    assert not lines["flicker over the input's own"].holds
    assert all(line.holds for name, line in lines.items() if "flicker" not in name)
    assert not any(line.holds for line in wanted([UNDRAWN], [])), "nothing found is nothing shown"
    assert Line("x", 0.89, 0.90, at_most=False).holds is False


def test_the_report_names_every_engine_and_holds_only_the_learned_one_to_what_is_wanted() -> None:
    text = markdown([ONE, UNDRAWN, replace(ONE, engine="proxy")], "proxy", ["facts"])
    assert "## tiny, wanted" in text
    assert "## proxy, wanted" not in text
    assert "| light | proxy |" in text


def test_of_rendered_people_nothing_is_said_by_skin_tone() -> None:
    text = markdown([ONE, replace(ONE, engine="truth"), replace(ONE, engine="proxy")], "proxy", [], rendered=True)
    assert "skin tone" not in text
    assert "## truth, wanted" in text


def test_the_truth_is_shown_frame_by_frame(shared_data: Path) -> None:
    footage, wearer = short_clip(shared_data), synthetic_person(shared_data)
    truth = tuple(np.ascontiguousarray(rgb[:, ::-1]) for rgb in footage.frames)
    shown = list(TruthSwapper(truth).swap(wearer, footage, frozenset({2, 1})))
    assert [(index, status) for index, _, status in shown] == [(1, Status.DRAWN), (2, Status.DRAWN)]
    assert all(np.array_equal(rgb, truth[index]) for index, rgb, _ in shown)


@pytest.mark.long
@pytest.mark.skipif(not judge_is_available(), reason="the extra eval is not installed")
def test_an_engine_that_changes_nothing_is_read_as_the_input(shared_data: Path) -> None:
    judge, reader, wearer = Judge(), FaceReader(shared_data / TASK), synthetic_person(shared_data)
    session = load(read_settings("passthrough", ("label=false", "label_off_reason=a test")))
    session.marker = None
    try:
        footage = short_clip(shared_data)
        looks = looks_of(judge, reader, footage, 2)
        gallery, _ = gallery_of(judge, [wearer], shared_data, 2)
        found = sampled("passthrough", SessionSwapper(session), judge, reader, wearer, gallery, footage, looks)
    finally:
        session.close()
        reader.close()
    assert len(gallery) == 3
    assert found
    for one in found:
        assert (one.expression, one.movement, one.pose, one.to_driver) == (0, 0, 0, 0)
        assert one.warp == one.own_warp > 0
    assert QUICK_CLIPS[0].endswith(f"{footage.name}.mp4")
