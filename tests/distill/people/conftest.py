"""The renderer's data, read once, and shots to draw by number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill.people.assets import Assets, load_assets
from distill.people.sample import generator, sample_person, sample_posture, sample_scene
from distill.people.types import EXPRESSIONS, Posture, Shot

NEUTRAL = Posture((0.0,) * EXPRESSIONS, 0.0, 0.0, 0.0, (0.0, 0.0, 0.0), (0.0, 0.0))
EVEN = (0.5, 0.5, 0.5, 0.05, 0.05, 0.05, *(0.0,) * 21)
Draw = Callable[[int], Shot]


@pytest.fixture(scope="session")
def assets(shared_data: Path) -> Assets:
    torch.set_num_threads(1)  # threads that wait for each other on a busy machine take many times longer
    return load_assets(shared_data)


@pytest.fixture(scope="session")
def shot() -> Draw:
    """Anybody doing anything anywhere."""

    def draw(index: int) -> Shot:
        person, posture, scene = (generator("train", 77, index, part) for part in range(3))
        return Shot(sample_person(person), sample_posture(posture), sample_scene(scene))

    return draw


@pytest.fixture(scope="session")
def frontal(shot: Draw) -> Draw:
    """Somebody who nearly faces the camera with open eyes, under even light."""

    def draw(index: int) -> Shot:
        drawn = shot(index)
        posture = replace(NEUTRAL, yaw_deg=drawn.posture.yaw_deg / 4, pitch_deg=drawn.posture.pitch_deg / 4)
        scene = replace(
            drawn.scene, ambient=EVEN, light_softness=(0.8,) * 3, exposure=0.8, field_of_view_deg=25.0, distance_cm=70.0
        )
        return Shot(drawn.person, posture, scene)

    return draw
