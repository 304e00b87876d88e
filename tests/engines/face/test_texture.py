"""From photos to a texture: light, hair and gaps go, the person stays. The truth is known, since heads are made up."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from engines.enrolment import FaceFinder
from engines.face.cleaning import FILL_SIGMAS, LUMINANCE, evened, filled, from_log, log_colour, skin_white_balance
from engines.face.mesh import FACE_OVAL, face_model
from engines.face.retarget import canonical_face, without_expression
from engines.face.texture import Photo, Texture, build_texture
from engines.face.zones import UNIT, zones
from engines.identity import ATLAS_PX
from engines.types import Floats, Rgb
from tests.engines.face.heads import (
    DARK_SKIN,
    EVEN,
    FROM_THE_LEFT,
    FROM_THE_RIGHT,
    LIGHT_SKIN,
    MIDDLE_SKIN,
    Looks,
    albedo,
    landmarks,
    photograph,
)

LARGE = Looks(size_px=330, x_px=260, y_px=240)
WALL = np.full((480, 520, 3), (96, 108, 122), np.uint8)
PLAIN = zones().plain & ~zones().features


LIGHTS = {"even": EVEN, "left": FROM_THE_LEFT * np.float32(0.8), "right": FROM_THE_RIGHT * np.float32(0.8)}


def snapshot(skin: Rgb, light: str = "even", yaw_deg: float = 0.0) -> Photo:
    points = landmarks(replace(LARGE, yaw_deg=yaw_deg))
    return Photo(photograph(points, skin, LIGHTS[light], WALL), points)


@lru_cache(maxsize=16)
def built(skin_rgb: tuple[int, int, int], light: str = "even", yaw_deg: float = 0.0) -> Texture:
    """The texture of one photo; kept, since several tests look at the same one."""
    return build_texture([snapshot(albedo(skin_rgb), light, yaw_deg)])


def log_error(got: Rgb, truth: Rgb, where: NDArray[np.bool_]) -> Floats:
    """Per texel, the greatest channel's difference in natural log units (0.1 is about a tenth of the brightness)."""
    return np.asarray(np.abs(log_colour(got) - log_colour(truth))[where].max(axis=-1), np.float32)


def side_to_side(texture: Rgb) -> float:
    """Log brightness of the picture's left cheek less that of the right one."""
    half = np.arange(ATLAS_PX)[None, :] < ATLAS_PX // 2
    level = log_colour(texture) @ LUMINANCE
    return float(np.median(level[zones().cheeks & half]) - np.median(level[zones().cheeks & ~half]))


@pytest.mark.parametrize(
    ("skin_rgb", "light"), [(LIGHT_SKIN, "left"), (MIDDLE_SKIN, "left"), (MIDDLE_SKIN, "right"), (DARK_SKIN, "right")]
)
def test_a_strong_side_light_is_taken_off(skin_rgb: tuple[int, int, int], light: str) -> None:
    truth = albedo(skin_rgb)
    row = snapshot(truth, light).rgb_HW3.astype(int)[200:300].sum(axis=(0, 2))
    assert abs(np.log(row[130:250].sum() / row[270:390].sum())) > 0.25, "a weak light would show nothing"
    got = built(skin_rgb, light).albedo_AA3
    error = log_error(got, truth, PLAIN)
    assert np.median(error) < 0.10
    assert np.percentile(error, 95) < 0.22
    assert abs(side_to_side(got)) < 0.08


def test_in_even_light_the_texture_is_the_skin() -> None:
    truth, got = albedo(MIDDLE_SKIN), built(MIDDLE_SKIN)
    assert np.percentile(log_error(got.albedo_AA3, truth, PLAIN), 95) < 0.10
    brows = zones().features & ~zones().red & ~zones().beard & (np.arange(ATLAS_PX)[:, None] < 0.35 * ATLAS_PX)
    assert np.median(log_error(got.albedo_AA3, truth, brows)) < 0.15, "brows are no shadow"
    assert got.confidence_AA[PLAIN].mean() > 150


def test_lips_stay_redder_than_the_skin() -> None:
    got = built(MIDDLE_SKIN, "left").albedo_AA3
    lips = ndimage.binary_erosion(zones().red & zones().beard, iterations=8) & zones().inside
    tint = log_colour(got) @ np.array([1, -1, 0], np.float32)
    assert np.median(tint[lips]) > np.median(tint[PLAIN]) + 0.08


