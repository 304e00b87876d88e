"""The mark that says the face is synthetic: there, legible, in its corner, nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.marks.label import draw_label
from engines.types import Rgb

SIZES = [(360, 640), (480, 640), (720, 1280), (1280, 720), (1080, 1920)]


def touched(canvas: Rgb) -> NDArray[np.bool_]:
    labelled = canvas.copy()
    draw_label(labelled)
    return np.asarray((labelled != canvas).any(axis=2))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_stands_in_the_upper_right_corner_and_touches_nothing_else(height: int, width: int) -> None:
    where = np.argwhere(touched(np.full((height, width, 3), 90, np.uint8)))
    (top, left), (bottom, right) = where.min(axis=0), where.max(axis=0)
    assert top > 0
    assert right < width - 1
    assert bottom < 0.15 * height
    assert left > 0.4 * width
    assert bottom - top >= 8, "pixels high, or nobody can read it"


@pytest.mark.parametrize("level", [0, 90, 128, 200, 255])
def test_is_legible_on_any_ground(level: int) -> None:
    """Bright letters on a plate that is darker by far, on black and on white."""
    canvas = np.full((480, 640, 3), level, np.uint8)
    draw_label(canvas)
    plate = canvas[np.where(touched(np.full((480, 640, 3), 90, np.uint8)))].mean(axis=1)
    ink, ground = np.percentile(plate, 99), np.median(plate)
    contrast = ((ink / 255) ** 2.2 + 0.05) / ((ground / 255) ** 2.2 + 0.05)
    assert contrast > 4.5, "WCAG 2.2, level AA"


def test_is_the_same_every_time() -> None:
    one, other = (np.full((360, 640, 3), 77, np.uint8) for _ in range(2))
    draw_label(one)
    draw_label(other)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 400), (400, 16), (17, 33)])
def test_a_picture_too_small_for_it_gets_what_fits(height: int, width: int) -> None:
    canvas = np.full((height, width, 3), 90, np.uint8)
    draw_label(canvas)
    assert canvas.shape == (height, width, 3)
    assert (canvas != 90).any()
