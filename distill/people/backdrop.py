"""What is behind somebody: soft gradients, rooms out of focus, lights in the dark; made up from a seed.

Legend: B pictures, S their side, Q = 14 patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from distill.people.shade import tone

PATCHES = 14


def _recipe(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Corner colours [4, 3], patches [Q, 6] (x, y, half width, half height, softness, strength), colours [Q, 3]."""
    rng = np.random.default_rng(seed)
    base = np.exp(rng.normal(-1.6, 0.8)) * (1 + 0.10 * rng.standard_normal(3))
    corners = base * np.exp(0.35 * rng.standard_normal((4, 1)) + 0.05 * rng.standard_normal((4, 3)))
    patches = np.stack(
        [
            rng.random(PATCHES), rng.random(PATCHES), np.exp(rng.normal(-2.0, 0.7, PATCHES)),
            np.exp(rng.normal(-1.6, 0.8, PATCHES)), np.exp(rng.normal(-3.2, 0.7)) * np.ones(PATCHES),
            (rng.random(PATCHES) < rng.choice([0.0, 0.5, 1.0], p=[0.25, 0.35, 0.4])) * rng.uniform(0.4, 1, PATCHES),
        ], axis=1,
    )  # fmt: skip
    colours = base * np.exp(0.7 * rng.standard_normal((PATCHES, 1)) + 0.14 * rng.standard_normal((PATCHES, 3)))
    bright = rng.random(PATCHES) < 0.12
    colours[bright] = np.exp(rng.normal(0, 0.4)) * (1 + 0.06 * rng.standard_normal(3))
    return corners, patches, colours


def backdrop(seeds_B: Sequence[int], size_px: int, device: torch.device) -> Tensor:
    """Linear light after the tone curve [B, S, S, 3]."""
    recipes = [_recipe(seed) for seed in seeds_B]
    corners, patches, colours = (
        torch.from_numpy(np.stack(part).astype(np.float32).clip(-4, 8)).to(device)
        for part in zip(*recipes, strict=True)
    )
    small = min(size_px, 96)
    line = (torch.arange(small, device=device, dtype=torch.float32) + 0.5) / small
    x, y = line[None, None, :, None], line[None, :, None, None]
    c = corners.clamp(min=0.002)[:, :, None, None]
    out = (c[:, 0] * (1 - x) + c[:, 1] * x) * (1 - y) + (c[:, 2] * (1 - x) + c[:, 3] * x) * y
    for k in range(PATCHES):
        px, py, w, h, soft, strength = patches[:, k, :, None, None].unbind(1)
        inside_x = torch.sigmoid((w - (line[None, None, :] - px).abs()) / soft)
        inside_y = torch.sigmoid((h - (line[None, :, None] - py).abs()) / soft)
        out = torch.lerp(out, colours[:, k, None, None].clamp(min=0.002), (inside_x * inside_y * strength)[..., None])
    out = tone(out)
    if small != size_px:
        out = torch.nn.functional.interpolate(
            out.permute(0, 3, 1, 2), size=(size_px, size_px), mode="bilinear", align_corners=False
        ).permute(0, 2, 3, 1)
    return out
