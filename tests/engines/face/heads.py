"""Made-up heads: landmarks in any pose, photographed by the project's own rasteriser in a light that is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from engines.face.mesh import FACE_OVAL, LEFT_LIDS, RIGHT_LIDS, Pose, face_model, vertex_normals
from engines.face.rasterise import rasterise
from engines.face.relight import harmonics
from engines.face.zones import zones
from engines.identity import ATLAS_PX, Identity, Manifest
from engines.types import LANDMARKS, SKIN_LANDMARKS, Floats, Rgb

FAR_PX = 1e6
# Light as the relight module writes it: [9] terms of the logarithm, the constant first, then x, y, z of the normal.
EVEN = np.zeros(9, np.float32)
FROM_THE_LEFT = np.array([0, -0.55, -0.1, -0.1, 0, 0, 0, 0, 0], np.float32)
FROM_THE_RIGHT = np.array([0, 0.5, -0.15, -0.15, 0, 0, 0, 0, 0], np.float32)
LIGHT_SKIN, MIDDLE_SKIN, DARK_SKIN = (196, 150, 128), (172, 124, 98), (104, 68, 50)


@dataclass(frozen=True)
class Looks:
    """How a made-up head stands in its picture."""

    size_px: float = 180.0  # from forehead to chin
    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    x_px: float = 160.0
    y_px: float = 140.0


def turn(yaw_deg: float, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> Floats:
    """Rotation matrix; a positive yaw turns the face to the picture's right."""
    return np.asarray(Rotation.from_euler("yxz", [-yaw_deg, pitch_deg, roll_deg], degrees=True).as_matrix(), np.float32)


def pose(looks: Looks) -> Pose:
    mean = face_model().mean_S3
    scale = looks.size_px / float(np.ptp(mean[:, 1]))
    rotation = turn(looks.yaw_deg, looks.pitch_deg, looks.roll_deg)
    middle = scale * rotation @ mean[FACE_OVAL].mean(axis=0)
    return Pose(scale, rotation, np.array([looks.x_px, looks.y_px, 0], np.float32) - middle)


def landmarks(looks: Looks, shape_S3: Floats | None = None) -> Floats:
    """float32 [478, 3] of a head: the mean face, or another shape."""
    return with_irises(pose(looks).to_picture(face_model().mean_S3 if shape_S3 is None else shape_S3))


def with_irises(skin_S3: Floats) -> Floats:
    """Adds the irises in the middle of the lids."""
    points = np.zeros((LANDMARKS, 3), np.float32)
    points[:SKIN_LANDMARKS] = skin_S3
    for first, lids, corners in ((468, RIGHT_LIDS, (33, 133)), (473, LEFT_LIDS, (362, 263))):
        middle = skin_S3[lids].mean(axis=(0, 1))
        radius = np.linalg.norm(skin_S3[corners[0]] - skin_S3[corners[1]]) * 0.2
        points[first : first + 5] = middle
        points[first + 1 : first + 5, :2] += radius * np.array([[1, 0], [0, -1], [-1, 0], [0, 1]])
    return points


@lru_cache(maxsize=8)
def albedo(skin_rgb: tuple[int, int, int]) -> Rgb:
    """A skin with brows, lips and fine mottling, uint8 [512, 512, 3]. No light in it."""
    places = zones()
    mottled = ndimage.gaussian_filter(np.random.default_rng(7).normal(size=(ATLAS_PX, ATLAS_PX)), 2.5)
    texture = np.array(skin_rgb) * np.exp(0.02 * mottled / mottled.std())[..., None]
    brows = places.features & ~places.red & ~places.beard & (np.arange(ATLAS_PX)[:, None] < ATLAS_PX * 0.4)
    lips = places.red & places.beard
    for where, colour in ((brows, np.array(skin_rgb) * 0.45), (lips, np.array(skin_rgb) * [0.95, 0.72, 0.75])):
        soft = ndimage.gaussian_filter(where.astype(float), 3)[..., None]
        texture = texture * (1 - soft) + colour * soft
    return np.asarray(np.clip(texture + 0.5, 0, 255), np.uint8)


def identity(
    skin_rgb: tuple[int, int, int] = MIDDLE_SKIN, shape_S3: Floats | None = None, name: str = "made-up"
) -> Identity:
    """Somebody who does not exist."""
    manifest = Manifest(
        format=1, name=name, created="", consent="made up", images_sha256=(), made_by="tests", synthetic=True
    )
    return Identity(
        manifest,
        albedo(skin_rgb),
        np.full((ATLAS_PX, ATLAS_PX), 255, np.uint8),
        face_model().mean_S3 if shape_S3 is None else shape_S3,
        np.array([90, 70, 50], np.float32),
        np.zeros((256, 256, 3), np.uint8),
    )


def scene(height_px: int = 280, width_px: int = 320) -> Rgb:
    """A wall: bluish grey, uneven, nothing like skin; something black in the upper corners, as most pictures have."""
    uneven = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(height_px, width_px)), 6)
    wall = np.array([96, 108, 122]) + 10 * (uneven / uneven.std())[..., None]
    wall[: height_px // 8, : width_px // 8] = wall[: height_px // 8, -width_px // 8 :] = 9
    return np.asarray(np.clip(wall, 0, 255), np.uint8)


def photograph(
    points_px: Floats, albedo_AA3: Rgb, light_B: Floats = EVEN, onto_HW3: Rgb | None = None, tint: Floats | None = None
) -> Rgb:
    """A picture of a head: albedo times light, with plain eyes and a dark mouth, before `onto_HW3` or the wall.

    light_B: terms of the logarithm of brightness, see engines.face.relight; tint: factor per channel.
    """
    model = face_model()
    picture = (scene() if onto_HW3 is None else onto_HW3).astype(np.float32)
    triangles = np.concatenate([model.triangles_T3, model.eye_triangles_T3, model.mouth_triangles_T3])
    sizes = [len(model.triangles_T3), len(model.eye_triangles_T3), len(model.mouth_triangles_T3)]
    part_T = np.repeat(np.array([1, 2, 3], np.uint8), sizes)
    skin = points_px[:SKIN_LANDMARKS]
    normals = vertex_normals(skin, model.triangles_T3)
    values = np.concatenate([model.uv_S2, normals], axis=1).astype(np.float32)
    seen, part = rasterise(skin, triangles, part_T, values, FAR_PX, *picture.shape[:2])
    at = seen[..., 1::-1].reshape(-1, 2).T * (ATLAS_PX - 1)
    texture = np.stack(
        [ndimage.map_coordinates(albedo_AA3[..., c].astype(np.float32), at, order=1) for c in range(3)], axis=-1
    ).reshape(picture.shape)
    unit = seen[..., 2:5] / (np.linalg.norm(seen[..., 2:5], axis=-1, keepdims=True) + 1e-6)
    gain = np.exp(harmonics(unit.reshape(-1, 3)) @ light_B).reshape(part.shape)[..., None]
    picture = np.where((part == 1)[..., None], texture * gain * (1 if tint is None else tint), picture)
    picture[part == 2] = (205, 202, 200)
    picture[part == 3] = (70, 40, 38)
    return np.asarray(np.clip(picture + 0.5, 0, 255), np.uint8)
