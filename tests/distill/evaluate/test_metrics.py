"""Metrics on pictures whose distance is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from distill.evaluate import metrics

RNG = np.random.default_rng(5)
PICTURE = RNG.integers(20, 230, (64, 64, 3)).astype(np.uint8)
SMOOTH = np.broadcast_to(np.linspace(60, 180, 64)[None, :, None], (64, 64, 3)).astype(np.uint8).copy()
ALL = np.ones((64, 64), bool)
MIDDLE = np.zeros((64, 64), bool)
MIDDLE[16:48, 16:48] = True


def test_equal_pictures() -> None:
    assert metrics.psnr(PICTURE, PICTURE, ALL) == metrics.PSNR_CEILING_DB
    assert metrics.ssim(PICTURE, PICTURE, ALL) == pytest.approx(1)
    assert metrics.colour_error(PICTURE, PICTURE, ALL) == 0
    assert metrics.seam(PICTURE, PICTURE, MIDDLE, 2) == 0
    assert metrics.temporal_error(PICTURE, SMOOTH, PICTURE, SMOOTH, ALL) == 0


def test_psnr_of_a_known_error() -> None:
    assert metrics.psnr(PICTURE, PICTURE + np.uint8(10), ALL) == pytest.approx(20 * math.log10(255 / 10))


def test_only_the_mask_counts() -> None:
    spoilt = PICTURE.copy()
    spoilt[:10] = 0
    assert metrics.psnr(spoilt, PICTURE, MIDDLE) == metrics.PSNR_CEILING_DB
    assert metrics.colour_error(spoilt, PICTURE, MIDDLE) == 0
    assert metrics.ssim(spoilt, PICTURE, MIDDLE) == pytest.approx(1)
    assert metrics.psnr(spoilt, PICTURE, ALL) < 20


def test_an_empty_mask_is_not_a_number() -> None:
    nothing = np.zeros((64, 64), bool)
    assert math.isnan(metrics.psnr(PICTURE, PICTURE, nothing))
    assert math.isnan(metrics.ssim(PICTURE, PICTURE, nothing))
    assert math.isnan(metrics.colour_error(PICTURE, PICTURE, nothing))
    assert math.isnan(metrics.temporal_error(PICTURE, PICTURE, PICTURE, PICTURE, nothing))
    assert math.isnan(metrics.seam(PICTURE, PICTURE, nothing, 2))
    assert np.isnan(metrics.tone_shift(PICTURE, PICTURE, nothing)).all()


def test_blur_and_noise_cost_similarity() -> None:
    noisy = np.clip(SMOOTH + RNG.normal(0, 15, SMOOTH.shape), 0, 255).astype(np.uint8)
    assert metrics.ssim(noisy, SMOOTH, ALL) < 0.5
    assert metrics.ssim(SMOOTH + np.uint8(4), SMOOTH, ALL) > 0.98


def test_paler_is_a_positive_shift() -> None:
    assert metrics.tone_shift(SMOOTH + np.uint8(20), SMOOTH, ALL)[0] > 5


def test_flicker_is_seen_and_common_motion_is_not() -> None:
    brighter = SMOOTH + np.uint8(12)
    assert metrics.temporal_error(brighter, SMOOTH, SMOOTH, SMOOTH, ALL) == pytest.approx(12)
    assert metrics.temporal_error(brighter, SMOOTH, brighter, SMOOTH, ALL) == 0


def test_a_pasted_patch_has_a_seam_and_a_brighter_picture_has_none() -> None:
    pasted = SMOOTH.copy()
    pasted[MIDDLE] += np.uint8(30)
    assert metrics.seam(pasted, SMOOTH, MIDDLE, 2) > 3
    assert metrics.seam(SMOOTH + np.uint8(30), SMOOTH, MIDDLE, 2) < 0.1


def test_landmark_error_is_a_share_of_the_width() -> None:
    true = RNG.uniform(0, 100, (468, 3)).astype(np.float32)
    assert metrics.landmark_error(true + np.array((3, 4, 7), np.float32), true, 100.0) == pytest.approx(5)
