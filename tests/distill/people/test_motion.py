"""How faces move: as fast as people do and no faster, blinking as often, the same at a clip's start and end."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from distill.people.expressions import INDEX
from distill.people.motion import (
    Floats,
    blink_profile,
    blinks,
    head_angles,
    sample_clip,
    scenes,
    speech,
    trajectory,
)
from distill.people.sample import generator
from distill.people.types import Posture

CLIPS, FRAMES, FPS = 160, 60, 30.0
HEAD_LIMIT_DEG_S = 300.0  # people turn their heads at up to 300 to 500
GAZE_LIMIT_DEG_S = 700.0  # saccades peak at 500 to 700
LID_LIMIT_PER_S = 40.0  # a lid closes in about 50 ms at the quickest
FACE_LIMIT_PER_S = 14.0  # a mouth opens in about 80 ms at the quickest


@cache
def corpus() -> tuple[tuple[Posture, ...], ...]:
    return tuple(tuple(trajectory(generator("train", 11, i), FRAMES, FPS)) for i in range(CLIPS))


def head() -> Floats:
    return np.array([[(p.yaw_deg, p.pitch_deg, p.roll_deg) for p in clip] for clip in corpus()])


def weights() -> Floats:
    return np.array([[p.expression for p in clip] for clip in corpus()])


def test_the_same_seed_gives_the_same_clip() -> None:
    assert sample_clip(generator("train", 5, 3), 20) == sample_clip(generator("train", 5, 3), 20)
    assert sample_clip(generator("train", 5, 3), 20) != sample_clip(generator("train", 5, 4), 20)


@pytest.mark.parametrize("frames", [1, 2, 8])
def test_clips_are_as_long_as_asked(frames: int) -> None:
    assert len(sample_clip(generator("train", 5, 0), frames, 25.0)) == frames


def test_heads_turn_no_faster_than_necks_do() -> None:
    speed = np.abs(np.diff(head(), axis=1)) * FPS
    assert speed.max() < HEAD_LIMIT_DEG_S
    assert np.percentile(speed[..., 0].max(axis=1), 90) > 40  # and some turn quickly
    acceleration = np.abs(np.diff(head(), 2, axis=1)) * FPS**2
    assert acceleration.max() < 5000


def test_heads_rest_too() -> None:
    speed = np.linalg.norm(np.diff(head(), axis=1), axis=2) * FPS
    assert 0.25 < (speed < 12).mean() < 0.9


def test_heads_stay_in_view() -> None:
    assert np.abs(head()).max(axis=(0, 1)).tolist() <= [75.0, 40.0, 40.0]
    bins = np.histogram(np.abs(head()[..., 0]), (0, 20, 45, 75))[0] / head()[..., 0].size
    assert (bins > 0.04).all(), bins


def test_eyes_jump_and_hold() -> None:
    gaze = np.array([[p.gaze_deg for p in clip] for clip in corpus()])
    assert np.abs(gaze).max(axis=(0, 1)).tolist() <= [25.0, 15.0]
    speed = np.linalg.norm(np.diff(gaze, axis=1), axis=2) * FPS
    assert speed.max() < GAZE_LIMIT_DEG_S
    assert speed.max() > 200
    assert (speed < 30).mean() > 0.7


def test_faces_move_no_faster_than_muscles_do() -> None:
    speed = np.abs(np.diff(weights(), axis=1)).max(axis=(0, 1)) * FPS
    for name, i in INDEX.items():
        lid = name.startswith("eye")
        assert speed[i] < (LID_LIMIT_PER_S if lid else FACE_LIMIT_PER_S), (name, speed[i])


def test_people_blink_as_often_and_as_long_as_people_do() -> None:
    times = np.arange(0, 60, 1 / 200)
    closed = np.stack([blinks(generator("train", 12, i), times)[:, 0] for i in range(60)])
    starts = (closed[:, 1:] > 0.02) & (closed[:, :-1] <= 0.02)
    per_min = starts.sum(axis=1)
    assert 2 <= per_min.min() <= per_min.max() <= 40
    assert per_min.mean() == pytest.approx(17, abs=3)
    for row in closed:
        edges = np.diff((row > 0.02).astype(int))
        begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        if len(begins) and len(ends):
            ends = ends[ends > begins[0]]
            lengths = (ends - begins[: len(ends)]) / 200
            assert lengths.min() > 0.06
            assert lengths.max() < 0.31


def test_lids_close_faster_than_they_open() -> None:
    share = np.linspace(0, 1, 1001)
    profile = blink_profile(share)
    assert profile[0] == profile[-1] == 0
    assert profile.max() == pytest.approx(1)
    assert np.abs(np.diff(profile)).max() * 1000 < 5
    down, up = (share[profile >= 0.5][0], 1 - share[profile >= 0.5][-1])
    assert down < up


def test_speech_is_between_one_and_six_hertz() -> None:
    times = np.arange(0, 20, 1 / 60)
    power = np.zeros(len(times) // 2 + 1)
    for i in range(30):
        jaw = speech(generator("train", 13, i), times)[0][:, INDEX["jawOpen"]]
        power += np.abs(np.fft.rfft(jaw - jaw.mean())) ** 2
    hz = np.fft.rfftfreq(len(times), 1 / 60)
    assert power[(hz >= 1) & (hz <= 6)].sum() > 0.5 * power[hz > 0.6].sum()
    assert power[hz > 6].sum() < 0.02 * power[hz > 0.6].sum()


def test_a_clips_start_is_like_its_end() -> None:
    for series in (head(), weights()[..., [INDEX["jawOpen"], INDEX["mouthSmile_L"], INDEX["eyeBlink_L"]]]):
        first, last = series[:, :20].std(axis=(0, 1)), series[:, -20:].std(axis=(0, 1))
        assert np.allclose(first, last, rtol=0.35), (first, last)
    quick = np.abs(np.diff(head(), axis=1)).mean(axis=(0, 2))
    assert quick[:15].mean() == pytest.approx(quick[-15:].mean(), rel=0.3)


def test_light_moves_in_some_clips_and_smoothly() -> None:
    moving = 0
    for i in range(60):
        clip = scenes(generator("train", 14, i), 60, FPS)
        assert len({(s.field_of_view_deg, s.distance_cm, s.background_seed) for s in clip}) == 1
        directions = np.array([s.light_directions for s in clip])
        colours = np.array([s.light_colours for s in clip])
        moving += len(set(clip)) > 1
        assert np.abs(np.diff(directions, axis=0)).max() * FPS < 2.5
        assert colours.min() >= 0
        assert np.abs(np.diff(np.log(colours + 1e-3), axis=0)).max() < 0.12
        assert np.allclose(np.linalg.norm(directions.reshape(60, 3, 3), axis=2), 1)
    assert 12 <= moving <= 36


def test_nods_come_with_talking() -> None:
    times = np.arange(0, 30, 1 / 30)
    quiet = head_angles(generator("train", 15, 0), times, 0.0)
    loud = head_angles(generator("train", 15, 0), times, np.ones(len(times)))
    assert 0.3 < (loud - quiet).std(axis=0).max() < 3
