"""The driver's own hair over the face: seen where it hangs in from the rim, not where there is a mole or a shadow."""

from __future__ import annotations

import numpy as np
import pytest

from engines.face.cleaning import log_colour
from engines.face.compose import patch_means
from engines.face.mesh import face_model, vertex_normals
from engines.face.own_hair import OwnHair, own_hair
from engines.face.relight import fit_light
from engines.face.zones import zones
from engines.identity import ATLAS_PX
from engines.types import Floats, Mask, Rgb
from tests.engines.face.heads import DARK_SKIN, EVEN, FROM_THE_LEFT, LIGHT_SKIN, Looks, albedo, landmarks, photograph

POINTS = landmarks(Looks(size_px=220))


def seen(frame: Rgb, memory: OwnHair | None = None, at_s: float = 0.0) -> Mask:
    """What the engine does before it asks: normals, and the light on the plain skin."""
    normals = vertex_normals(POINTS[:468], face_model().triangles_T3)
    uv = np.round(face_model().uv_S2 * (ATLAS_PX - 1)).astype(int)
    facing = np.clip((-normals[:, 2] - 0.2) / 0.3, 0, 1)
    weight: Floats = (zones().plain[uv[:, 1], uv[:, 0]] * facing).astype(np.float32)
    light = fit_light(normals, log_colour(patch_means(frame, POINTS[:468], 3)), weight)
    return own_hair(memory or OwnHair(), frame, POINTS, normals, light, at_s)


def fringed(frame: Rgb) -> Rgb:
    """Dark hair over the forehead's left half, from the outline down to above the brow."""
    haired = frame.copy()
    top, bottom = int(POINTS[10, 1]) - 20, int(POINTS[105, 1]) - 12
    left, right = int(POINTS[54, 0]) - 20, int(POINTS[10, 0])
    haired[top:bottom, left:right] = (30, 24, 20)
    return haired


@pytest.mark.parametrize("light_B", [EVEN, FROM_THE_LEFT * np.float32(0.7)])
@pytest.mark.parametrize("skin_rgb", [LIGHT_SKIN, DARK_SKIN])
def test_a_bare_face_has_no_hair(skin_rgb: tuple[int, int, int], light_B: Floats) -> None:
    assert seen(photograph(POINTS, albedo(skin_rgb), light_B)).mean() < 6


@pytest.mark.parametrize("light_B", [EVEN, FROM_THE_LEFT * np.float32(0.7)])
def test_a_fringe_is_hair_where_it_hangs(light_B: Floats) -> None:
    mask = seen(fringed(photograph(POINTS, albedo(LIGHT_SKIN), light_B)))
    side = mask.shape[0]
    forehead = np.round(face_model().uv_S2[[103, 67, 104]] * (side - 1)).astype(int)
    other = np.round(face_model().uv_S2[[332, 297, 333]] * (side - 1)).astype(int)
    assert np.median(mask[forehead[:, 1], forehead[:, 0]]) > 128
    assert mask[forehead[:, 1], forehead[:, 0]].min() > 64
    assert mask[other[:, 1], other[:, 0]].max() < 64
    assert mask[side // 2 :].mean() < 6, "nothing below the eyes"


def test_a_mole_is_no_hair() -> None:
    frame = photograph(POINTS, albedo(LIGHT_SKIN))
    x, y = POINTS[151, :2].astype(int)
    frame[y - 5 : y + 6, x - 5 : x + 6] = (50, 32, 26)
    assert seen(frame).max() < 64


def test_the_mask_fades_in_and_out_with_time_and_is_kept_for_each_driver() -> None:
    bare = photograph(POINTS, albedo(LIGHT_SKIN))
    haired, memory, other = fringed(bare), OwnHair(), OwnHair()
    first = seen(haired, memory, 0.0).astype(int)
    seen(bare, other, 0.0)
    soon, later = seen(bare, memory, 0.033).astype(int), seen(bare, memory, 2.0).astype(int)
    assert later.sum() < 0.1 * first.sum() < soon.sum() < first.sum()
    assert seen(bare, other, 0.033).mean() < 6
    back = seen(haired, memory, 1.0)
    assert np.isfinite(back).all(), "time that jumps back"
