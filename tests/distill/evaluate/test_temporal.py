"""Motion that is known gives known warp error, flicker, energy and drift."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from distill.evaluate import temporal
from distill.evaluate.temporal import CROP_PX, drift, mean_lab, motion, path
from engines.types import Floats, Rgb

INSIDE = np.zeros((CROP_PX, CROP_PX), bool)
INSIDE[24:-24, 24:-24] = True


def cloth(seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    planes = [ndimage.gaussian_filter(rng.standard_normal((CROP_PX, CROP_PX)), 2) for _ in range(3)]
    made: Floats = np.stack([128 + 30 * plane / plane.std() for plane in planes], -1).astype(np.float32)
    return made


def shifted(picture: Floats, x: float, y: float) -> Rgb:
    return level(np.stack([ndimage.shift(picture[..., c], (y, x), order=3, mode="nearest") for c in range(3)], -1))


def level(picture: Floats) -> Rgb:
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def driver() -> tuple[Rgb, Rgb]:
    """Before and now: everything moves by (1.6, -0.8)."""
    return level(cloth(0)), shifted(cloth(0), 1.6, -0.8)


def test_other_skin_that_moves_as_the_driver_s_does_has_little_warp_error(driver: tuple[Rgb, Rgb]) -> None:
    way = path(driver[1], driver[0])
    skin = cloth(1)
    moving = motion(shifted(skin, 1.6, -0.8), level(skin), way, INSIDE)
    stuck = motion(level(skin), level(skin), way, INSIDE)
    assert moving.warp < 2
    assert stuck.warp > 15
    assert stuck.energy == 0
    assert moving.energy > 200


def test_a_still_input_has_no_error_at_all() -> None:
    still = level(cloth(2))
    found = motion(still, still, path(still, still), INSIDE)
    assert (found.warp, found.patches, found.energy) == (0, 0, 0)


def test_the_input_against_itself_is_the_input(driver: tuple[Rgb, Rgb]) -> None:
    """What passthrough must get: not one bit of difference from the input's own figures."""
    way = path(driver[1], driver[0])
    assert motion(driver[1].copy(), driver[0].copy(), way, INSIDE) == motion(driver[1], driver[0], way, INSIDE)


def test_a_jump_of_light_is_flicker_and_swimming_texture_is_none(driver: tuple[Rgb, Rgb]) -> None:
    still = level(cloth(3) * 0.5 + 50)
    way = path(still, still)
    jump = motion(still + np.uint8(9), still, way, INSIDE)
    assert jump.warp == pytest.approx(9)
    assert jump.patches == pytest.approx(9, abs=0.01)
    assert jump.energy == pytest.approx(81)
    noise = np.random.default_rng(0).normal(0, 9, still.shape)
    swims = motion(level(still + noise), still, way, INSIDE)
    assert swims.warp == pytest.approx(9, rel=0.03)
    assert swims.patches < 1


def test_what_cannot_be_followed_is_not_measured() -> None:
    one, other = level(cloth(4)), level(cloth(5))  # a cut
    assert math.isnan(motion(one, other, path(one, other), INSIDE).warp)
    assert math.isnan(motion(one, one, path(one, one), ~INSIDE & INSIDE).warp)


def test_drift_is_the_slope_over_five_minutes() -> None:
    at_s = np.arange(0, 60, 0.5)
    straight = np.stack([50 + 0.01 * at_s, 3 - 0.02 * at_s, np.full_like(at_s, 9)], 1)
    assert drift(at_s, straight) == pytest.approx(300 * math.hypot(0.01, 0.02))
    assert drift(at_s, straight[:, 0]) == pytest.approx(3)
    swinging = np.sin(2 * np.pi * at_s / 3)  # a nodding head is no drift
    assert drift(at_s, swinging) < 0.5
    assert drift(at_s, np.full_like(at_s, 4)) == 0
    straight[5] = np.nan
    assert drift(at_s, straight) == pytest.approx(300 * math.hypot(0.01, 0.02))
    assert math.isnan(drift([0, 1, 2], [1, 2, 3]))
    assert math.isnan(drift([1, 1, 1, 1], [1, 2, 3, 4]))


def test_mean_colour_is_that_of_the_mask() -> None:
    picture = np.zeros((CROP_PX, CROP_PX, 3), np.uint8)
    picture[INSIDE] = 255
    assert mean_lab(picture, INSIDE)[0] == pytest.approx(100, abs=0.1)
    assert mean_lab(picture, ~INSIDE)[0] == pytest.approx(0, abs=0.1)
    assert np.isnan(mean_lab(picture, INSIDE & ~INSIDE)).all()
    assert temporal.UNKNOWN.warp != temporal.UNKNOWN.warp
