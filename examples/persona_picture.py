"""Draws a head of `persona_head` under soft studio light, supersampled: skin, eyes, hair, shirt, background."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from distill.colour import encoded, linear
from examples.persona_head import CLOTH, GUMS, HAIR, SCLERA, SKIN, SOCKET, TEETH, Head, neckline_y, rotation
from examples.soft_render import (
    F32,
    I32,
    Camera,
    Lighting,
    Mesh,
    blurred_within,
    bumped,
    glossy,
    interpolate,
    irradiance,
    raster,
    sample,
    shrink,
    smooth_normals,
    tone_map,
    unit,
)

PIVOT = np.array([0.0, -3.0, 1.0], np.float32)  # the head turns about the neck's top
PEELS = 8
IRIS_RAD = 0.40
KAPPA_DEG = 4.5
SPREAD_CM = (0.16, 0.075, 0.04)  # how far red, green and blue light wander under the skin


@dataclass(frozen=True)
class View:
    """One picture to take: the head's turn, the camera, the light, the backdrop."""

    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    camera: Camera
    lighting: Lighting
    backdrop: tuple[tuple[float, float, float], tuple[float, float, float]]  # linear, middle and edge
    exposure: float = 1.0
    supersample: int = 3
    globe: int = 96


@dataclass(frozen=True)
class Covered:
    """The covered pixels of one layer and everything interpolated there."""

    rows_N: I32
    columns_N: I32
    material_N: I32
    position_N3: F32
    normal_N3: F32
    rest_N3: F32
    scalp_N: F32
    light_N3: F32
    shares_NK: F32
    uv_N2: F32


def only(seen: Covered, chosen: NDArray[np.bool_]) -> Covered:
    return Covered(**{name: getattr(seen, name)[chosen] for name in Covered.__dataclass_fields__})


def turned(points_V3: F32, view: View) -> F32:
    turn = rotation(view.yaw_deg, view.pitch_deg, view.roll_deg)
    return np.asarray((points_V3 - PIVOT) @ turn.T + PIVOT, np.float32)


def bent(points_V3: F32, rest_V3: F32, view: View) -> F32:
    """The head turns, the shoulders stay, the neck follows in between."""
    share = np.clip((rest_V3[:, 1] + 14.5) / 8.0, 0, 1)
    share = (share * share * (3 - 2 * share))[:, None]
    return np.asarray(share * turned(points_V3, view) + (1 - share) * points_V3, np.float32)


def meshes(head: Head, view: View) -> tuple[Mesh, Mesh]:
    """The opaque and the alpha surfaces in the camera's space."""
    points = bent(head.points_V3, head.rest_V3, view)
    cloth = np.clip((neckline_y(head.rest_V3) - head.rest_V3[:, 1]) * 1.2, 0, 1)[:, None]
    normals = smooth_normals(points, head.tri_T3, head.weld_V)
    points = (points + 0.28 * cloth * normals).astype(np.float32)
    opaque = Mesh(points, smooth_normals(points, head.tri_T3, head.weld_V),
                  np.concatenate([head.rest_V3, head.scalp_V[:, None]], axis=1), head.tri_T3, head.uv_T32,
                  head.material_T)  # fmt: skip
    turn = rotation(view.yaw_deg, view.pitch_deg, view.roll_deg)
    soft = Mesh(
        bent(head.card_points_V3, head.card_points_V3, view),
        np.asarray(head.card_normals_V3 @ turn.T, np.float32),
        np.pad(head.card_along_V3 @ turn.T, ((0, 0), (0, 1))).astype(np.float32),
        head.card_tri_T3,
        head.card_uv_T32,
        head.card_material_T,
    )
    return opaque, soft


def layer(mesh: Mesh, light_VK: F32, screen_V3: F32, ids_HW: I32) -> Covered:
    rows, columns = np.nonzero(ids_HW >= 0)
    ids = ids_HW[rows, columns]
    values = np.concatenate([mesh.points_V3, mesh.normals_V3, mesh.extra_VK, light_VK], axis=1).astype(np.float32)
    out = np.empty((len(ids), values.shape[1] + 2), np.float32)
    rows32, columns32 = rows.astype(np.int32), columns.astype(np.int32)
    interpolate(screen_V3, mesh.tri_T3, mesh.uv_T32, values, rows32, columns32, ids, out)
    return Covered(
        rows32, columns32, mesh.material_T[ids], out[:, 0:3], unit(out[:, 3:6]), out[:, 6:9], out[:, 9],
        out[:, 10:13], out[:, 13:-2], out[:, -2:],
    )  # fmt: skip


