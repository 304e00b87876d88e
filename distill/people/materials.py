"""How each kind of surface looks: skin and shirt, eyes, hair, and the rest. Vectors are [3, N], light is linear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.people.assets import Assets, Kind, Part
from distill.people.hair import shade_hair
from distill.people.paint import IRIS_SHARE
from distill.people.pose import Params, Posed
from distill.people.shade import Lamp, ambient, diffuse, gloss, mirrored, softbox
from distill.people.skin_light import wandered
from distill.people.surface import Points, cross, dot, hair_lab, linear_from_lab, of, skin, unit
from distill.people.texture import level_for, look_up, taps

IRIS_RAD = 0.40
CATCHLIGHT = 26.0  # a lamp in a wet eye, over what it gives to a surface facing it


@dataclass(frozen=True)
class Surroundings:
    """What all points share. px_per_cm_B: pixels of the picture per centimetre at the head."""

    assets: Assets
    params: Params
    posed: Posed
    px_per_cm_B: Tensor
    size_px: int


Shaded = tuple[Tensor, Tensor]  # light [3, N] and part [N]
Shader = Callable[[Surroundings, Points, list[Lamp], Tensor], Shaded]


def shade_skin(world: Surroundings, at: Points, lamps: list[Lamp], view_3N: Tensor) -> Shaded:
    """Skin, and the shirt over it."""
    params, who = world.params, at.picture_N
    look = skin(world.assets, params, at, world.px_per_cm_B)
    albedo = _with_scalp(params, at, look.albedo_3N)
    received = diffuse(lamps, look.normal_3N, (0.16, 0.08, 0.05)) * (0.5 + 0.5 * at.sky_N)
    sky = torch.stack([at.sky_N.sqrt(), at.sky_N, at.sky_N])
    around = ambient(params, at, look.normal_3N) * sky
    rough = torch.lerp(of(params.person["roughness"], who), torch.full_like(at.sky_N, 0.32), look.lips_N)
    facing = dot(look.normal_3N, view_3N).clamp_(0, 1)
    rim = (6 * facing).clamp_(0, 1)  # seen from so far aside a point is all highlight, and its neighbour none
    shine = gloss(lamps, look.normal_3N, view_3N, rough, 0.028) * (0.8 * rim * (1 - at.scalp_N * 0.8))
    away = 1 - facing
    edge = away.square() * away.square() * away
    mirror = around * ((0.01 + 0.07 * edge) * at.sky_N)
    within = wandered(received + around, at.pixel_N, world.px_per_cm_B, world.size_px)
    out = albedo * within + shine + mirror
    cloth = ((neckline(at.rest_3N) - at.rest_3N[1]) * of(world.px_per_cm_B, who) + 0.5).clamp_(0, 1)
    dressed = torch.nonzero(cloth > 0).squeeze(1)
    under = at.only(dressed)
    cotton = shirt(params, under) * (received + around).index_select(1, dressed)
    out[:, dressed] = torch.lerp(out.index_select(1, dressed), cotton, cloth.index_select(0, dressed))
    part = torch.full_like(who, int(Part.SKIN))
    part[(at.rest_3N[1] < -8.5) | (at.u_N > 1) & (at.rest_3N[1] < -5)] = int(Part.NECK)
    part[look.lips_N > 0.5] = int(Part.LIPS)
    part[look.brow_N > 0.4] = int(Part.BROW)
    part[cloth > 0.5] = int(Part.CLOTH)
    return out, part


def neckline(rest_3N: Tensor) -> Tensor:
    """Height of a shirt's edge; see `meshes.neckline`."""
    return -14.6 - 0.28 * (rest_3N[2] - 2) + 0.012 * rest_3N[0].square()


