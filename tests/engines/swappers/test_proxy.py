"""The geometric swap on made-up drivers: where it draws, what it leaves alone, whose skin it shows."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull

from distill.colour import lab_from_linear, linear
from engines.errors import EngineFault
from engines.face.align import crop, crop_from_frame, moved
from engines.face.cleaning import LUMINANCE
from engines.face.compose import FAR_RING
from engines.face.mesh import FACE_OVAL, face_model
from engines.face.retarget import oval_rings
from engines.identity import ATLAS_PX, Identity
from engines.settings import SwapSettings
from engines.swappers.base import Inputs
from engines.swappers.latent import rough_crop
from engines.swappers.passthrough import NothingToRemember
from engines.swappers.proxy import (
    COARSEST_PX,
    STEPS,
    Proxy,
    is_colourless,
    lifted,
    next_softness,
    texture_levels,
    tone_shift,
)
from engines.types import Floats, Occlusion, Rgb, TrackedFace
from tests.engines.face.heads import (
    DARK_SKIN,
    EVEN,
    FROM_THE_LEFT,
    LIGHT_SKIN,
    MIDDLE_SKIN,
    Looks,
    albedo,
    identity,
    landmarks,
    photograph,
    scene,
)
from tests.engines.face.test_retarget import person

FRAME_S = 1 / 30
ENGINE = Proxy()  # stateless but for a cache: sharing it is part of what is tested
NEUTRAL = SwapSettings()


def face(points: Floats) -> TrackedFace:
    return TrackedFace(1, points, points, 0.95)


def drawn(
    frames: Sequence[Rgb],
    points: Sequence[Floats],
    wearing: Identity,
    settings: SwapSettings = NEUTRAL,
    occlusion: Occlusion | None = None,
) -> list[Rgb]:
    """What a fresh state makes of the frames, one after the other."""
    state, results = ENGINE.init(), []
    for number, (frame, here) in enumerate(zip(frames, points, strict=True)):
        onto = frame.copy()
        ENGINE.draw(state, wearing, Inputs(frame, face(here), occlusion, number * FRAME_S), settings, onto)
        results.append(onto)
    return results


def polygon(points: Floats, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = Image.new("L", (shape[1], shape[0]), 0)
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in points[:, :2]], fill=1, outline=1)
    return np.array(mask) > 0


def oval(points: Floats, shape: tuple[int, ...], inset_px: int = 0) -> NDArray[np.bool_]:
    mask = polygon(points[FACE_OVAL], shape)
    return ndimage.binary_erosion(mask, iterations=inset_px) if inset_px else mask


def lab(rgb: Rgb, where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Median CIELAB of the pixels."""
    return np.asarray(np.median(lab_from_linear(linear(rgb[where].astype(np.float32) / 255)), axis=0), np.float64)


