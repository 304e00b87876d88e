"""A tracker that looks for bystanders while somebody else draws finds what it finds in one go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import pytest

from engines.face.people import TrackState
from engines.face.track import ALONE_S, FaceTracker
from engines.types import Rgb, Tracking
from tests.engines.face.scenes import Actor, empty

FPS = 11.0  # every frame is looked round in


@pytest.fixture
def one() -> Iterator[FaceTracker]:
    tracker = FaceTracker(max_faces=4, follow="one")
    yield tracker
    tracker.close()


def a_guest_takes_over(shared_data: Path) -> Iterator[tuple[Rgb, float]]:
    """The owner alone, a guest beside them, the guest alone until they get the lock, and both again."""
    owner, guest = Actor.of(shared_data / "clips/asl/asl_learn.mkv"), Actor.of(shared_data / "clips/single_face.mp4")
    now_s = 0.0
    for index in range(26):
        now_s += ALONE_S + 1 if index == 9 else 1 / FPS
        scene = empty()
        if index < 7 or index >= 15:
            owner.put(scene, index, 180 + 2 * index, 240)
        if index >= 3:
            guest.put(scene, index, 470, 240)
        yield scene, now_s


def facts(tracking: Tracking) -> list[object]:
    faces = [(face.person, face.score, face.points_px.tobytes(), face.raw_px.tobytes()) for face in tracking.faces]
    return [faces, [astuple(box) for box in tracking.bystanders_px], tracking.found, tracking.broken]


def test_looking_beside_the_drawing_finds_the_same_to_the_bit(
    shared_data: Path, one: FaceTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newcomers, a loss, the lock's way there and back: all of it in order and all of it as early."""
    apart, at_once, beside = one.init(), one.init(), 0
    for scene, now_s in a_guest_takes_over(shared_data):
        begun = one.begin(apart, scene, now_s)
        beside += begun.looking
        seen_before = [face.person for face in begun.faces]
        tracking = one.finish(apart, begun)
        assert [face.person for face in tracking.faces] == seen_before
        with monkeypatch.context() as patch:
            patch.setattr(one, "_settled", lambda _: False)  # all of it in the first half
            whole = one.begin(at_once, scene, now_s)
            assert not whole.looking
            assert facts(tracking) == facts(one.finish(at_once, whole))
    assert beside >= 5
    assert apart.numbered == at_once.numbered == 2
    assert apart.locked == apart.owner == 1


def test_what_decides_who_is_followed_is_never_put_off(shared_data: Path, one: FaceTracker) -> None:
    """Nobody yet, somebody lost, and a guest with the lock: then who is drawn depends on what the detectors say."""
    owner, state = Actor.of(shared_data / "clips/asl/asl_learn.mkv"), TrackState()
    for index, there in enumerate([False, False, True, True, False, False, True]):
        scene = empty()
        if there:
            owner.put(scene, index, 300, 240)
        before = len(state.present)
        begun = one.begin(state, scene, index / FPS)
        assert not (begun.looking and (before == 0 or not begun.faces))
        one.finish(state, begun)
    state.owner = 77  # somebody who may come back any moment
    begun = one.begin(state, empty(), 1.0)
    assert not begun.looking
    one.finish(state, begun)
