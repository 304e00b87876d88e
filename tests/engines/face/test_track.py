"""Following people: on real clips, and on scenes made of them with known truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines.face.bystanders import UNSEEN_S, centre
from engines.face.detect import overlap
from engines.face.landmarks import box_of_points
from engines.face.track import ALONE_S, LOST_HIDDEN_S, FaceTracker
from engines.types import Box, Rgb, Tracking
from tests.engines.face.scenes import Actor, clip, empty

FPS = 30.0
MAN, WOMAN, OTHER_MAN = "clips/asl/asl_night.mkv", "clips/asl/asl_learn.mkv", "clips/asl/asl_milk.mkv"


@pytest.fixture
def one() -> Iterator[FaceTracker]:
    tracker = FaceTracker(max_faces=4, follow="one")
    yield tracker
    tracker.close()


@pytest.fixture
def everybody() -> Iterator[FaceTracker]:
    tracker = FaceTracker(max_faces=4, follow="all")
    yield tracker
    tracker.close()


def follow(tracker: FaceTracker, frames: list[Rgb] | tuple[Rgb, ...], start_s: float = 0.0) -> list[Tracking]:
    state = tracker.init()
    return [tracker.step(state, rgb, start_s + index / FPS) for index, rgb in enumerate(frames)]


def x_of(tracking: Tracking, index: int = 0) -> float:
    return float(tracking.faces[index].raw_px[:, 0].mean())


@pytest.mark.parametrize(
    "name",
    [
        "single_face.mp4",
        "head-pose-face-detection-male.gif",
        "asl/asl_bird.mkv",
        "asl/asl_book.mkv",
        "asl/asl_help.mkv",
    ],
)
def test_one_person_is_never_lost_nor_taken_for_two(shared_data: Path, one: FaceTracker, name: str) -> None:
    """Turns up to the profile, hands before the mouth, small faces."""
    found = follow(one, clip(shared_data / "clips" / name))
    assert [len(each.faces) for each in found] == [1] * len(found)
    assert {each.faces[0].person for each in found} == {1}
    assert not any(each.bystanders_px for each in found)
    assert all(each.faces[0].points_px.shape == (478, 3) for each in found)
    assert all(each.faces[0].points_px.dtype == np.float32 for each in found)


def test_of_two_people_one_is_followed_and_the_other_is_a_bystander(shared_data: Path, one: FaceTracker) -> None:
    found = follow(one, clip(shared_data / "clips/openh264/test_vd_1d.264"))
    for tracking in found:
        (face,), (hidden,) = tracking.faces, tracking.bystanders_px
        assert overlap(box_of_points(face.raw_px), hidden) < 0.3
        assert tracking.found == 2


def test_all_people_are_followed_when_asked_for(shared_data: Path, everybody: FaceTracker) -> None:
    found = follow(everybody, clip(shared_data / "clips/openh264/test_vd_1d.264"))
    assert [len(each.faces) for each in found] == [2] * len(found)
    assert all([face.person for face in each.faces] == [1, 2] for each in found)
    assert not any(each.bystanders_px for each in found)


def crossing(a: Actor, b: Actor, a_before_b: bool, count: int = 90) -> Iterator[tuple[Rgb, float, float]]:
    """Two people who pass each other, each at their own middle."""
    for index in range(count):
        scene, way = empty(), 400 * index / (count - 1)
        both = [(a, 120 + way), (b, 520 - way)]
        for actor, x in both[::-1] if a_before_b else both:
            actor.put(scene, index, x, 240)
        yield scene, 120 + way, 520 - way


@pytest.mark.parametrize("a_before_b", [True, False])
@pytest.mark.parametrize("pair", [(MAN, WOMAN), (OTHER_MAN, MAN), ("clips/single_face.mp4", MAN)])
def test_the_lock_does_not_go_over_when_two_people_cross(
    shared_data: Path, one: FaceTracker, pair: tuple[str, str], a_before_b: bool
) -> None:
    actors = [Actor.of(shared_data / name) for name in pair]
    state, locked_is_a, back = one.init(), None, 0
    for index, (scene, a_px, b_px) in enumerate(crossing(actors[0], actors[1], a_before_b)):
        tracking = one.step(state, scene, index / FPS)
        if not tracking.faces or abs(a_px - b_px) < 60:  # in the middle no one can say whose the place is
            continue
        is_a = abs(x_of(tracking) - a_px) < abs(x_of(tracking) - b_px)
        if locked_is_a is None:
            locked_is_a = is_a
        assert is_a == locked_is_a, f"frame {index}: the lock went over"
        back += a_px > b_px
    assert back > 5, "the person was not recognised after the crossing"


def test_a_newcomer_is_hidden_within_100_ms(shared_data: Path, one: FaceTracker) -> None:
    driver, guest = Actor.of(shared_data / "clips/single_face.mp4"), Actor.of(shared_data / MAN)
    state, tracking = one.init(), Tracking((), (), 0)
    for index in range(40):
        scene = empty()
        driver.put(scene, index, 180, 240)
        if index >= 20:
            guest.put(scene, index, 480, 200, width_px=120)
        tracking = one.step(state, scene, index / FPS)
        if index >= 23:
            (hidden,) = tracking.bystanders_px
            assert hidden.left_px < 450
            assert hidden.right_px > 510
            assert hidden.top_px < 170
            assert hidden.bottom_px > 235
    assert len(tracking.faces) == 1
    assert abs(x_of(tracking) - 180) < 20


def test_a_moving_bystander_stays_inside_the_hidden_box(shared_data: Path, one: FaceTracker) -> None:
    driver, guest = Actor.of(shared_data / "clips/single_face.mp4"), Actor.of(shared_data / MAN)
    state, alone, out = one.init(), one.init(), 0
    for index in range(40):
        scene, x = empty(), 400 + 5 * index
        driver.put(scene, index, 150, 240)
        guest.put(scene, index, x, 200, width_px=140)
        only = empty()
        guest.put(only, index, x, 200, width_px=140)
        face = one.step(alone, only, index / FPS).faces
        hidden = one.step(state, scene, index / FPS).bystanders_px
        if face and x < 560:
            box = box_of_points(face[0].raw_px)
            out += not any(_holds(each, box) for each in hidden)
    assert out <= 1  # the first frame of a clip may be the newcomer's


def _holds(outer: Box, inner: Box) -> bool:
    return (
        outer.left_px <= inner.left_px
        and outer.right_px >= inner.right_px
        and outer.top_px <= inner.top_px
        and outer.bottom_px >= inner.bottom_px
    )


def away_and_back(actor: Actor, away_frames: int, back: Actor) -> list[Rgb]:
    frames = []
    for index in range(20 + away_frames + 20):
        scene = empty()
        if index < 20:
            actor.put(scene, index, 200, 240)
        elif index >= 20 + away_frames:
            back.put(scene, index, 430, 240)
        frames.append(scene)
    return frames


def test_a_person_who_comes_back_elsewhere_is_recognised_at_once(shared_data: Path, one: FaceTracker) -> None:
    actor = Actor.of(shared_data / WOMAN)
    found = follow(one, away_and_back(actor, 30, actor))
    assert [len(each.faces) for each in found[20:50]] == [0] * 30
    assert {each.faces[0].person for each in found[52:]} == {1}


def test_somebody_else_does_not_get_the_lock_at_once(shared_data: Path, one: FaceTracker) -> None:
    frames = away_and_back(Actor.of(shared_data / WOMAN), 30, Actor.of(shared_data / "clips/single_face.mp4"))
    state = one.init()
    for index, rgb in enumerate(frames):
        tracking = one.step(state, rgb, index / FPS)
        if index >= 52:
            assert not tracking.faces
            assert tracking.bystanders_px
    late_s = len(frames) / FPS + ALONE_S
    tracking = one.step(state, frames[-1], late_s)
    assert tracking.faces[0].person == 2


def test_the_first_person_gets_the_lock_back(shared_data: Path, one: FaceTracker) -> None:
    owner, guest = Actor.of(shared_data / WOMAN), Actor.of(shared_data / "clips/single_face.mp4")
    state, now_s, tracking = one.init(), 0.0, Tracking((), (), 0)
    for index in range(100):
        now_s += 1 / FPS if index != 40 else ALONE_S + 1
        scene = empty()
        if index < 30 or index >= 70:
            owner.put(scene, index, 180, 240)
        if index >= 30:
            guest.put(scene, index, 470, 240)
        tracking = one.step(state, scene, now_s)
        if index == 60:
            assert tracking.faces[0].person == 2
    assert tracking.faces[0].person == 1
    assert abs(x_of(tracking) - 180) < 25
    assert any(centre(box)[0] > 400 for box in tracking.bystanders_px)


@pytest.mark.parametrize("shade", [30, 120, 235])
def test_a_covered_face_is_lost_and_its_place_stays_hidden(shared_data: Path, one: FaceTracker, shade: int) -> None:
    frames = clip(shared_data / "clips/single_face.mp4", 12)
    state, face = one.init(), Box(0, 0, 0, 0)
    for index in range(60):
        rgb = frames[index % 11].copy()
        if index >= 20:
            rgb[60:330, 190:400] = shade
        tracking = one.step(state, rgb, index / FPS)
        if index == 19:
            face = box_of_points(tracking.faces[0].raw_px)
        if index >= 22:
            assert not tracking.faces
            assert any(_holds(box, face) for box in tracking.bystanders_px)
    empty_s = 60 / FPS + LOST_HIDDEN_S + UNSEEN_S
    assert one.step(state, empty(), empty_s).bystanders_px == ()


def test_a_cut_to_somebody_else_draws_nothing_on_the_wrong_place(shared_data: Path, one: FaceTracker) -> None:
    before = clip(shared_data / "clips/single_face.mp4", 20)
    after = [frame[:360, :640] for frame in clip(shared_data / WOMAN, 20)]
    found = follow(one, [*before, *after])
    assert all(each.faces for each in found[:20])
    assert not any(each.faces for each in found[20:])
    assert all(each.bystanders_px for each in found[20:])


def test_a_cut_and_back_finds_the_person_in_the_same_frame(shared_data: Path, one: FaceTracker) -> None:
    clip_frames = clip(shared_data / "clips/single_face.mp4", 40)
    found = follow(one, [*clip_frames[:15], *[empty(360, 640)] * 5, *clip_frames[15:]])
    assert not any(each.faces for each in found[15:20])
    assert all(each.faces and each.faces[0].person == 1 for each in found[20:])


def test_an_empty_picture_has_nobody(one: FaceTracker) -> None:
    slope = np.repeat(np.linspace(0, 255, 640, dtype=np.uint8)[None, :, None], 480, axis=0).repeat(3, axis=2)
    pictures = [empty(), empty(), slope, empty(64, 48), np.zeros((480, 640, 3), np.uint8)]
    for tracking, broken in zip(follow(one, pictures), (False, False, True, True, True)):
        assert tracking == Tracking((), (), 0, broken)


def test_a_clock_that_runs_backwards_starts_anew(shared_data: Path, one: FaceTracker) -> None:
    frames = clip(shared_data / "clips/single_face.mp4", 10)
    state = one.init()
    for at_s in (5.0, 5.03, 1.0, 1.0, 1.03):
        assert len(one.step(state, frames[0], at_s).faces) == 1


def test_two_states_share_nothing(shared_data: Path, one: FaceTracker) -> None:
    red, blue = clip(shared_data / "clips/single_face.mp4", 12), clip(shared_data / MAN, 12)
    mixed, alone = (one.init(), one.init()), one.init()
    for index in range(12):
        first = one.step(mixed[0], red[index], index / FPS)
        second = one.step(mixed[1], blue[index], index / FPS)
        again = one.step(alone, red[index], index / FPS)
        assert np.array_equal(first.faces[0].points_px, again.faces[0].points_px)
        assert not np.array_equal(first.faces[0].points_px, second.faces[0].points_px)


def test_a_frame_is_not_written_to(shared_data: Path, one: FaceTracker) -> None:
    rgb = clip(shared_data / "clips/single_face.mp4", 1)[0].copy()
    rgb.setflags(write=False)
    before = rgb.copy()
    one.step(one.init(), rgb, 0.0)
    assert np.array_equal(rgb, before)
