"""The benchmark's own honesty: the truth scores as the truth, and what was not drawn is not measured."""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.evaluate import true_swap
from distill.evaluate.held_out import PASSING, VERSION, HeldOut, held_out
from distill.evaluate.judge import Judge, dlib_box, judge_is_available, overlap
from distill.evaluate.metrics import face_width_px
from distill.evaluate.true_swap import LEAST_HIDDEN, compare, front, progress, stranger
from distill.evaluate.true_swap_clip import (
    Rendered,
    behind,
    in_front_of_face,
    inside_face,
    outlined,
    passing,
    render_clip,
)
from distill.evaluate.true_swap_report import Figures, Measured, Report, groups, markdown, mean_figures, summary, write
from distill.people.assets import Assets, Part, load_assets
from engines import SwapSettings

SIDE_PX = 160
pytestmark = pytest.mark.timeout(400)  # reads all that people are made of, and compiles


@pytest.fixture(scope="module")
def assets(shared_data: Path) -> Assets:
    return load_assets(shared_data)


@pytest.fixture(scope="module")
def swap() -> HeldOut:
    """A frontal held-out swap, two frames long."""
    first = held_out(quick=True)[0]
    drawn = first.triplet
    short = replace(drawn, **{name: getattr(drawn, name)[:2] for name in ("target", "truth", "worn", "twin")})
    return replace(first, triplet=short)


@pytest.fixture(scope="module")
def rendered(assets: Assets, swap: HeldOut) -> Rendered:
    driver, truth, whole = (
        render_clip(assets, shots, SIDE_PX) for shots in (swap.triplet.target, swap.triplet.worn, swap.triplet.truth)
    )
    return Rendered(swap, (), driver, truth, whole)


def test_the_truth_itself_scores_as_the_truth(rendered: Rendered) -> None:
    measured = compare(rendered, [(rgb, True) for rgb in rendered.truth.rgb])
    for one in measured:
        assert one.figures is not None
        assert one.figures.face_psnr == one.figures.frame_psnr == 99
        assert one.figures.face_ssim == pytest.approx(1)
        assert one.figures.colour == one.figures.seam == 0
        assert one.figures.landmarks == pytest.approx(one.tracker, nan_ok=True)
    assert math.isnan(measured[0].unswapped.temporal)
    assert measured[1].figures is not None
    assert measured[1].figures.temporal == 0


def test_the_driver_unswapped_is_no_swap(rendered: Rendered) -> None:
    measured = compare(rendered, [(rgb, True) for rgb in rendered.driver.rgb])
    for one in measured:
        assert one.figures is not None
        assert one.figures.face_psnr == one.unswapped.face_psnr < 30
        assert one.figures.colour > 3


def test_what_was_not_drawn_is_not_measured(rendered: Rendered) -> None:
    grey = np.full_like(rendered.truth.rgb[0], 128)
    measured = compare(rendered, [(rendered.truth.rgb[0], True), (grey, False)])
    assert measured[1].figures is None
    assert measured[1].whole is None
    report = Report("proxy", "identity", SIDE_PX, True, "x", tuple(measured), ())
    assert dict(groups(measured)).keys() >= {"all", "turned 45-75 degrees", "something in front"}
    text = markdown(report, "versions")
    assert re.search(r"^\| all +\| +2 \| +0\.500 \| +99\.00 \|", text, re.MULTILINE)
    table = [line for line in text.splitlines() if line.startswith("|")][:5]
    assert len({len(line) for line in table}) == 1, "columns stand under each other in a terminal"


def test_the_mask_is_the_face_alone(rendered: Rendered) -> None:
    mask = inside_face(rendered.truth, 0)
    points = rendered.truth.landmarks[0]
    assert mask[round(float(points[4, 1])), round(float(points[4, 0]))]  # the tip of the nose
    assert not mask[0].any()
    assert not mask[rendered.truth.parts[0] == int(Part.HAIR)].any()
    width = face_width_px(points)
    assert 0.4 < mask.sum() / width**2 < 1.6


@pytest.mark.parametrize("number", PASSING)
def test_what_passes_covers_a_part_of_the_face_moves_and_is_the_same_before_target_and_truth(
    number: int, assets: Assets
) -> None:
    swap = held_out()[number]
    assert swap.passing is not None
    clear = render_clip(assets, swap.triplet.target, 64)
    before = passing(number, swap.passing, clear)
    assert np.array_equal(before.mask_THW, passing(number, swap.passing, clear).mask_THW)
    covered = behind(clear, before)
    shares = np.array([in_front_of_face(covered, i).sum() / outlined(covered, i).sum() for i in range(len(clear.rgb))])
    assert 0.12 < shares.max() < 0.6, "it hides something, and leaves enough to swap"
    assert (shares > LEAST_HIDDEN).sum() >= 6
    inverted = tuple(np.array(255 - rgb, np.uint8) for rgb in clear.rgb)
    other = behind(replace(clear, rgb=inverted, person=np.zeros_like(clear.person)), before)
    for i, mask in enumerate(before.mask_THW):
        assert np.array_equal(covered.rgb[i][mask == 255], other.rgb[i][mask == 255])
        beside = (mask == 0) & (clear.person[i] == 0)
        assert np.array_equal(covered.rgb[i][beside], clear.rgb[i][beside]), "no shadow on what is far behind"
        assert not (inside_face(covered, i) & (mask >= 128)).any()


