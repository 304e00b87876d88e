"""Stacks of pictures with their smaller versions, looked up at many points at once.

Legend: P pictures of one size with C channels, D levels, N points, R texels of all pictures and levels.
Coordinates: u to the right and v up, 0..1 over the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Pyramid:
    """Pictures as one table of texels [R, C]: picture by picture, within it level by level."""

    texels_RC: Tensor
    size_px: int
    pictures: int
    starts_D: Tensor
    sizes_D: Tensor

    @property
    def each(self) -> int:
        """Texels of one picture with all its levels."""
        return len(self.texels_RC) // self.pictures

    @property
    def levels(self) -> int:
        return len(self.starts_D)


@dataclass(frozen=True)
class Taps:
    """Where to look in pictures of one geometry: texel numbers of the first picture and shares, [N, 4] each."""

    texel_N4: Tensor
    share_N4: Tensor
    each: int  # texels of one picture with all its levels


def pyramid(pictures_PCHW: Tensor, smallest_px: int = 8) -> Pyramid:
    """Halves square pictures (a power of two wide) until they are small."""
    count, channels, size, _ = pictures_PCHW.shape
    levels = [pictures_PCHW.to(torch.float32)]
    while levels[-1].shape[2] > smallest_px:
        levels.append(functional.avg_pool2d(levels[-1], 2))
    flat = [level.permute(0, 2, 3, 1).reshape(count, -1, channels) for level in levels]
    sizes = [level.shape[2] for level in levels]
    starts = [0]
    for level in flat[:-1]:
        starts.append(starts[-1] + level.shape[1])
    device = pictures_PCHW.device
    return Pyramid(
        torch.cat(flat, 1).reshape(-1, channels).contiguous(),
        size,
        count,
        torch.tensor(starts, dtype=torch.int32, device=device),
        torch.tensor(sizes, dtype=torch.int32, device=device),
    )


def level_for(texels_per_px: Tensor, levels: int) -> Tensor:
    """The level on which a picture's pixel covers about one texel."""
    return torch.log2(texels_per_px.clamp(min=1e-3)).add(0.35).floor().clamp(0, levels - 1).to(torch.int64)


def taps(table: Pyramid, u_N: Tensor, v_N: Tensor, level_N: Tensor, wrap: bool = False) -> Taps:
    """Bilinear: four texels and their shares. Outside 0..1 the edge goes on, or the picture repeats (`wrap`)."""
    size_N = table.sizes_D.index_select(0, level_N)
    x = u_N * size_N - 0.5
    y = (1 - v_N) * size_N - 0.5
    left, top = x.floor(), y.floor()
    fx, fy = x - left, y - top
    x0, y0 = left.to(torch.int32), top.to(torch.int32)
    if wrap:
        mask = size_N - 1
        x1, y1 = (x0 + 1) & mask, (y0 + 1) & mask
        x0, y0 = x0 & mask, y0 & mask
    else:
        most = size_N - 1
        x1, y1 = (torch.minimum((v + 1).clamp(min=0), most) for v in (x0, y0))
        x0, y0 = (torch.minimum(v.clamp(min=0), most) for v in (x0, y0))
    start_N = table.starts_D.index_select(0, level_N)
    upper, lower = start_N + y0 * size_N, start_N + y1 * size_N
    texel_N4, share_N4 = upper.new_empty((len(x), 4)), fx.new_empty((len(x), 4))
    gx, gy = 1 - fx, 1 - fy
    for k, (row, column, high, wide) in enumerate(
        ((upper, x0, gy, gx), (upper, x1, gy, fx), (lower, x0, fy, gx), (lower, x1, fy, fx))
    ):
        torch.add(row, column, out=texel_N4[:, k])
        torch.mul(high, wide, out=share_N4[:, k])
    return Taps(texel_N4, share_N4, table.each)


def look_up(table: Pyramid, at: Taps, picture_N: Tensor | None = None) -> Tensor:
    """Values [N, C] in the given picture of each point (the first without)."""
    texel = at.texel_N4 if picture_N is None else at.texel_N4 + (picture_N * at.each).to(torch.int32)[:, None]
    return weighted(table.texels_RC, texel, at.share_N4)


def look_up_mixed(table: Pyramid, at: Taps, pictures: tuple[Tensor, Tensor], mix_N: Tensor) -> Tensor:
    """Values [N, C] of two pictures mixed: only the first at 0, only the second at 1."""
    one, other = (at.texel_N4 + (picture * at.each).to(torch.int32)[:, None] for picture in pictures)
    shares = torch.cat([at.share_N4 * (1 - mix_N)[:, None], at.share_N4 * mix_N[:, None]], 1)
    return weighted(table.texels_RC, torch.cat([one, other], 1), shares)


def weighted(table_RC: Tensor, row_NK: Tensor, share_NK: Tensor) -> Tensor:
    """Weighted sums of K rows of a table for each of N points, [N, C]."""
    if not len(row_NK):
        return table_RC.new_zeros((0, table_RC.shape[1]))
    if row_NK.is_cuda:  # there a bag takes a whole warp for its few columns
        rows_NKC = table_RC.index_select(0, row_NK.reshape(-1)).reshape(*row_NK.shape, -1)
        return (rows_NKC * share_NK[..., None]).sum(1)
    return functional.embedding_bag(row_NK, table_RC, per_sample_weights=share_NK.contiguous(), mode="sum")


def sums(table_RC: Tensor, row_X: Tensor, begin_N: Tensor) -> Tensor:
    """Sums of rows of a table, [N, C]: of those that `row_X` names from each begin to the next, in that order."""
    return functional.embedding_bag(row_X, table_RC, begin_N, mode="sum")


def levels_of(size_px: int, smallest_px: int = 8) -> int:
    return int(log2(size_px / smallest_px)) + 1
