"""The colour and relief of skin at the points seen: two skins mixed and shifted, marks, make-up, brows.

Everything is looked up at the points, never painted into a texture first, so that a new person costs nothing extra.
Legend: N points; tables and their channels are those of `paint`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.people import paint
from distill.people.assets import Assets
from distill.people.pose import Params
from distill.people.texture import level_for, look_up, look_up_mixed, taps

TEXELS_PER_CM = 0.036  # of a texture one texel wide: how much of u a centimetre of the face takes
NOISE_REPEATS = 9.0  # of the relief over the face's texture


@dataclass(frozen=True)
class Points:
    """The points to be shaded: which picture, where, how turned; see `Assets.corner_values_AC`."""

    picture_N: Tensor
    kind_N: Tensor
    position_N3: Tensor
    normal_N3: Tensor
    sky_N: Tensor
    scalp_N: Tensor
    u_N: Tensor
    v_N: Tensor
    along_N3: Tensor  # camera axes
    rest_N3: Tensor
    card_N: Tensor

    def only(self, which: Tensor) -> Points:
        return Points(*(getattr(self, name)[which] for name in Points.__dataclass_fields__))


@dataclass(frozen=True)
class Skin:
    """Linear albedo [N, 3], the tilted normal, and shares of lips and brow hair."""

    albedo_N3: Tensor
    normal_N3: Tensor
    lips_N: Tensor
    brow_N: Tensor


def linear_from_lab(lab_N3: Tensor) -> Tensor:
    y = (lab_N3[:, 0] + 16) / 116
    x, z = y + lab_N3[:, 1] / 500, y - lab_N3[:, 2] / 200
    f = torch.stack([x, y, z], 1).clamp(min=0)
    back = lab_N3.new_tensor([[3.0799, -0.9211, 0.0529], [-1.5372, 1.8758, -0.2040], [-0.5428, 0.0452, 1.1512]])
    return ((f * f * f) @ back).clamp(0.002, 1)


def skin(assets: Assets, params: Params, at: Points, px_per_cm_B: Tensor) -> Skin:
    """px_per_cm_B: pixels that a centimetre of the face takes in each picture."""
    person, table = params.person, assets.paint
    who = at.picture_N
    density = TEXELS_PER_CM / px_per_cm_B
    level = level_for(density * paint.SKIN_PX, table.skins.levels)[who]
    back = at.u_N > 1
    front = (~back).to(torch.float32)
    u = torch.where(back, at.u_N - 1, at.u_N)
    at_skin = taps(table.skins, u, at.v_N, level)
    shift = back.to(torch.int64) * len(table.skin_names)
    pair = person["skins"][who]
    lab = look_up_mixed(table.skins, at_skin, (pair[:, 0] + shift, pair[:, 1] + shift), person["skin_mix"][who])
    marks = look_up(table.marks, at_skin) * front[:, None]
    lips = marks[:, paint.LIPS]
    seed = (person["marks_seed"] % 9973).to(torch.float32)
    own_u, own_v = (seed * 0.61803)[who] % 1.0, (seed * 0.75488)[who] % 1.0
    fine_level = level_for(density * paint.NOISE_PX * NOISE_REPEATS, table.noise.levels)[who]
    fine = look_up(
        table.noise, taps(table.noise, u * NOISE_REPEATS + own_u, at.v_N * NOISE_REPEATS + own_v, fine_level, True)
    )
    slow_level = level_for(density * paint.NOISE_PX, table.noise.levels)[who]
    slow = look_up(table.noise, taps(table.noise, u * 1.3 + own_v, at.v_N * 1.3 + own_u, slow_level, True))
    mid_level = level_for(density * paint.NOISE_PX * 3, table.noise.levels)[who]
    spots = look_up(table.noise, taps(table.noise, u * 3 + own_u, at.v_N * 3 + own_u, mid_level, True))[:, paint.SPOTS]
    blotchy = person["blotches"][who]
    lab = lab + person["skin_lab"][who]
    light = lab[:, 0] + 1.6 * (0.4 + blotchy) * slow[:, paint.BLOTCH] + 0.5 * fine[:, paint.BLOTCH]
    red = lab[:, 1] + 1.3 * (0.4 + blotchy) * slow[:, paint.FLUSH] + 1.5 * blotchy * marks[:, paint.FRECKLES]
    yellow = lab[:, 2]
    freckle = spots * marks[:, paint.FRECKLES] * person["freckles"][who]
    lab = torch.stack([light - 16 * freckle, red + 4 * freckle, yellow + 8 * freckle], 1)
    lab = lab + person["lips_lab"][who] * (lips * person["lips_strength"][who])[:, None]
    shadow = marks[:, paint.SHADOW] * person["shadow_strength"][who]
    lab = lab + person["shadow_lab"][who] * shadow[:, None]
    stubble = person["stubble"][who] * marks[:, paint.BEARD]
    cover = stubble * (0.20 + 0.55 * fine[:, paint.DOTS])
    dark = lab.new_tensor([18.0, 3.0, 3.0])
    lab = torch.lerp(lab, torch.minimum(lab, dark.expand_as(lab)), cover.clamp(0, 0.85)[:, None])
    lab, brow = _with_brows(assets, params, at, u, front, lab, density)
    lab[:, 0] = lab[:, 0].clamp(min=6)
    normal = _bumped(at, fine, front * (1 - 0.6 * lips), person["roughness"][who])
    return Skin(linear_from_lab(lab), normal, lips, brow)


def _with_brows(
    assets: Assets, params: Params, at: Points, u: Tensor, front: Tensor, lab: Tensor, density: Tensor
) -> tuple[Tensor, Tensor]:
    table, who = assets.paint, at.picture_N
    left, low, wide = table.brow_window
    bu, bv = (u - left) / wide, (at.v_N - low) / wide
    inside = front * ((bu > 0) & (bu < 1) & (bv > 0) & (bv < 1)).to(torch.float32)
    level = level_for(density * paint.BROW_PX, table.brows.levels)[who]
    layer = look_up(table.brows, taps(table.brows, bu, bv, level), params.person["brows"][who])
    tail = 1 - ((at.rest_N3[:, 0].abs() - 5.0) / 1.0).clamp(0, 1)  # some layers end in a line on to the temple
    cover = (layer[:, 0] * inside * tail * 0.92).clamp(0, 1)
    hair = hair_lab(params)[who]
    lightness = 13 + 0.35 * hair[:, 0] + 22 * params.person["brow_lightness"][who]
    colour = torch.stack(
        [lightness.clamp(5, 70) * (0.7 + 0.6 * layer[:, 1]), 0.6 * hair[:, 1] + 1, 0.6 * hair[:, 2]], 1
    )
    return torch.lerp(lab, colour, cover[:, None]), cover


def hair_lab(params: Params) -> Tensor:
    """Mean colour of everyone's hair, Lab [B, 3]."""
    return params.person["hair_lab"] + params.person["hair_lab"].new_tensor([32.0, 4.5, 10.0])


def _bumped(at: Points, fine: Tensor, strength: Tensor, roughness: Tensor) -> Tensor:
    across = torch.linalg.cross(at.normal_N3, at.along_N3)
    amount = 0.10 * strength * (0.6 + roughness)
    tilt = fine[:, :1] * at.along_N3 + fine[:, 1:2] * across
    return torch.nn.functional.normalize(at.normal_N3 - amount[:, None] * tilt, dim=1)
