"""What a pixel is seen through: lashes, which darken it, and lenses, which mirror a little.

Neither is a surface to the maps of depth and parts' borders: they are laid over the finished picture, in shares as fine
as the samples allow, so that a lash thinner than a sample is still a thin lash.
Legend: P samples of lashes and lenses that nothing hides, B pictures of S x S pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.people import paint
from distill.people.assets import Assets, Kind
from distill.people.pose import Params, Posed
from distill.people.rasterise import Screen, Triangles, fragments
from distill.people.shade import ambient_of, mirrored, softbox
from distill.people.surface import dot, of, unit
from distill.people.texture import level_for, look_up, taps, weighted

LASH_TEXELS_PER_CM = 170 / paint.CARD_PX  # of a card one texel wide
LASH_LIGHT = 0.012
LENS_DEPTH, LENS_F0 = 0.05, 0.018  # coated: what a lens keeps back, and what it mirrors when seen straight on


@dataclass(frozen=True)
class Veil:
    """Per pixel [B * S * S]: how much lashes hide, what lenses let through, and [B * S * S, 3] what they mirror."""

    lashes_N: Tensor
    through_N: Tensor
    mirrored_N3: Tensor

    def over(self, light_N3: Tensor) -> Tensor:
        """The picture behind it; linear light."""
        lashed = torch.lerp(light_N3, light_N3.clamp(max=LASH_LIGHT), self.lashes_N[:, None])
        return lashed * self.through_N[:, None] + self.mirrored_N3


def veil(
    assets: Assets, params: Params, posed: Posed, screen: Screen, buffer: Tensor, size: int, factor: int,
    distance_B: Tensor, px_per_cm_B: Tensor,
) -> Veil:  # fmt: skip
    """Lashes and lenses before what the buffer holds."""
    side, pixels = size * factor, len(params) * size * size
    all_T, first = posed.triangles, posed.veiled
    triangles = Triangles(all_T.corners_T3[first:], all_T.picture_T[first:], all_T.two_sided_T[first:])
    dark = buffer.new_zeros(pixels, dtype=torch.float32)
    glass, light = torch.zeros_like(dark), dark.new_zeros((pixels, 3))
    found = fragments(buffer, screen, triangles, side, side)
    if found is not None:
        triangle, sample, share = found
        template = posed.template_T.index_select(0, triangle + first)
        pixel = ((sample // (side * side)) * size + (sample // side) % side // factor) * size + sample % side // factor
        lens = assets.kind_A.index_select(0, template) == Kind.LENS
        each = 1.0 / (factor * factor)
        here = torch.nonzero(~lens).squeeze(1)
        depth = _lash_depth(
            assets, posed, template[here], share[:, here], pixel[here] // (size * size), px_per_cm_B * factor
        )
        dark.index_add_(0, pixel[here], depth * each)
        here = torch.nonzero(lens).squeeze(1)
        shine = _lens_light(params, posed, triangles, triangle[here], share[:, here], distance_B)
        glass.index_add_(0, pixel[here], torch.full_like(shine[0], LENS_DEPTH * each))
        light.index_add_(0, pixel[here], shine.T * each)
    return Veil(1 - torch.exp(-dark), torch.exp(-glass), light)


def _lash_depth(
    assets: Assets, posed: Posed, template_P: Tensor, share_3P: Tensor, picture_P: Tensor, density_B: Tensor
) -> Tensor:
    """Optical depth of lashes, [P]."""
    rows = 3 * template_P[:, None] + torch.arange(3, device=template_P.device)
    u, v = weighted(assets.corner_values_AC[:, :2].contiguous(), rows, share_3P.T.contiguous()).unbind(1)
    table = assets.paint.cards
    level = of(level_for(LASH_TEXELS_PER_CM * paint.CARD_PX / density_B, table.levels), picture_P)
    cover = look_up(table, taps(table, u, v, level, wrap=True), assets.card_A.index_select(0, template_P))[:, 1]
    return -torch.log1p(-cover.clamp(0, 0.97))


def _lens_light(
    params: Params, posed: Posed, triangles: Triangles, triangle_P: Tensor, share_3P: Tensor, distance_B: Tensor
) -> Tensor:
    """What lenses mirror of the surroundings and the lamps, after exposure, [3, P]."""
    corners = triangles.corners_T3.index_select(0, triangle_P)
    who = triangles.picture_T.index_select(0, triangle_P)
    moving = torch.cat([posed.points_M3, posed.normals_M3], 1)
    now = weighted(moving, corners, share_3P.T.contiguous()).T
    towards = -now[:3].contiguous()
    towards[2] += of(distance_B, who)
    towards, normal = unit(towards), unit(now[3:])
    facing = dot(normal, towards)
    normal = torch.where(facing < 0, -normal, normal)
    away = (1 - facing.abs()).clamp_(0, 1)
    fresnel = LENS_F0 + (1 - LENS_F0) * away.square().square_() * away
    out = mirrored(normal, towards)
    light = ambient_of(params, who, out) + softbox(params, who, out, 0.965, 0.02, 9.0)
    return light * fresnel * of(params.scene["exposure"], who)