def skin_albedo(head: Head, seen: Covered, hair_colour: F32, scalp_N: F32) -> F32:
    textures = head.textures
    back = seen.uv_N2[:, 0] > 1
    albedo = np.empty((len(back), 3), np.float32)
    albedo[~back] = sample(textures.face_AA3, seen.uv_N2[~back])
    albedo[back] = sample(textures.back_BB3, seen.uv_N2[back] - np.array([1, 0], np.float32))
    return np.asarray(albedo + scalp_N[:, None] * (hair_colour - albedo), np.float32)


def direct_gloss(seen: Covered, normal_N3: F32, view_N3: F32, lighting: Lighting,
                 lobes: tuple[tuple[float, float], ...], f0: float) -> F32:  # fmt: skip
    """Highlights of the named lights; each lobe is (roughness, share)."""
    total = np.zeros((len(normal_N3), 3), np.float32)
    for k, light in enumerate(lighting.lights):
        towards = unit(np.array(light.towards, np.float32))
        size = np.radians(light.radius_deg) * 0.45
        for roughness, share in lobes:
            wide = min(1.0, float(np.hypot(roughness, size)))
            shine = share * seen.shares_NK[:, k] * glossy(normal_N3, view_N3, towards, wide, f0)
            total += shine[:, None] * np.array(light.colour, np.float32)
    return total


def surroundings(direction_N3: F32, lighting: Lighting) -> F32:
    up = (direction_N3[:, 1:2] + 1) / 2
    return np.asarray(up * np.array(lighting.sky) + (1 - up) * np.array(lighting.ground), np.float32)


def mirrored(normal_N3: F32, view_N3: F32) -> F32:
    return np.asarray(2 * (normal_N3 * view_N3).sum(axis=1, keepdims=True) * normal_N3 - view_N3, np.float32)


def relit(seen: Covered, normal_N3: F32, lighting: Lighting) -> F32:
    """The interpolated light, corrected for a normal that fine detail has tilted."""
    change = np.zeros_like(seen.light_N3)
    for k, light in enumerate(lighting.lights):
        towards = unit(np.array(light.towards, np.float32))
        before, after = (np.maximum(n @ towards + 0.15, 0) / 1.15 for n in (seen.normal_N3, normal_N3))
        change += (seen.shares_NK[:, k] * (after - before))[:, None] * np.array(light.colour, np.float32)
    return np.maximum(seen.light_N3 + change, 0.02 * seen.light_N3)


def shade_skin(head: Head, seen: Covered, view: View, cm_px: float, shape: tuple[int, int], scalp_N: F32) -> F32:
    """Skin over the whole frame at once, since light wanders from pixel to pixel."""
    view_N3 = view.camera.towards(seen.position_N3)
    front = seen.uv_N2[:, 0] <= 1
    at = (seen.rows_N, seen.columns_N)
    height_HW = np.zeros(shape, np.float32)
    height_HW[at] = np.where(front, sample(head.textures.detail_DD[..., None], seen.uv_N2)[:, 0], 0)
    position_HW3, normal_HW3 = (np.zeros((*shape, 3), np.float32) for _ in range(2))
    position_HW3[at], normal_HW3[at] = seen.position_N3, seen.normal_N3
    normal = bumped(normal_HW3, position_HW3, height_HW)[at]
    light_HW3 = np.zeros((*shape, 3), np.float32)
    light_HW3[at] = relit(seen, normal, view.lighting)
    mask_HW = np.zeros(shape, np.float32)
    mask_HW[at] = 1
    soft = blurred_within(light_HW3, mask_HW, tuple(cm / cm_px for cm in SPREAD_CM))[at]
    light = 0.25 * light_HW3[at] + 0.75 * soft
    hair_colour = head.textures.cards_AB4[:, :1024, :3][head.textures.cards_AB4[:, :1024, 3] > 0.5].mean(axis=0)
    albedo = skin_albedo(head, seen, 0.8 * hair_colour, scalp_N)
    lips = np.where(front, sample(head.textures.lips_AA[..., None], seen.uv_N2)[:, 0], 0)[:, None]
    gloss = direct_gloss(seen, normal, view_N3, view.lighting, ((0.46, 0.75), (0.28, 0.18)), 0.028)
    wet = direct_gloss(seen, normal, view_N3, view.lighting, ((0.30, 0.8),), 0.03)
    edge = (1 - np.clip((normal * view_N3).sum(axis=1), 0, 1)) ** 5
    sheen = (0.028 + 0.16 * edge) * seen.shares_NK[:, -1] ** 2
    reflected = surroundings(mirrored(normal, view_N3), view.lighting) * sheen[:, None]
    shine = gloss * (1 - lips) * (1 - scalp_N[:, None]) + 0.9 * wet * lips + 0.5 * reflected
    return np.asarray(albedo * light + shine, np.float32)