def shirt(params: Params, at: Points) -> Tensor:
    """Linear albedo of everyone's shirt, from the clothes' own seed: plain, striped or checked, ribbed at the neck."""
    seed = (params.person["clothes_seed"] % 99991).to(torch.float32)
    lot = [(seed * share) % 1 for share in (0.6180339, 0.7548777, 0.5698403, 0.8191725, 0.6710436, 0.4142136)]
    lightness, hue, chroma = 10 + 75 * lot[0], 2 * torch.pi * lot[1], 3 + 30 * lot[2] ** 2
    base = torch.stack([lightness, chroma * hue.cos(), chroma * hue.sin()])
    other = torch.stack([(lightness + 22 + 40 * lot[4]) % 88 + 6, base[2], -base[1]])
    who, (x, y, _) = at.picture_N, at.rest_3N
    period, kind = of(1.2 + 3.0 * lot[5], who), of(lot[3], who)
    across, down = ((torch.cos(2 * torch.pi * place / period) * 3).clamp_(-1, 1) * 0.5 + 0.5 for place in (x, y))
    striped, checked = ((kind > 0.62) & (kind <= 0.85)).to(x.dtype), (kind > 0.85).to(x.dtype)
    share = striped * down + checked * 0.5 * (down + across)
    lab = torch.lerp(of(base.T, who), of(other.T, who), share)
    under = neckline(at.rest_3N) - y
    rib = ((0.9 - under) * 4).clamp_(0, 1)
    lab[0] = (lab[0] * (1 - 0.14 * rib * (0.6 + 0.4 * torch.cos(14 * x)))).clamp_(4, 92)
    return linear_from_lab(lab)


def _with_scalp(params: Params, at: Points, albedo: Tensor) -> Tensor:
    """Skin under hair takes on some of its colour."""
    x, y, z = at.rest_3N[0].abs(), at.rest_3N[1], at.rest_3N[2]
    low = 9.6 - 0.10 * (x - 3.0).clamp_(min=0) - 0.9 * (5.2 - z).clamp_(min=0)
    hairline = ((y - low) / 1.6).clamp_(0, 1)
    colour = linear_from_lab(hair_lab(params).T * 0.7).T
    return torch.lerp(albedo, of(colour, at.picture_N), 0.8 * at.scalp_N * hairline)


def shade_eye(world: Surroundings, at: Points, lamps: list[Lamp], view_3N: Tensor) -> Shaded:
    """Sclera, iris and pupil by the angle from the eye's axis; a wet coat that mirrors the lights."""
    params, posed, who, table = world.params, world.posed, at.picture_N, world.assets.paint.irises
    left = at.rest_3N[0] > 0

    def of_eye(values_B2C: Tensor) -> Tensor:
        return torch.where(left, of(values_B2C[:, 0], who), of(values_B2C[:, 1], who))

    axis = of_eye(posed.gaze_B23)
    out = unit(at.position_3N - of_eye(posed.eyes_B24)[:3])
    side = unit(cross(of(posed.turn_B33[:, :, 1], who), axis))
    up = cross(axis, side)
    angle = torch.acos(dot(out, axis).clamp_(-0.9999, 0.9999))
    x, y = dot(out, side), dot(out, up)
    far = (angle / IRIS_RAD * IRIS_SHARE).clamp_(max=0.49) / torch.hypot(x, y).clamp_(min=1e-6)
    level = of(level_for(0.25 * table.size_px / world.px_per_cm_B, table.levels), who)
    place = taps(table, 0.5 + far * x, 0.5 + far * y, level)
    lightness = (1 + params.person["iris_lab"][:, 0] / 40).clamp(0.3, 1.6)
    iris = look_up(table, place, of(params.person["iris"], who)).T * (0.55 * of(lightness, who))
    limbal = 1 - 0.65 * torch.exp(-((angle - IRIS_RAD) / 0.05).square_())
    iris = iris * (limbal * ((angle - 0.15) / 0.03).clamp_(0, 1))
    white = at.position_3N.new_tensor([0.54, 0.50, 0.48])[:, None] * (1 - 0.12 * (angle - 0.5).clamp_(0, 1))
    albedo = torch.lerp(iris, white, ((angle - IRIS_RAD + 0.01) / 0.06).clamp_(0, 1))
    bulge = 0.22 * (1 - angle / 0.5).clamp_(0, 1)
    normal = unit(out + bulge * (out - axis))
    lid = at.sky_N
    received = diffuse(lamps, out, (0.25, 0.2, 0.2)) * (0.4 + 0.6 * lid) + ambient(params, at, out) * lid
    seen = mirrored(normal, view_3N)
    away = 1 - dot(normal, view_3N).clamp_(0, 1)
    fresnel = 0.03 + 0.5 * away.square().square_() * away
    mirror = ambient(params, at, seen) + softbox(params, who, seen, 0.955, 0.045, CATCHLIGHT)
    return albedo * received + mirror * (fresnel * lid), torch.full_like(who, int(Part.EYE))


