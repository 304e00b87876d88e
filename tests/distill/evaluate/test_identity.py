"""Retrieval and steadiness on vectors whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from distill.evaluate.identity import (
    cosines,
    found_within,
    frame_to_frame,
    mean_face,
    ranks,
    same_network,
    variance,
)

AXES = np.eye(6)
GALLERY = {f"p{i}": AXES[i] for i in range(6)}


def test_the_nearest_one_is_found_first() -> None:
    looks = np.stack([0.9 * AXES[2] + 0.1 * AXES[3], 0.4 * AXES[2] + 0.6 * AXES[3]])
    assert ranks(looks, GALLERY, "p2").tolist() == [1, 2]
    assert found_within(ranks(looks, GALLERY, "p2"), 1) == 0.5
    assert found_within(ranks(looks, GALLERY, "p2"), 5) == 1


def test_a_tie_counts_against_the_swapper() -> None:
    """A judge for whom all are alike finds nobody."""
    assert ranks(np.ones((3, 6)), GALLERY, "p2").tolist() == [6, 6, 6]


def test_what_is_unknown_is_no_miss() -> None:
    looks = np.stack([AXES[1], np.full(6, np.nan)])
    found = ranks(looks, GALLERY, "p1")
    assert found[0] == 1
    assert math.isnan(found[1])
    assert found_within(found, 1) == 1
    assert np.isnan(ranks(looks, GALLERY, "nobody")).all()
    assert math.isnan(found_within(np.array([np.nan]), 1))


def test_several_photos_are_one_face() -> None:
    assert mean_face(np.stack([AXES[0], AXES[1]])) == pytest.approx((AXES[0] + AXES[1]) / math.sqrt(2))
    assert mean_face(np.zeros((0, 6))).size == 0
    assert cosines(AXES[:2], mean_face(AXES[:2])) == pytest.approx([math.sqrt(0.5)] * 2)
    assert np.isnan(cosines(AXES[:2], np.zeros(0))).all()


def test_steadiness_is_the_distance_of_neighbours() -> None:
    turned = np.array([math.cos(0.2), math.sin(0.2), 0, 0, 0, 0])
    pairs = np.stack([[AXES[0], AXES[0]], [AXES[0], turned], [np.full(6, np.nan), AXES[0]]])
    assert frame_to_frame(pairs) == pytest.approx(2 * math.sin(0.1) / 2)
    assert math.isnan(frame_to_frame(np.zeros((0, 2, 6))))
    assert variance(np.array([0.5, 0.7, np.nan])) == pytest.approx(0.01)


def test_a_judge_that_taught_the_swapper_is_named() -> None:
    judges = {"dlib": ["aa", "bb"], "arcface x.onnx": ["cc"]}
    assert same_network(judges, {"cc": "a loss in training (ArcFace)"}) == [
        "the judge arcface x.onnx is biased: it is the network of a loss in training (ArcFace)"
    ]
    assert same_network(judges, {}) == []
