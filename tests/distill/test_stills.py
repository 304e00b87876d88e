"""Portraits that move: the photo at rest, landmarks that hold, nothing torn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.errors import DataMissing
from distill.stills import Portrait, PortraitReader, at_rest, moved, portrait_reader, self_swap, still_clip
from distill.stills.matte import layers
from distill.stills.motion import PITCH_DEG, YAW_DEG, Motion, expression_names, yaw_range_deg
from distill.stills.portrait import SUPERSAMPLE
from engines.enrolment import face_finder
from engines.face.mesh import LEFT_LIDS, RIGHT_LIDS
from engines.pixels import resize_area
from engines.types import Floats

NAMES = ("t0018", "t0019", "t0036", "t0060")


@pytest.fixture(scope="module")
def reader(shared_data: Path) -> Iterator[PortraitReader]:
    with portrait_reader(shared_data) as ready:
        yield ready


@pytest.fixture(scope="module")
def portraits(shared_data: Path, reader: PortraitReader) -> list[Portrait]:
    read = [reader.read(shared_data / "synth_faces" / f"{name}_schnell.jpg", 256) for name in NAMES]
    assert all(portrait is not None for portrait in read)
    return [portrait for portrait in read if portrait is not None]


def speaking(**weights: float) -> tuple[float, ...]:
    return tuple(weights.get(name, 0.0) for name in expression_names())


def photo_of(portrait: Portrait) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    margin, side = portrait.margin_px, SUPERSAMPLE * portrait.size_px
    middle = np.ascontiguousarray(portrait.rgb_CC3[margin : margin + side, margin : margin + side])
    return resize_area(middle, portrait.size_px, portrait.size_px)


EXTREMES = (
    replace(at_rest(), yaw_deg=YAW_DEG),
    replace(at_rest(), yaw_deg=-YAW_DEG),
    replace(at_rest(), pitch_deg=PITCH_DEG),
    replace(at_rest(), pitch_deg=-PITCH_DEG),
    replace(at_rest(), roll_deg=7.0, shift_cm=(0.8, 0.5)),
    replace(at_rest(), expression=speaking(jawOpen=0.45)),
    replace(at_rest(), yaw_deg=10.0, expression=speaking(mouthSmile_L=0.8, mouthSmile_R=0.8)),
)


def test_a_still_at_rest_is_the_photo(portraits: list[Portrait]) -> None:
    for portrait in portraits:
        (frame,) = moved(portrait, [at_rest()])
        assert np.array_equal(frame.rgb_HW3, photo_of(portrait))


def test_the_same_seed_gives_the_same_bytes(portraits: list[Portrait]) -> None:
    once, again = (self_swap(portraits[0], seed=4, index=9, frames=2, views=2) for _ in range(2))
    assert np.array_equal(once.driver_THW3, again.driver_THW3)
    assert np.array_equal(once.source_rgb_VHW3, again.source_rgb_VHW3)
    for a, b in zip(once.targets, again.targets):
        assert a.motion == b.motion
        assert np.array_equal(a.rgb_HW3, b.rgb_HW3)
        assert np.array_equal(a.landmarks_N3, b.landmarks_N3)
    other = self_swap(portraits[0], seed=4, index=10)
    assert not np.array_equal(once.driver_THW3[0], other.driver_THW3[0])


def test_the_tracker_agrees_with_the_predicted_landmarks(portraits: list[Portrait]) -> None:
    errors = []
    with face_finder() as finder:
        for portrait in portraits:
            for frame in moved(portrait, EXTREMES):
                found = finder.find(frame.rgb_HW3)
                assert found, (portrait.name, frame.motion)
                away = np.linalg.norm(found[0].points_px[:468, :2] - frame.landmarks_N3[:468, :2], axis=1)
                errors.append(np.median(away) / np.ptp(frame.landmarks_N3[:468, 0]))
    assert np.median(errors) < 0.03
    assert max(errors) < 0.06


def test_nothing_tears(portraits: list[Portrait]) -> None:
    """Every pixel is covered, numbers are finite, and no frame is much rougher than its photo: a tear is an edge."""
    for portrait in portraits:
        rough = np.abs(np.diff(photo_of(portrait).astype(np.float32), axis=1)).mean()
        for frame in moved(portrait, EXTREMES):
            assert np.isfinite(frame.landmarks_N3).all()
            assert np.isfinite(frame.surface_HW4).all()
            now = np.abs(np.diff(frame.rgb_HW3.astype(np.float32), axis=1)).mean()
            assert 0.75 * rough < now < 1.2 * rough, (portrait.name, frame.motion)
            face = frame.mask_HW > 0
            assert np.abs(np.linalg.norm(frame.surface_HW4[face][:, :3], axis=1) - 1).max() < 0.6


def test_the_background_stays_where_it_is(portraits: list[Portrait]) -> None:
    portrait = portraits[0]  # before a plain wall
    (still,), (turned,) = moved(portrait, [at_rest()]), moved(portrait, [EXTREMES[0]])
    corner = np.s_[:60, :40]
    assert np.abs(still.rgb_HW3[corner].astype(int) - turned.rgb_HW3[corner]).max() <= 6


def test_lids_meet_when_they_close(portraits: list[Portrait]) -> None:
    for portrait in portraits:
        (frame,) = moved(portrait, [replace(at_rest(), blink=(1.0, 1.0))])
        for lids in (RIGHT_LIDS, LEFT_LIDS):
            gap = np.linalg.norm(frame.landmarks_N3[lids[:, 0]] - frame.landmarks_N3[lids[:, 1]], axis=1)
            assert gap.max() < 0.1
        (open_eyes,) = moved(portrait, [at_rest()])
        eye = _inside(open_eyes.landmarks_N3, 33, 133)
        assert np.abs(frame.rgb_HW3[eye].astype(int) - open_eyes.rgb_HW3[eye]).mean() > 5


def _inside(landmarks: Floats, left: int, right: int) -> tuple[slice, slice]:
    (x0, y0), (x1, y1) = landmarks[left, :2], landmarks[right, :2]
    middle = round(float(y0 + y1) / 2)
    return np.s_[middle - 3 : middle + 3, round(float(x0)) + 2 : round(float(x1)) - 2]


def test_an_opened_mouth_is_dark_inside_and_has_teeth(portraits: list[Portrait]) -> None:
    """Teeth are much lighter than the dark behind them, and less red than lips."""
    for portrait in portraits:
        (opened,) = moved(portrait, [replace(at_rest(), expression=speaking(jawOpen=0.5))])
        upper, lower = opened.landmarks_N3[[13, 14], :2]
        left, right = opened.landmarks_N3[[78, 308], 0]
        rows = np.s_[round(float(upper[1])) : round(float(lower[1]))]
        inside = opened.rgb_HW3[rows, round(float(left * 0.7 + right * 0.3)) : round(float(left * 0.3 + right * 0.7))]
        level = inside.mean(axis=2)
        assert np.percentile(level, 20) < 0.5 * np.median(opened.rgb_HW3[opened.mask_HW == 255])
        assert np.percentile(level, 95) > 2 * np.percentile(level, 20), portrait.name


def test_clips_are_smooth_and_stay_in_range(portraits: list[Portrait]) -> None:
    for seed in range(20):
        clip = still_clip(np.random.default_rng(seed), portraits[1], 50, 25.0)
        low, high = yaw_range_deg(portraits[1].yaw_deg)
        yaw = np.array([motion.yaw_deg for motion in clip])
        assert low - 1e-9 <= yaw.min()
        assert yaw.max() <= high + 1e-9
        assert max(abs(motion.pitch_deg) for motion in clip) <= PITCH_DEG
        assert np.abs(np.diff(yaw)).max() < 8  # degrees a frame: quick, but not a jump
        assert all(0 <= weight <= 0.85 for motion in clip for weight in motion.expression)
        assert all(0 <= closed <= 1 for motion in clip for closed in motion.blink)


def test_a_turned_photo_may_turn_less() -> None:
    assert yaw_range_deg(0.0) == (-YAW_DEG, YAW_DEG)
    low, high = yaw_range_deg(20.0)
    assert high < YAW_DEG
    assert low > -YAW_DEG
    assert yaw_range_deg(-20.0) == (-high, -low)


def test_the_driver_is_disturbed_on_the_head_alone(portraits: list[Portrait]) -> None:
    sample = self_swap(portraits[0], seed=1, index=2)
    target, driver = sample.targets[0], sample.driver_THW3[0]
    elsewhere = target.surface_HW4[..., 3] == 0
    assert elsewhere.mean() > 0.1
    assert np.array_equal(driver[elsewhere], target.rgb_HW3[elsewhere])
    face = target.mask_HW == 255
    assert np.abs(driver[face].astype(int) - target.rgb_HW3[face]).mean() > 3
    assert sample.sources[0].motion != target.motion
    assert np.array_equal(sample.truth_THW3[0], target.rgb_HW3)


def test_with_a_masked_face_all_that_is_seen_is_in_the_truth_s_light(portraits: list[Portrait]) -> None:
    """Else a network would learn that hair, neck and room say nothing about the light on the face."""
    sample = self_swap(portraits[0], seed=1, index=2, masked=True)
    target, driver, truth = sample.targets[0], sample.driver_THW3[0], sample.truth_THW3[0]
    outside, inside = target.mask_HW == 0, target.mask_HW == 255
    assert np.array_equal(driver[outside], truth[outside])
    assert np.abs(truth.astype(int) - target.rgb_HW3)[outside].mean() > 2, "the light is not always the photo's"
    gain = (driver[inside] + 0.5).mean(0) / (truth[inside] + 0.5).mean(0)
    assert np.abs(gain - 1).max() > 0.02, "the driver's skin is another's"
    again = (driver[inside] + 0.5) / (truth[inside] + 0.5)
    bright = truth[inside].min(-1) > 60
    assert float(np.abs(again[bright] / gain - 1).mean()) < 0.1, "skin alone: no other light"


def test_a_photo_without_a_face_is_turned_down(reader: PortraitReader, tmp_path: Path) -> None:
    Image.fromarray(np.full((300, 300, 3), 120, np.uint8)).save(tmp_path / "wall.png")
    assert reader.read(tmp_path / "wall.png", 128) is None


def test_what_is_no_picture_is_named(reader: PortraitReader, tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    with pytest.raises(DataMissing, match=r"cut\.jpg"):
        reader.read(tmp_path / "cut.jpg", 128)
    with pytest.raises(DataMissing, match="teeth"), portrait_reader(tmp_path):
        pass


def test_the_background_grows_in_behind_the_person() -> None:
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[..., 0] = np.linspace(40, 200, 128).astype(np.uint8)
    matte = np.zeros((128, 128), np.float32)
    matte[40:90, 40:90] = 1
    truth = picture.copy()
    picture[40:90, 40:90] = (0, 255, 0)
    share, behind = layers(picture, matte)
    assert share[60, 60] == 1
    assert np.isfinite(behind).all()
    assert np.array_equal(behind[share == 0], picture[share == 0])
    assert np.abs(behind[65, 65] - truth[65, 65]).max() < 40


def test_motions_are_values() -> None:
    assert at_rest() == Motion(0.0, 0.0, 0.0, (0.0, 0.0), (0.0,) * len(expression_names()), 0.0, (0.0, 0.0), (0.0, 0.0))
