"""Contrast that a photographer added goes, what skin has stays. The truth is known, since skins are made up."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from engines.face.cleaning import BEARD_FREE, LUMINANCE, NATURAL_RMS, SKIN_FREE, calmed
from engines.face.zones import UNIT, zones
from engines.identity import ATLAS_PX
from engines.types import Floats

PLACES = zones()
SKIN = PLACES.plain & PLACES.inside & ~PLACES.features
CHEEKS = PLACES.cheeks & ~PLACES.features & ~PLACES.beard
SEEN = np.ones((ATLAS_PX, ATLAS_PX), np.float32)


def skin_with(rms: float, breadth: float, seed: int = 0) -> Floats:
    """Log colour of a skin whose brightness varies by `rms` at a breadth in 64ths of the atlas. float32 [A, A, 3]."""
    noise = np.random.default_rng(seed).standard_normal((ATLAS_PX, ATLAS_PX))
    soft = ndimage.gaussian_filter(noise, breadth * UNIT)
    soft *= rms / float(soft[SKIN].std())
    found: Floats = (np.array([5.0, 4.7, 4.4]) + soft[..., None]).astype(np.float32)
    return found


def contrast(log_rgb: Floats) -> float:
    return float((log_rgb @ LUMINANCE)[CHEEKS].std())


@pytest.mark.parametrize("breadth", [0.5, 1.0, 2.0, 5.0])
def test_plain_skin_is_left_as_it_is(breadth: float) -> None:
    plain = skin_with(0.02, breadth)
    np.testing.assert_array_equal(calmed(plain, SEEN, PLACES), plain)


@pytest.mark.parametrize("breadth", [0.5, 1.0, 2.0, 5.0])
def test_brilliance_is_taken_back_whatever_its_breadth(breadth: float) -> None:
    brilliant = skin_with(0.4, breadth)
    calm = calmed(brilliant, SEEN, PLACES)
    assert 0.04 < contrast(calm) < 0.6 * contrast(brilliant)
    tint = np.array([1, -1, 0], np.float32)
    np.testing.assert_allclose(calm @ tint, brilliant @ tint, atol=1e-5)  # brightness only


def test_more_contrast_never_becomes_less_than_little_had() -> None:
    results = [contrast(calmed(skin_with(rms, 1.0), SEEN, PLACES)) for rms in (0.02, 0.1, 0.3, 0.6)]
    assert results == sorted(results)


@pytest.mark.parametrize("breadth", [0.3, 0.5, 1.5])
def test_a_feature_keeps_most_of_its_contrast_to_the_skin(breadth: float) -> None:
    brows = PLACES.brows & PLACES.inside
    core = ndimage.binary_erosion(brows, iterations=int(0.6 * UNIT))
    around = ndimage.binary_dilation(brows, iterations=int(3 * UNIT)) & ~PLACES.features & PLACES.inside

    def darker(log_rgb: Floats) -> float:
        level = log_rgb @ LUMINANCE
        return float(np.median(level[around]) - np.median(level[core]))

    brilliant = skin_with(0.3, breadth)
    brilliant[brows] -= 0.8
    calm = calmed(brilliant, SEEN, PLACES)
    assert contrast(calm) < 0.75 * contrast(brilliant), "or nothing is said"
    assert darker(calm) > 0.78 * darker(brilliant)


def test_a_beard_may_have_more_contrast_than_cheeks() -> None:
    assert BEARD_FREE > SKIN_FREE
    calm = calmed(skin_with(0.5, 0.5), SEEN, PLACES) @ LUMINANCE
    beard = SKIN & ndimage.binary_erosion(PLACES.beard, iterations=int(2 * UNIT))
    assert calm[beard].std() > 1.2 * calm[CHEEKS].std()


def test_what_was_not_seen_says_nothing() -> None:
    brilliant = skin_with(0.4, 1.0)
    np.testing.assert_array_equal(calmed(brilliant, np.zeros_like(SEEN), PLACES), brilliant)


def test_finer_contrast_of_skin_is_less() -> None:
    assert list(NATURAL_RMS) == sorted(NATURAL_RMS, reverse=True)
