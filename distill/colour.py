"""Colour spaces, once: sRGB, linear light, CIELAB under D65 (IEC 61966-2-1, CIE 15). Pure NumPy, any shape [..., 3].

Values are floats 0..1 (Lab: L 0..100, a, b) and keep their precision: float32 gives float32.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Real = TypeVar("Real", bound=np.floating[Any])

XYZ_FROM_RGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
RGB_FROM_XYZ = np.linalg.inv(XYZ_FROM_RGB)
WHITE_XYZ = np.array([0.95047, 1.0, 1.08883])
TOE, SLOPE = 216 / 24389, 24389 / 27  # below TOE the cube root is a straight line


def linear(srgb: NDArray[Real]) -> NDArray[Real]:
    """sRGB values to linear light."""
    return np.asarray(np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4), srgb.dtype)


def encoded(light: NDArray[Real]) -> NDArray[Real]:
    """Linear light to sRGB values. Above 1 it goes on, below 0 it is a straight line."""
    curve = 1.055 * np.maximum(light, 1e-6) ** (1 / 2.4) - 0.055
    return np.asarray(np.where(light <= 0.0031308, light * 12.92, curve), light.dtype)


def lab_from_linear(light: NDArray[Real]) -> NDArray[Real]:
    """Linear light to CIELAB."""
    xyz = light @ (XYZ_FROM_RGB.T / WHITE_XYZ).astype(light.dtype)
    f = np.where(xyz > TOE, np.cbrt(xyz), (SLOPE * xyz + 16) / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.asarray(np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1), light.dtype)


def linear_from_lab(lab: NDArray[Real]) -> NDArray[Real]:
    """CIELAB to linear light; colours that no screen shows lie outside of 0..1."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f**3 > TOE, f**3, (116 * f - 16) / SLOPE).astype(lab.dtype)
    return np.asarray(xyz @ (WHITE_XYZ[:, None] * RGB_FROM_XYZ.T).astype(lab.dtype), lab.dtype)


def lab(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """CIELAB of 8-bit sRGB."""
    return lab_from_linear(linear(np.arange(256) / 255)[rgb])