def shade_cards(world: Surroundings, at: Points, lamps: list[Lamp], view_3N: Tensor) -> Shaded:
    part = torch.where(at.kind_N == Kind.LASH, int(Part.LASH), int(Part.HAIR))
    return shade_hair(world.assets, world.params, at, lamps, view_3N, world.px_per_cm_B), part


PLAIN = {
    Kind.TEETH: ((0.62, 0.58, 0.50), Part.TEETH),
    Kind.GUMS: ((0.30, 0.09, 0.08), Part.MOUTH),
    Kind.SOCKET: ((0.12, 0.04, 0.035), Part.MOUTH),
    Kind.GLASSES: ((0.0, 0.0, 0.0), Part.GLASSES),
}


def shade_plain(world: Surroundings, at: Points, lamps: list[Lamp], view_3N: Tensor) -> Shaded:
    """Teeth, gums and tongue, the dark inside of mouth and sockets, the frame of glasses."""
    kind, params = at.kind_N, world.params
    colours = torch.zeros((len(Kind), 3), device=kind.device)
    parts = torch.zeros(len(Kind), dtype=torch.int64, device=kind.device)
    for which, (rgb, named) in PLAIN.items():
        colours[which], parts[which] = colours.new_tensor(rgb), int(named)
    frame = kind == Kind.GLASSES
    frames = linear_from_lab(params.person["glasses_lab"].T).T
    albedo = torch.where(frame, of(frames, at.picture_N), of(colours, kind))
    inside = ((at.rest_3N[2] - 5.0) / 5.0).clamp_(0.03, 1).square_()
    depth = torch.where(frame, 1.0, torch.where(kind == Kind.TEETH, inside.sqrt() * 0.7, inside * 0.75))
    normal = _without_notches(world, at)
    direct = torch.where(kind == Kind.TEETH, 0.5, 1.0)  # lips shade teeth, and light goes round within them
    received = diffuse(lamps, normal, (0.35, 0.3, 0.3)) * direct + ambient(params, at, normal) * at.sky_N.sqrt()
    shine = gloss(lamps, normal, view_3N, torch.full_like(depth, 0.25), 0.04)
    part = parts.index_select(0, kind)
    part[(kind == Kind.SOCKET) & (at.rest_3N[1] > 1)] = int(Part.EYE)
    return (albedo * received + 0.7 * shine) * depth, part


def _without_notches(world: Surroundings, at: Points) -> Tensor:
    """Normals, those of teeth mostly as of one smooth arch: light goes round in them, and the mesh has few corners."""
    x, z = at.rest_3N[0], at.rest_3N[2] - 6.0
    arch = unit(torch.stack([x, torch.zeros_like(x), z.clamp(min=0.5)]))
    turned = torch.stack([dot(of(world.posed.turn_B33[:, k], at.picture_N), arch) for k in range(3)])
    return torch.where(at.kind_N == Kind.TEETH, unit(0.3 * at.normal_3N + turned), at.normal_3N)


SHADERS: dict[tuple[Kind, ...], Shader] = {
    (Kind.SKIN,): shade_skin,
    (Kind.EYE,): shade_eye,
    (Kind.HAIR, Kind.LASH): shade_cards,
    (Kind.SOCKET, Kind.GUMS, Kind.TEETH, Kind.GLASSES): shade_plain,
}
