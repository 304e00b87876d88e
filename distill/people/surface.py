"""The colour and relief of skin at the points seen: two skins mixed and shifted, marks, make-up, brows.

Everything is looked up at the points, never painted into a texture first, so that a new person costs nothing extra.
Legend: N points; vectors lie component by component, [3, N]; tables and their channels are those of `paint`.
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
RELIEF_REPEATS, TINT_REPEATS = 9.0, 1.3  # over the face's texture
HAIR_LAB = (30.0, 4.5, 10.0)  # of hair whose shift is nothing


@dataclass(frozen=True)
class Points:
    """The points to be shaded: which picture, where, how turned; see `Assets.corner_values_AC`. Camera axes."""

    picture_N: Tensor
    kind_N: Tensor
    position_3N: Tensor
    normal_3N: Tensor
    sky_N: Tensor
    scalp_N: Tensor
    u_N: Tensor
    v_N: Tensor
    along_3N: Tensor
    rest_3N: Tensor  # the same place on the mean head, the model's axes
    card_N: Tensor
    pixel_N: Tensor  # number of the pixel that the point stands for alone, -1 where it is one of several

    def only(self, which: Tensor) -> Points:
        return Points(*(value.index_select(value.ndim - 1, which) for value in self.fields().values()))

    def fields(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in Points.__dataclass_fields__}


@dataclass(frozen=True)
class Skin:
    """Linear albedo [3, N], the tilted normal, and shares of lips and brow hair."""

    albedo_3N: Tensor
    normal_3N: Tensor
    lips_N: Tensor
    brow_N: Tensor


def dot(a_3N: Tensor, b_3N: Tensor) -> Tensor:
    return (a_3N[0] * b_3N[0]).addcmul_(a_3N[1], b_3N[1]).addcmul_(a_3N[2], b_3N[2])


def unit(a_3N: Tensor) -> Tensor:
    return a_3N * dot(a_3N, a_3N).clamp_(min=1e-12).rsqrt_()


def cross(a_3N: Tensor, b_3N: Tensor) -> Tensor:
    return torch.stack(
        [
            a_3N[1] * b_3N[2] - a_3N[2] * b_3N[1],
            a_3N[2] * b_3N[0] - a_3N[0] * b_3N[2],
            a_3N[0] * b_3N[1] - a_3N[1] * b_3N[0],
        ]
    )


def of(values_BC: Tensor, picture_N: Tensor) -> Tensor:
    """A number or vector of each picture at the picture's points, [N] or [C, N]."""
    if values_BC.ndim == 1:
        return values_BC.index_select(0, picture_N)
    return values_BC.T.contiguous().index_select(1, picture_N)


def linear_from_lab(lab_3N: Tensor) -> Tensor:
    y = (lab_3N[0] + 16) / 116
    x, z = (y + lab_3N[1] / 500).clamp_(min=0), (y - lab_3N[2] / 200).clamp_(min=0)
    f = torch.stack([x, y, z])
    x, y, z = (f * f * f).unbind(0)
    out = torch.stack(
        [
            3.0799 * x - 1.5372 * y - 0.5428 * z,
            -0.9211 * x + 1.8758 * y + 0.0452 * z,
            0.0529 * x - 0.2040 * y + 1.1512 * z,
        ]
    )
    return out.clamp_(0.002, 1)


def hair_lab(params: Params) -> Tensor:
    """Mean colour of everyone's hair, Lab [B, 3]; shifts of its hue are halved, for nobody grows purple hair."""
    shift = params.person["hair_lab"]
    return shift * shift.new_tensor([1.0, 0.5, 0.7]) + shift.new_tensor(HAIR_LAB)


