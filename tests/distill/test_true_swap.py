"""The benchmark's own honesty: the truth scores as the truth, and what was not drawn is not measured."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.held_out import HeldOut, held_out
from distill.people.assets import Part, load_assets
from distill.true_swap import (
    Clip,
    Rendered,
    compare,
    face_width_px,
    inside_face,
    put_in_front,
    render_clip,
    thing_in_front,
)
from distill.true_swap_report import Figures, Measured, Report, groups, markdown, mean_figures, summary, write

SIDE_PX = 160
pytestmark = pytest.mark.timeout(400)  # reads all that people are made of, and compiles


@pytest.fixture(scope="module")
def swap() -> HeldOut:
    """A frontal held-out swap, two frames long."""
    first = held_out(quick=True)[0]
    drawn = first.triplet
    short = replace(drawn, **{name: getattr(drawn, name)[:2] for name in ("target", "truth", "worn", "twin")})
    return replace(first, triplet=short)


@pytest.fixture(scope="module")
def rendered(shared_data: Path, swap: HeldOut) -> Rendered:
    assets = load_assets(shared_data)
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
    assert dict(groups(measured)).keys() >= {"all", "turned 45-75 degrees", "a thing in front"}
    assert "| all | 2 | 0.500 | 99.00 |" in markdown(report, "versions")


def test_the_mask_is_the_face_alone(rendered: Rendered) -> None:
    mask = inside_face(rendered.truth, 0)
    points = rendered.truth.landmarks[0]
    assert mask[round(float(points[4, 1])), round(float(points[4, 0]))]  # the tip of the nose
    assert not mask[0].any()
    assert not mask[rendered.truth.parts[0] == int(Part.HAIR)].any()
    width = face_width_px(points)
    assert 0.4 < mask.sum() / width**2 < 1.6


def test_a_thing_in_front_moves_smoothly_and_hides_what_is_behind() -> None:
    colour, opacity = thing_in_front(4, 6, 64)
    assert np.array_equal(opacity, thing_in_front(4, 6, 64)[1])
    middles = [np.average(np.arange(64), weights=mask.sum(axis=0) + 1e-9) for mask in opacity]
    steps = np.diff(middles)
    assert np.abs(steps).max() < 2
    assert (np.sign(steps) == np.sign(steps[0])).all()
    frames = tuple(np.full((64, 64, 3), 200, np.uint8) for _ in range(6))
    clip = Clip(frames, np.full((6, 64, 64), int(Part.SKIN), np.uint8), np.zeros((6, 468, 3), np.float32))
    covered = put_in_front(clip, colour, opacity)
    for i in range(6):
        assert (covered.rgb[i][opacity[i] == 0] == 200).all()
        assert np.array_equal(covered.rgb[i][opacity[i] == 1], colour[i][opacity[i] == 1])
        assert (covered.parts[i][opacity[i] > 0] == int(Part.BACKGROUND)).all()
    assert covered.in_front is not None
    assert np.array_equal(covered.in_front, opacity == 1)


def figures(value: float) -> Figures:
    return Figures(*[value] * 16)


def test_what_could_not_be_measured_does_not_count() -> None:
    mean = mean_figures([figures(1.0), replace(figures(3.0), landmarks=math.nan)])
    assert mean["face_psnr"] == 2
    assert mean["landmarks"] == 1
    assert all(math.isnan(value) for value in mean_figures([]).values())


def test_a_report_is_written_as_text_and_json(tmp_path: Path) -> None:
    one = Measured(0, 0, "20-45", "hard", "none", False, True, figures(1.0), None, figures(2.0), math.nan)
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
    assert summary(report)["version"] == 1
