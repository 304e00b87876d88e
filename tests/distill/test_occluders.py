"""What passes before faces: exact masks, the same on target and twin, alike for the same seed."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from distill.occluders import KINDS, SHARES, Face, FaceLight, OccluderClip, light_on, occluded, occluder_clip, shadow_on
from distill.occluders.hand import GRIPS, between, hand_solids, placed
from distill.occluders.sheets import SHEETS
from distill.occluders.solids import CAPSULE, COLUMNS, EGG, Light, drawn, noise, solid
from distill.occluders.things import THINGS
from engines.face.mesh import face_model
from engines.types import Floats

SIZE_PX, FRAMES = 96, 12
LIGHT = FaceLight(
    np.array([-0.5, -0.6, -0.62], np.float32),
    np.full(3, 0.9, np.float32),
    np.full(3, 0.5, np.float32),
    0.6,
    np.array([190, 150, 130], np.float32),
    0.9,
)
MATERIALS = np.array([(0.45, 0.24, 0.16, 0, 0, 0, 0.3, 0.3), (0.1, 0.1, 0.3, 0, 0, 0, 0.1, 0)], np.float32)


def a_face(frames: int = FRAMES) -> Face:
    middle = np.stack([np.linspace(44, 52, frames), np.full(frames, 46.0)], axis=1)
    return Face(middle, 42.0, LIGHT)


def every_kind() -> list[tuple[str, str | None]]:
    return [
        ("hand", None),
        *(("thing", name) for name in ("phone", "glasses")),
        *(("texture", name) for name in SHEETS),
    ]


def a_clip(kind: str, name: str | None, seed: int = 3) -> OccluderClip:
    return occluder_clip(np.random.default_rng([seed, 1]), a_face(), SIZE_PX, kind, name)


def noise_frames(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (FRAMES, SIZE_PX, SIZE_PX, 3)).astype(np.uint8)


@pytest.mark.parametrize(("kind", "name"), every_kind())
def test_masks_are_exact(kind: str, name: str | None) -> None:
    clip, frames = a_clip(kind, name), noise_frames(0)
    result = occluded(frames, clip)
    free = (clip.mask_THW == 0) & (clip.shadow_THW == 0)
    full = clip.mask_THW == 255
    assert np.array_equal(result[free], frames[free])
    assert np.array_equal(result[full], clip.rgb_THW3[full])
    assert free.any()
    assert clip.mask_THW.max() > 60
    no_light = OccluderClip(clip.kind, clip.name, clip.rgb_THW3, clip.mask_THW, np.zeros_like(clip.shadow_THW))
    assert np.array_equal(occluded(frames, no_light)[clip.mask_THW == 0], frames[clip.mask_THW == 0])


@pytest.mark.parametrize(("kind", "name"), every_kind())
def test_target_and_twin_get_the_same(kind: str, name: str | None) -> None:
    clip, target, twin = a_clip(kind, name), noise_frames(1), noise_frames(2)
    on_target, on_twin = occluded(target, clip), occluded(twin, clip)
    full = clip.mask_THW == 255
    assert np.array_equal(on_target[full], on_twin[full])
    difference = np.abs(on_target.astype(int) - on_twin)
    share = (255 - clip.mask_THW.astype(float)) / 255
    assert (difference <= np.abs(target.astype(int) - twin) * share[..., None] + 2).all()


@pytest.mark.parametrize(("kind", "name"), every_kind())
def test_the_same_seed_gives_the_same_bytes(kind: str, name: str | None) -> None:
    first, again = a_clip(kind, name), a_clip(kind, name)
    assert np.array_equal(first.rgb_THW3, again.rgb_THW3)
    assert np.array_equal(first.mask_THW, again.mask_THW)
    assert np.array_equal(first.shadow_THW, again.shadow_THW)
    assert not np.array_equal(first.mask_THW, a_clip(kind, name, seed=4).mask_THW)


def test_half_are_hands_and_a_quarter_each_things_and_textures() -> None:
    assert dict(zip(KINDS, SHARES)) == {"hand": 0.5, "thing": 0.25, "texture": 0.25}
    clips = [
        occluder_clip(np.random.default_rng([5, n]), Face(np.full((1, 2), 12.0), 10.0, LIGHT), 24) for n in range(240)
    ]
    counts = Counter(clip.kind for clip in clips)
    for kind, share in zip(KINDS, SHARES):
        assert counts[kind] / 240 == pytest.approx(share, abs=0.08), counts
    assert {clip.name for clip in clips} == {"bare", *THINGS, *SHEETS}


def test_every_thing_can_be_held() -> None:
    for name, thing in THINGS.items():
        rows = thing(np.random.default_rng(1))
        assert rows.shape[1] == COLUMNS, name
        assert np.isfinite(rows).all()
        axes = rows[:, 6:15].reshape(-1, 3, 3)
        assert np.allclose(axes @ axes.transpose(0, 2, 1), np.eye(3), atol=1e-5), name


def test_occluders_move_smoothly() -> None:
    """A moving hand is one hand: what is large covers in one frame a part of what it covers in the next."""
    for seed, kind in product(range(6), ("hand", "thing")):
        clip = occluder_clip(np.random.default_rng(seed), a_face(24), SIZE_PX, kind)
        covers = clip.mask_THW > 127
        area = covers.sum(axis=(1, 2)).astype(float)
        assert np.abs(np.diff(area)).max() < 0.12 * SIZE_PX**2
        smaller = np.minimum(area[1:], area[:-1])
        large = smaller > 0.02 * SIZE_PX**2
        both = (covers[1:] & covers[:-1]).sum(axis=(1, 2))
        assert (both[large] > 0.2 * smaller[large]).all(), (seed, clip.name)
        assert (covers[1:] != covers[:-1]).any(), "it moves"


def test_shadow_falls_on_the_head_alone() -> None:
    clip = a_clip("hand", None)
    head = np.zeros((FRAMES, SIZE_PX, SIZE_PX), np.float32)
    head[:, 20:70, 20:70] = 1
    on_head = shadow_on(clip, head)
    assert not on_head.shadow_THW[:, :20].any()
    assert np.array_equal(on_head.shadow_THW[:, 20:70, 20:70], clip.shadow_THW[:, 20:70, 20:70])
    assert np.array_equal(on_head.mask_THW, clip.mask_THW)


def the_light() -> Light:
    return LIGHT.for_solids()


def disc(radius_cm: float) -> Floats:
    ball = solid(EGG, np.array([5.0, 5.0, 0.0], np.float32), np.eye(3, dtype=np.float32), (radius_cm,) * 3)
    return drawn(ball[None], MATERIALS, the_light(), 0.1, 100, 1)


def test_a_ball_covers_a_disc() -> None:
    coverage = disc(3.0)[..., 3]
    assert coverage.sum() * 0.01 == pytest.approx(np.pi * 9, rel=0.03)
    assert coverage[50, 50] == 1
    assert coverage[5, 5] == 0


def test_light_comes_from_where_it_is() -> None:
    """From the left above: the ball's left top is brighter than its right bottom."""
    picture = disc(3.0)[..., :3].mean(axis=2)
    assert picture[35, 35] > 1.5 * picture[65, 65]


