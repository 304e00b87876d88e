"""The driver's skin around the face: what takes its tone, what never does, and that nothing flickers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from engines.face.align import crop, crop_from_frame
from engines.face.mesh import FACE_OVAL, face_model, fit_pose
from engines.face.skin import gain_above, tone_around, tone_beside
from engines.face.skin_colour import BODY, LEVEL, RED, YELLOW, bins_of, likelihood, logarithms, skin_body, skin_table
from engines.face.skin_tone import SkinTone
from engines.face.skin_zone import CORNER, NECK, ROLE, SHARE, geometry, zone
from engines.jit import kernel
from engines.settings import SwapSettings
from engines.swappers.base import Inputs
from engines.swappers.latent import rough_crop
from engines.swappers.proxy import Proxy
from engines.types import Floats, Occlusion, Rgb, TrackedFace
from tests.engines.face.heads import (
    DARK_SKIN,
    LIGHT_SKIN,
    MIDDLE_SKIN,
    Looks,
    albedo,
    identity,
    landmarks,
    photograph,
)

ENGINE, IDENTITY_TONE, FRAME_S = Proxy(), SwapSettings(), 1 / 30
WALL, SHIRT = (150, 158, 166), (40, 70, 120)
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """A made-up person with a neck, ears and a shirt, and which pixels are what. bool [H, W]."""

    rgb_HW3: Rgb
    points: Floats
    neck: Bools
    ears: Bools
    shirt: Bools
    wall: Bools


def person(
    skin: tuple[int, int, int] = LIGHT_SKIN,
    wall: tuple[int, int, int] = WALL,
    shirt: tuple[int, int, int] = SHIRT,
    x_px: float = 160,
    noise: int = 0,
) -> Scene:
    """A head as wide as half the picture, its neck darker towards the chin, as under a lamp."""
    height, width = 360, 320
    points = landmarks(Looks(size_px=150, x_px=x_px, y_px=130))
    outline = points[FACE_OVAL, :2]
    chin, cm = outline[:, 1].max(), 150 / float(np.ptp(face_model().mean_S3[:, 1]))
    y, x = np.mgrid[:height, :width].astype(float)
    picture = np.zeros((height, width, 3)) + wall
    picture *= np.exp(0.03 * np.sin(x / 17) + 0.03 * np.sin(y / 23))[..., None]
    picture[:40, :50] = 8  # something black, as most pictures have
    shoulders = y > chin + 6.5 * cm + 0.25 * np.abs(x - x_px)
    neck = (np.abs(x - x_px) < 5.2 * cm) & (y > chin - 5 * cm) & (y < chin + 7.5 * cm)
    below = np.clip((y - chin) / (5 * cm), 0, 1)[..., None]
    ears = np.zeros((height, width), bool)
    for side in (outline[:, 0].min() - 0.6 * cm, outline[:, 0].max() + 0.6 * cm):
        ears |= ((x - side) / (1.3 * cm)) ** 2 + ((y - points[234, 1]) / (2.6 * cm)) ** 2 < 1
    picture[shoulders] = shirt
    picture[neck] = (np.array(skin) * (0.6 + 0.4 * below))[neck]
    picture[ears] = skin
    rgb = photograph(points, albedo(skin), onto_HW3=np.clip(picture + 0.5, 0, 255).astype(np.uint8))
    if noise:
        rough = np.random.default_rng(noise).normal(0, 3, rgb.shape)
        rgb = np.clip(rgb + rough + 0.5, 0, 255).astype(np.uint8)
    near_face = ndimage.binary_dilation(_face(points, rgb.shape), iterations=6)
    kinds = [neck, ears & ~neck, shoulders & ~neck, ~(neck | ears | shoulders)]
    inner = [ndimage.binary_erosion(kind, iterations=3) & ~near_face for kind in kinds]
    return Scene(rgb, points, *inner)


def _face(points: Floats, shape: tuple[int, ...]) -> Bools:
    sides = points[FACE_OVAL, :2]
    centre = sides.mean(axis=0)
    y, x = np.mgrid[: shape[0], : shape[1]]
    reach = np.abs(sides - centre).max(axis=0)
    return np.asarray(((x - centre[0]) / reach[0]) ** 2 + ((y - centre[1]) / reach[1]) ** 2 < 1)


def drawn(
    scenes: Sequence[Scene],
    worn: tuple[int, int, int] = DARK_SKIN,
    settings: SwapSettings = IDENTITY_TONE,
    occlusion: Occlusion | None = None,
    times_s: Sequence[float] | None = None,
) -> list[Rgb]:
    """What a fresh state makes of pictures of one person, one after the other."""
    state, results, wearing = ENGINE.init(), [], identity(worn)
    for number, scene in enumerate(scenes):
        onto = scene.rgb_HW3.copy()
        face = TrackedFace(1, scene.points, scene.points, 0.95)
        at_s = number * FRAME_S if times_s is None else times_s[number]
        ENGINE.draw(state, wearing, Inputs(scene.rgb_HW3, face, occlusion, at_s), settings, onto)
        results.append(onto)
    return results


def change(scene: Scene, result: Rgb, where: Bools) -> float:
    """Mean log change of brightness."""
    before, after = scene.rgb_HW3[where].astype(float).mean(axis=1), result[where].astype(float).mean(axis=1)
    return float(np.log((after + 1) / (before + 1)).mean())


@pytest.mark.parametrize(("skin", "worn"), [(LIGHT_SKIN, DARK_SKIN), (DARK_SKIN, LIGHT_SKIN), (MIDDLE_SKIN, DARK_SKIN)])
def test_neck_and_ears_take_the_tone_and_wall_and_shirt_keep_theirs(
    skin: tuple[int, int, int], worn: tuple[int, int, int]
) -> None:
    scene = person(skin)
    result = drawn([scene] * 3, worn)[-1]
    face = change(scene, result, ndimage.binary_erosion(_face(scene.points, result.shape), iterations=30))
    assert abs(face) > 0.15, "or nothing is said"
    assert change(scene, result, scene.neck) / face > 0.7
    assert change(scene, result, scene.ears) / face > 0.7
    for other in (scene.wall, scene.shirt):
        assert np.abs(result.astype(int) - scene.rgb_HW3)[other].mean() < 0.8


def test_a_wall_of_the_skin_s_colour_is_left_alone() -> None:
    """Nobody could tell it by colour: far less of it is toned than by likeness to the face's mean colour alone."""
    scene = person(LIGHT_SKIN, wall=LIGHT_SKIN)
    result, graded = drawn([scene] * 3)[-1], scene.rgb_HW3.copy()
    state, face = ENGINE.init(), TrackedFace(1, scene.points, scene.points, 0.95)
    plan = ENGINE.plan(state, identity(DARK_SKIN), Inputs(scene.rgb_HW3, face, None, 0.0), IDENTITY_TONE)
    ENGINE.lay(state, plan, scene.rgb_HW3, graded)
    learned, by_rule = (np.abs(p.astype(int) - scene.rgb_HW3)[scene.wall].mean() for p in (result, graded))
    assert learned < 0.5 * by_rule
    beige = person(LIGHT_SKIN, wall=(190, 170, 152))
    result = drawn([beige] * 3)[-1]
    assert np.abs(result.astype(int) - beige.rgb_HW3)[beige.wall].mean() < 0.7
    assert change(beige, result, beige.neck) < -0.2