def test_two_lights_on_one_person_agree_better_than_the_photos_do() -> None:
    skin = albedo(MIDDLE_SKIN)
    left, right = (log_colour(snapshot(skin, light).rgb_HW3) for light in ("left", "right"))
    mask = Image.new("L", (520, 480), 0)
    outline = landmarks(LARGE)[FACE_OVAL, :2]
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in outline], fill=1)
    photos = np.abs(left - right)[np.array(mask) > 0].mean()
    one, other = (log_colour(built(MIDDLE_SKIN, light).albedo_AA3) for light in ("left", "right"))
    assert np.abs(one - other)[zones().oval].mean() < 0.35 * photos


def test_dark_and_light_skin_keep_their_order_whatever_the_light() -> None:
    def level(skin_rgb: tuple[int, int, int], light: str) -> float:
        return float(np.median(log_colour(built(skin_rgb, light).albedo_AA3)[PLAIN] @ LUMINANCE))

    middle = [level(MIDDLE_SKIN, light) for light in LIGHTS]
    assert level(DARK_SKIN, "right") + 0.15 < min(middle)
    assert max(middle) + 0.05 < level(LIGHT_SKIN, "left")
    assert np.ptp(middle) < 0.15


def fringe(photo: Photo, colour: tuple[int, int, int] = (38, 28, 24)) -> Photo:
    """Strands that hang from the outline's top to just above the brows, on the picture's left."""
    picture = Image.fromarray(photo.rgb_HW3)
    pen = ImageDraw.Draw(picture)
    points = photo.points_px[:, :2]
    for landmark in (54, 103, 67, 109, 10):
        top = points[landmark]
        for step in range(-6, 7):
            x = float(top[0]) + 3.5 * step
            shade = tuple(int(c + 6 * (step % 3)) for c in colour)
            pen.line([(x, float(top[1]) - 30), (x + 3, float(points[105, 1]) - 24)], fill=shade, width=3)
    return Photo(np.array(picture), photo.points_px)


def test_hair_on_the_forehead_of_the_photo_does_not_reach_the_texture() -> None:
    photo = snapshot(albedo(MIDDLE_SKIN), "right")
    haired = fringe(photo)
    covered = np.abs(haired.rgb_HW3.astype(int) - photo.rgb_HW3).sum(axis=2) > 60
    assert covered[:, 100:420].sum() > 3000, "little hair would show nothing"
    clean, got = built(MIDDLE_SKIN, "right").albedo_AA3, build_texture([haired]).albedo_AA3
    forehead = zones().hairy & ~zones().features & (np.arange(ATLAS_PX)[:, None] < 0.3 * ATLAS_PX)
    darker = (log_colour(clean) - log_colour(got))[forehead] @ LUMINANCE
    assert np.mean(darker > 0.35) < 0.01, "share of the forehead that is still hair"
    assert np.median(np.abs(darker)) < 0.1


def assert_no_holes(texture: Texture) -> None:
    """Every texel within the outline is somebody's skin: near the median in brightness, features apart."""
    level = log_colour(texture.albedo_AA3) @ LUMINANCE
    skin = zones().oval & ~ndimage.binary_dilation(zones().features, iterations=4)
    off = np.abs(level - np.median(level[skin]))[skin]
    assert off.max() < 0.6
    assert np.percentile(off, 99) < 0.4
    assert np.isfinite(texture.shape_S3).all()
    assert np.isfinite(texture.iris_rgb).all()


@pytest.mark.parametrize("yaw_deg", [-55.0, 0.0, 35.0])
def test_one_view_leaves_no_hole(yaw_deg: float) -> None:
    assert_no_holes(built(MIDDLE_SKIN, yaw_deg=yaw_deg))


def test_a_face_cut_off_by_the_picture_leaves_no_hole() -> None:
    whole = snapshot(albedo(LIGHT_SKIN))
    points = whole.points_px - np.array([170, 0, 0], np.float32)
    assert points[:, 0].min() < -20
    assert_no_holes(build_texture([Photo(np.ascontiguousarray(whole.rgb_HW3[:, 170:]), points)]))


def test_a_side_that_was_not_seen_is_the_mirror_of_the_one_that_was() -> None:
    """A mole on the cheek that a turned head shows appears on the other cheek too, and only there where none was."""
    skin = albedo(MIDDLE_SKIN).copy()
    uv = np.round(face_model().uv_S2[[50, 280]] * (ATLAS_PX - 1)).astype(int)
    y, x = np.mgrid[:ATLAS_PX, :ATLAS_PX]
    seen, hidden = [np.hypot(x - u, y - v) for u, v in uv]
    skin[seen < 9] = (60, 40, 32)

    def mole(texture: Texture, distance: NDArray[np.float64]) -> float:
        level = log_colour(texture.albedo_AA3) @ LUMINANCE
        around = np.median(level[(distance > 16) & (distance < 26)])
        return float(around - np.median(level[distance < 5]))

    turned = build_texture([snapshot(skin, yaw_deg=58)])
    assert mole(turned, seen) > 0.25, "the head must show this cheek"
    assert turned.confidence_AA[hidden < 5].mean() < 60, "and hide the other one"
    assert mole(turned, hidden) > 0.15
    front = build_texture([snapshot(skin)])
    assert mole(front, seen) > 0.25
    assert abs(mole(front, hidden)) < 0.1, "a cheek that was seen is itself"


