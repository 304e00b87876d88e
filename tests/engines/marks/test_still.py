"""What stands still while the picture moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from engines.marks.detect import detect_mark
from engines.marks.invisible import Marker
from engines.marks.payload import Payload
from engines.marks.still import moved_by, movement, standing_still
from engines.types import Floats, Rgb

PAYLOAD = Payload(0xFEED, 1)
BY = np.array([(0, 0), (0.4, -1.2), (1.7, -0.5), (2.5, 0.8), (1.1, 2.0), (-0.6, 1.3)], np.float32)


def texture() -> Floats:
    random = np.random.default_rng(0)
    return np.asarray(128 + 60 * gaussian_filter(random.normal(size=(160, 200)), 2.0), np.float32)


def moving() -> list[Floats]:
    scene = texture()
    return [moved_by(scene, float(y), float(x)) for y, x in BY]


def test_movement_is_followed_to_a_hundredth_of_a_pixel() -> None:
    by = movement(moving())
    assert by is not None
    np.testing.assert_allclose(by, BY - BY.mean(axis=0), atol=0.02)


def test_what_moves_goes_and_what_stands_stays() -> None:
    y, x = np.mgrid[:160, :200]
    standing = (2 * np.sin(2 * np.pi * x / 16) * np.sin(2 * np.pi * y / 16)).astype(np.float32)
    inside = np.s_[12:-12, 12:-12]
    without, with_it = standing_still(moving()), standing_still([plane + standing for plane in moving()])
    assert without is not None
    assert with_it is not None
    assert without[inside].std() < 0.02 * texture().std()
    assert np.corrcoef(with_it[inside].ravel(), standing[inside].ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    "frames",
    [
        [texture()] * 6,
        moving()[:2],
        [np.full((160, 200), 90, np.float32)] * 6,
        [plane[:40, :40] for plane in moving()],
    ],
    ids=["still", "two", "flat", "small"],
)
def test_nothing_is_said_where_nothing_can_be_told_apart(frames: list[Floats]) -> None:
    assert standing_still(frames) is None


def test_a_quarter_of_a_textured_close_up_is_found_by_it(shared_data: Path) -> None:
    """Of this portrait the mean of all frames says nothing."""
    still = Image.open(shared_data / "synth_faces" / "t0082_schnell.jpg").convert("RGB").resize((700, 700))
    frames: list[Rgb] = []
    for y, x in np.rint(1.5 * BY).astype(int):
        frame = np.asarray(still)[60 + y : 540 + y, 30 + x : 670 + x].copy()
        Marker(PAYLOAD).apply(frame)
        frames.append(np.ascontiguousarray(frame[96:336, 182:502]))
    assert not detect_mark([frames[0]] * 6).marked
    assert detect_mark(frames).payload == PAYLOAD
