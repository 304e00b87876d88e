"""The light on a face, read off its skin, so that what passes before it is lit alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distill.occluders.solids import Light
from engines.face.mesh import face_model, vertex_normals
from engines.face.relight import fit_light
from engines.types import SKIN_LANDMARKS, Floats, Rgb

SKIN_ALBEDO = 0.33  # linear, of skin of middle tone: what is brighter is half taken for a brighter light
LIT_PERCENT = 75
KEY_SHARE = (0.35, 0.8)


@dataclass(frozen=True, slots=True)
class FaceLight:
    """towards_3: unit vector to the main light (x right, y down, z away). key_C, ambient_C: linear colours.
    directness 0..1, how much of the light comes from there. skin_C: the face's lit colour, sRGB 0..255. exposure:
    linear level of a lit surface of albedo 1."""

    towards_3: Floats
    key_C: Floats
    ambient_C: Floats
    directness: float
    skin_C: Floats
    exposure: float

    def for_solids(self) -> Light:
        return Light(self.towards_3, self.key_C, self.ambient_C)


def light_on(rgb_HW3: Rgb, landmarks_N3: Floats) -> FaceLight:
    """Fits spherical harmonics to the skin at the landmarks. landmarks: float32 [>= 468, 3], pixels."""
    points = np.ascontiguousarray(landmarks_N3[:SKIN_LANDMARKS], np.float32)
    normals = vertex_normals(points, face_model().triangles_T3)
    rows = np.clip(points[:, 1].round().astype(int), 0, rgb_HW3.shape[0] - 1)
    columns = np.clip(points[:, 0].round().astype(int), 0, rgb_HW3.shape[1] - 1)
    colours = rgb_HW3[rows, columns].astype(np.float32)
    weight = np.clip(-normals[:, 2], 0, 1) * face_model().rigid_S
    fitted = fit_light(normals, np.log(np.maximum(colours, 2)), weight.astype(np.float32))
    slope = fitted.coefficients_BC[1:4].mean(axis=1).astype(np.float64)  # log light per unit of normal
    slope += np.array([0.0, -0.12, -0.25])  # light mostly comes from above and before
    strength = float(np.linalg.norm(slope))
    towards = slope / max(strength, 1e-6)
    towards[2] = min(towards[2], -0.25)
    towards /= np.linalg.norm(towards)
    # The lit part is what one sees as the skin's colour; the median is half way into the shadow.
    skin = np.percentile(colours[weight > 0.2 * weight.max()], LIT_PERCENT, axis=0)
    linear = (skin / 255.0) ** 2.2
    level = float(linear @ np.array([0.3, 0.6, 0.1]))
    exposure = float(np.clip((level / SKIN_ALBEDO) ** 0.6, 0.08, 1.5))
    tint = np.clip((linear / max(level, 1e-4) / np.array([1.45, 0.88, 0.62])) ** 0.5, 0.7, 1.4)
    direct = float(np.clip(strength, *KEY_SHARE))
    key, ambient = exposure * tint * direct * 1.9, exposure * tint * (1.25 - 0.9 * direct)
    return FaceLight(
        towards.astype(np.float32),
        key.astype(np.float32),
        ambient.astype(np.float32),
        direct,
        skin.astype(np.float32),
        exposure,
    )
