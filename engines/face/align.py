"""Square crops about a face: upright, centred on the head and of one scale. Training and live crop with this code.

A crop is a similarity transform of the frame: `crop_from_frame` float32 [2, 3] takes (x, y, 1) of frame pixels to
(x, y) of crop pixels and travels with the crop, so that whoever pastes uses its exact inverse. Place, scale and roll
are those of a canonical head laid over the rigid landmarks, not of the landmarks' box: a turn, a smile or an open mouth
neither shifts nor zooms the crop.
"""

from __future__ import annotations

import math

import numpy as np

from engines.face.mesh import Pose, face_model, fit_pose
from engines.pixels import warp_area
from engines.types import Floats, Rgb

CROP_SIZES_PX = (256, 512)
SPAN_CM = 26.0  # of the crop's side, at the face: brow to chin takes two thirds, hair line and jaw have room
CENTRE_CM = np.array([0.0, -1.2, -7.5], np.float32)  # the bridge of the nose, at the depth of the cheeks
MOST_SAMPLES = 8  # per crop pixel and side; only faces over 1,400 px high would want more for a crop of 256


def crop_from_frame(points_px: Floats, size_px: int) -> Floats:
    """The crop's transform for a face. points_px: float32 [468 or 478, 3] frame pixels -> float32 [2, 3].

    Raises ValueError for points that are not finite or all in one place.
    """
    return crop_of_pose(face_pose(points_px), size_px)


def face_pose(points_px: Floats) -> Pose:
    """The canonical head laid over a face's landmarks. Raises ValueError where there is nothing to lay it over."""
    if not np.isfinite(points_px).all():
        raise ValueError("landmarks are not finite")
    pose = fit_pose(points_px, face_model().mean_S3)
    if not pose.px_per_cm > 1e-3:
        raise ValueError("landmarks are all in one place")
    return pose


def crop_of_pose(pose: Pose, size_px: int) -> Floats:
    """As `crop_from_frame`, for a head whose pose is known."""
    scale = size_px / (SPAN_CM * pose.px_per_cm)
    cosine, sine = scale * math.cos(roll_rad(pose)), scale * math.sin(roll_rad(pose))
    x, y = (float(value) for value in pose.to_picture(CENTRE_CM)[:2])
    middle = (size_px - 1) / 2  # pixel centres are whole numbers
    turned = [[cosine, sine, middle - cosine * x - sine * y], [-sine, cosine, middle + sine * x - cosine * y]]
    return np.array(turned, np.float32)


def roll_rad(pose: Pose) -> float:
    """The head's turn in the picture, clockwise: of all in-plane turns the one that is nearest to its rotation."""
    r = pose.rotation_33.astype(np.float64)
    return math.atan2(r[1, 0] - r[0, 1], r[0, 0] + r[1, 1])


def inverse(b_from_a: Floats) -> Floats:
    """`a_from_b`, float32 [2, 3]; computed in double precision."""
    linear = np.linalg.inv(b_from_a[:, :2].astype(np.float64))
    out: Floats = np.concatenate([linear, -linear @ b_from_a[:, 2:].astype(np.float64)], axis=1).astype(np.float32)
    return out


def moved(points_px: Floats, b_from_a: Floats) -> Floats:
    """Landmarks of a on b: float32 [N, 3] -> the same; z is scaled with x and y."""
    scale = math.sqrt(abs(float(np.linalg.det(b_from_a[:, :2].astype(np.float64)))))
    flat = points_px[:, :2] @ b_from_a[:, :2].T + b_from_a[:, 2]
    out: Floats = np.concatenate([flat, points_px[:, 2:] * scale], axis=1).astype(np.float32)
    return out


def crop(frame_HW3: Rgb, crop_from_frame: Floats, size_px: int) -> Rgb:
    """Cuts the crop out: uint8 [H, W, 3] -> [size, size, 3]. Outside of the frame its edge is repeated.

    Where the crop is coarser than the frame, every crop pixel averages a whole number of samples a side, so that
    nothing is skipped and fine patterns do not turn into coarse ones.
    """
    frame_from_fine, samples = sampling(crop_from_frame, size_px)
    cut: Rgb = warp_area(np.ascontiguousarray(frame_HW3), frame_from_fine, size_px, samples)
    return cut


def sampling(crop_from_frame: Floats, size_px: int) -> tuple[Floats, int]:
    """Where a crop samples the frame: `frame_from_fine`, float32 [2, 3]; n x n fine pixels make one of the crop."""
    frame_from_crop = inverse(crop_from_frame)
    frame_px_per_crop_px = math.sqrt(abs(float(np.linalg.det(frame_from_crop[:, :2].astype(np.float64)))))
    samples = min(max(math.ceil(frame_px_per_crop_px - 0.05), 1), MOST_SAMPLES)
    if samples == 1:
        return frame_from_crop, 1
    crop_from_fine = np.array([[1, 0, 0.5 - samples / 2], [0, 1, 0.5 - samples / 2]], np.float64) / samples
    linear = frame_from_crop[:, :2].astype(np.float64)
    frame_from_fine = np.concatenate(
        [linear / samples, linear @ crop_from_fine[:, 2:] + frame_from_crop[:, 2:]], axis=1
    ).astype(np.float32)
    return frame_from_fine, samples


def inside_share(crop_from_frame: Floats, size_px: int, height_px: int, width_px: int) -> float:
    """Share 0..1 of the crop that lies inside the frame; the rest is repeated edge."""
    ticks = (np.arange(64, dtype=np.float32) + 0.5) * size_px / 64 - 0.5
    x, y = np.meshgrid(ticks, ticks)
    frame_from_crop = inverse(crop_from_frame)
    across, down = (row[0] * x + row[1] * y + row[2] for row in frame_from_crop)
    inside = (across >= -0.5) & (across <= width_px - 0.5) & (down >= -0.5) & (down <= height_px - 0.5)
    return float(inside.mean())
