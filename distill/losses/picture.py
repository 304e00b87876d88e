"""How far pictures are from those that were asked for: by pixels, by colour, in time; and where that counts.

Pictures [..., 3, S, S] are sRGB, -1..1, float32; weights [..., 1, S, S], 1 on average. Every function gives a scalar.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from distill.colour import SLOPE, TOE, WHITE_XYZ, XYZ_FROM_RGB
from distill.losses.perceptual import flat

COLOUR_PX = 8  # colours are compared over squares of this side: tone, not detail
DARKEST = 1e-4  # linear light below which the slope of sRGB's curve is cut

# Where eyes and mouth lie on a crop of engines.face.align, in shares of its side: the canonical head's places, and as
# far around as 96 of 100 heads' lie in training (turned, talking). x, y, spread of x, spread of y.
FEATURES = ((0.376, 0.414, 0.065, 0.04), (0.624, 0.414, 0.065, 0.04), (0.5, 0.680, 0.095, 0.05))


def absolute(made: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute error."""
    apart = (made - truth).abs()
    return apart.mean() if weight is None else (apart * weight).mean()


def even(pictures: Tensor, side_px: int) -> Tensor:
    """Means over squares of side_px: [..., C, S, S] to [..., C, S / side_px, S / side_px]."""
    if side_px == 1:
        return pictures
    averaged = functional.avg_pool2d(flat(pictures), side_px)
    return averaged.reshape(*pictures.shape[:-2], *averaged.shape[-2:])


def changes(made_BT3SS: Tensor, truth_BT3SS: Tensor, weight_BT1SS: Tensor | None = None) -> Tensor:
    """Mean absolute error of the differences between neighbouring frames: flicker, and motion that is washed out."""
    weight = None if weight_BT1SS is None else weight_BT1SS[:, 1:]
    return absolute(made_BT3SS.diff(dim=1), truth_BT3SS.diff(dim=1), weight)


def colour(made: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean CIE76 difference of colours averaged in linear light over 8 x 8 pixels, in hundredths: 0.02 is just seen.

    Errors by pixels are even about the truth's *code values*; averaged light shifts where detail is lost, and with it
    the tone of skin. Here it does not.
    """
    with torch.autocast(truth.device.type, enabled=False):
        first, second = (_lab(_light(one)) for one in (made, truth))
    apart = torch.sqrt((first - second).square().sum(1) + 1e-4) - 1e-2
    if weight is None:
        return apart.mean() / 100
    counts = flat(weight.expand(*truth.shape[:-3], 1, *truth.shape[-2:]))
    return (apart * functional.avg_pool2d(counts, COLOUR_PX)[:, 0]).mean() / 100


def _light(pictures: Tensor) -> Tensor:
    """Mean linear light of squares, [N, 3, S/8, S/8]. Values out of range go on evenly."""
    srgb = (flat(pictures).float() + 1) / 2
    curve = ((srgb.clamp_min(DARKEST) + 0.055) / 1.055) ** 2.4  # distill.colour.linear, with gradients
    return functional.avg_pool2d(torch.where(srgb <= 0.04045, srgb / 12.92, curve), COLOUR_PX)


def _lab(light_N3hw: Tensor) -> Tensor:
    """distill.colour.lab_from_linear, with gradients."""
    matrix = light_N3hw.new_tensor(XYZ_FROM_RGB / WHITE_XYZ[:, None])
    xyz = functional.conv2d(light_N3hw, matrix[:, :, None, None])
    f = torch.where(xyz > TOE, xyz.clamp_min(TOE) ** (1 / 3), (SLOPE * xyz + 16) / 116)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def face_weight(mask: Tensor, inside: float = 1.0, features: float = 0.0) -> Tensor:
    """Where errors count, [..., 1, S, S], 1 on average over all: 1 outside of the mask, `inside` in it, and up to
    `inside + features` on eyes and mouth, which lie at the same places of every upright crop.
    """
    weight = 1 + (inside - 1) * mask + features * mask * feature_map(mask.shape[-1], mask.device)
    return weight / weight.mean()


@lru_cache(maxsize=4)
def feature_map(size_px: int, device: torch.device) -> Tensor:
    """1 in the middle of an eye or the mouth, falling to 0 around it: [S, S]."""
    at = (torch.arange(size_px, device=device) + 0.5) / size_px
    near = torch.zeros(size_px, size_px, device=device)
    for x, y, wide, high in FEATURES:
        square = ((at[None, :] - x) / wide) ** 2 + ((at[:, None] - y) / high) ** 2
        near = torch.maximum(near, torch.exp(-0.5 * square))
    return near
