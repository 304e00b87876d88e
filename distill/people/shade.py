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
from distill.people.surface import Points

SHADOW_PX, SHADOW_REACH_CM = 160, 24.0
SHADOW_FAR_CM = 100.0
SHADOW_SHARPNESS = 2.2  # of the exponential shadow map, per cm


@dataclass(frozen=True)
class Light:
    """Light at points: what reaches them of the key, and each light's direction and colour there."""

    towards_N33: Tensor
    colour_N33: Tensor
    lit_N: Tensor
    softness_N3: Tensor


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
    owner = torch.zeros(len(posed.points_M3), dtype=torch.int64, device=towards.device)
    owner[posed.triangles.corners_T3.reshape(-1)] = posed.triangles.picture_T.repeat_interleave(3)
    local = torch.einsum("mj,mij->mi", posed.points_M3 - middle[owner], axes[owner])
    screen = Screen(*_light_screen(local))
    sides = torch.ones_like(posed.triangles.two_sided_T)
    triangles = Triangles(posed.triangles.corners_T3, posed.triangles.picture_T, sides)
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


def light_at(params: Params, shadow: Shadow, at: Points) -> Light:
    count, who = len(params), at.picture_N
    towards = params.scene["light_directions"].reshape(count, 3, 3)
    colour = params.scene["light_colours"].reshape(count, 3, 3)
    raised = at.position_N3 + 0.25 * at.normal_N3 - shadow.middle_B3[who]
    local = (shadow.axes_B33[who] * raised[:, None]).sum(2)
    x, y, inverse = _light_screen(local)
    x, y = x.clamp(0, SHADOW_PX - 1.001), y.clamp(0, SHADOW_PX - 1.001)
    column, row = x.floor(), y.floor()
    fx, fy = x - column, y - row
    base = (who * SHADOW_PX + row.to(torch.int64)) * SHADOW_PX + column.to(torch.int64)
    flat = shadow.map_BSS.reshape(-1)
    upper = torch.lerp(flat[base], flat[base + 1], fx)
    lower = torch.lerp(flat[base + SHADOW_PX], flat[base + SHADOW_PX + 1], fx)
    own = torch.exp(-SHADOW_SHARPNESS * (inverse.reciprocal() - SHADOW_FAR_CM - 0.15))
    lit = (torch.lerp(upper, lower, fy) * own).clamp(0, 1)
    return Light(towards[who], colour[who], lit, params.scene["light_softness"].reshape(count, 3)[who])


def ambient(params: Params, at: Points, normal_N3: Tensor) -> Tensor:
    """Light from all around that a surface with this normal receives, [N, 3]."""
    x, y, z = normal_N3.unbind(1)
    basis = torch.stack([torch.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], 1)
    around = params.scene["ambient"].reshape(-1, 9, 3)[at.picture_N]
    return (basis[:, :, None] * around).sum(1).clamp(min=0)


def diffuse(light: Light, normal_N3: Tensor, wrap: tuple[float, float, float]) -> Tensor:
    """Directional light on a surface into which it wanders by `wrap` (per colour), [N, 3]."""
    facing = (light.towards_N33 * normal_N3[:, None]).sum(2)
    spread = facing.new_tensor(wrap) + 0.12 * light.softness_N3[:, :, None]
    share = ((facing[:, :, None] + spread) / (1 + spread)).clamp(min=0)
    share = torch.cat([share[:, :1] * light.lit_N[:, None, None], share[:, 1:]], 1)
    return (share * light.colour_N33).sum(1)


def gloss(light: Light, normal_N3: Tensor, view_N3: Tensor, roughness_N: Tensor, f0: float) -> Tensor:
    """Highlights after Cook and Torrance with GGX, cosine included, [N, 3]."""
    wide = (roughness_N[:, None] + 0.12 * light.softness_N3).clamp(0.08, 1)
    half = functional.normalize(light.towards_N33 + view_N3[:, None], dim=2)
    nh = (half * normal_N3[:, None]).sum(2).clamp(0, 1)
    nl = (light.towards_N33 * normal_N3[:, None]).sum(2).clamp(0, 1)
    nv = (normal_N3 * view_N3).sum(1, keepdim=True).clamp(0.05, 1)
    vh = (half * view_N3[:, None]).sum(2).clamp(0, 1)
    a2 = wide**4
    spread = a2 / (torch.pi * (nh * nh * (a2 - 1) + 1) ** 2)
    k = (wide + 1) ** 2 / 8
    masking = 0.25 / ((nl * (1 - k) + k) * (nv * (1 - k) + k))
    shine = spread * masking * (f0 + (1 - f0) * (1 - vh) ** 5) * nl
    shine = torch.cat([shine[:, :1] * light.lit_N[:, None], shine[:, 1:]], 1)
    return (shine[:, :, None] * light.colour_N33).sum(1)


def mirrored(normal_N3: Tensor, view_N3: Tensor) -> Tensor:
    return 2 * (normal_N3 * view_N3).sum(1, keepdim=True) * normal_N3 - view_N3


def tone(light: Tensor) -> Tensor:
    """Linear light to 0..1 with a soft shoulder, still linear."""
    light = light.clamp(min=0)
    return torch.where(light < 0.6, light, 0.6 + 0.4 * (1 - torch.exp((0.6 - light) / 0.4)))


def display(light: Tensor) -> Tensor:
    """Linear 0..1 to sRGB values 0..1."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp(min=1e-6) ** (1 / 2.4) - 0.055)
