"""Each fault's figure rises when that fault is painted in, and rests where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.likeness import SessionSwapper
from benchmarks.picture_faults import (
    face_mask,
    follow,
    holes_of,
    lab_of,
    measure_pair,
    seam_of,
    sharpness_of,
    tone_reached,
    width_of,
)
from distill.evaluate.judge import Judge, judge_is_available
from engines import SwapSettings, load
from engines.types import Rgb
from tests.benchmarks.people import FRAMES, short_clip, synthetic_person

SIDE_PX = 128
Face = NDArray[np.bool_]


@pytest.fixture(scope="module")
def scene() -> Rgb:
    """Soft texture, lit everywhere."""
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(SIDE_PX, SIDE_PX, 3)), (2, 2, 0))
    return np.asarray(np.clip(140 + noise * 120, 60, 230), dtype=np.uint8)


@pytest.fixture(scope="module")
def face() -> Face:
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX] - SIDE_PX / 2
    return np.asarray(rows**2 + columns**2 < 40**2, dtype=bool)


def painted(scene: Rgb, alpha: NDArray[np.float64], level: float) -> Rgb:
    return np.asarray((scene + alpha[..., None] * (level - 140)).clip(0, 255), dtype=np.uint8)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [((255, 255, 255), (100, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((255, 0, 0), (53.24, 80.09, 67.20))],
)
def test_lab_of_known_colours(rgb: tuple[int, ...], lab: tuple[float, ...]) -> None:
    assert lab_of(np.array(rgb, np.float64)) == pytest.approx(lab, abs=0.05)


def test_tone_runs_from_the_driver_to_the_identity() -> None:
    driver, identity = np.array([70.0, 10, 20]), np.array([30.0, 15, 20])
    assert tone_reached(driver, identity, driver) == 0
    assert tone_reached(identity, identity, driver) == pytest.approx(1)
    assert tone_reached((driver + identity) / 2, identity, driver) == pytest.approx(0.5)


def test_a_hard_edge_is_a_worse_seam_than_a_feathered_one(scene: Rgb, face: Face) -> None:
    feathered = ndimage.gaussian_filter(face.astype(np.float64), 5)
    soft = seam_of(painted(scene, feathered, 100), scene, face, 80)
    hard = seam_of(painted(scene, face.astype(np.float64), 100), scene, face, 80)
    assert hard[0] > 1.3 * soft[0]
    assert hard[1] > 2 * soft[1]
    assert np.isnan(seam_of(scene, scene, face, 80)[0])


def test_holes_are_counted(scene: Rgb, face: Face) -> None:
    drawn = painted(scene, face.astype(np.float64), 110)
    assert holes_of(drawn, scene, face, 80) == (0, 0)
    black, left = drawn.copy(), drawn.copy()
    black[60:68, 60:68] = 0
    left[60:68, 60:68] = scene[60:68, 60:68]
    assert holes_of(black, scene, face, 80)[0] > 10
    assert holes_of(left, scene, face, 80)[1] > 10


def test_softness_and_noise_are_told_apart(scene: Rgb, face: Face) -> None:
    assert sharpness_of(scene, scene, face) == 1
    assert sharpness_of(ndimage.gaussian_filter(scene, (2, 2, 0)), scene, face) < 0.7
    noisy = scene + np.random.default_rng(2).integers(0, 30, scene.shape, np.uint8)
    assert sharpness_of(noisy, scene, face) > 2


def test_passthrough_has_no_flicker_and_the_drivers_own_skin(shared_data: Path) -> None:
    if not judge_is_available():
        pytest.skip("needs the extra eval")
    footage = short_clip(shared_data)
    track = follow(Judge(), footage)
    assert track.points.shape == (FRAMES, 68, 2)
    assert 100 < width_of(track.points[0]) < 220
    assert 0.03 < face_mask(track.points[0], 360, 640).mean() < 0.2
    session = load(SwapSettings(engine="passthrough", label=False))
    dark = lab_of(np.array((90.0, 60, 45)))
    faults = measure_pair(SessionSwapper(session), synthetic_person(shared_data), dark, footage, track)
    assert faults.tone_reached == pytest.approx(0, abs=1e-6)
    assert faults.lightness_off > 10
    assert faults.flicker == pytest.approx(1)
    assert faults.sharpness == pytest.approx(1)
    assert faults.undrawn_permille > 990
    assert faults.drawn_share == 1
