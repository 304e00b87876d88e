"""Light that wanders within skin before it comes out: blurred on the screen, red farthest.

Legend: N points of skin, B pictures of S x S pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

REACH_CM = (0.17, 0.08)  # of red and green; blue stays where it is
MOST_PX = 4  # of the blur's reach to either side


def wandered(light_3N: Tensor, pixel_N: Tensor, px_per_cm_B: Tensor, size_px: int) -> Tensor:
    """Light received, [3, N], after it wandered. pixel_N: number of the pixel a point fills, -1 for parts of one.

    Points that are parts of pixels neither give nor take. What is not skin takes no part.
    """
    whole = torch.nonzero(pixel_N >= 0).squeeze(1)
    pixel, count = pixel_N.index_select(0, whole), len(px_per_cm_B)
    picture = light_3N.new_zeros((4, count * size_px * size_px))
    for k in (0, 1):
        picture[k].index_copy_(0, pixel, light_3N[k].index_select(0, whole))
        picture[2 + k].index_fill_(0, pixel, 1)
    blurred = _blurred(picture.reshape(4, count, size_px, size_px), px_per_cm_B).reshape(4, -1)
    out = light_3N.clone()
    for k in (0, 1):
        there = blurred[k].index_select(0, pixel) / blurred[2 + k].index_select(0, pixel).clamp_(min=1e-3)
        out[k].index_copy_(0, whole, there)
    return out


def _blurred(picture_4BSS: Tensor, px_per_cm_B: Tensor) -> Tensor:
    """Each channel by its own bell."""
    channels, count, size, _ = picture_4BSS.shape
    reach = picture_4BSS.new_tensor(REACH_CM * 2)[:, None] * px_per_cm_B
    steps = torch.arange(-MOST_PX, MOST_PX + 1, device=reach.device, dtype=reach.dtype)
    bell = torch.exp(-0.5 * (steps / reach.clamp(0.2, MOST_PX / 2)[..., None]) ** 2)
    bell = (bell / bell.sum(-1, keepdim=True)).reshape(channels * count, 1, 1, -1)
    layers = picture_4BSS.reshape(1, channels * count, size, size)
    layers = functional.conv2d(layers, bell, padding=(0, MOST_PX), groups=channels * count)
    layers = functional.conv2d(layers, bell.transpose(2, 3), padding=(MOST_PX, 0), groups=channels * count)
    return layers.reshape(channels, count, size, size)
