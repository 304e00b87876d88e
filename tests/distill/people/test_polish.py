"""What makes renders look like people: loose hair, lashes, lenses, eyes that meet, light within skin, clothes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill.people import rasterise as rasteriser
from distill.people.assets import Assets, Part
from distill.people.pose import pose, stack
from distill.people.render import Render, render
from distill.people.shade import display
from distill.people.skin_light import wandered
from distill.people.types import Shot

Draw = Callable[[int], Shot]
BARE = """
import sys
for name in ("scipy", "numba", "mediapipe", "av", "pydantic", "click"):
    sys.modules[name] = None
import benchmarks.render_speed
"""


def same(one: Render, other: Render) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in Render.__dataclass_fields__)


def test_a_bare_gpu_server_can_import_the_benchmark() -> None:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", BARE], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_threads_draw_the_same_bytes(assets: Assets, shot: Draw) -> None:
    shots = [shot(index) for index in range(9)]
    one = render(assets, shots, 96)
    torch.set_num_threads(2)
    try:
        two = render(assets, shots, 96)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert same(one, two)


def test_leaving_out_hidden_triangles_changes_nothing(
    assets: Assets, shot: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = [shot(index) for index in range(8)]
    quick = render(assets, shots, 128)
    left_out = []

    def none_hidden(buffer: torch.Tensor, screen: object, triangles: rasteriser.Triangles, *_: int) -> torch.Tensor:
        left_out.append(len(triangles.picture_T))
        return torch.zeros_like(triangles.two_sided_T)

    monkeypatch.setattr(rasteriser, "_hidden", none_hidden)
    assert same(quick, render(assets, shots, 128))
    assert sum(left_out) > 0


def test_bytes_are_the_srgb_curve() -> None:
    light = torch.linspace(0, 1, 5001)
    exact = torch.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    assert float((display(light).to(torch.float32) - exact).abs().max()) < 0.65
    assert display(torch.tensor([-1.0, 2.0])).tolist() == [0, 255]


def test_lenses_are_seen_through_and_mirror(assets: Assets, frontal: Draw) -> None:
    base = frontal(5)
    bare, worn = (replace(base, person=replace(base.person, glasses=kind, hair=-1)) for kind in ("none", "square"))
    drawn = render(assets, [bare, worn], 256)
    eye = (drawn.parts_BHW == int(Part.EYE)).sum((1, 2))
    assert int(eye[1]) > 0.8 * int(eye[0]) > 40
    behind = (drawn.parts_BHW[0] == int(Part.EYE)) & (drawn.parts_BHW[1] == int(Part.EYE))
    change = (drawn.rgb_BHW3[1].int() - drawn.rgb_BHW3[0].int()).abs()[behind].to(torch.float32).mean()
    assert 0.5 < float(change) < 40


def test_lashes_darken_the_rim_of_the_eye(assets: Assets, frontal: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    shots = [replace(frontal(i), person=replace(frontal(i).person, glasses="none", hair=-1)) for i in (0, 1)]
    with_lashes = render(assets, shots, 256)
    monkeypatch.setattr("distill.people.veil.fragments", lambda *_: None)
    without = render(assets, shots, 256)
    darker = (without.rgb_BHW3.int() - with_lashes.rgb_BHW3.int()).sum(3)
    assert int(darker.min()) >= -2
    assert int((darker > 60).sum()) > 40
    assert torch.equal(without.depth_BHW, with_lashes.depth_BHW)


def test_both_eyes_look_at_a_point_before_the_face(assets: Assets, frontal: Draw) -> None:
    base = frontal(1)
    near, far = (replace(base, scene=replace(base.scene, distance_cm=cm)) for cm in (30.0, 300.0))
    gaze = pose(assets, stack([near, far], assets.device)).gaze_B23
    left, right = gaze[:, 0], gaze[:, 1]
    apart = left[:, 0] - right[:, 0]  # the person's left is the picture's right: below zero they cross in front
    assert float(apart[0]) < 0 < float(apart[1])
    assert float((apart[1] - apart[0]).abs()) > 0.1


def test_light_wanders_within_skin_red_farthest() -> None:
    size, middle = 32, 16
    pixel = torch.arange(size * size)
    even = torch.full((3, size * size), 0.7)
    torch.testing.assert_close(wandered(even, pixel, torch.tensor([10.0]), size), even)
    edge = (pixel % size >= middle).to(torch.float32).repeat(3, 1)
    out = wandered(edge, pixel, torch.tensor([10.0]), size).reshape(3, size, size)[:, middle]
    assert float(out[0, middle - 1]) > float(out[1, middle - 1]) > 0.05
    assert float(out[2, middle - 1]) == 0
    alone = wandered(edge, torch.full_like(pixel, -1), torch.tensor([10.0]), size)
    assert torch.equal(alone, edge)


def test_clothes_change_nothing_but_clothes(assets: Assets, frontal: Draw) -> None:
    base = replace(frontal(4), person=replace(frontal(4).person, hair=-1, clothes_seed=1))
    drawn = render(assets, [base, replace(base, person=replace(base.person, clothes_seed=12345))], 192)
    changed = (drawn.rgb_BHW3[0] != drawn.rgb_BHW3[1]).any(2)
    cloth = drawn.parts_BHW[0] == int(Part.CLOTH)
    assert float((changed & cloth).sum()) > 0.8 * float(cloth.sum()) > 100
    face = torch.zeros_like(cloth)
    face[:96] = True
    assert not bool((changed & face).any())


def test_curls_reach_beyond_their_mesh_and_ends_thin_out(
    assets: Assets, frontal: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    afro = assets.facts.hair.index("afro01")
    assert {assets.facts.hair[i] for i in range(len(assets.hair)) if assets.paint.loose[i]} >= {"afro01", "long01"}
    base = replace(frontal(2), person=replace(frontal(2).person, hair=afro))
    with_ends = render(assets, [base], 256)
    monkeypatch.setattr(
        "distill.people.render.coverage", lambda *_: lambda triangle, *__: torch.zeros_like(triangle) > 0
    )
    without = render(assets, [base], 256)
    hair = [(drawn.parts_BHW == int(Part.HAIR)) for drawn in (with_ends, without)]
    assert int(hair[0].sum()) > 1.03 * int(hair[1].sum())
    partial = ((with_ends.alpha_BHW > 0) & (with_ends.alpha_BHW < 1)).sum()
    assert int(partial) > 1.4 * int(((without.alpha_BHW > 0) & (without.alpha_BHW < 1)).sum())