def test_a_bare_chest_fades_out_without_an_edge() -> None:
    scene = person(shirt=LIGHT_SKIN)
    result = drawn([scene] * 3)[-1]
    rows = np.log(result[:, 150:170].astype(float) / scene.rgb_HW3[:, 150:170]).mean(axis=(1, 2))
    chin = int(scene.points[FACE_OVAL, 1].max())
    assert rows[chin + 20] < -0.15
    assert rows[-10] > -0.05
    assert np.abs(np.diff(rows[chin + 12 :])).max() < 0.03


def test_the_shadow_under_the_chin_survives() -> None:
    scene = person()
    result = drawn([scene] * 3)[-1].astype(float)
    chin = int(scene.points[FACE_OVAL, 1].max())
    shadow, light = np.s_[chin + 8 : chin + 12, 150:170], np.s_[chin + 38 : chin + 44, 150:170]
    before = np.log(scene.rgb_HW3[light].mean() / scene.rgb_HW3[shadow].mean())
    assert np.log(result[light].mean() / result[shadow].mean()) > 0.8 * before


def test_with_the_driver_s_tone_nothing_is_toned() -> None:
    scene, settings, state = person(), SwapSettings(tone="driver"), ENGINE.init()
    result = drawn([scene], DARK_SKIN, settings)[-1]
    inputs = Inputs(scene.rgb_HW3, TrackedFace(1, scene.points, scene.points, 0.95), None, 0.0)
    plain = scene.rgb_HW3.copy()
    plan = ENGINE.plan(state, identity(DARK_SKIN), inputs, settings)
    assert ENGINE.skin(state, plan, inputs, settings) is None
    ENGINE.lay(state, plan, scene.rgb_HW3, plain)
    np.testing.assert_array_equal(result, plain)
    for where in (scene.neck, scene.shirt, scene.wall):
        assert np.abs(result.astype(int) - scene.rgb_HW3)[where].mean() < 0.3


