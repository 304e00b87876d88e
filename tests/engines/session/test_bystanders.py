"""People beside the one who is swapped: blurred from their first picture on, or swapped if asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from engines import (
    Box,
    Identity,
    Rgb,
    Session,
    Status,
    SwapSettings,
    load,
)
from tests.engines.face.scenes import Actor, clip
from tests.engines.raw_face import HIDDEN, RAW, find_face, likeness
from tests.engines.session.steps import FRAME_S, run


def guest_scene(frames: Sequence[Rgb], guest: Actor, number: int, x_px: float) -> Rgb:
    scene = frames[number % len(frames)].copy()
    guest.put(scene, number, x_px, 180, width_px=220)
    return scene


@pytest.fixture(scope="module")
def guest(shared_data: Path) -> Actor:
    return Actor.of(shared_data / "clips" / "head-pose-face-detection-male.gif")


def guest_box(scene: Rgb) -> Box:
    return find_face(np.ascontiguousarray(scene[:, : scene.shape[1] * 2 // 5]))


def test_somebody_who_walks_in_is_blurred(session: Session, frames: Sequence[Rgb], box: Box, guest: Actor) -> None:
    """From when half of their face is in view, long before a detector would know it as one."""
    state, last = session.init(), Status.WARMING
    place = guest_box(guest_scene(frames, guest, 0, 100))
    found: list[float] = []
    for number in range(40):
        x_px = min(100, -110 + 8 * number)
        scene = guest_scene(frames, guest, number, x_px)
        result = session.step(state, scene, number * FRAME_S)
        theirs = Box(place.left_px + x_px - 100, place.top_px, place.right_px + x_px - 100, place.bottom_px)
        if theirs.right_px >= theirs.width_px / 2:
            found.append(likeness(result.rgb_HW3, scene, theirs))
        assert likeness(result.rgb_HW3, scene, box) < RAW
        last = result.status
    assert len(found) > 18
    assert max(found) < HIDDEN
    assert last is Status.DRAWN


@pytest.mark.parametrize("edge", ["left", "right"])
@pytest.mark.parametrize(("face_px", "pace_px"), [(50, 8), (64, 4), (76, 16)])
def test_a_small_face_that_slides_in_is_never_raw(
    session: Session,
    shared_data: Path,
    guest: Actor,
    edge: str,
    face_px: int,
    pace_px: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From a third of it on; and it is the newcomer that is hidden, not the person who is swapped."""
    monkeypatch.setattr(session, "marker", None)
    room = [np.ascontiguousarray(frame) for frame in clip(shared_data / "clips" / "asl" / "asl_eat.mkv", 24)]
    side_px = round(2.3 * face_px)  # what Actor cuts out about the face
    half_px, width = 0.35 * face_px, room[0].shape[1]
    state, raw = session.init(), []
    run(session, state, room[:6])
    for number in range(6, 18 + face_px // pace_px):
        x_px = -face_px / 2 + pace_px * (number - 6)
        x_px = x_px if edge == "left" else width - x_px
        scene = room[23 - abs(23 - number % 46)].copy()
        guest.put(scene, 0, x_px, 180, width_px=side_px)
        result = session.step(state, scene, number * FRAME_S)
        theirs = Box(x_px - half_px, 180 - half_px, x_px + half_px, 180 + half_px)
        if min(theirs.right_px, width) - max(theirs.left_px, 0) >= 0.35 * theirs.width_px:
            raw.append(likeness(result.rgb_HW3, scene, theirs) > HIDDEN)
        assert result.status is Status.DRAWN
        np.testing.assert_array_equal(result.rgb_HW3[:40, 280:340], scene[:40, 280:340], "nothing else is blurred")
    assert len(raw) > 8
    assert not any(raw)


def test_somebody_who_pops_up_is_blurred_at_once(session: Session, frames: Sequence[Rgb], guest: Actor) -> None:
    """What changes outside the followed face is looked at in the same frame."""
    place = guest_box(guest_scene(frames, guest, 0, 100))
    for before in (6, 7, 8):
        state = session.init()
        run(session, state, (*frames, *frames)[:before])
        scenes = [guest_scene(frames, guest, number, 100) for number in range(12)]
        results = run(session, state, scenes, since_s=before * FRAME_S)
        raw = [likeness(result.rgb_HW3, scene, place) > HIDDEN for result, scene in zip(results, scenes)]
        assert not any(raw)


def test_everybody_is_swapped_when_asked(session_all: Session, frames: Sequence[Rgb], box: Box, guest: Actor) -> None:
    state = session_all.init()
    place = guest_box(guest_scene(frames, guest, 0, 100))
    scenes = [guest_scene(frames, guest, 0, 100) for number in range(6)]
    last = run(session_all, state, scenes)[-1]
    assert last.status is Status.DRAWN
    assert last.faces_found == 2
    for where in (box, place):
        assert likeness(last.rgb_HW3, scenes[-1], where) < RAW
        rows, columns = np.s_[int(where.top_px) : int(where.bottom_px)], np.s_[int(where.left_px) : int(where.right_px)]
        inside = last.rgb_HW3[rows, columns].astype(int) - scenes[-1][rows, columns]
        assert np.abs(inside).mean() > 12, "drawn"


@pytest.fixture(scope="module")
def session_all(worn: Identity) -> Iterator[Session]:
    session = load(SwapSettings(engine="proxy", faces="all"), worn)
    yield session
    session.close()