def test_several_photos_are_fused_by_what_each_saw_best() -> None:
    skin = albedo(MIDDLE_SKIN)
    views = [snapshot(skin, "left", yaw_deg) for yaw_deg in (-45, 45)]
    fused = build_texture(views)
    assert_no_holes(fused)
    one_side = built(MIDDLE_SKIN, yaw_deg=35.0).confidence_AA
    assert fused.confidence_AA.mean() > 1.1 * one_side.mean()
    rim = zones().oval & ~ndimage.binary_erosion(zones().oval, iterations=int(6 * UNIT)) & ~zones().features
    assert np.median(log_error(fused.albedo_AA3, skin, rim)) < 0.2


def test_the_shape_is_the_person_s_and_the_expression_is_left_out() -> None:
    model = face_model()
    weights = np.random.default_rng(4).normal(0, 0.6, len(model.identity_KS3))
    person = (model.mean_S3 + np.tensordot(weights, model.identity_KS3, 1)).astype(np.float32)
    jaw = model.expression_KS3[np.argmax(np.abs(model.expression_KS3[:, 152, 1]))]
    opened = 0.5 * jaw * np.sign(jaw[152, 1])
    points = landmarks(LARGE, person + opened)
    talking = build_texture([Photo(photograph(points, albedo(MIDDLE_SKIN), EVEN, WALL), points)])
    calm_S3 = without_expression(canonical_face(landmarks(LARGE, person))[1])
    apart_cm = np.linalg.norm(talking.shape_S3 - calm_S3, axis=1)
    assert apart_cm.max() < 0.25 * np.linalg.norm(opened, axis=1).max()
    assert apart_cm.mean() < 0.5 * np.linalg.norm(calm_S3 - model.mean_S3, axis=1).mean()


def test_building_is_deterministic_and_leaves_the_photo_alone() -> None:
    photo = snapshot(albedo(MIDDLE_SKIN))
    before = photo.rgb_HW3.copy()
    np.testing.assert_array_equal(build_texture([photo]).albedo_AA3, built(MIDDLE_SKIN).albedo_AA3)
    np.testing.assert_array_equal(photo.rgb_HW3, before)


@pytest.mark.parametrize("scale", [0.35, 3.0])
def test_a_small_or_a_huge_photo_of_the_same_face_gives_the_same_texture(scale: float) -> None:
    points = landmarks(LARGE) * np.float32(scale)
    wall = np.full((int(480 * scale), int(520 * scale), 3), (96, 108, 122), np.uint8)
    got = build_texture([Photo(photograph(points, albedo(MIDDLE_SKIN), LIGHTS["left"], wall), points)])
    one, other = (
        ndimage.gaussian_filter(log_colour(t.albedo_AA3), (6, 6, 0)) for t in (got, built(MIDDLE_SKIN, "left"))
    )
    assert np.median(np.abs(one - other)[PLAIN]) < 0.05


def test_a_real_photo_gives_a_texture_without_holes(shared_data: Path) -> None:
    """Head scarf and hair lie over half of the forehead and over the temples; one cheek is in the shade."""
    finder = FaceFinder()
    picture = np.array(Image.open(shared_data / "synth_faces" / "t0011_schnell.jpg").convert("RGB"))
    points = finder.find(picture)[0].points_px
    finder.close()
    texture = build_texture([Photo(picture, points)])
    level = log_colour(texture.albedo_AA3) @ LUMINANCE
    off = np.abs(level - np.median(level[PLAIN]))
    unseen = zones().oval & (texture.confidence_AA == 0) & ~zones().features
    assert unseen.mean() > 0.1
    assert np.percentile(off[unseen], 99) < 0.5, "what was filled in"
    assert np.percentile(off[zones().inside & ~zones().features], 99) < 1.2, "creases at most"
    assert abs(side_to_side(texture.albedo_AA3)) < 0.15


@pytest.mark.parametrize("value", range(0, 256, 5))
def test_the_logarithm_and_back(value: int) -> None:
    colour = np.full((1, 1, 3), value, np.uint8)
    assert np.isfinite(log_colour(colour)).all()
    np.testing.assert_array_equal(from_log(log_colour(colour)), colour)


