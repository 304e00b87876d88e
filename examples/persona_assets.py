"""The recipe of a person who does not exist, and the licence-clean files it is made from (../shared/data)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from examples.soft_render import F32

TEXTURE_PX = 1024
DETAIL_PX = 2048


@dataclass(frozen=True)
class Persona:
    """One person's recipe. Lengths are centimetres, colours linear 0..1, shifts CIE Lab."""

    name: str
    shape: dict[int, float]  # identity mode -> standard deviations
    seed: int  # for the remaining modes and the skin's noise
    shape_noise: float
    skins: dict[str, float]  # file stem -> share
    skin_lab: tuple[float, float, float]  # mean of the face's skin
    skin_contrast: float
    brow: str
    brow_colour: tuple[float, float, float]
    brow_strength: float
    hair: str
    hair_colour: tuple[float, float, float]
    hair_light: tuple[float, float, float]  # colour of the lightest strands
    eye: str
    eye_tint: tuple[float, float, float]
    cloth: tuple[float, float, float]
    lip_tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    lip_strength: float = 0.0
    lashes: float = 1.0
    liner: float = 0.0
    wrinkles: float = 1.0
    freckles: float = 0.0
    creases: float = 0.0
    hair_gloss: float = 1.0
    scalp_tint: float = 0.92
    stubble: float = 0.0
    stubble_colour: tuple[float, float, float] = (0.02, 0.015, 0.01)
    grow: dict[str, float] = field(default_factory=dict)  # expressions that belong to the face's rest


class Assets:
    """The files of ../shared/data, read once."""

    def __init__(self, data: Path) -> None:
        self.data = data
        with np.load(data / "ict" / "ict_full_f16.npz") as ict:
            self.ict = {key: ict[key] for key in ict.files}
        with np.load(data / "hair_ict" / "hair_ict.npz") as hair:
            self.hair = {key: hair[key] for key in hair.files}

    def picture(self, name: str, mode: str = "RGB") -> F32:
        with Image.open(self.data / name) as image:
            return np.asarray(image.convert(mode), np.float32) / 255


def octaves(rng: np.random.Generator, size_px: int, sigmas_px: dict[float, float]) -> F32:
    """Noise that repeats at the edges: each blur radius with its own strength, unit deviation before that."""
    total = np.zeros((size_px, size_px), np.float32)
    for sigma, strength in sigmas_px.items():
        layer = gaussian_filter(rng.standard_normal((size_px, size_px)).astype(np.float32), sigma, mode="wrap")
        total += strength * layer / layer.std()
    return total


def ramp(value: F32, start: float, end: float) -> F32:
    share = np.clip((value - start) / (end - start), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)
