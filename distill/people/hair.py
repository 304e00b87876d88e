"""Hair and lashes: which samples their cards cover, and how strands shine (Kajiya and Kay 1989).

Legend: N points, P samples.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from distill.people import paint
from distill.people.assets import Assets, Kind
from distill.people.pose import Params, Posed
from distill.people.rasterise import Accept
from distill.people.shade import Light, ambient, diffuse
from distill.people.surface import Points, hair_lab, linear_from_lab
from distill.people.texture import level_for, look_up, taps

BAYER = (0, 8, 2, 10, 12, 4, 14, 6, 3, 11, 1, 9, 15, 7, 13, 5)
CARD_TEXELS_PER_CM = 0.05


def coverage(assets: Assets, posed: Posed, first: int, height: int, width: int) -> Accept:
    """Accepts samples as often as a card is dense: an ordered pattern over the samples, the same every time."""
    order = torch.tensor(BAYER, device=assets.device).reshape(4, 4)
    size = paint.CARD_PX

    def accept(triangle_P: Tensor, sample_P: Tensor, weights_P3: Tensor) -> Tensor:
        template = posed.template_T[first + triangle_P]
        rows = 3 * template[:, None] + torch.arange(3, device=template.device)
        uv = (assets.corner_values_AC[:, :2][rows] * weights_P3[..., None]).sum(1) % 1.0
        column, row = (uv[:, 0] * size).long().clamp(0, size - 1), ((1 - uv[:, 1]) * size).long().clamp(0, size - 1)
        cover = assets.paint.cover_PS[(assets.card_A[template] * size + row) * size + column]
        x, y = sample_P % width, (sample_P // width) % height
        return cover > order[y % 4, x % 4] * 15 + 8

    return accept


def shade_hair(
    assets: Assets, params: Params, at: Points, light: Light, view_N3: Tensor, px_per_cm_B: Tensor
) -> Tensor:
    """Light from hair and lashes, [N, 3]."""
    who = at.picture_N
    level = level_for(CARD_TEXELS_PER_CM * paint.CARD_PX / px_per_cm_B, assets.paint.cards.levels)[who]
    texel = look_up(assets.paint.cards, taps(assets.paint.cards, at.u_N % 1.0, at.v_N, level), at.card_N)
    lash = at.kind_N == Kind.LASH
    grey = texel[:, 0]
    lab = hair_lab(params)[who]
    lightness = (lab[:, 0] * (0.35 + 1.1 * grey)).clamp(3, 92)
    lightness = torch.where(lash, torch.full_like(grey, 8.0), lightness)
    tint = torch.where(lash, torch.zeros_like(grey), 0.55 + 0.8 * grey)
    albedo = linear_from_lab(torch.stack([lightness, lab[:, 1] * tint, lab[:, 2] * tint], 1))
    received = ambient(params, at, at.normal_N3) * (0.45 + 0.55 * grey)[:, None] + diffuse(
        light, at.normal_N3, (0.35, 0.35, 0.35)
    )
    shine = torch.zeros_like(albedo)
    for k in range(3):
        towards = light.towards_N33[:, k]
        half = functional.normalize(view_N3 + towards, dim=1)
        lean = ((at.along_N3 + 0.12 * at.normal_N3) * half).sum(1)
        across = (1 - lean * lean).clamp(0, 1).sqrt()
        facing = ((at.normal_N3 * towards).sum(1) + 0.25).clamp(0, 1)
        glint = facing * (0.05 * across**90 + 0.04 * across**18) * (light.lit_N if k == 0 else 1.0)
        shine = shine + glint[:, None] * light.colour_N33[:, k]
    strength = torch.where(lash, torch.zeros_like(grey), 0.2 + 1.3 * grey)
    tinted = 0.4 + 0.6 * albedo / albedo.mean(1, keepdim=True).clamp(min=1e-3)
    return albedo * received + shine * strength[:, None] * tinted