def test_only_frames_that_are_hidden_count_as_such(rendered: Rendered) -> None:
    passing_ = PASSING[1]
    clip = rendered.truth
    covered = np.zeros(clip.parts.shape, np.uint8)
    covered[1][outlined(clip, 1)] = 200
    hidden = replace(rendered, swap=replace(rendered.swap, passing=passing_), truth=replace(clip, covered=covered))
    assert [front(hidden, i) for i in range(2)] == ["none", "hand"]
    assert [front(rendered, i) for i in range(2)] == ["none", "none"]
    assert not inside_face(hidden.truth, 1).any()


def test_painting_over_a_thing_is_seen(rendered: Rendered) -> None:
    """An engine that draws the face over a hand scores badly on the hand, and one that leaves it alone perfectly."""
    clip = rendered.truth
    covered = np.zeros(clip.parts.shape, np.uint8)
    covered[:, : SIDE_PX // 2] = 255
    red = [
        np.where(covered[i][..., None] > 0, np.array([200, 30, 30], np.uint8), rgb) for i, rgb in enumerate(clip.rgb)
    ]
    hidden = replace(
        rendered,
        swap=replace(rendered.swap, passing=PASSING[1]),
        truth=replace(clip, rgb=tuple(red), covered=covered),
    )
    careful = compare(hidden, [(rgb, True) for rgb in red])
    careless = compare(hidden, [(rgb, True) for rgb in clip.rgb])
    for good, bad in zip(careful, careless, strict=True):
        assert good.front == bad.front == "hand"
        assert good.figures is not None
        assert bad.figures is not None
        assert good.figures.thing == 0
        assert bad.figures.thing > 20
        assert bad.figures.face_psnr == 99, "the face that can be seen is right"


def test_the_judge_tells_the_true_face_from_the_drivers(rendered: Rendered) -> None:
    if not judge_is_available():
        pytest.skip("needs the extra eval")
    judge = Judge()
    assert stranger(judge, rendered.truth.rgb[0], rendered.truth, 0) == 0
    assert stranger(judge, rendered.driver.rgb[0], rendered.truth, 0) > 0.3
    box = dlib_box(rendered.truth.landmarks[0])
    found = judge.find(rendered.truth.rgb[0])
    assert found is not None
    assert overlap(found, box) > 0.6
    measured = compare(rendered, [(rgb, True) for rgb in rendered.driver.rgb], judge)
    assert measured[0].unswapped.identity > 0.3
    assert measured[0].figures is not None
    assert measured[0].figures.identity == measured[0].unswapped.identity


def test_the_whole_run_measures_passthrough_as_no_swap(
    shared_data: Path, tmp_path: Path, swap: HeldOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos, enrolment, session, figures, pictures: with an engine whose result is known."""
    monkeypatch.setattr(true_swap, "held_out", lambda quick: [swap])
    said: list[str] = []
    settings = SwapSettings(engine="passthrough", label=False)
    report = true_swap.run(shared_data, settings, True, said.append, tmp_path / "pictures")
    assert (report.engine, report.refused, len(report.frames)) == ("passthrough", (), 2)
    for one in report.frames:
        assert one.drawn
        assert repr(one.figures) == repr(one.unswapped)
    assert said[-1] == "swap 1 of 1: 2 of 2 frames drawn"
    (picture,) = (tmp_path / "pictures").iterdir()
    with Image.open(picture) as row:
        assert row.size == (5 * 256, 256)


def test_enrolment_takes_the_photos_that_show_a_face(assets: Assets, swap: HeldOut) -> None:
    wall = np.full((384, 384, 3), 120, np.uint8)
    photo = render_clip(assets, swap.triplet.sources[:1], 384).rgb[0]
    assert true_swap.enrol([wall, wall], 0) is None
    identity = true_swap.enrol([wall, photo], 0)
    assert identity is not None
    assert identity.manifest.synthetic


def test_progress_says_what_is_left() -> None:
    assert progress(3, 24, "16 of 16 frames drawn", 30) == "swap 3 of 24: 16 of 16 frames drawn; about 4 min left"
    assert progress(5, 6, "x", 50) == "swap 5 of 6: x; about 10 s left"
    assert progress(6, 6, "x", 60) == "swap 6 of 6: x"


def figures(value: float) -> Figures:
    return Figures(*[value] * len(fields(Figures)))


def test_what_could_not_be_measured_does_not_count() -> None:
    mean = mean_figures([figures(1.0), replace(figures(3.0), landmarks=math.nan)])
    assert mean["face_psnr"] == 2
    assert mean["landmarks"] == 1
    assert all(math.isnan(value) for value in mean_figures([]).values())


def test_a_report_is_written_as_text_and_json(tmp_path: Path) -> None:
    one = Measured(0, 0, "20-45", "hard", "none", "none", True, figures(1.0), None, figures(2.0), math.nan)
    report = Report("proxy", "identity", 256, True, "abc", (one,), (7,))
    path = write(report, tmp_path / "new", "versions 1")
    assert path.name.endswith("-true-swap-proxy.md")
    text = path.read_text(encoding="utf-8")
    assert "Refused at enrolment: 7" in text
    assert "fingerprint `abc`" in text
    read = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert read["groups"]["hard light"]["face_psnr"] == 1
    assert read["groups"]["even light"]["frames"] == 0
    assert read["tracker_on_truth"] is None
    assert summary(report)["version"] == VERSION
