"""Optical flow against motion that is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from distill.evaluate.flow import consistent, flow, warped
from engines.types import Floats

SIDE = 128


def cloth(seed: int = 0) -> Floats:
    """A picture with texture at several scales, levels."""
    rng = np.random.default_rng(seed)
    layers = [ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), sigma, mode="wrap") for sigma in (1.5, 3, 8)]
    made = np.sum([layer / layer.std() for layer in layers], axis=0)
    return np.asarray(128 + 25 * made, np.float32)


def moved(picture: Floats, motion: Floats) -> Floats:
    """The picture before, so that `flow` is to give `motion`: p of the later one was at p + motion."""
    return warped(picture, motion, order=3)


def evenly(x: float, y: float) -> Floats:
    return np.broadcast_to(np.array([x, y], np.float32), (SIDE, SIDE, 2)).copy()


def turning(degrees: float, zoom: float) -> Floats:
    rows, columns = np.meshgrid(np.arange(SIDE) - SIDE / 2, np.arange(SIDE) - SIDE / 2, indexing="ij")
    c, s = zoom * np.cos(np.radians(degrees)) - 1, zoom * np.sin(np.radians(degrees))
    made: Floats = np.stack([c * columns - s * rows, s * columns + c * rows], -1).astype(np.float32)
    return made


def error_px(found: Floats, motion: Floats, edge: int = 12) -> float:
    apart = np.linalg.norm(found - motion, axis=-1)[edge:-edge, edge:-edge]
    return float(apart.mean())


@pytest.mark.parametrize(
    "motion",
    [evenly(0, 0), evenly(0.3, -0.2), evenly(1.5, 0.7), evenly(-4.2, 3.1), turning(3, 1), turning(0, 1.04)],
    ids=["still", "a fraction", "a pixel", "five pixels", "a turn", "nearer"],
)
def test_known_motion_is_found(motion: Floats) -> None:
    before = cloth()
    found = flow(moved(before, motion), before)
    assert error_px(found, motion) < 0.03 + 0.03 * float(np.linalg.norm(motion, axis=-1).mean())


def test_two_motions_in_one_picture() -> None:
    motion = evenly(1, 0)
    motion[:, SIDE // 2 :] = (-1, 0.5)
    before = cloth(1)
    found = flow(moved(before, motion), before)
    assert error_px(found[:, : SIDE // 2], motion[:, : SIDE // 2], 14) < 0.08
    assert error_px(found[:, SIDE // 2 :], motion[:, SIDE // 2 :], 14) < 0.08


def test_noise_does_not_make_it_wild() -> None:
    before = cloth(2)
    rng = np.random.default_rng(0)
    now = moved(before, evenly(1.2, -0.6)) + rng.normal(0, 4, before.shape).astype(np.float32)
    noisy = before + rng.normal(0, 4, before.shape).astype(np.float32)
    assert error_px(flow(now, noisy), evenly(1.2, -0.6)) < 0.12


def test_where_nothing_is_seen_nothing_moves() -> None:
    flat = np.full((SIDE, SIDE), 90, np.float32)
    assert np.abs(flow(flat, flat + 3)).max() < 0.01


def test_a_picture_warped_back_is_the_picture() -> None:
    before, motion = cloth(3), evenly(1.5, -1)
    now = moved(before, motion)
    residual = (warped(before, flow(now, before), order=3) - now)[12:-12, 12:-12]
    assert np.sqrt((residual**2).mean()) < 1
    assert np.sqrt(((before - now)[12:-12, 12:-12] ** 2).mean()) > 15


def test_what_was_covered_is_left_out() -> None:
    """A square slides over a still ground: behind it ground appears that was not to be seen before."""
    ground, thing = cloth(4), cloth(5)
    before, now = ground.copy(), ground.copy()
    before[40:80, 40:80] = thing[40:80, 40:80]
    now[40:80, 46:86] = thing[40:80, 40:80]
    there, back = flow(now, before), flow(before, now)
    sure = consistent(there, back)
    assert sure[45:75, 41:45].mean() < 0.4  # uncovered
    assert sure[90:120, 20:110].mean() > 0.97  # ground far away
    assert sure[50:70, 56:76].mean() > 0.9  # the thing itself
    assert sure.dtype == bool
