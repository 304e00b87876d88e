"""Hair and lashes: which samples their cards cover, and how strands shine (Kajiya and Kay 1989).

Legend: N points, P samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill.people import paint
from distill.people.assets import Assets, Kind
from distill.people.pose import Params, Posed
from distill.people.rasterise import Accept
from distill.people.shade import Lamp, ambient, diffuse
from distill.people.surface import Points, dot, hair_lab, linear_from_lab, of, unit
from distill.people.texture import level_for, look_up, taps, weighted

BAYER = (0, 8, 2, 10, 12, 4, 14, 6, 3, 11, 1, 9, 15, 7, 13, 5)
CARD_TEXELS_PER_CM = 0.05
SHELL_FACING = (0.25, 0.65)  # how far shells turn to the camera where they begin to fade and are gone


def without_inner_shells(assets: Assets, posed: Posed) -> tuple[Tensor, Tensor]:
    """Corners of the triangles with holes, [T, 3], shells over curls shrunk to nothing where they are seen from above.

    Also how much thinner than by itself a triangle is, [T]: shells fade before they go.
    """
    here = slice(posed.solid, posed.veiled)
    corners, shell = posed.triangles.corners_T3[here], assets.shell_A[posed.template_T[here]]
    facing = posed.normals_M3[:, 2].index_select(0, corners.reshape(-1)).reshape(-1, 3).mean(1)
    thinner = ((facing.abs() - SHELL_FACING[0]) / (SHELL_FACING[1] - SHELL_FACING[0])).clamp_(0, 1) * shell
    return torch.where((thinner >= 1)[:, None], corners[:, :1], corners), thinner


def coverage(assets: Assets, posed: Posed, thinner_T: Tensor, height: int, width: int) -> Accept:
    """Accepts samples as often as a card is dense: an ordered pattern over the samples, the same every time."""
    rows = torch.tensor(BAYER, dtype=torch.uint8).reshape(4, 4) * 15 + paint.LEAST_COVER
    pattern = rows.repeat(-(-height // 4), -(-width // 4))[:height, :width].reshape(-1).to(assets.device)
    pattern = pattern.repeat(len(posed.turn_B33))
    coordinates = assets.corner_values_AC[:, [0, 1, 8]].contiguous()
    size = paint.CARD_PX

    def accept(triangle_P: Tensor, sample_P: Tensor, weights_3P: Tensor) -> Tensor:
        template = posed.template_T.index_select(0, triangle_P + posed.solid)
        rows = 3 * template[:, None] + torch.arange(3, device=template.device)
        u, v, thin = weighted(coordinates, rows, weights_3P.T.contiguous()).unbind(1)
        column = (u * size).floor_().to(torch.int64) & (size - 1)
        row = ((1 - v) * size).floor_().to(torch.int64) & (size - 1)
        card = assets.card_A.index_select(0, template)
        cover = assets.paint.cover_PS.index_select(0, (card * size + row) * size + column)
        return (cover > pattern.index_select(0, sample_P)) & (
            cover > (thin + thinner_T.index_select(0, triangle_P)) * 255
        )

    return accept


def shade_hair(
    assets: Assets, params: Params, at: Points, lamps: list[Lamp], view_3N: Tensor, px_per_cm_B: Tensor
) -> Tensor:
    """Light from hair and lashes, [3, N]."""
    who, table = at.picture_N, assets.paint.cards
    level = of(level_for(CARD_TEXELS_PER_CM * paint.CARD_PX / px_per_cm_B, table.levels), who)
    grey = look_up(table, taps(table, at.u_N, at.v_N, level, wrap=True), at.card_N)[:, 0]
    lash = at.kind_N == Kind.LASH
    lab = of(hair_lab(params), who)
    lightness = torch.where(lash, 8.0, (lab[0] * (0.35 + 1.1 * grey)).clamp_(3, 92))
    tint = torch.where(lash, 0.0, 0.55 + 0.8 * grey)
    albedo = linear_from_lab(torch.stack([lightness, lab[1] * tint, lab[2] * tint]))
    received = ambient(params, at, at.normal_3N) * (0.45 + 0.55 * grey) + diffuse(lamps, at.normal_3N, (0.35,) * 3)
    shine = torch.zeros_like(albedo)
    leaning = at.along_3N + 0.12 * at.normal_3N
    for lamp in lamps:
        lean = dot(leaning, unit(view_3N + lamp.towards_3N))
        across = (1 - lean * lean).clamp_(1e-6, 1)
        facing = (dot(at.normal_3N, lamp.towards_3N) + 0.25).clamp_(0, 1)
        shine += facing * (0.05 * across**45 + 0.04 * across**9) * lamp.colour_3N
    strength = torch.where(lash, 0.0, 0.2 + 1.3 * grey)
    tinted = 0.4 + 0.6 * albedo / albedo.mean(0).clamp_(min=1e-3)
    return albedo * received + shine * strength * tinted
