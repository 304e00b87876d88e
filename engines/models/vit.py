"""A vision transformer of DINOv2's shape (arXiv 2304.07193), so that its weights fit.

Dimensions: B batch, A side of the picture in pixels (a multiple of 14), G = A/14, P = G*G tokens, F width.

Parameters are named as in the published state dicts (`patch_embed.proj`, `blocks.0.attn.qkv`, `blocks.0.ls1.gamma`,
...). Not here, since nothing reads them: `mask_token` and the last `norm` (VividFace takes the last block's output as
it is). The position table is that of one picture size: `resized_positions` brings a published one to it.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.models.constants import constant

PATCH_PX = 14
BLOCKS = 12
HEAD_WIDTH = 64
MEAN = (0.485, 0.456, 0.406)  # ImageNet's, of pictures 0..1
STD = (0.229, 0.224, 0.225)


def resized_positions(table_1SF: Tensor, grid: int) -> Tensor:
    """A position table [1, 1 + g*g, F] for another grid: [1, 1 + grid*grid, F]. The class token's row stays.

    Bicubic, without antialiasing, as DINOv2-base does it; its offset in the scale is left out, as in transformers.
    """
    own = round((table_1SF.shape[1] - 1) ** 0.5)
    if 1 + own * own != table_1SF.shape[1]:
        raise ValueError(f"a position table has 1 + g*g rows, not {table_1SF.shape[1]}")
    if own == grid:
        return table_1SF
    first, rest = table_1SF[:, :1], table_1SF[:, 1:].float()
    rest_1Fgg = rest.transpose(1, 2).reshape(1, -1, own, own)
    resized = F.interpolate(rest_1Fgg, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([first, resized.flatten(2).transpose(1, 2).to(table_1SF.dtype)], 1)


class PatchEmbed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH_PX, stride=PATCH_PX)

    def forward(self, x_B3AA: Tensor) -> Tensor:
        return cast(Tensor, self.proj(x_B3AA)).flatten(2).transpose(1, 2)


class SelfAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(width // HEAD_WIDTH, 1)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BSF: Tensor) -> Tensor:
        parts = cast(Tensor, self.qkv(x_BSF)).chunk(3, dim=-1)
        q, k, v = (part.reshape(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in parts)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return cast(Tensor, self.proj(seen))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(F.gelu(self.fc1(x))))


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = SelfAttention(width)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)
        self.ls2 = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return cast(Tensor, x + self.ls2(self.mlp(self.norm2(x))))


class VisionTransformer(nn.Module):
    """Pictures -1..1 [B, 3, A, A] to patch tokens [B, P, F]; the class token helps and is not given out."""

    gain: Tensor
    offset: Tensor

    def __init__(self, picture_px: int, width: int, blocks: int = BLOCKS) -> None:
        super().__init__()
        if picture_px % PATCH_PX:
            raise ValueError(f"a vision transformer takes pictures of a multiple of {PATCH_PX} px, not {picture_px}")
        self.grid = picture_px // PATCH_PX
        self.patch_embed = PatchEmbed(width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        constant(self, "gain", lambda: 0.5 / torch.tensor(STD).view(1, 3, 1, 1))
        constant(
            self, "offset", lambda: (0.5 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
        )

    def forward(self, x_B3AA: Tensor) -> Tensor:
        patches_BPF = self.patch_embed(x_B3AA * self.gain + self.offset)
        first = self.cls_token.expand(patches_BPF.shape[0], -1, -1)
        x_BSF = torch.cat([first, patches_BPF], 1) + self.pos_embed
        for block in self.blocks:
            x_BSF = block(x_BSF)
        return x_BSF[:, 1:]
