"""Nearest points are the same ones with SciPy and without."""

from __future__ import annotations

import numpy as np
import pytest

from distill.people import nearest as module
from distill.people.nearest import by_distances, nearest


@pytest.mark.parametrize("at_once", [1 << 26, 1000])
def test_both_ways_find_the_same_points(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    pytest.importorskip("scipy")
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    rng = np.random.default_rng(3)
    points, cloud = (rng.standard_normal((count, 3)).astype(np.float32) for count in (150, 400))
    by_tree, plain = nearest(points, cloud, 5), by_distances(points, cloud, 5)
    np.testing.assert_array_equal(by_tree[1], plain[1])
    np.testing.assert_allclose(by_tree[0], plain[0], atol=1e-5)
    assert by_tree[0].dtype == plain[0].dtype == np.float32


def test_without_scipy_there_are_distances_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    distance, number = nearest(np.zeros((1, 3), np.float32), np.array([[3, 0, 0], [0, 1, 0]], np.float32), 2)
    assert number.tolist() == [[1, 0]]
    assert distance.tolist() == [[1, 3]]
