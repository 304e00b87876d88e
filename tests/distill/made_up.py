"""Made-up batches: smooth pictures whose truth can be learned from what is shown. No face, no file, a millisecond each.

A disc moves over a coloured ground. The proxy has it in the identity's plain colour; the truth in the same colour
under the ground's light, with two eyes where the driver has them. So the truth asks for proxy, surroundings (light),
attribute (eyes) and mask together, and the proxy alone is a fair but beatable guess.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from distill.examples.types import Kind, Shown

OF_COLOURS = 20_26  # the projection from identity to colour is the same in every batch
SKY = 0.35  # how much the ground's colour changes over the picture
EYE, EYE_SHARE = -0.9, 0.16  # an eye's grey, and its radius as a share of the disc's


@dataclass(frozen=True, slots=True)
class _Scene:
    """Of each row and frame, places in shares of the side.

    centre_BT2, radius_B   the disc
    gaze_BT2               how far the eyes are off its middle, in radii
    """

    centre_BT2: Tensor
    radius_B: Tensor
    gaze_BT2: Tensor


def synthetic_batch(
    kind: Kind = "video",
    batch: int = 2,
    frames: int = 4,
    size_px: int = 64,
    picture_px: int = 32,
    identity_width: int = 512,
    seed: int = 0,
) -> Shown:
    """A batch that only the arguments decide: other seeds, other people, places and numbers. Stills have 1 frame."""
    rng = np.random.default_rng((seed, kind == "video"))
    frames = 1 if kind == "image" else frames
    identity = _normal(rng, batch, identity_width)
    identity = identity / identity.norm(dim=1, keepdim=True)
    scene = _scene(rng, batch, frames)
    skin, driver = _colour(identity), 0.6 * torch.tanh(_normal(rng, batch, 3))
    ground_0, slope = 0.5 * torch.tanh(_normal(rng, batch, 3)), SKY * torch.tanh(_normal(rng, batch, 3, 2))
    ground = _ground(ground_0, slope, size_px, frames)
    depth = _depth(scene, size_px)
    mask, alpha = (depth * size_px).clamp(0, 1), (depth * 12).clamp(0, 1)
    eyes = _eyes(scene, size_px)
    light = 0.5 * (ground - ground_0[:, None, :, None, None]) + 0.3 * ground_0[:, None, :, None, None]
    flat, other = (one[:, None, :, None, None].expand_as(ground) for one in (skin, driver))
    black = torch.full_like(ground, EYE)
    fill = (ground * mask).sum((-2, -1), keepdim=True) / mask.sum((-2, -1), keepdim=True).clamp_min(1e-3)
    return Shown(
        kind,
        target_BT3SS=_laid(_laid(ground, other, mask), black, eyes),
        masked_BT3SS=_laid(ground, fill.expand_as(ground), mask),
        proxy_BT3SS=_laid(ground, flat, mask),
        truth_BT3SS=_laid(_laid(ground, (flat + light).clamp(-1, 1), mask), black, eyes),
        mask_BT1SS=mask,
        alpha_BT1SS=torch.minimum(alpha, mask),
        attribute_BT3AA=_small(_laid(_laid(ground, other, mask), black, eyes), picture_px),
        texture_B3AA=_texture(skin, picture_px),
        identity_BI=identity,
        numbers=tuple(seed * batch + row for row in range(batch)),
    )


def _normal(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, np.float32))


def _colour(identity_BI: Tensor) -> Tensor:
    """Linear in the identity but for the squashing: [B, 3], -0.7..0.7."""
    width = identity_BI.shape[1]
    project = np.random.default_rng(OF_COLOURS).standard_normal((width, 3), np.float32)
    return 0.7 * torch.tanh(identity_BI @ torch.from_numpy(project))


def _scene(rng: np.random.Generator, batch: int, frames: int) -> _Scene:
    """The disc swings on an ellipse, the eyes on another one of their own period."""
    phase, speed = (torch.from_numpy(rng.uniform(low, high, (batch, 1, 2)).astype(np.float32)) for low, high in RANGES)
    when = torch.arange(frames, dtype=torch.float32)[None, :, None] * speed
    centre = 0.5 + 0.08 * torch.sin(phase + when)
    gaze = 0.2 * torch.cos(2.1 * phase + 1.7 * when)
    radius = torch.from_numpy(rng.uniform(0.24, 0.32, batch).astype(np.float32))
    return _Scene(centre, radius, gaze)


RANGES = ((0.0, 6.28), (0.1, 0.3))  # radians at the start, and per frame


def _grid(size_px: int) -> tuple[Tensor, Tensor]:
    at = (torch.arange(size_px, dtype=torch.float32) + 0.5) / size_px
    y, x = torch.meshgrid(at, at, indexing="ij")
    return x, y


def _ground(colour_B3: Tensor, slope_B32: Tensor, size_px: int, frames: int) -> Tensor:
    """A colour that changes evenly over the picture, [B, T, 3, S, S]."""
    x, y = _grid(size_px)
    plane = colour_B3[..., None, None] + slope_B32[:, :, 0, None, None] * (x - 0.5)
    plane = plane + slope_B32[:, :, 1, None, None] * (y - 0.5)
    return plane[:, None].expand(-1, frames, -1, -1, -1).contiguous()


def _depth(scene: _Scene, size_px: int) -> Tensor:
    """How far inside of the disc, in shares of the side: [B, T, 1, S, S]."""
    x, y = _grid(size_px)
    away_x = x - scene.centre_BT2[..., 0, None, None]
    away_y = y - scene.centre_BT2[..., 1, None, None]
    return (scene.radius_B[:, None, None, None] - torch.hypot(away_x, away_y))[:, :, None]


def _eyes(scene: _Scene, size_px: int) -> Tensor:
    """1 where an eye is: [B, T, 1, S, S]."""
    x, y = _grid(size_px)
    radius = scene.radius_B[:, None, None, None]
    shown = torch.zeros(())
    for side in (-0.4, 0.4):
        eye = scene.centre_BT2 + scene.radius_B[:, None, None] * (scene.gaze_BT2 + torch.tensor([side, -0.2]))
        away = torch.hypot(x - eye[..., 0, None, None], y - eye[..., 1, None, None])
        shown = torch.maximum(shown, ((EYE_SHARE * radius - away) * size_px / 2 + 0.5).clamp(0, 1))
    return shown[:, :, None]


def _laid(under: Tensor, over: Tensor, mask: Tensor) -> Tensor:
    return under + mask * (over - under)


def _small(pictures_BT3SS: Tensor, side_px: int) -> Tensor:
    small = functional.interpolate(pictures_BT3SS.flatten(0, 1), (side_px, side_px), mode="bilinear", antialias=True)
    return small.reshape(*pictures_BT3SS.shape[:3], side_px, side_px)


def _texture(skin_B3: Tensor, side_px: int) -> Tensor:
    """The identity's colour, darker to the rim: [B, 3, A, A]."""
    x, y = _grid(side_px)
    fall = 1 - torch.hypot(x - 0.5, y - 0.5)
    return (skin_B3[..., None, None] + 1) * fall - 1