def shade_eye(head: Head, seen: Covered, view: View, gaze_deg: tuple[float, float]) -> F32:
    """Sclera, iris and pupil by the angle from the eye's axis; a wet coat that mirrors the lights."""
    turn = rotation(view.yaw_deg, view.pitch_deg, view.roll_deg)
    left = seen.rest_N3[:, :1] > 0
    centres = turned(head.eyes_24[:, :3], view)
    out = unit(seen.position_N3 - np.where(left, centres[0], centres[1]))
    # A pupil points a few degrees outwards of where its eye looks.
    axes = [turn @ rotation(gaze_deg[0] + sign * KAPPA_DEG, -gaze_deg[1], 0)[:, 2] for sign in (1, -1)]
    axis = np.where(left, axes[0], axes[1])
    side = unit(np.cross(turn @ np.array([0, 1, 0], np.float32), axis).astype(np.float32))
    up = np.cross(axis, side)
    angle = np.arccos(np.clip((out * axis).sum(axis=1), -1, 1))
    radius = angle / IRIS_RAD * 57 / 176
    around = np.stack([(out * side).sum(axis=1), (out * up).sum(axis=1)], axis=1)
    around = around / np.maximum(np.linalg.norm(around, axis=1, keepdims=True), 1e-6)
    albedo = sample(head.textures.iris_EE3, (0.5 + np.minimum(radius, 0.49)[:, None] * around).astype(np.float32))
    white = np.array([0.62, 0.58, 0.56], np.float32) * (1 - 0.10 * np.clip(angle - 0.5, 0, 1)[:, None])
    share = np.clip((angle - IRIS_RAD - 0.01) / 0.06, 0, 1)[:, None]
    albedo = albedo * (1 - share) + share * (0.35 * albedo + 0.65 * white)
    bulge = np.clip(1 - angle / 0.5, 0, 1)[:, None]
    normal = unit((out + 0.22 * bulge * (out - axis)).astype(np.float32))
    view_N3 = view.camera.towards(seen.position_N3)
    mirror = mirrored(normal, view_N3)
    fresnel = 0.03 + 0.6 * (1 - np.clip((normal * view_N3).sum(axis=1), 0, 1)) ** 5
    shine = surroundings(mirror, view.lighting) * fresnel[:, None] * seen.shares_NK[:, -1:] * 0.7
    for k, light in enumerate(view.lighting.lights):
        towards = unit(np.array(light.towards, np.float32))
        away = np.degrees(np.arccos(np.clip(mirror @ towards, -1, 1))) - min(0.7 * light.radius_deg, 9.0)
        inside = 1 / (1 + np.exp(np.minimum(away, 40)))
        visible = np.clip(seen.shares_NK[:, k] * 1.5, 0, 1)
        shine += (inside * visible * 0.11)[:, None] * np.array(light.colour, np.float32) * 2.4
    occlusion = np.clip(seen.shares_NK[:, -1:], 0, 1) ** 0.7
    return np.asarray(albedo * seen.light_N3 * (0.35 + 0.65 * occlusion) + shine, np.float32)


