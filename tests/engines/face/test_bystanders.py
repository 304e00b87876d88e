"""Faces that are not swapped: association, motion, forgetting; and how the tracker tells people apart."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engines.face.appearance import Appearance, difference, remember
from engines.face.bystanders import UNSEEN_S, Bystander, Bystanders, centre, reach, same_place, widen
from engines.face.cut import is_cut, thumbnail
from engines.face.detect import Detection, merge, overlap
from engines.types import SKIN_LANDMARKS, Box

sides = st.floats(10, 300)
places = st.floats(-200, 800)
boxes = st.builds(lambda x, y, w, h: Box(x, y, x + w, y + h), places, places, sides, sides)


def box(x_px: float, size_px: float = 60.0) -> Box:
    return Box(x_px, 100, x_px + size_px, 100 + size_px)


@given(boxes, boxes)
def test_overlap_is_a_share_and_symmetric(a: Box, b: Box) -> None:
    assert 0.0 <= overlap(a, b) <= 1.0 + 1e-9
    assert overlap(a, b) == overlap(b, a)
    assert overlap(a, a) > 0.999


@given(boxes, boxes)
def test_same_place_is_symmetric_and_holds_of_itself(a: Box, b: Box) -> None:
    assert same_place(a, a)
    assert same_place(a, b) == same_place(b, a)


@given(boxes, places, places)
def test_what_is_hidden_holds_the_face_before_and_after(face: Box, x_px: float, y_px: float) -> None:
    hidden = reach(widen(face), x_px, y_px)
    for shift in ((0.0, 0.0), (x_px, y_px)):
        assert hidden.left_px <= face.left_px + shift[0] + 1e-6
        assert hidden.right_px >= face.right_px + shift[0] - 1e-6
        assert hidden.top_px <= face.top_px + shift[1] + 1e-6
        assert hidden.bottom_px >= face.bottom_px + shift[1] - 1e-6


def test_a_moving_bystander_is_one_and_is_hidden_where_they_go() -> None:
    bystanders = Bystanders()
    for step in range(5):
        bystanders.scan([box(100 + 20 * step)], 0.1 * step)
    (one,) = bystanders.known
    hidden = one.hidden_px(0.5)
    assert hidden.left_px < 180
    assert hidden.right_px > 200 + 60 + 10
    assert centre(one.box_px) == (210.0, 130.0)


def test_two_bystanders_are_two_and_each_is_forgotten_alone() -> None:
    bystanders = Bystanders()
    bystanders.scan([box(0), box(300)], 0.0)
    bystanders.scan([box(302)], UNSEEN_S)
    bystanders.forget(UNSEEN_S)
    assert len(bystanders.known) == 2
    bystanders.forget(UNSEEN_S + 0.01)
    assert [one.box_px.left_px for one in bystanders.known] == [302]
    bystanders.release(box(305))
    assert bystanders.known == []


def test_a_clock_that_ran_backwards_forgets() -> None:
    bystanders = Bystanders([Bystander(box(0), 5.0)])
    bystanders.forget(4.0)
    assert bystanders.known == []


@given(st.lists(st.tuples(places, st.floats(0, 1)), max_size=8))
def test_merged_detections_are_apart_and_the_best_is_kept(found: list[tuple[float, float]]) -> None:
    detections = [Detection(box(x), (x, 110), (x + 30, 110), score) for x, score in found]
    kept = merge(detections)
    for index, one in enumerate(kept):
        assert all(overlap(one.box_px, other.box_px) < 0.3 for other in kept[index + 1 :])
    if detections:
        assert kept[0].score == max(score for _, score in found)


def some_looks(seed: int, weight: float = 1.0) -> Appearance:
    random = np.random.default_rng(seed)
    values = random.normal(0, (0.3, 0.1, 0.1), (SKIN_LANDMARKS, 3)).astype(np.float32)
    shape = random.normal(0, 0.3, (SKIN_LANDMARKS, 2)).astype(np.float32)
    return Appearance(values, shape, np.full(SKIN_LANDMARKS, weight, np.float32))


@given(st.integers(0, 99), st.integers(100, 199))
def test_difference_is_symmetric_and_nothing_to_oneself(a: int, b: int) -> None:
    first, second = some_looks(a), some_looks(b)
    assert difference(first, first) == 0.0
    apart = difference(first, second)
    assert apart is not None
    assert apart > 0.5
    assert abs(apart - (difference(second, first) or 0)) < 1e-4


def test_faces_that_show_nothing_in_common_are_not_compared() -> None:
    assert difference(some_looks(1, weight=0.01), some_looks(2)) is None


def test_memory_moves_towards_what_is_seen() -> None:
    known, seen = some_looks(1), some_looks(2)
    apart = [difference(known, seen)]
    for _ in range(5):
        known = remember(known, seen, 0.3)
        apart.append(difference(known, seen))
    values = [value for value in apart if value is not None]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] / 4
    assert remember(None, seen, 0.1) is seen


def test_a_cut_is_told_from_light_and_motion() -> None:
    random = np.random.default_rng(3)
    scene = np.kron(random.integers(0, 256, (12, 16, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    other = np.kron(random.integers(0, 256, (12, 16, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    here = thumbnail(scene)
    assert not is_cut(here, thumbnail((scene * 0.5).astype(np.uint8)))
    assert not is_cut(here, thumbnail(np.roll(scene, 8, axis=1)))
    assert is_cut(here, thumbnail(other))
    assert is_cut(here, thumbnail(np.full_like(scene, 90)))
    assert not is_cut(thumbnail(np.full_like(scene, 90)), thumbnail(np.full_like(scene, 200)))
