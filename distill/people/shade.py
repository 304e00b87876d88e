"""Light on surfaces: ambient, three directional lights, the key's soft shadow, highlights, light within skin.

Light is linear until `tone`. `Scene.ambient` are the coefficients of the light that a surface receives, over its normal
(x, y, z): 1, y, z, x, xy, yz, 3zz-1, xz, xx-yy. A directional light gives its colour to a surface that faces it.
Legend: B pictures, N points, L = 3 lights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from distill.people.pose import Params, Posed
from distill.people.rasterise import Screen, Triangles, depth_of, empty_buffer, rasterise
from distill.people.surface import Points, dot, of, unit
from distill.people.texture import weighted

SHADOW_PX, SHADOW_REACH_CM = 160, 24.0
SHADOW_FAR_CM = 100.0
ROOTS = 4096  # steps of the table that `display` looks up
SHADOW_SHARPNESS = 2.2  # of the exponential shadow map, per cm


@dataclass(frozen=True)
class Lamp:
    """One directional light at points: unit vectors towards it, its colour with what shadow leaves of it, softness."""

    towards_3N: Tensor
    colour_3N: Tensor
    softness_N: Tensor


@dataclass(frozen=True)
class Shadow:
    """What the key light sees: filtered exponential depth [B, S, S] and its axes [B, 3, 3] (side, up, towards)."""

    map_BSS: Tensor
    axes_B33: Tensor
    middle_B3: Tensor


def key_shadow(params: Params, posed: Posed) -> Shadow:
    count = len(params)
    towards = params.scene["light_directions"].reshape(count, 3, 3)[:, 0]
    up = towards.new_tensor([0.02, 1.0, 0.07]).expand(count, 3)
    side = functional.normalize(torch.linalg.cross(up, towards), dim=1)
    axes = torch.stack([side, torch.linalg.cross(towards, side), towards], 1)
    middle = params.posture["shift_cm"] - towards.new_tensor([0.0, 5.0, 0.0])
    away = posed.points_M3.T - of(middle, posed.owner_M)
    local = torch.stack([dot(of(axes[:, k], posed.owner_M), away) for k in range(3)], 1)
    screen = Screen(*_light_screen(local))
    thrown = torch.nonzero(posed.throws_T).squeeze(1)
    all_T = posed.triangles
    triangles = Triangles(*(v.index_select(0, thrown) for v in (all_T.corners_T3, all_T.picture_T, all_T.two_sided_T)))
    buffer = empty_buffer(count, SHADOW_PX, SHADOW_PX, towards.device)
    buffer = rasterise(buffer, screen, triangles, SHADOW_PX, SHADOW_PX)
    depth = depth_of(buffer).reshape(1, count, SHADOW_PX, SHADOW_PX).clamp(max=SHADOW_FAR_CM + 15)
    raised = torch.exp(SHADOW_SHARPNESS * (depth - SHADOW_FAR_CM))
    radius = 0.6 + 2.6 * params.scene["light_softness"].reshape(count, 3)[:, 0]
    steps = torch.arange(-5, 6, device=towards.device, dtype=torch.float32)
    bell = torch.exp(-0.5 * (steps / radius[:, None]) ** 2)
    bell = (bell / bell.sum(1, keepdim=True)).reshape(count, 1, 1, 11)
    raised = functional.conv2d(raised, bell, padding=(0, 5), groups=count)
    raised = functional.conv2d(raised, bell.transpose(2, 3), padding=(5, 0), groups=count)
    return Shadow(raised[0], axes, middle)


def _light_screen(local_M3: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    scale = SHADOW_PX / (2 * SHADOW_REACH_CM)
    half = SHADOW_PX / 2 - 0.5
    return (
        half + local_M3[:, 0] * scale,
        half - local_M3[:, 1] * scale,
        (SHADOW_FAR_CM - local_M3[:, 2]).clamp(min=10).reciprocal(),
    )


def lamps_at(params: Params, shadow: Shadow, at: Points) -> list[Lamp]:
    """The lights that shine in any of the pictures."""
    count, who = len(params), at.picture_N
    towards = params.scene["light_directions"].reshape(count, 3, 3)
    colour = params.scene["light_colours"].reshape(count, 3, 3)
    softness = params.scene["light_softness"].reshape(count, 3)
    lit = _lit(shadow, at)
    lamps = []
    for k in range(3):
        shines = of(colour[:, k], who)
        lamps.append(Lamp(of(towards[:, k], who), shines * lit if k == 0 else shines, of(softness[:, k], who)))
    return lamps


def _lit(shadow: Shadow, at: Points) -> Tensor:
    """How much of the key light reaches the points, [N]."""
    who = at.picture_N
    raised = torch.add(at.position_3N, at.normal_3N, alpha=0.25) - of(shadow.middle_B3, who)
    local = torch.stack([dot(of(shadow.axes_B33[:, k], who), raised) for k in range(3)], 1)
    x, y, inverse = _light_screen(local)
    x, y = x.clamp_(0, SHADOW_PX - 1.001), y.clamp_(0, SHADOW_PX - 1.001)
    column, row = x.floor(), y.floor()
    fx, fy = x - column, y - row
    base = (who * SHADOW_PX + row.to(torch.int64)) * SHADOW_PX + column.to(torch.int64)
    flat = shadow.map_BSS.reshape(-1)
    upper = torch.lerp(flat.index_select(0, base), flat.index_select(0, base + 1), fx)
    base = base + SHADOW_PX
    lower = torch.lerp(flat.index_select(0, base), flat.index_select(0, base + 1), fx)
    own = torch.exp(-SHADOW_SHARPNESS * (inverse.reciprocal() - SHADOW_FAR_CM - 0.15))
    return (torch.lerp(upper, lower, fy) * own).clamp_(0, 1)


def ambient(params: Params, at: Points, normal_3N: Tensor) -> Tensor:
    """Light from all around that a surface with this normal receives, [3, N]."""
    return ambient_of(params, at.picture_N, normal_3N)


def ambient_of(params: Params, picture_N: Tensor, normal_3N: Tensor) -> Tensor:
    x, y, z = normal_3N
    basis = torch.stack([torch.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], 1)
    rows = picture_N[:, None] * 9 + torch.arange(9, device=x.device)
    return weighted(params.scene["ambient"].reshape(-1, 3), rows, basis).T.clamp(min=0)


def softbox(params: Params, picture_N: Tensor, out_3N: Tensor, cosine: float, soft: float, brightness: float) -> Tensor:
    """What a mirror shows of the lamps: discs of that angular size with an edge of that softness, [3, N].

    brightness: of the discs over what the lamp gives to a surface facing it.
    """
    count = len(params)
    towards = params.scene["light_directions"].reshape(count, 3, 3)
    colour = params.scene["light_colours"].reshape(count, 3, 3) * brightness
    total = torch.zeros_like(out_3N)
    for k in range(3):
        seen = dot(of(towards[:, k], picture_N), out_3N)
        total += ((seen - cosine) / soft + 0.5).clamp_(0, 1) * of(colour[:, k], picture_N)
    return total


def diffuse(lamps: list[Lamp], normal_3N: Tensor, wrap: tuple[float, float, float]) -> Tensor:
    """Directional light on a surface into which it wanders by `wrap` (per colour), [3, N]."""
    total = torch.zeros_like(normal_3N)
    for lamp in lamps:
        facing = dot(lamp.towards_3N, normal_3N)
        for k in range(3):
            spread = wrap[k] + 0.12 * lamp.softness_N
            total[k] += ((facing + spread) / (1 + spread)).clamp_(min=0) * lamp.colour_3N[k]
    return total


def gloss(lamps: list[Lamp], normal_3N: Tensor, view_3N: Tensor, roughness_N: Tensor, f0: float) -> Tensor:
    """Highlights after Cook and Torrance with GGX, cosine included, [3, N]."""
    total = torch.zeros_like(normal_3N)
    nv = dot(normal_3N, view_3N).clamp_(0.05, 1)
    for lamp in lamps:
        wide = (roughness_N + 0.12 * lamp.softness_N).clamp_(0.08, 1)
        half = unit(lamp.towards_3N + view_3N)
        nh = dot(half, normal_3N).clamp_(0, 1)
        nl = dot(lamp.towards_3N, normal_3N).clamp_(0, 1)
        away = 1 - dot(half, view_3N).clamp_(0, 1)
        a2 = wide.square().square_()
        spread = a2 / (torch.pi * (nh * nh * (a2 - 1) + 1).square_())
        k = (wide + 1).square_() / 8
        masking = 0.25 / ((nl * (1 - k) + k) * (nv * (1 - k) + k))
        fresnel = f0 + (1 - f0) * away.square() * away.square() * away
        total += (spread * masking * fresnel * nl) * lamp.colour_3N
    return total


def mirrored(normal_3N: Tensor, view_3N: Tensor) -> Tensor:
    return 2 * dot(normal_3N, view_3N) * normal_3N - view_3N


def tone(light: Tensor) -> Tensor:
    """Linear light to 0..1 with a soft shoulder, still linear."""
    light = light.clamp(min=0)
    return torch.where(light < 0.6, light, 0.6 + 0.4 * (1 - torch.exp((0.6 - light) / 0.4)))


def display(light: Tensor) -> Tensor:
    """Linear 0..1 to sRGB bytes, by a table over the root of the light: within 0.1 of a byte's step."""
    root = torch.arange(ROOTS, device=light.device, dtype=torch.float32) / (ROOTS - 1)
    exact = root.square()
    curve = torch.where(exact <= 0.0031308, exact * 12.92, 1.055 * exact.clamp(min=1e-6) ** (1 / 2.4) - 0.055)
    table = (curve * 255 + 0.5).to(torch.uint8)
    which = light.clamp(0, 1).sqrt_().mul_(ROOTS - 1).add_(0.5).to(torch.int32).reshape(-1)
    return table.index_select(0, which).reshape(light.shape)
