"""`engines.face.align.crop` for whole batches on any device: the same transforms, the same sampling."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engines.face.align import MOST_SAMPLES, crop_from_frame
from engines.types import Floats


def crops_from_frames(landmarks_TN3: Floats, size_px: int) -> Floats:
    """The transforms of a clip's faces, float32 [T, 2, 3]: those of the live path."""
    return np.stack([crop_from_frame(points, size_px) for points in landmarks_TN3])


def crop_batch(pictures_THW3: Tensor, crop_from_frame_T23: Floats, size_px: int) -> Tensor:
    """uint8 [T, H, W, 3] -> uint8 [T, size, size, 3]; what lies outside repeats the frame's edge."""
    device = pictures_THW3.device
    height_px, width_px = pictures_THW3.shape[1:3]
    linear = np.linalg.inv(crop_from_frame_T23[:, :, :2].astype(np.float64))
    offset = -np.einsum("tij,tj->ti", linear, crop_from_frame_T23[:, :, 2].astype(np.float64))
    coarser = float(np.sqrt(np.abs(np.linalg.det(linear))).max())
    samples = min(max(math.ceil(coarser - 0.05), 1), MOST_SAMPLES)
    ticks = (np.arange(size_px * samples) + 0.5) / samples - 0.5
    x = torch.from_numpy(ticks).to(device, torch.float32)
    a = torch.from_numpy(np.concatenate([linear, offset[:, :, None]], axis=2)).to(device, torch.float32)
    grid_x = (
        a[:, 0, 0, None, None] * x[None, None, :] + a[:, 0, 1, None, None] * x[None, :, None] + a[:, 0, 2, None, None]
    )
    grid_y = (
        a[:, 1, 0, None, None] * x[None, None, :] + a[:, 1, 1, None, None] * x[None, :, None] + a[:, 1, 2, None, None]
    )
    grid = torch.stack([(2 * grid_x + 1) / width_px - 1, (2 * grid_y + 1) / height_px - 1], dim=3)
    planes = pictures_THW3.permute(0, 3, 1, 2).float()
    out = functional.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if samples > 1:
        out = functional.avg_pool2d(out, samples)
    return (out + 0.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def moved_batch(landmarks_TN3: Floats, crop_from_frame_T23: Floats) -> Floats:
    """Landmarks on the crops, float32 [T, N, 3]; z is scaled with x and y."""
    scale = np.sqrt(np.abs(np.linalg.det(crop_from_frame_T23[:, :, :2].astype(np.float64))))
    flat = np.einsum("tij,tnj->tni", crop_from_frame_T23[:, :, :2], landmarks_TN3[:, :, :2])
    flat += crop_from_frame_T23[:, None, :, 2]
    out: Floats = np.concatenate([flat, landmarks_TN3[:, :, 2:] * scale[:, None, None]], axis=2).astype(np.float32)
    return out