def shade_plain(seen: Covered, view: View, cloth: tuple[float, float, float]) -> F32:
    """Shirt, gums, teeth and the dark inside of the mouth."""
    kinds = {CLOTH: cloth, GUMS: (0.30, 0.09, 0.08), TEETH: (0.62, 0.58, 0.50), SOCKET: (0.16, 0.05, 0.045)}
    albedo = np.zeros_like(seen.light_N3)
    for kind, colour in kinds.items():
        albedo[seen.material_N == kind] = colour
    cloth_N = seen.material_N == CLOTH
    weave = 1 + 0.07 * np.sin(seen.position_N3[:, 0] * 70) * np.sin(seen.position_N3[:, 1] * 70)
    albedo[cloth_N] *= weave[cloth_N, None]
    view_N3 = view.camera.towards(seen.position_N3)
    gloss = direct_gloss(seen, seen.normal_N3, view_N3, view.lighting, ((0.25, 0.5),), 0.04)
    wet = np.isin(seen.material_N, (GUMS, TEETH))[:, None]
    depth = np.where(seen.material_N == CLOTH, 1.0, 0.6)[:, None]
    return np.asarray(albedo * seen.light_N3 * depth + wet * gloss, np.float32)


def shade_cards(head: Head, seen: Covered, view: View) -> tuple[F32, F32]:
    """Hair and lashes: colour [N, 3] and alpha [N]. Strand highlights after Kajiya and Kay (1989)."""
    texel = sample(head.textures.cards_AB4, seen.uv_N2)
    view_N3 = view.camera.towards(seen.position_N3)
    hair = seen.material_N == HAIR
    along = unit(seen.rest_N3)
    shine = np.zeros_like(texel[:, :3])
    for k, light in enumerate(view.lighting.lights):
        half = unit(view_N3 + unit(np.array(light.towards, np.float32)))
        across = np.sqrt(np.clip(1 - ((along + 0.1 * seen.normal_N3) * half).sum(axis=1) ** 2, 0, 1))
        facing = np.clip(seen.normal_N3 @ unit(np.array(light.towards, np.float32)) + 0.25, 0, 1)
        glint = seen.shares_NK[:, k] * facing * (0.016 * across**80 + 0.014 * across**16)
        shine += glint[:, None] * np.array(light.colour, np.float32)
    bright = texel[:, :3].mean(axis=1, keepdims=True)
    shine *= head.hair_gloss * (0.25 + 1.5 * np.sqrt(bright)) * (0.5 + 0.5 * texel[:, :3] / np.maximum(bright, 1e-3))
    colour = texel[:, :3] * seen.light_N3 * 1.05 + shine * hair[:, None] * seen.shares_NK[:, -1:]
    return colour.astype(np.float32), np.where(hair, np.clip(texel[:, 3] * 1.25, 0, 1), texel[:, 3])


def backdrop(shape: tuple[int, int], view: View) -> F32:
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32) / shape[0]
    away = np.clip(np.hypot(columns - 0.42, rows - 0.42) / 0.75, 0, 1)[..., None] ** 1.4
    middle, edge = (np.array(colour, np.float32) for colour in view.backdrop)
    return np.asarray(middle * (1 - away) + edge * away, np.float32)


def scalp_share(head: Head, seen: Covered) -> F32:
    """Skin under hair takes on some of its colour, where heads have hair; short hairs break up the hairline."""
    x, y, z = np.abs(seen.rest_N3[:, 0]), seen.rest_N3[:, 1], seen.rest_N3[:, 2]
    low = 9.6 - 0.10 * np.maximum(x - 3.0, 0) - 0.9 * np.maximum(5.2 - z, 0)
    hairline = np.where(y > -3, np.clip((y - low) / 1.3, 0, 1), 0)
    pores = sample(head.textures.detail_DD[..., None], np.mod(seen.uv_N2, 1).astype(np.float32))[:, 0]
    dots = np.clip(0.5 + pores / (2.5 * head.textures.detail_DD.std()), 0, 1)
    share = np.clip(1.7 * seen.scalp_N * hairline + 0.5 * dots - 0.5, 0, 1)
    return np.asarray(head.scalp_tint * share, np.float32)


