"""Figures of how far a face is off, against colours that are known and errors that were put in."""

from __future__ import annotations

import numpy as np
import pytest

from engines.engine_manifest import FaceLimits, FaceResult
from engines.face_error import LEVELS, face_error, first_too_far, lab

LIMITS = FaceLimits(rms=2.5, most=8, colour=2.3, tone=0.7, growth=1.5)


def test_colours_are_those_of_the_standard() -> None:
    white_red_grey = np.array([[1, 1, 1], [1, -1, -1], [0, 0, 0]], np.float32)
    expected = [[100.0, 0.0, 0.0], [53.24, 80.09, 67.20], [53.39, 0.0, 0.0]]
    np.testing.assert_allclose(lab(white_red_grey), expected, atol=0.06)


def test_only_the_inside_counts_and_levels_are_levels() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(-0.5, 0.5, (1, 3, 16, 16)).astype(np.float32)
    mask = np.zeros((1, 1, 16, 16), np.float32)
    mask[..., 4:12, 4:12] = 1
    drawn = truth.copy()
    drawn[..., :4, :] = 1  # outside
    assert face_error(3, drawn, truth, mask) == FaceResult(frame=3, rms=0, most=0, colour=0, tone=0)
    drawn[..., 4:12, 4:12] += 2 / LEVELS
    found = face_error(0, drawn, truth, mask)
    assert found.rms == pytest.approx(2, abs=0.01)
    assert found.most == pytest.approx(2, abs=0.01)
    assert 0.5 < found.tone <= found.colour < 1.2  # all brighter: the mean is off by what each is
    noisy = truth + rng.choice([-2, 2], truth.shape).astype(np.float32) / LEVELS
    assert face_error(0, noisy, truth, mask).tone < 0.5 * face_error(0, noisy, truth, mask).colour


def result(frame: int, **figures: float) -> FaceResult:
    return FaceResult.model_validate({"frame": frame, "rms": 1, "most": 3, "colour": 1, "tone": 0.1} | figures)


def test_each_figure_has_its_limit_in_words() -> None:
    assert first_too_far((result(0), result(99)), LIMITS) == ""
    for figure, words in (("rms", "rms"), ("most", "99th percentile"), ("colour", "colours"), ("tone", "mean colour")):
        assert words in first_too_far((result(0), result(7, **{figure: 9.0})), LIMITS)
    assert "in frame 7 is 9" in first_too_far((result(7, most=9),), LIMITS)
    assert "grows 2 times" in first_too_far((result(0), result(1), result(99, rms=2)), LIMITS)
    assert first_too_far((result(0, rms=float("nan")),), LIMITS)
