"""The inside of a mouth that a photo shows closed: the ICT model's teeth, gums and tongue, rendered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.errors import DataMissing
from engines.face.mesh import Pose, vertex_normals
from engines.face.rasterise import rasterise
from engines.types import Floats, Mask

Indices = NDArray[np.int32]

ICT_FILE = Path("ict") / "ict_full_f16.npz"
PICTURE_FROM_ICT = np.array([1, -1, -1], np.float32)
TEETH, GUMS = 1, 2
COLOUR_OF_PART = np.array([(40, 14, 13), (206, 193, 174), (158, 72, 70)], np.float32)  # of the dark behind, too
FRONT_Z_CM, DARK_CM = -10.5, 3.4  # where the incisors are, and how far behind them light falls to a third
FAR_CAMERA_PX = 2e4
JAW_OPEN = 26  # of the ICT model's expressions
BARED_CM = (0.20, 0.12)  # upper teeth down, lower teeth up
SHARE_OF_SIZE = (0.6, 1.5)


@dataclass(frozen=True, slots=True)
class MouthModel:
    """Teeth, gums and tongue in the landmark model's space. float32 [V, 3] cm; modes [K, V, 3], most of them zero."""

    points_V3: Floats
    mode_numbers: tuple[int, ...]
    modes_KV3: Floats
    triangles_T3: Indices
    part_T: Mask


def load_mouth(data_folder: Path) -> MouthModel:
    """Reads the inner mouth from the ICT model. Raises DataMissing."""
    path = data_folder / ICT_FILE
    if not path.is_file():
        raise DataMissing(f"{path} is missing: it holds the teeth of the stills' mouths")
    with np.load(path) as ict:
        names = list(ict["part_names"])
        ranges = [ict["part_vert_range"][names.index(name)] for name in ("teeth", "gums_tongue")]
        parts = [ict["part_tri_range"][names.index(name)] for name in ("teeth", "gums_tongue")]
        every = np.concatenate([np.arange(first, end) for first, end in ranges])
        place = np.zeros(len(ict["mean"]), np.int32)
        place[every] = np.arange(len(every))
        triangles = np.concatenate([place[ict["tri"][first:end]] for first, end in parts])
        basis = ict["exp_basis"][:, every].astype(np.float32) * PICTURE_FROM_ICT
        moving = tuple(int(k) for k in np.flatnonzero(np.abs(basis).max(axis=(1, 2)) > 0.1))
        return MouthModel(
            (ict["mean"][every] * PICTURE_FROM_ICT + _towards_lips(basis[JAW_OPEN])).astype(np.float32),
            moving,
            np.ascontiguousarray(basis[list(moving)]),
            triangles.astype(np.int32),
            np.repeat(np.array([TEETH, GUMS], np.uint8), [end - first for first, end in parts]),
        )


def _towards_lips(jaw_V3: Floats) -> Floats:
    """Upper teeth a little down, lower ones a little up: between relaxed lips, a strip of the upper ones shows."""
    lower = np.clip(np.linalg.norm(jaw_V3, axis=1) / 1.5, 0, 1)
    shift = np.zeros_like(jaw_V3)
    shift[:, 1] = BARED_CM[0] * (1 - lower) - BARED_CM[1] * lower
    return shift


def mouth_picture(
    mouth: MouthModel,
    pose: Pose,
    weights_K: Floats,
    offset_cm: Floats,
    scale: float,
    box_px: tuple[int, int, int, int],
    light_C: Floats,
) -> Floats:
    """The inside of the mouth, as if there were no lips. float32 [height, width, 3], 0..255.

    offset_cm: float32 [3], from the mean face's lips to this person's. scale: width of the lips over the mean face's.
    box_px: left, top, right, bottom. light_C: what white would be in this photo, 0..255 per channel.
    """
    left, top, right, bottom = box_px
    shape = mouth.points_V3 + np.tensordot(weights_K[list(mouth.mode_numbers)], mouth.modes_KV3, 1)
    middle = np.array([0.0, 3.3, FRONT_Z_CM], np.float32)
    shape = ((shape - middle) * scale + middle + offset_cm).astype(np.float32)
    points = pose.to_picture(shape) - np.array([left, top, 0], np.float32)
    normals = vertex_normals(points, mouth.triangles_T3)
    depth = (shape[:, 2:] - offset_cm[2] - FRONT_Z_CM).astype(np.float32)
    values, part = rasterise(
        points,
        mouth.triangles_T3,
        mouth.part_T,
        np.concatenate([normals, depth], axis=1),
        FAR_CAMERA_PX,
        bottom - top,
        right - left,
    )
    facing = np.clip(-values[..., 2], 0, 1)
    behind = np.exp(-np.clip(values[..., 3], 0, 6) / DARK_CM * 1.1)
    upward = np.clip(0.5 - 0.5 * values[..., 1], 0, 1)
    shade = np.where(part > 0, (0.3 + 0.5 * facing + 0.2 * upward) * behind, 1.0)
    wet = np.where(part == TEETH, 0.10, 0.16) * facing**24 * behind * (part > 0)
    colour = COLOUR_OF_PART[part] * shade[..., None] + 255 * wet[..., None]
    return np.asarray(np.clip(colour * light_C / 255, 0, 255), np.float32)
