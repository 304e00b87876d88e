"""A drawn head, a wall behind it, and a swapper file that draws on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import (
    Identity,
    SwapSettings,
)
from engines.face.five_points import five_points
from engines.swappers.base import Inputs
from engines.swappers.onnx.engine import Onnx
from engines.types import Floats, Occlusion, Rgb, TrackedFace
from tests.engines.face.heads import Looks, landmarks

pytest.importorskip("onnx")
from tests.engines.swappers import onnx_files as files

KINDS = tuple(files.SIGNATURES)

DRAWN_KINDS = (*KINDS, "dfm")

Make = Callable[..., Onnx]

# Once more from ../shared/reference/models.md: how each type's picture goes in and comes out. x and y on 0..1.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

NONE, HALF = ((0.0,) * 3, (1.0,) * 3), ((0.5,) * 3, (0.5,) * 3)

NORMALISED = {
    "inswapper": NONE,
    "hyperswap": HALF,
    "simswap_256": IMAGENET,
    "simswap_unofficial_512": NONE,
    "ghost": HALF,
    "hififace": HALF,
    "blendswap": NONE,
    "uniface": HALF,
    "cscs": HALF,
    "dfm": NONE,
}

SIGNED = ("hyperswap", "ghost", "hififace", "uniface", "cscs")  # come out as x .5 + .5


def head(**looks: float) -> Floats:
    return landmarks(Looks(**{"size_px": 200, "x_px": 200, "y_px": 190, **looks}))


def drawn(
    engine: Onnx, frame: Rgb, points: Floats, worn: Identity, occlusion: Occlusion | None = None, tone: str = "identity"
) -> Rgb:
    onto = frame.copy()
    inputs = Inputs(frame, TrackedFace(1, points, points, 1.0), occlusion, 0.0)
    engine.draw(engine.init(), worn, inputs, SwapSettings.read({"tone": tone}), onto)
    return onto


def middle_of(points: Floats) -> tuple[slice, slice]:
    """Pixels well inside of every mask: between the eyes and the mouth."""
    five = five_points(points)
    x, y = five[2].round().astype(int)
    return slice(y - 8, y + 8), slice(x - 8, x + 8)


def wall(height: int = 380, width: int = 400) -> Rgb:
    """Smooth, so that a resampled pixel is what it was, and with a slope, so that a shifted one is not."""
    y, x = np.mgrid[:height, :width]
    planes = [90 + 0.2 * x, 60 + 0.25 * y, 160 - 0.1 * x - 0.1 * y]
    return np.asarray(np.rint(np.stack(planes, axis=2)), np.uint8)


def normalised(kind: str, x: NDArray[Any]) -> NDArray[Any]:
    mean, std = (np.array(values) for values in NORMALISED[kind])
    return np.asarray((x - mean) / std)