def cheeks(points: Floats, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    reach = np.ptp(points[FACE_OVAL, 0]) * 0.07
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.asarray(
        (np.hypot(x - points[50, 0], y - points[50, 1]) < reach)
        | (np.hypot(x - points[280, 0], y - points[280, 1]) < reach)
    )


@pytest.mark.parametrize("looks", [Looks(), Looks(yaw_deg=40, roll_deg=15), Looks(yaw_deg=-60, pitch_deg=15)])
def test_outside_of_the_far_ring_not_one_bit_changes(looks: Looks) -> None:
    driver = person(3)
    points = landmarks(looks, driver)
    frame = photograph(points, albedo(MIDDLE_SKIN))
    result = drawn([frame], [points], identity(DARK_SKIN, person(9, 1.4)))[0]
    corners = np.concatenate([oval_rings(points, FAR_RING), points])[:, :2]
    reach = ndimage.binary_dilation(polygon(corners[ConvexHull(corners).vertices], frame.shape), iterations=2)
    assert (~reach).mean() > 0.05
    np.testing.assert_array_equal(result[~reach], frame[~reach])
    assert (result != frame).any(axis=2)[oval(points, frame.shape, 10)].mean() > 0.8, "and inside it is drawn"


def test_a_narrower_face_leaves_no_jaw_of_the_driver_beside_it() -> None:
    """The wall is drawn up to the new outline: beside it there are fewer warm pixels than the driver had there."""
    shape = face_model().mean_S3
    points = landmarks(Looks(size_px=200), shape)
    frame = photograph(points, albedo(LIGHT_SKIN), onto_HW3=np.full((280, 320, 3), (96, 108, 122), np.uint8))
    narrow = shape * np.array([0.86, 1, 1], np.float32)
    result = drawn([frame] * 3, [points] * 3, identity(LIGHT_SKIN, narrow))[-1]
    middle = np.s_[100:190]
    before, after = ((p[middle, :, 0].astype(int) > p[middle, :, 2]).sum(axis=1) for p in (frame, result))
    meant = np.ptp(landmarks(Looks(size_px=200), narrow)[:468, 0]) / np.ptp(points[:468, 0])
    assert np.median(after / before) < (1 + meant) / 2


def test_the_face_lies_in_the_haze_of_the_picture() -> None:
    points = landmarks(Looks())
    clear = photograph(points, albedo(MIDDLE_SKIN))
    hazy = (clear * 0.7 + 70).astype(np.uint8)
    inside = oval(points, clear.shape, 6) & ~around_eyes_and_mouth(points, clear.shape)
    black = albedo(MIDDLE_SKIN).copy()
    black[ATLAS_PX * 11 // 20 : ATLAS_PX * 12 // 20] = 0  # a painted bar across the cheeks
    worn = replace(identity(MIDDLE_SKIN), albedo_AA3=black)
    darkest = [np.percentile(drawn([frame] * 2, [points] * 2, worn)[-1][inside], 1) for frame in (clear, hazy)]
    assert darkest[0] < 35
    assert darkest[1] > 50, "nothing in a hazy picture is as dark as that"


def test_the_surroundings_do_not_jump_at_the_ring() -> None:
    """Between face and ring the wall is bent smoothly: no pixel differs much from all of the input's near it."""
    points = landmarks(Looks(), person(3))
    frame = photograph(points, albedo(MIDDLE_SKIN))
    result = drawn([frame], [points], identity(MIDDLE_SKIN, person(9, 1.4)))[0].astype(int)
    wall = polygon(oval_rings(points, 2.0), frame.shape) & ~polygon(oval_rings(points, 0.35), frame.shape)
    low, high = (f(frame, size=(9, 9, 1)).astype(int) for f in (ndimage.minimum_filter, ndimage.maximum_filter))
    assert ((result >= low - 2) & (result <= high + 2))[wall].all()


def test_drawing_is_deterministic_and_a_fresh_state_equals_the_first_one() -> None:
    points = [landmarks(Looks(yaw_deg=4.0 * n, x_px=150 + 3 * n), person(3)) for n in range(5)]
    frames = [photograph(p, albedo(MIDDLE_SKIN), FROM_THE_LEFT) for p in points]
    first, second = (drawn(frames, points, identity(DARK_SKIN)) for _ in range(2))
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one, other)


def test_a_large_face_painted_in_bands_is_the_one_painted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    points = landmarks(Looks(size_px=420, x_px=330, y_px=300, yaw_deg=15), person(3))
    frame = photograph(points, albedo(MIDDLE_SKIN), FROM_THE_LEFT, scene(601, 663))
    results = []
    for large_px in (0, 10**9):
        monkeypatch.setattr("engines.swappers.proxy.LARGE_PX", large_px)
        results.append(drawn([frame] * 2, [points] * 2, identity(DARK_SKIN, person(9)))[-1])
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != frame).any(axis=2).mean() > 0.2