def test_solids_outside_of_the_picture_draw_nothing() -> None:
    away = solid(CAPSULE, np.array([-40.0, 5, 0], np.float32), np.eye(3, dtype=np.float32), (5.0, 1.0, 1.0, 1.0))
    assert not drawn(away[None], MATERIALS, the_light(), 0.1, 64, 1).any()


@pytest.mark.parametrize("name", GRIPS)
def test_hands_are_whole(name: str) -> None:
    """One piece, finite, and as large as a hand."""
    from scipy import ndimage

    rows = placed(
        hand_solids(GRIPS[name], 99.0, 1.0), np.diag([1.0, -1.0, -1.0]).astype(np.float32), np.array([13.0, 20.0, 0])
    )
    picture = drawn(rows, MATERIALS, the_light(), 0.2, 130, 1)
    assert np.isfinite(picture).all()
    _, pieces = ndimage.label(picture[..., 3] > 0.5)
    assert pieces == 1
    above_wrist_cm2 = picture[:100, :, 3].sum() * 0.04
    assert 60 < above_wrist_cm2 < 260


def test_fingers_of_an_open_hand_are_apart() -> None:
    """A line across the fingers meets four of them, with gaps between."""
    rows = placed(
        hand_solids(GRIPS["open"], 99.0, 1.0), np.diag([1.0, -1.0, -1.0]).astype(np.float32), np.array([13.0, 20.0, 0])
    )
    across = drawn(rows, MATERIALS, the_light(), 0.2, 130, 1)[32, :, 3] > 0.5
    assert np.count_nonzero(np.diff(across.astype(int)) == 1) == 4


def test_grips_blend() -> None:
    first, last = GRIPS["open"], GRIPS["fist"]
    half = between(first, last, 0.5)
    assert half.thumb_in_deg == (first.thumb_in_deg + last.thumb_in_deg) / 2
    assert np.array_equal(between(first, last, 0.0).bends_43, first.bends_43)


def test_noise_is_smooth_and_bounded() -> None:
    line = np.array([noise(x * 0.01, 0.3, 0.7, 5) for x in range(-400, 400)])
    assert line.min() >= 0
    assert line.max() <= 1
    assert np.abs(np.diff(line)).max() < 0.03
    assert line.std() > 0.1


def test_light_is_read_off_the_skin() -> None:
    """A face lit from the picture's left gives a light from the left."""
    points = face_model().mean_S3 * 12 + np.array([128, 128, 0], np.float32)
    columns = np.linspace(1.6, 0.4, 256)[None, :, None]
    picture = np.clip(np.array([120, 92, 76]) * np.ones((256, 256, 3)) * columns, 0, 255).astype(np.uint8)
    found = light_on(picture, points.astype(np.float32))
    assert found.towards_3[0] < -0.2
    assert found.towards_3[2] < 0
    assert np.linalg.norm(found.towards_3) == pytest.approx(1, abs=1e-5)
    mirrored = light_on(np.ascontiguousarray(picture[:, ::-1]), points.astype(np.float32))
    assert mirrored.towards_3[0] > 0.2
