"""Rendered people: whole, the same every time, faces to a net that was trained on real people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from distill.errors import DataMissing
from distill.people.assets import Assets, Part, load_assets
from distill.people.render import Render, render
from distill.people.types import Shot
from engines.face.track import FaceTracker

Draw = Callable[[int], Shot]
Map = NDArray[np.generic]
BODY = (Part.SKIN, Part.LIPS, Part.MOUTH, Part.TEETH, Part.EYE, Part.BROW, Part.NECK, Part.CLOTH)


def faults(drawn: Render, count: int) -> list[str]:
    """What is wrong with pictures, found in masks and depth."""
    found = []
    for i in range(count):
        parts, depth = drawn.parts_BHW[i].numpy(), drawn.depth_BHW[i].numpy()
        finite = all(bool(torch.isfinite(values[i]).all()) for values in (drawn.normals_BHW3, drawn.landmarks_BN3))
        if not finite or np.isnan(depth).any():
            found.append(f"{i}: not finite")
        if drawn.rgb_BHW3[i].to(torch.float32).std() < 4:
            found.append(f"{i}: a flat picture")
        if np.isin(parts, [int(p) for p in BODY]).mean() < 0.02:
            found.append(f"{i}: nobody there")
        found += [f"{i}: {fault}" for fault in _holes(parts, depth) + _eyes(parts, depth) + _mouth(parts)]
    return found


def _holes(parts: Map, depth: Map) -> list[str]:
    """Background that shows within skin: closed in by it on all sides, at about one depth."""
    body = np.isin(parts, [int(p) for p in BODY])
    gaps, count = ndimage.label(ndimage.binary_fill_holes(body) & (parts == int(Part.BACKGROUND)))
    for label in range(1, count + 1):
        ring = ndimage.binary_dilation(gaps == label, np.ones((3, 3))) & (gaps != label)
        if np.isin(parts[ring], [int(p) for p in BODY]).all() and np.ptp(depth[ring]) < 2:
            return [f"a hole of {np.sum(gaps == label)} pixels"]
    return []


def _eyes(parts: Map, depth: Map) -> list[str]:
    """An eyeball lies in its socket: only lids, lashes and what is worn touch it, and it does not stand out of them."""
    eye = parts == int(Part.EYE)
    if not eye.any():
        return []
    ring = ndimage.binary_dilation(eye, iterations=2) & ~eye
    wrong = np.isin(parts[ring], [int(p) for p in (Part.LIPS, Part.TEETH, Part.CLOTH, Part.NECK)])
    outside = parts[ring] == int(Part.BACKGROUND)  # in profile an eye may be the face's edge
    floats = ["a floating eyeball"] if wrong.mean() > 0.02 or outside.mean() > 0.3 else []
    number, _ = ndimage.label(eye, np.ones((3, 3)))
    rims = ndimage.binary_dilation(parts == int(Part.GLASSES), np.ones((3, 3)))
    for label in range(1, int(number.max()) + 1):
        ball = number == label
        ball &= ~rims  # beside a rim, most of a pixel is the eye's and the depth is the rim's
        if not ball.any():
            continue
        near = ndimage.binary_dilation(ball, iterations=3) & (parts == int(Part.SKIN))
        if near.sum() > 8 and np.percentile(depth[near], 20) - np.median(depth[ball]) > 1.2:
            floats.append("an eyeball before the face")
    return floats


def _mouth(parts: Map) -> list[str]:
    """Teeth and gums are seen through the lips alone."""
    inside = np.isin(parts, [int(Part.TEETH), int(Part.MOUTH)])
    count, number = 0, ndimage.label(inside, np.ones((3, 3)))[0]
    for label in range(1, int(number.max()) + 1):
        piece = number == label
        ring = ndimage.binary_dilation(piece, iterations=2) & ~inside
        if piece.sum() > 3 and not np.any(parts[ring] == int(Part.LIPS)) and np.any(parts[ring] == int(Part.SKIN)):
            count += int(piece.sum())
    return [f"{count} pixels of the mouth outside the lips"] if count > 6 else []


def check(assets: Assets, shot: Draw, start: int, stop: int) -> list[str]:
    found = []
    for first in range(start, stop, 8):
        shots = [shot(index) for index in range(first, min(first + 8, stop))]
        found += [f"from {first}, {fault}" for fault in faults(render(assets, shots, 256), len(shots))]
    return found


def test_forty_people_are_whole(assets: Assets, shot: Draw) -> None:
    assert not check(assets, shot, 0, 40)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_thousand_people_are_whole(assets: Assets, shot: Draw) -> None:
    assert not check(assets, shot, 0, 1000)


def test_the_same_shots_give_the_same_bytes_whatever_is_beside_them(assets: Assets, shot: Draw) -> None:
    shots = [shot(index) for index in range(6)]
    one, again = render(assets, shots, 96), render(assets, shots, 96)
    for name in Render.__dataclass_fields__:
        assert getattr(one, name).numpy().tobytes() == getattr(again, name).numpy().tobytes(), name
    alone = render(assets, shots[3:4], 96)
    difference = (alone.rgb_BHW3[0].int() - one.rgb_BHW3[3].int()).abs()
    assert int(difference.max()) == 0


def test_shapes_and_ranges(assets: Assets, frontal: Draw) -> None:
    drawn = render(assets, [frontal(0), frontal(1)], 64, supersample=1)
    assert drawn.rgb_BHW3.shape == (2, 64, 64, 3)
    assert drawn.rgb_BHW3.dtype == torch.uint8
    assert drawn.landmarks_BN3.shape == (2, 468, 3)
    background = drawn.alpha_BHW < 0.5
    assert bool((drawn.parts_BHW[background] == int(Part.BACKGROUND)).all())
    assert bool(torch.isinf(drawn.depth_BHW[background]).all())
    length = drawn.normals_BHW3.norm(dim=3)[~background]
    torch.testing.assert_close(length, torch.ones_like(length), atol=1e-3, rtol=0)
    depth = drawn.depth_BHW[~background]
    assert float(depth.min()) > 40
    assert float(depth.max()) < 110


def test_turns_go_where_they_should(assets: Assets, frontal: Draw) -> None:
    base = frontal(2)
    still = replace(base.posture, yaw_deg=0.0, pitch_deg=0.0)
    turns = [still, replace(still, yaw_deg=25.0), replace(still, pitch_deg=20.0), replace(still, roll_deg=20.0)]
    drawn = render(assets, [replace(base, posture=posture) for posture in turns], 128)
    nose, brow, chin = (drawn.landmarks_BN3[:, k] for k in (1, 10, 152))
    assert float(nose[1, 0] - nose[0, 0]) > 4
    assert float(nose[2, 1] - nose[0, 1]) < -4
    assert float(brow[3, 0] - chin[3, 0]) > 10
    ear_to_ear = drawn.landmarks_BN3[0, 454, 0] - drawn.landmarks_BN3[0, 234, 0]
    assert float(ear_to_ear) > 20
    assert float(nose[0, 2]) < float(drawn.landmarks_BN3[0, 454, 2])


def test_a_turned_face_hides_its_far_side(assets: Assets, frontal: Draw) -> None:
    base = frontal(3)
    bare = replace(base.person, hair=-1, glasses="none")
    posture = replace(base.posture, yaw_deg=65.0, pitch_deg=0.0)
    visible = render(assets, [replace(base, person=bare, posture=posture)], 192).visible_BN[0]
    # 263 is the corner of the person's left eye, which turns away towards the picture's right edge; 33 its twin.
    assert bool(visible[33])
    assert not bool(visible[454])
    assert bool(visible[1])


def test_closed_eyes_show_no_eyeball(assets: Assets, frontal: Draw) -> None:
    names = assets.facts.expressions
    shots = []
    for index in range(12):
        base = frontal(index)
        weights = list(base.posture.expression)
        for name in ("eyeBlink_L", "eyeBlink_R"):
            weights[names.index(name)] = 1.0
        shots.append(replace(base, posture=replace(base.posture, expression=tuple(weights))))
    drawn = render(assets, shots, 256)
    shown = (drawn.parts_BHW == int(Part.EYE)).sum((1, 2))
    assert int(shown.max()) < 60, shown.tolist()


def agreement(assets: Assets, frontal: Draw, count: int) -> tuple[float, float]:
    """The share of faces that the tracker finds, and the median distance of its landmarks in face widths."""
    errors = []
    tracker = FaceTracker(max_faces=1, follow="one")
    try:
        for index in range(count):
            shot = frontal(index)
            drawn = render(assets, [shot], 256)
            picture = np.ascontiguousarray(drawn.rgb_BHW3[0].numpy())
            state = tracker.init()
            faces = [tracker.step(state, picture, 0.1 * step).faces for step in range(3)][-1]
            if faces:
                truth = drawn.landmarks_BN3[0, :, :2].numpy()
                width = np.linalg.norm(truth[454] - truth[234])
                visible = drawn.visible_BN[0].numpy()
                away = np.linalg.norm(faces[0].raw_px[:468, :2] - truth, axis=1)[visible]
                errors.append(float(np.median(away) / width))
    finally:
        tracker.close()
    return len(errors) / count, float(np.median(errors))


def test_the_tracker_finds_rendered_faces_where_they_are(assets: Assets, frontal: Draw) -> None:
    found, error = agreement(assets, frontal, 20)
    assert found >= 0.98
    assert error < 0.03


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_tracker_finds_many_rendered_faces(assets: Assets, frontal: Draw) -> None:
    found, error = agreement(assets, frontal, 300)
    assert found >= 0.98
    assert error < 0.03


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="ict_lite_f16"):
        load_assets(tmp_path)
    with pytest.raises(DataMissing, match="nowhere"):
        load_assets(tmp_path / "nowhere")