def test_a_band_that_fails_in_the_other_thread_fails_the_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a face must not be shown. The next frame is drawn again, by the same thread."""
    points = landmarks(Looks(size_px=420, x_px=330, y_px=300), person(3))
    frame = photograph(points, albedo(MIDDLE_SKIN), FROM_THE_LEFT, scene(601, 663))
    failed: list[str] = []

    def fail_elsewhere(*given: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            failed.append(threading.current_thread().name)
            raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("engines.swappers.proxy.lay_face", fail_elsewhere)
        with pytest.raises(MemoryError):
            drawn([frame], [points], identity(DARK_SKIN))
    assert len(failed) == 1
    assert (drawn([frame], [points], identity(DARK_SKIN))[0] != frame).any()


@pytest.mark.parametrize(("size_px", "roll_deg"), [(256, 0.0), (256, 25.0), (128, -10.0), (512, 10.0)])
def test_on_a_crop_it_looks_as_it_does_on_the_frame(size_px: int, roll_deg: float) -> None:
    """Drawn onto the crop, or drawn onto the frame and then cropped: the same but for edges, eyes and occluder too."""
    points = landmarks(Looks(size_px=230, yaw_deg=12, roll_deg=roll_deg, x_px=200, y_px=190), person(3))
    blue_eyes = replace(identity(DARK_SKIN, person(9)), iris_rgb=np.array([40, 90, 220], np.float32))
    frame = photograph(points, albedo(MIDDLE_SKIN), FROM_THE_LEFT, scene(380, 400))
    frame[250:, 200:230] = (30, 200, 40)
    covered = np.zeros((95, 100), np.uint8)
    covered[62:, 50:57] = 255
    occlusion = Occlusion(covered, np.array([[0.25, 0, 0], [0, 0.25, 0]], np.float32), 0.1)
    there = crop_from_frame(points, size_px)
    states, (whole, own) = [ENGINE.init(), ENGINE.init()], (frame.copy(), crop(frame, there, size_px))
    rough = own.copy()
    for number in range(2):
        inputs = Inputs(frame, face(points), occlusion, number * FRAME_S)
        np.copyto(whole, frame)
        on_frame = ENGINE.plan(states[0], blue_eyes, inputs, NEUTRAL)
        ENGINE.lay(states[0], on_frame, frame, whole)  # networks know the surroundings graded by the rule of thumb
        plan = ENGINE.plan(states[1], blue_eyes, inputs, NEUTRAL)
        rough = rough_crop(ENGINE, states[1], plan, there, own)
        finer = np.ptp(plan.on_crop(there).moved_px[:, 2]) / np.ptp(plan.moved_px[:, 2])
        assert plan.on_crop(there).camera_px == pytest.approx(finer * plan.camera_px, rel=1e-4)
    expected = crop(whole, there, size_px)
    off = np.abs(rough.astype(int) - expected)
    assert off.mean() < 1.0
    assert np.percentile(off, 95) <= 5
    assert np.abs(own.astype(int) - expected).mean() > 8, "or nothing is said"
    on_crop = moved(points, there)
    for iris in (468, 473):
        x, y = np.round(on_crop[iris, :2]).astype(int)
        reach = max(size_px // 64, 1)
        eye = np.s_[y - reach : y + reach + 1, x - reach : x + reach + 1]
        assert off[eye].mean() < 8
        assert np.abs(own[eye].astype(int) - expected[eye]).mean() > 25, "or nothing is said"


def test_two_states_interleaved_give_the_same_bytes_as_apart() -> None:
    """Two calls, two drivers, two identities, one engine."""
    people = []
    for key, skin, worn_rgb, light in ((3, MIDDLE_SKIN, DARK_SKIN, FROM_THE_LEFT), (5, DARK_SKIN, LIGHT_SKIN, None)):
        points = [landmarks(Looks(yaw_deg=3.0 * n * (-1) ** key), person(key)) for n in range(4)]
        lights = FROM_THE_LEFT * 0 if light is None else light
        frames = [photograph(p, albedo(skin), lights) for p in points]
        people.append((points, frames, identity(worn_rgb, person(key + 1))))
    apart = [drawn(frames, points, worn) for points, frames, worn in people]
    states = [ENGINE.init(), ENGINE.init()]
    for number in range(4):
        for call, (points, frames, worn) in enumerate(people):
            onto = frames[number].copy()
            inputs = Inputs(frames[number], face(points[number]), None, number * FRAME_S)
            ENGINE.draw(states[call], worn, inputs, NEUTRAL, onto)
            np.testing.assert_array_equal(onto, apart[call][number])


def test_the_frame_and_the_landmarks_are_only_read() -> None:
    points = landmarks(Looks(), person(3))
    frame = photograph(points, albedo(MIDDLE_SKIN))
    frame_before, points_before = frame.copy(), points.copy()
    drawn([frame] * 2, [points] * 2, identity(DARK_SKIN))
    np.testing.assert_array_equal(frame, frame_before)
    np.testing.assert_array_equal(points, points_before)


def test_the_face_is_where_this_frame_s_landmarks_are() -> None:
    """The delay trap: the driver moves by 12 px a frame. The drawing must move with them, not a frame later."""
    wall = np.full((280, 420, 3), (96, 108, 122), np.uint8)
    offsets = [12 * n for n in range(10)]
    points = [landmarks(Looks(size_px=170, x_px=120 + dx), person(3)) for dx in offsets]
    frames = [photograph(p, albedo(MIDDLE_SKIN), onto_HW3=wall) for p in points]
    results = drawn(frames, points, identity(DARK_SKIN, person(9)))
    inside = oval(points[0], wall.shape, 6)
    still = drawn([frames[0]] * 10, [points[0]] * 10, identity(DARK_SKIN, person(9)))
    for number in (3, 6, 9):
        on_time = np.roll(results[number], -offsets[number], axis=1)
        late = np.roll(results[number], -offsets[number - 1], axis=1)
        off, off_late = (np.abs(p.astype(int) - still[number])[inside].mean() for p in (on_time, late))
        assert off < 1.0
        assert off_late > 5.0, "and the measure would see one frame of delay"


def test_what_covers_the_face_is_kept() -> None:
    """A board across brow, eye, mouth and jaw, told by the mask, is in the result as it was in the picture."""
    points = landmarks(Looks(), person(3))
    frame = photograph(points, albedo(MIDDLE_SKIN))
    stripes = np.arange(40, 240)[:, None] // 5 % 2 * 60 + 80
    frame[40:240, 100:150] = stripes[..., None] * np.array([1, 1, 0.5])
    covered = np.zeros((70, 80), np.uint8)
    covered[10:60, 25:38] = 255
    occlusion = Occlusion(covered, np.array([[0.25, 0, 0], [0, 0.25, 0]], np.float32), 0.3)
    for wearing in (identity(DARK_SKIN, person(3)), identity(LIGHT_SKIN, person(9))):
        state = ENGINE.init()
        onto = frame.copy()
        ENGINE.draw(state, wearing, Inputs(frame, face(points), occlusion, 0.0), NEUTRAL, onto)
        board = np.s_[50:228, 105:143]
        assert np.abs(onto[board].astype(int) - frame[board]).mean() < 1.0
        beside = np.s_[120:200, 175:200]
        assert np.abs(onto[beside].astype(int) - frame[beside]).mean() > 5.0, "what is not covered is drawn"


@pytest.mark.parametrize(("driver_rgb", "worn_rgb"), [(LIGHT_SKIN, DARK_SKIN), (DARK_SKIN, LIGHT_SKIN)])
def test_the_skin_s_tone_is_the_identity_s_or_the_driver_s_as_asked(
    driver_rgb: tuple[int, int, int], worn_rgb: tuple[int, int, int]
) -> None:
    points = landmarks(Looks(), person(3))
    frame = photograph(points, albedo(driver_rgb))
    where = cheeks(points, frame.shape)
    own = lab(np.full((1, 1, 3), worn_rgb, np.uint8), np.ones((1, 1), bool))
    driver = lab(frame, where)
    level = {}
    for tone in ("identity", "mix", "driver"):
        settings = SwapSettings.read({"tone": tone})
        result = drawn([frame] * 3, [points] * 3, identity(worn_rgb), settings)[-1]
        level[tone] = lab(result, where)
    lightness = {tone: (found[0] - own[0]) / (driver[0] - own[0]) for tone, found in level.items()}
    assert lightness["identity"] < 0.65, "0 is the identity's own lightness, 1 the driver's"
    assert lightness["identity"] < lightness["mix"] < lightness["driver"]
    assert lightness["driver"] == pytest.approx(1, abs=0.2)


def test_a_dark_identity_on_a_light_driver_stays_dark() -> None:
    points = landmarks(Looks(), person(3))
    frame = photograph(points, albedo(LIGHT_SKIN), FROM_THE_LEFT * np.float32(0.4))
    where = cheeks(points, frame.shape)
    result = drawn([frame] * 3, [points] * 3, identity(DARK_SKIN))[-1]
    own = lab(np.full((1, 1, 3), DARK_SKIN, np.uint8), np.ones((1, 1), bool))
    assert lab(frame, where)[0] - lab(result, where)[0] > 0.5 * (lab(frame, where)[0] - own[0])


def test_the_irises_are_as_dark_as_the_identity_s() -> None:
    points = landmarks(Looks(size_px=230, x_px=200, y_px=190))
    frame = photograph(points, albedo(MIDDLE_SKIN), EVEN, scene(380, 400))
    eyes = [tuple(np.round(points[centre, :2]).astype(int)) for centre in (468, 473)]
    for x, y in eyes:
        frame[y - 7 : y + 8, x - 7 : x + 8] = 120  # an iris of middling grey, pupil and light apart
    left_x, left_y = eyes[1]
    eye = np.s_[left_y - 2 : left_y + 3, left_x - 2 : left_x + 3]

    def iris(rgb: tuple[int, int, int]) -> float:
        wearing = replace(identity(MIDDLE_SKIN), iris_rgb=np.array(rgb, np.float32))
        return float(drawn([frame], [points], wearing)[0][eye].mean())

    dark, middling, light = (iris(rgb) for rgb in ((40, 30, 25), (110, 100, 90), (190, 200, 210)))
    assert dark < 0.75 * middling
    assert middling < light
    assert dark > 0.35 * 120, "what is taken for an iris has pupil and lids in it"
    assert light < 1.35 * 120


def grey(rgb: Rgb) -> Rgb:
    return np.repeat(np.asarray(rgb @ LUMINANCE, np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("noise", [0, 2])
def test_in_a_picture_without_colours_the_face_has_none(noise: int) -> None:
    points = landmarks(Looks(size_px=230, x_px=200, y_px=190))
    coloured = photograph(points, albedo(MIDDLE_SKIN), FROM_THE_LEFT, scene(380, 400))
    grain = np.random.default_rng(0).integers(-noise, noise + 1, coloured.shape)
    frame = np.clip(grey(coloured).astype(int) + grain, 0, 255).astype(np.uint8)
    wearing = replace(identity(DARK_SKIN, person(9)), iris_rgb=np.array([40, 90, 220], np.float32))
    (result,) = drawn([frame], [points], wearing)
    assert np.abs(result.astype(int) - frame).mean() > 3, "or nothing is said"
    assert np.percentile(np.ptp(result.astype(int), axis=2), 99.9) <= 2 * noise + 2
    (tinted,) = drawn([coloured], [points], wearing)
    assert np.percentile(np.ptp(tinted.astype(int), axis=2), 50) > 20


def test_a_picture_that_is_nearly_grey_does_not_go_to_and_fro() -> None:
    pale = np.full((64, 64, 3), 128, np.uint8)
    pale[..., 0] += 10
    assert not is_colourless(pale, before=False)
    assert is_colourless(pale, before=True)
    pale[..., 0] += 10
    assert not is_colourless(pale, before=True)


def test_the_driver_s_light_falls_on_the_identity() -> None:
    points = landmarks(Looks(), person(3))
    left, right = ((points[i, 0], points[i, 1]) for i in (50, 280))
    for light_B, side in ((FROM_THE_LEFT, 1), (FROM_THE_LEFT * np.array([1, -1, 1, 1, 1, 1, 1, 1, 1]), -1)):
        frame = photograph(points, albedo(LIGHT_SKIN), light_B.astype(np.float32) * np.float32(0.7))
        result = drawn([frame] * 3, [points] * 3, identity(DARK_SKIN))[-1].astype(float) @ LUMINANCE
        patch = [result[int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7].mean() for x, y in (left, right)]
        assert side * np.log(patch[0] / patch[1]) > 0.15


@pytest.mark.parametrize("light_B", [FROM_THE_LEFT, FROM_THE_LEFT * np.float32(-1.2)])
@pytest.mark.parametrize("looks", [Looks(), Looks(yaw_deg=35, pitch_deg=-15), Looks(yaw_deg=-45)])
def test_there_are_no_black_or_white_specks(light_B: Floats, looks: Looks) -> None:
    """No pixel of the drawn skin is far from the median of its surroundings; eyes, mouth and outline apart."""
    points = landmarks(looks, person(3))
    frame = photograph(points, albedo(MIDDLE_SKIN), light_B)
    inner = oval(points, frame.shape, 10) & ~around_eyes_and_mouth(points, frame.shape)
    assert inner.sum() > 3000
    for skin_rgb in (DARK_SKIN, LIGHT_SKIN):
        result = drawn([frame] * 2, [points] * 2, identity(skin_rgb, person(9)))[-1].astype(float)
        speck = np.abs(result - ndimage.median_filter(result, size=(5, 5, 1))).max(axis=2)
        assert np.percentile(speck[inner], 99.9) < 25


def around_eyes_and_mouth(points: Floats, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    reach = np.ptp(points[FACE_OVAL, 1]) * 0.09
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    near = np.zeros(shape[:2], bool)
    for ring in ([33, 133, 159, 145], [362, 263, 386, 374], [61, 291, 0, 17]):
        (left, top), (right, bottom) = points[ring, :2].min(axis=0) - reach, points[ring, :2].max(axis=0) + reach
        near |= (columns > left) & (columns < right) & (rows > top) & (rows < bottom)
    return near


@pytest.mark.parametrize(
    "looks",
    [
        Looks(x_px=0),
        Looks(x_px=320, yaw_deg=40),
        Looks(y_px=0),
        Looks(y_px=280),
        Looks(x_px=10, y_px=10, yaw_deg=-50),
        Looks(size_px=24),
        Looks(size_px=8),
        Looks(size_px=1500),
        Looks(size_px=5000, x_px=600, y_px=900),
        Looks(yaw_deg=85),
        Looks(pitch_deg=70),
        Looks(roll_deg=180),
    ],
)
def test_odd_places_and_sizes_are_drawn_or_refused_but_never_break(looks: Looks) -> None:
    points = landmarks(looks)
    frame = scene()
    onto = frame.copy()
    try:
        ENGINE.draw(ENGINE.init(), identity(), Inputs(frame, face(points), None, 0.0), NEUTRAL, onto)
    except EngineFault:
        return
    assert np.isfinite(onto).all()
    assert onto.shape == frame.shape


@pytest.mark.parametrize(
    "looks", [Looks(x_px=0), Looks(x_px=320), Looks(y_px=10), Looks(size_px=24), Looks(size_px=700)]
)
def test_a_face_half_in_view_tiny_or_huge_is_drawn(looks: Looks) -> None:
    points = landmarks(looks)
    frame = photograph(points, albedo(LIGHT_SKIN))
    result = drawn([frame] * 2, [points] * 2, identity(DARK_SKIN))[-1]
    inside = oval(points, frame.shape, 2)
    darker = (frame.astype(float) - result).mean(axis=2)
    assert np.median(darker[inside]) > 10


@pytest.mark.parametrize("x_px", [-2000.0, 5000.0])
def test_a_face_outside_of_the_picture_is_a_fault(x_px: float) -> None:
    points = landmarks(Looks(x_px=x_px))
    with pytest.raises(EngineFault):
        ENGINE.draw(ENGINE.init(), identity(), Inputs(scene(), face(points), None, 0.0), NEUTRAL, scene())


def test_without_identity_or_with_another_engine_s_state_it_is_a_fault() -> None:
    inputs = Inputs(scene(), face(landmarks(Looks())), None, 0.0)
    for state, worn in ((ENGINE.init(), None), (NothingToRemember(), identity())):
        with pytest.raises(EngineFault):
            ENGINE.draw(state, worn, inputs, NEUTRAL, scene())


def test_the_tiniest_pictures_are_drawn() -> None:
    for side in (16, 17):
        frame = np.full((side, side, 3), 120, np.uint8)
        points = landmarks(Looks(size_px=12, x_px=8, y_px=8))
        onto = frame.copy()
        ENGINE.draw(ENGINE.init(), identity(), Inputs(frame, face(points), None, 0.0), NEUTRAL, onto)
        assert (onto != frame).any()


def test_a_new_identity_is_worn_from_the_next_frame_on() -> None:
    points = landmarks(Looks())
    frame = photograph(points, albedo(MIDDLE_SKIN))
    state, levels = ENGINE.init(), []
    for number, worn in enumerate([DARK_SKIN, DARK_SKIN, LIGHT_SKIN, DARK_SKIN]):
        onto = frame.copy()
        ENGINE.draw(state, identity(worn), Inputs(frame, face(points), None, number * FRAME_S), NEUTRAL, onto)
        levels.append(lab(onto, cheeks(points, frame.shape))[0])
    assert levels[2] - levels[1] > 15
    assert levels[2] - levels[3] > 15


def test_time_that_jumps_back_does_not_break_the_light() -> None:
    points = landmarks(Looks())
    frame = photograph(points, albedo(MIDDLE_SKIN))
    state = ENGINE.init()
    for at_s in (100.0, 100.03, 3.0, 3.03, 1e6):
        onto = frame.copy()
        ENGINE.draw(state, identity(DARK_SKIN), Inputs(frame, face(points), None, at_s), NEUTRAL, onto)
        assert lab(onto, cheeks(points, frame.shape))[0] == pytest.approx(
            lab(drawn([frame], [points], identity(DARK_SKIN))[0], cheeks(points, frame.shape))[0], abs=4
        )


def test_an_open_mouth_shows_the_driver_s_teeth_and_not_the_photo_s_lips() -> None:
    model = face_model()
    jaw = model.expression_KS3[np.argmax(np.abs(model.expression_KS3[:, 152, 1]))]
    points = landmarks(Looks(size_px=240), model.mean_S3 + 0.5 * jaw * np.sign(jaw[152, 1]))
    frame = photograph(points, albedo(MIDDLE_SKIN))
    x, y = points[[13, 14], :2].mean(axis=0).astype(int)
    frame[y - 3 : y + 3, x - 12 : x + 12] = (222, 214, 200)  # teeth
    result = drawn([frame] * 2, [points] * 2, identity(MIDDLE_SKIN))[-1]
    assert result[y - 2 : y + 2, x - 8 : x + 8].mean() > 150


@given(st.lists(st.floats(1, 5.5), min_size=6, max_size=6))
def test_the_tone_s_shift_goes_from_the_identity_s_skin_to_the_driver_s(values: list[float]) -> None:
    driver, own = np.array(values[:3], np.float32), np.array(values[3:], np.float32)
    np.testing.assert_allclose(own + tone_shift(driver, own, "driver"), driver, atol=1e-5)
    assert abs(float(tone_shift(own, own, "identity") @ LUMINANCE)) < 1e-5, "as bright as before on skin as bright"
    both = tone_shift(driver, own, "identity") + tone_shift(driver, own, "driver")
    np.testing.assert_allclose(tone_shift(driver, own, "mix"), both / 2, atol=1e-5)
    brightness = abs(float(tone_shift(driver, own, "identity") @ LUMINANCE))
    assert brightness <= abs(float((driver - own) @ LUMINANCE)) + 1e-5


@pytest.mark.parametrize("black", [0.0, 20.0, 60.0])
def test_gains_are_lifted_so_that_haze_leaves_skin_as_it_was_meant(black: float) -> None:
    mean = np.log(np.array([150.0, 110, 90], np.float32))
    gain = np.array([[1.2, 1.2, 1.2], [0.8, 0.9, 1.0]], np.float32)
    lift = lifted(gain, mean, black)
    shown = black + (1 - black / 255) * np.exp(mean) * lift
    np.testing.assert_allclose(shown, gain * np.exp(mean), rtol=1e-4)
    assert (lifted(gain * 1e-3, mean, black) > 0).all()


def test_softness_follows_the_camera_and_stays_in_its_range() -> None:
    softness = 0.0
    for _ in range(200):
        softness = next_softness(softness, 3.0)
    high = softness
    for _ in range(400):
        softness = next_softness(softness, -3.0)
    assert softness < 0 < high <= 2.5
    assert next_softness(high, 9.0) == high
    assert abs(next_softness(0.0, 1.0)) < 0.1, "slowly"


def test_every_texture_level_has_the_mean_of_the_first() -> None:
    full = np.concatenate([albedo(MIDDLE_SKIN), np.full((ATLAS_PX, ATLAS_PX, 1), 200, np.uint8)], axis=2)
    levels = texture_levels(full)
    detail = []
    for number, level in enumerate(levels):
        assert level.shape == (ATLAS_PX >> (number // STEPS),) * 2 + (4,)
        np.testing.assert_allclose(level.mean(axis=(0, 1)), full.mean(axis=(0, 1)), atol=1.0)
        detail.append(np.abs(np.diff(level[: level.shape[0] // 3 * 2].astype(int), axis=1)).mean() * level.shape[1])
    assert levels[-1].shape[0] == COARSEST_PX
    assert all(coarser <= finer * 1.02 for finer, coarser in pairwise(detail[:STEPS]))


def test_warming_up_leaves_nothing_behind() -> None:
    engine = Proxy()
    engine.warm_up()
    points = landmarks(Looks())
    frame = photograph(points, albedo(MIDDLE_SKIN))
    onto = frame.copy()
    engine.draw(engine.init(), identity(DARK_SKIN), Inputs(frame, face(points), None, 0.0), NEUTRAL, onto)
    np.testing.assert_array_equal(onto, drawn([frame], [points], identity(DARK_SKIN))[0])