def skin(assets: Assets, params: Params, at: Points, px_per_cm_B: Tensor) -> Skin:
    """px_per_cm_B: pixels that a centimetre of the face takes in each picture."""
    person, table, who = params.person, assets.paint, at.picture_N
    density = TEXELS_PER_CM / px_per_cm_B
    back = at.u_N > 1
    front = (~back).to(torch.float32)
    u = at.u_N - back.to(torch.float32)
    at_skin = taps(table.skins, u, at.v_N, of(level_for(density * paint.SKIN_PX, table.skins.levels), who))
    shift = back.to(torch.int64) * len(table.skin_names)
    pair = of(person["skins"], who)
    lab = look_up_mixed(table.skins, at_skin, (pair[0] + shift, pair[1] + shift), of(person["skin_mix"], who)).T
    marks = look_up(table.marks, at_skin).T * front
    lips = marks[paint.LIPS]
    fine, slow = _noise(assets, params, at, u, density)
    blotchy = of(person["blotches"], who)
    light, red, yellow = (lab + of(person["skin_lab"], who)).unbind(0)
    calm = 0.4 + blotchy
    freckle = slow[paint.SPOTS] * marks[paint.FRECKLES] * of(person["freckles"], who)
    light = light + 1.6 * calm * slow[paint.BLOTCH] + 0.5 * fine[paint.GRAIN] - 16 * freckle
    red = red + 1.3 * calm * slow[paint.FLUSH] + 1.5 * blotchy * marks[paint.FRECKLES] + 4 * freckle
    lab = torch.stack([light, red, yellow + 8 * freckle])
    lab = lab + of(person["lips_lab"] * person["lips_strength"][:, None], who) * lips
    lab = lab + of(person["shadow_lab"] * person["shadow_strength"][:, None], who) * marks[paint.SHADOW]
    cover = of(person["stubble"], who) * marks[paint.BEARD] * (0.20 + 0.55 * fine[paint.DOTS])
    dark = lab.new_tensor([18.0, 3.0, 3.0])[:, None]
    lab = torch.lerp(lab, torch.minimum(lab, dark), cover.clamp_(0, 0.85))
    lab, brow = _with_brows(assets, params, at, u, front, lab, density)
    lab[0].clamp_(min=6)
    normal = _bumped(at, fine, front * (1 - 0.6 * lips) * (0.6 + of(person["roughness"], who)))
    return Skin(linear_from_lab(lab), normal, lips, brow)


def _noise(assets: Assets, params: Params, at: Points, u: Tensor, density: Tensor) -> tuple[Tensor, Tensor]:
    """The channels of relief and of tints, laid differently for everyone."""
    who = at.picture_N
    seed = (params.person["marks_seed"] % 9973).to(torch.float32)
    own_u, own_v = of(seed * 0.61803 % 1.0, who), of(seed * 0.75488 % 1.0, who)
    found = []
    for table, repeats, x, y in (
        (assets.paint.relief, RELIEF_REPEATS, own_u, own_v),
        (assets.paint.tints, TINT_REPEATS, own_v, own_u),
    ):
        level = of(level_for(density * paint.NOISE_PX * repeats, table.levels), who)
        place = taps(table, torch.add(x, u, alpha=repeats), torch.add(y, at.v_N, alpha=repeats), level, wrap=True)
        found.append(look_up(table, place).T)
    return found[0], found[1]


def _with_brows(
    assets: Assets, params: Params, at: Points, u: Tensor, front: Tensor, lab: Tensor, density: Tensor
) -> tuple[Tensor, Tensor]:
    table = assets.paint
    left, low, wide = table.brow_window
    bu, bv = (u - left) / wide, (at.v_N - low) / wide
    near = torch.nonzero((front > 0) & (bu > 0) & (bu < 1) & (bv > 0) & (bv < 1)).squeeze(1)
    who = at.picture_N.index_select(0, near)
    level = of(level_for(density * paint.BROW_PX, table.brows.levels), who)
    place = taps(table.brows, bu.index_select(0, near), bv.index_select(0, near), level)
    layer = look_up(table.brows, place, of(params.person["brows"], who)).T
    side = at.rest_3N[0].index_select(0, near).abs()
    tail = 1 - (side - 5.0).clamp_(0, 1)  # some layers end in a line on to the temple
    hair = of(hair_lab(params), who)
    lightness = 13 + 0.35 * hair[0] + 22 * of(params.person["brow_lightness"], who)
    shade = lightness.clamp_(5, 70) * (0.7 + 0.6 * layer[1])
    colour = torch.stack([shade, 0.6 * hair[1] + 1, 0.6 * hair[2]])
    cover = (layer[0] * tail * 0.92).clamp_(0, 1)
    lab[:, near] = torch.lerp(lab.index_select(1, near), colour, cover)
    brow = torch.zeros_like(front)
    brow[near] = cover
    return lab, brow


def _bumped(at: Points, fine: Tensor, strength: Tensor) -> Tensor:
    across = cross(at.normal_3N, at.along_3N)
    tilt = fine[paint.SLOPE_U] * at.along_3N + fine[paint.SLOPE_V] * across
    return unit(at.normal_3N - 0.10 * strength * tilt)