def opaque_layer(head: Head, mesh: Mesh, light_VK: F32, view: View, screen: F32, ids: I32, gaze: tuple[float, float],
                 cloth: tuple[float, float, float], picture: F32) -> None:  # fmt: skip
    seen = layer(mesh, light_VK, screen, ids)
    dressed = (seen.material_N == SKIN) & (neckline_y(seen.rest_N3) > seen.rest_N3[:, 1])
    material = np.where(dressed, CLOTH, seen.material_N).astype(np.int32)
    cm_px = view.camera.height_cm / view.camera.size_px

    def skin(part: Covered) -> F32:
        return shade_skin(head, part, view, cm_px, (ids.shape[0], ids.shape[1]), scalp_share(head, part))

    def eye(part: Covered) -> F32:
        return shade_eye(head, part, view, gaze)

    def plain(part: Covered) -> F32:
        return shade_plain(part, view, cloth)

    rest = (material != SKIN) & (material != SCLERA)
    for chosen, shade in ((material == SKIN, skin), (material == SCLERA, eye), (rest, plain)):
        part = only(replace(seen, material_N=material), chosen)
        if len(part.rows_N):
            picture[part.rows_N, part.columns_N] = shade(part)


def photograph(head: Head, view: View, cloth: tuple[float, float, float], gaze_deg: tuple[float, float],
               seed: int | None) -> NDArray[np.uint8]:  # fmt: skip
    """The finished picture, uint8 [size_px, size_px, 3]. Without a seed it has no grain and packs better."""
    factor = view.supersample
    camera = replace(view.camera, size_px=view.camera.size_px * factor)
    large = replace(view, camera=camera)
    opaque, soft = meshes(head, view)
    alpha = np.ascontiguousarray(head.textures.cards_AB4[..., 3])
    light_opaque, light_soft = irradiance(opaque, soft, alpha, view.lighting, view.globe)
    shape = (camera.size_px, camera.size_px)
    picture = backdrop(shape, view)
    behind = np.full(shape, np.float32(1e9))
    nearest = np.zeros(shape, np.float32)
    ids = np.full(shape, -1, np.int32)
    screen = camera.screen(opaque.points_V3)
    raster(screen, opaque.tri_T3, opaque.uv_T32, np.ones((1, 1), np.float32), 0.0, behind, nearest, ids)
    opaque_layer(head, opaque, light_opaque, large, screen, ids, gaze_deg, cloth, picture)
    peel_cards(head, soft, light_soft, large, alpha, nearest, picture)
    shown = tone_map(picture * view.exposure)
    return finish(shrink(shown, factor), seed)


def peel_cards(head: Head, soft: Mesh, light_VK: F32, view: View, alpha: F32, solid_HW: F32, picture: F32) -> None:
    """Lays hair and lashes over the picture, nearest layer first."""
    screen = view.camera.screen(soft.points_V3)
    shape = solid_HW.shape
    gathered = np.zeros((*shape, 3), np.float32)
    through = np.ones(shape, np.float32)
    behind = np.full(shape, np.float32(1e9))
    for _ in range(PEELS):
        depth, ids = solid_HW.copy(), np.full(shape, -1, np.int32)
        raster(screen, soft.tri_T3, soft.uv_T32, alpha, 0.03, behind, depth, ids)
        ids[through < 0.02] = -1
        if not np.any(ids >= 0):
            break
        seen = layer(soft, light_VK, screen, ids)
        colour, cover = shade_cards(head, seen, view)
        at = (seen.rows_N, seen.columns_N)
        gathered[at] += (through[at] * cover)[:, None] * colour
        through[at] *= 1 - cover
        behind = np.where(ids >= 0, depth, np.float32(0)).astype(np.float32)
    picture *= through[..., None]
    picture += gathered


def finish(shown_HW3: F32, seed: int | None) -> NDArray[np.uint8]:
    """A lens and a sensor: a trace of glow and of grain."""
    light = linear(shown_HW3)
    glow = np.stack([gaussian_filter(light[..., k], 5.0) for k in range(3)], axis=-1)
    light = 0.965 * light + 0.035 * glow
    shown = encoded(light)
    if seed is not None:
        grain = np.random.default_rng(seed).standard_normal(shown.shape).astype(np.float32)
        shown = shown + 0.006 * (0.6 * grain + 0.8 * gaussian_filter(grain, (0.8, 0.8, 0)))
    return np.asarray(np.clip(shown * 255 + 0.5, 0, 255), np.uint8)