def test_what_is_in_front_keeps_its_colour_and_so_does_the_arm_below_it() -> None:
    """A hand before chin and neck, told by the mask; the arm goes on below where anybody looked for hands."""
    scene = person()
    chin, rgb = int(scene.points[FACE_OVAL, 1].max()), scene.rgb_HW3.copy()
    rgb[chin - 20 :, 130:160] = LIGHT_SKIN
    shown = Scene(rgb, scene.points, scene.neck, scene.ears, scene.shirt, scene.wall)
    covered = np.zeros((60, 80), np.uint8)
    covered[(chin - 20) // 4 :, 32:41] = 255
    mask_from_frame = np.array([[0.25, 0, 0], [0, 0.25, 0]], np.float32)
    occlusion = Occlusion(covered, mask_from_frame, 0.2)
    result = drawn([shown] * 3, occlusion=occlusion)[-1]
    hand, arm = np.s_[chin - 12 : 230, 136:154], np.s_[244 : chin + 60, 136:154]
    assert np.abs(result.astype(int) - rgb)[hand].mean() < 1
    assert np.abs(result.astype(int) - rgb)[arm].mean() < 4
    assert change(shown, result, scene.neck & (np.arange(320) > 172)) < -0.2, "the neck beside it is toned"


def test_sensor_noise_does_not_flicker() -> None:
    """Between two frames of a noisy camera, toned skin and the rest change no more than the camera's picture."""
    scenes = [person(noise=number + 1) for number in range(12)]
    results = drawn(scenes)
    for where in (scenes[0].neck, scenes[0].ears, scenes[0].wall):
        own, made = (
            np.mean([np.abs(after.astype(int) - before)[where].mean() for before, after in pairwise(pictures[6:])])
            for pictures in ([scene.rgb_HW3 for scene in scenes], results)
        )
        assert made < 1.1 * own
    level = [change(scene, result, scene.neck) for scene, result in zip(scenes, results)]
    assert np.ptp(level[4:]) < 0.02


def test_ears_and_neck_follow_without_delay() -> None:
    scenes = [person(x_px=120 + 8 * number) for number in range(9)]
    result = drawn(scenes)[-1]
    still = drawn([scenes[-1]] * 9)[-1]
    for where in (scenes[-1].neck, scenes[-1].ears):
        moving, resting = change(scenes[-1], result, where), change(scenes[-1], still, where)
        assert moving == pytest.approx(resting, rel=0.2)
    assert np.abs(result.astype(int) - scenes[-1].rgb_HW3)[scenes[-1].wall].mean() < 1


@pytest.mark.parametrize("times_s", [(0.0, 60.0), (60.0, 1.0)])
def test_after_a_pause_or_a_jump_back_in_time_the_skin_is_learned_anew(times_s: tuple[float, float]) -> None:
    first, second = person(LIGHT_SKIN, wall=(200, 150, 130), shirt=LIGHT_SKIN), person(LIGHT_SKIN, wall=(200, 180, 160))
    late = drawn([first, second], times_s=times_s)[-1]
    fresh = drawn([second], times_s=times_s[1:])[-1]
    share = change(second, late, second.neck) / change(second, fresh, second.neck)
    assert share == pytest.approx(1, abs=0.15)
    assert np.abs(late.astype(int) - second.rgb_HW3)[second.wall].mean() < 1


def test_the_networks_rough_crop_is_the_same_whatever_was_learned() -> None:
    scene, wearing = person(), identity(DARK_SKIN)
    face = TrackedFace(1, scene.points, scene.points, 0.95)
    there, crops = crop_from_frame(scene.points, 128), []
    for learns in (False, True):
        state = ENGINE.init()
        inputs = Inputs(scene.rgb_HW3, face, None, 0.0)
        plan = ENGINE.plan(state, wearing, inputs, IDENTITY_TONE)
        if learns:
            assert ENGINE.skin(state, plan, inputs, IDENTITY_TONE) is not None
        crops.append(rough_crop(ENGINE, state, plan, there, crop(scene.rgb_HW3, there, 128)))
    np.testing.assert_array_equal(crops[0], crops[1])


def test_around_a_pasted_crop_the_same_skin_is_toned() -> None:
    """What an engine that pastes its own crop calls: outside of the crop as the proxy, inside nothing."""
    scene, wearing, state = person(), identity(DARK_SKIN), ENGINE.init()
    inputs = Inputs(scene.rgb_HW3, TrackedFace(1, scene.points, scene.points, 0.95), None, 0.0)
    plan = ENGINE.plan(state, wearing, inputs, IDENTITY_TONE)
    onto, alpha = scene.rgb_HW3.copy(), np.ones((160, 160), np.float32)
    there = np.array([[1, 0, -80], [0, 1, -50]], np.float32)  # ends below the chin
    onto[50:210, 80:240] = 7
    ENGINE.tone_around(state, plan, inputs, IDENTITY_TONE, onto, alpha, there)
    assert (onto[50:209, 80:239] == 7).all()
    outside = scene.neck & (np.arange(360)[:, None] > 212)
    expected = drawn([scene])[-1]
    np.testing.assert_allclose(onto[outside].astype(int), expected[outside].astype(int), atol=2)
    assert change(scene, onto, outside) < -0.2


@pytest.mark.parametrize(
    "looks", [Looks(yaw_deg=60), Looks(roll_deg=90), Looks(size_px=9), Looks(size_px=2500), Looks(x_px=-60)]
)
def test_odd_heads_have_a_zone_of_finite_numbers(looks: Looks) -> None:
    points = landmarks(looks)
    pose = fit_pose(points, face_model().mean_S3)
    place = geometry(points, pose.px_per_cm, pose.rotation_33)
    cells = zone(points, place, True)
    assert np.isfinite(place).all()
    assert np.isfinite(cells).all()
    assert 0 <= cells[..., SHARE].min() <= cells[..., SHARE].max() <= 1
    assert (cells[..., ROLE] == NECK).any()
    assert place[CORNER] < points[:468, 0].min() + 30 * pose.px_per_cm


def test_a_body_of_colour_is_found_among_strange_samples() -> None:
    rng = np.random.default_rng(1)
    skin = np.array(MIDDLE_SKIN) * np.exp(rng.normal(0, 0.1, (300, 1)))
    samples = np.concatenate([skin, np.tile([[30, 30, 90]], (40, 1))]).astype(np.float32)
    body = skin_body(samples, np.ones(len(samples), np.float32))
    logs = np.log(np.array(MIDDLE_SKIN) + 8.0)
    assert body.shape == (BODY,)
    assert body[RED] == pytest.approx(logs[0] - logs[1], abs=0.04)
    assert body[YELLOW] == pytest.approx(logs[1] - logs[2], abs=0.05)
    assert body[LEVEL] == pytest.approx(logs.mean(), abs=0.06)


@kernel
def looked_up(table_RYL: Floats, logs: Floats, pixels_V3: Rgb) -> Floats:
    out = np.empty(pixels_V3.shape[0], np.float32)
    for v in range(pixels_V3.shape[0]):
        i, j, k = bins_of(logs, pixels_V3[v, 0], pixels_V3[v, 1], pixels_V3[v, 2])
        out[v] = likelihood(table_RYL, i, j, k)
    return out


def test_the_table_is_looked_up_as_by_an_interpolation_in_numpy() -> None:
    rng = np.random.default_rng(2)
    body = skin_body(np.tile(np.array([LIGHT_SKIN], np.float32), (20, 1)), np.ones(20, np.float32))
    table = skin_table(body, body, 0.0, rng.random((24, 24, 14)).astype(np.float32))
    pixels = rng.integers(0, 256, (500, 3)).astype(np.uint8)
    logs = np.log(pixels + 8.0)
    at = np.stack(
        [
            np.clip((logs[:, 0] - logs[:, 1] + 0.4) / 0.06, 0, 22.999),
            np.clip((logs[:, 1] - logs[:, 2] + 0.5) / 0.06, 0, 22.999),
            np.clip((logs.mean(axis=1) - 2.2) / 0.25, 0, 12.999),
        ]
    )
    expected = ndimage.map_coordinates(table, at, order=1)
    np.testing.assert_allclose(looked_up(table, logarithms(), pixels), expected, atol=2e-3)
    assert np.ptp(expected) > 4, "or nothing is said"


def test_toning_is_as_in_numpy() -> None:
    """Share between its places, neck's gain, haze: the two kernels against a plain form."""
    rng = np.random.default_rng(3)
    share = rng.integers(0, 256, (12, 16)).astype(np.uint8)
    frame = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    gains = np.array([[20, 15, 10], [0.5, 0.6, 0.7], [0.4, 0.5, 0.8]], np.float32)
    skin = SkinTone(share, np.array([3.5, 4.25, 0.31], np.float32), gains, np.array([0.01, 0.04, -0.5], np.float32))
    y, x = np.mgrid[:40, :50].astype(np.float64)
    at = np.stack([(y - 4.25) * 0.31, (x - 3.5) * 0.31])
    inside = (at >= 0).all(axis=0) & (at[0] < 11) & (at[1] < 15)
    parts = np.where(inside, ndimage.map_coordinates(share.astype(float), at, order=1, mode="nearest") / 255, 0)
    neck = np.clip(0.01 * x + 0.04 * y - 0.5, 0, 1)[..., None]
    gain = gains[1] + neck * (gains[2] - gains[1])
    expected = frame + parts[..., None] * (gain - 1) * np.maximum(frame - gains[0], 0)
    keep, nothing = np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.float32)
    beside, around = frame.copy(), frame.copy()
    tone_beside(beside, frame, skin, np.zeros((1, 1), np.uint8), np.array([0, 0, 0, 40]), keep, nothing)
    tone_around(around, frame, skin, np.zeros((1, 1), np.float32), nothing - 9, keep, nothing)
    np.testing.assert_allclose(beside[inside], expected[inside], atol=0.75)
    np.testing.assert_allclose(around[inside], expected[inside], atol=0.75)
    np.testing.assert_array_equal(beside[~inside], frame[~inside])


def test_gain_above_the_haze_takes_mean_skin_where_it_is_meant() -> None:
    mean, gain = np.array([160, 120, 100], np.float32), np.array([0.5, 0.6, 1.4], np.float32)
    for haze in (0.0, 30.0):
        black, above = gain_above(haze, mean, gain)
        np.testing.assert_allclose(black + above * (mean - black), mean * gain, rtol=1e-4)
    assert (gain_above(200.0, mean, gain) > 0).all()