def test_gaps_are_filled_from_around_them_and_what_is_known_is_kept() -> None:
    y, x = np.mgrid[:96, :96].astype(np.float32) / 96
    truth = np.stack([x, y, x + y], axis=-1)
    known = np.ones((96, 96), np.float32)
    known[30:60, 40:75] = 0
    holed = truth * known[..., None] - 9 * (1 - known[..., None])
    got = filled(holed.astype(np.float32), known)
    np.testing.assert_allclose(got[known > 0], truth[known > 0], atol=1e-5)
    assert np.abs(got - truth)[known == 0].max() < 0.3
    assert np.abs(got - truth)[known == 0].mean() < 0.12


@pytest.mark.parametrize("side", [96, ATLAS_PX])
def test_filling_is_the_normalised_convolution_that_it_says(side: int) -> None:
    """Within a level of 255 of plain Gaussian filters: a texture with holes, soft edges and texels of little weight."""
    rng = np.random.default_rng(8)
    values = ndimage.gaussian_filter(rng.uniform(1.5, 5.5, (side, side, 3)), (2, 2, 0)).astype(np.float32)
    weight = ndimage.gaussian_filter((ndimage.gaussian_filter(rng.standard_normal((side, side)), 9) > 0) * 1.0, 1.5)
    weight[:, : side // 4] = 0
    weight = np.where(rng.uniform(size=(side, side)) < 0.1, 0.02 * weight, weight).astype(np.float32)
    result, trust = np.zeros_like(values), np.zeros_like(weight)
    for sigma in FILL_SIGMAS:
        below = ndimage.gaussian_filter(weight, sigma)
        share = np.clip(below * 4, 0, 1) * (1 - trust)
        above = ndimage.gaussian_filter(values * weight[..., None], (sigma, sigma, 0))
        result += share[..., None] * above / (below + 1e-6)[..., None]
        trust += share
    wanted = values * weight[..., None] + result / np.maximum(trust, 1e-6)[..., None] * (1 - weight[..., None])
    got = filled(values, weight)
    assert got.dtype == np.float32
    assert np.abs(got - wanted).max() < 1e-4
    assert np.abs(from_log(got).astype(int) - from_log(wanted)).max() <= 1


def test_nothing_known_at_all_gives_something_finite() -> None:
    got = filled(np.zeros((96, 96, 3), np.float32), np.zeros((96, 96), np.float32))
    assert np.isfinite(got).all()


def test_a_strange_tint_is_moved_towards_skin_and_a_skin_s_own_is_left() -> None:
    for skin_rgb in (LIGHT_SKIN, MIDDLE_SKIN, DARK_SKIN):
        mean = log_colour(np.array(skin_rgb, np.uint8))
        plain = np.broadcast_to(mean, (4, 4, 3)).astype(np.float32)
        np.testing.assert_allclose(skin_white_balance(plain, mean), plain, atol=0.06)
        green = mean + np.array([-0.3, 0, 0.2], np.float32)
        balanced = skin_white_balance(np.broadcast_to(green, (4, 4, 3)).astype(np.float32), green)
        assert np.abs(balanced[0, 0] - balanced[0, 0, 1] - mean + mean[1]).max() < 0.3 * 0.9
        assert balanced @ LUMINANCE == pytest.approx(np.full((4, 4), green @ LUMINANCE), abs=1e-4)


def test_a_coloured_highlight_is_evened_and_moles_are_kept() -> None:
    skin = log_colour(albedo(MIDDLE_SKIN))
    u, v = np.round(face_model().uv_S2[[50, 280]] * (ATLAS_PX - 1)).astype(int)
    y, x = np.mgrid[:ATLAS_PX, :ATLAS_PX]
    bright = np.exp(-((x - u[0]) ** 2 + (y - u[1]) ** 2) / (2 * (5 * UNIT) ** 2))[..., None]
    mole = (np.hypot(x - v[0], y - v[1]) < 5)[..., None]
    spoilt = (skin + 0.5 * bright * np.array([1, 0.7, 0.3]) - 0.6 * mole).astype(np.float32)
    got = evened(spoilt, np.ones((ATLAS_PX, ATLAS_PX), np.float32), zones())
    at_light = (slice(u[1] - 4, u[1] + 5), slice(u[0] - 4, u[0] + 5))
    at_mole = (slice(v[1] - 3, v[1] + 4), slice(v[0] - 3, v[0] + 4))
    left = (got - skin)[at_light].mean(axis=(0, 1))
    assert float(left @ LUMINANCE) < 0.75 * float(0.5 * np.array([1, 0.7, 0.3]) @ LUMINANCE)
    assert np.ptp(left) < 0.5 * 0.35
    assert float(((skin - got)[at_mole] @ LUMINANCE).mean()) > 0.35
