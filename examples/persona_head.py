"""Builds the head of a person who does not exist: ICT shape, skin, hair, eyes, lashes, shirt.

Inputs are the licence-clean assets of ../shared/data (MIT and CC0, see its README). Space is the face model's:
centimetres, x to the person's left, y up, z out of the face.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from distill.colour import linear
from examples.persona_assets import DETAIL_PX, TEXTURE_PX, Assets, Persona, octaves
from examples.persona_skin import mixed_skin, painted_face, rest_map, ring_mask, skin_detail
from examples.soft_render import F32, I32, smooth_normals

SKIN, CLOTH, SCLERA, GUMS, TEETH, SOCKET, HAIR, LASH = range(8)
MATERIAL_OF = {
    "M_Face": SKIN,
    "M_BackHead": SKIN,
    "M_GumsTongue": GUMS,
    "M_Teeth": TEETH,
    "M_ScleraLeft": SCLERA,
    "M_ScleraRight": SCLERA,
}
SKULL_POINTS = 11248  # the face and the back of the head come first in the model
LASH_STRIPS = (  # v of the roots, v of the tips, strength; the first three are the lower lid's
    (0.155, 0.015, 0.5), (0.32, 0.185, 0.45), (0.49, 0.345, 0.5), (0.655, 0.52, 1), (0.82, 0.685, 1), (0.96, 0.85, 1),
)  # fmt: skip
SHELL_CM = (0.0, 0.22, 0.45, 0.7)


@dataclass(frozen=True)
class Textures:
    """Everything that is looked up by texture coordinate."""

    face_AA3: F32  # linear albedo
    back_BB3: F32
    detail_DD: F32  # height in centimetres
    lips_AA: F32
    iris_EE3: F32
    cards_AB4: F32  # hair on the left half, lashes on the right, alpha last


@dataclass(frozen=True)
class Head:
    """Geometry before the camera. `rest_V3` is the same point on the model's mean head, for painting by place."""

    points_V3: F32
    rest_V3: F32
    tri_T3: I32
    uv_T32: F32
    material_T: I32
    weld_V: I32
    scalp_V: F32  # 1 where hair lies on the skin
    card_points_V3: F32
    card_normals_V3: F32
    card_along_V3: F32
    card_tri_T3: I32
    card_uv_T32: F32
    card_material_T: I32
    eyes_24: F32  # centre and radius; left, right
    hair_gloss: float
    scalp_tint: float
    textures: Textures


def iris_texture(assets: Assets, persona: Persona) -> F32:
    """The eyeball round one iris of the asset: 176x176 about its middle, the iris tinted."""
    eye = linear(assets.picture(f"eyes/{persona.eye}_eye512.jpg"))
    row, column = 149, 362
    cut = eye[row - 88 : row + 88, column - 88 : column + 88]
    rows, columns = np.mgrid[-88:88, -88:88]
    inside = 1 / (1 + np.exp((np.hypot(rows, columns) - 54) / 2.5))
    tint = np.array(persona.eye_tint, np.float32)
    return np.asarray(cut * (inside[..., None] * tint + (1 - inside[..., None])), np.float32)


def lash_cards(persona: Persona, rng: np.random.Generator) -> F32:
    """Alpha of the six strips of lash cards; every strip has its roots at one edge (v) and its tips at the other."""
    v, u = np.meshgrid(1 - (np.arange(1024) + 0.5) / 1024, (np.arange(1024) + 0.5) / 1024, indexing="ij")
    alpha = np.zeros((1024, 1024), np.float32)
    for root, tip, strength in LASH_STRIPS:
        t = (v - root) / (tip - root)
        lean = 0.012 * rng.standard_normal() * t
        place = (u + lean + 0.01 * t * np.sin(57 * u + 9 * root)) * 92 + 13 * root
        number = np.floor(place).astype(np.int64)
        length = 0.62 + 0.38 * np.abs(np.sin(number * 12.9898 + root * 78.233))
        side = np.abs(place - number - 0.5)
        wide = 0.30 * np.clip(1 - t / length, 0, 1) ** 0.7
        strand = np.clip((wide - side) * 8 + 0.4, 0, 1) * (t > 0) * (t < length)
        alpha = np.maximum(alpha, strand * strength * persona.lashes)
    return np.clip(alpha, 0, 1).astype(np.float32)


def strand_texture(rng: np.random.Generator) -> tuple[F32, F32]:
    """Grey strands along v and their alpha, for hair that comes without a texture."""
    noise = gaussian_filter(rng.standard_normal((1024, 1024)).astype(np.float32), (70, 1.3), mode="wrap")
    fine = gaussian_filter(rng.standard_normal((1024, 1024)).astype(np.float32), (30, 0.5), mode="wrap")
    grey = 0.45 + 0.06 * noise / noise.std() + 0.18 * fine / fine.std()
    return np.clip(grey, 0, 1).astype(np.float32), np.ones((1024, 1024), np.float32)


def cards_texture(assets: Assets, persona: Persona) -> F32:
    rng = np.random.default_rng(persona.seed + 2)
    path = f"hair_ict/{persona.hair}_diffuse1024.webp"
    if (assets.data / path).exists():
        picture = assets.picture(path, "RGBA")
        grey, alpha = picture[..., :3].mean(axis=2), picture[..., 3]
        solid = grey[alpha > 0.5]
        low, high = np.percentile(solid, [2, 98])
        grey = np.clip((grey - low) / (high - low), 0, 1)
        grey = np.clip(grey + octaves(rng, TEXTURE_PX, {0.7: 0.05}), 0, 1)
    elif persona.hair.startswith("afro"):
        grey, alpha = curls(rng)
    else:
        grey, alpha = strand_texture(rng)
    dark, bright = np.array(persona.hair_colour, np.float32), np.array(persona.hair_light, np.float32)
    colour = dark + (bright - dark) * (grey**1.6)[..., None]
    hair = np.concatenate([colour, alpha[..., None]], axis=2)
    lash = np.zeros((1024, 1024, 4), np.float32)
    lash[..., :3] = 0.012
    lash[..., 3] = lash_cards(persona, rng)
    return np.ascontiguousarray(np.concatenate([hair, lash], axis=1), np.float32)


def identity_offset(assets: Assets, persona: Persona) -> F32:
    rng = np.random.default_rng(persona.seed)
    weights = persona.shape_noise * np.clip(rng.standard_normal(65), -2, 2)
    for mode, amount in persona.shape.items():
        weights[mode] = amount
    basis = assets.ict["id_basis"][:65].astype(np.float32)
    return np.tensordot(weights.astype(np.float32), basis, 1).astype(np.float32)


def expression_offset(assets: Assets, weights: dict[str, float]) -> F32:
    names = [str(name) for name in assets.ict["exp_names"]]
    total = np.zeros_like(assets.ict["mean"], np.float32)
    for name, amount in weights.items():
        matches = [i for i, known in enumerate(names) if known in (name, f"{name}_L", f"{name}_R")]
        if not matches:
            raise KeyError(name)
        total += amount * assets.ict["exp_basis"][matches].astype(np.float32).sum(axis=0)
    return total


def sphere(points: F32) -> F32:
    """Least-squares centre and radius."""
    system = np.c_[2 * points, np.ones(len(points))]
    solved = np.linalg.lstsq(system, (points**2).sum(axis=1), rcond=None)[0]
    return np.array([*solved[:3], np.sqrt(solved[3] + (solved[:3] ** 2).sum())], np.float32)


def skirt(points: F32, tri: I32, weld: I32) -> tuple[F32, I32]:
    """Draws the rim of the shoulders down and out, so that no picture shows the model's end."""
    welded = weld[tri]
    directed = {(int(t[i]), int(t[(i + 1) % 3])): (int(o[i]), int(o[(i + 1) % 3]))
                for t, o in zip(welded, tri, strict=True) for i in range(3)}  # fmt: skip
    rim = [own for edge, own in directed.items() if edge[::-1] not in directed]
    rim = [(a, b) for a, b in rim if points[a, 1] < -13 and points[b, 1] < -13]
    ends = np.array(rim, np.int32)
    new_points = points[ends.ravel()] * np.array([1.35, 1, 1.2]) - np.array([0, 16, 0])
    first = len(points) + 2 * np.arange(len(ends))
    sides = [np.stack([ends[:, 1], ends[:, 0], first], axis=1), np.stack([ends[:, 1], first, first + 1], axis=1)]
    return new_points.astype(np.float32), np.concatenate(sides).astype(np.int32)


def neckline_y(rest_V3: F32) -> F32:
    """Height of the shirt's edge at each place of the mean head."""
    return np.asarray(-14.6 - 0.28 * (rest_V3[:, 2] - 2) + 0.012 * rest_V3[:, 0] ** 2, np.float32)


def outside_skull(moved: F32, assets: Assets, rest: F32, offset: F32) -> F32:
    """Hair that would lie inside the scalp is lifted just off it."""
    skull = (rest + offset)[:SKULL_POINTS]
    tri = assets.ict["tri"][(assets.ict["tri"] < SKULL_POINTS).all(axis=1)].astype(np.int32)
    normals = smooth_normals(skull, tri, welded(rest)[:SKULL_POINTS])
    _, near = cKDTree(skull).query(moved)
    height = ((moved - skull[near]) * normals[near]).sum(axis=1)
    lift = np.where((moved[:, 1] > 4) & (height < 0.15), 0.15 - height, 0)
    return np.asarray(moved + lift[:, None] * normals[near], np.float32)


def scalp_share(points: F32, hair_points: F32, hair_tri: I32) -> F32:
    """How much each point of the skin lies under hair: the scalp shows its colour through gaps."""
    rng = np.random.default_rng(0)
    corners = hair_points[hair_tri]
    mix = rng.dirichlet((1, 1, 1), size=(len(corners), 6)).astype(np.float32)
    on_hair = np.concatenate([hair_points, np.einsum("tsc,tck->tsk", mix, corners).reshape(-1, 3)])
    distance, _ = cKDTree(on_hair).query(points)
    return np.asarray(np.clip((1.1 - distance) / 0.7, 0, 1), np.float32)


def shells(points: F32, normals: F32, along: F32, tri: I32, uv: F32) -> tuple[F32, F32, F32, I32, F32]:
    """Curly hair as four coats over its mesh, each thinner than the one below (see `curls`)."""
    lifted = [points + normals * height for height in SHELL_CM]
    quarter = [uv * np.array([0.5, 0.5]) + [0.25 * (k % 2), 0.5 * (k // 2)] for k in range(4)]
    count = len(points)
    return (
        np.concatenate(lifted).astype(np.float32),
        np.tile(normals, (4, 1)),
        np.tile(along, (4, 1)),
        np.concatenate([tri + k * count for k in range(4)]).astype(np.int32),
        np.concatenate(quarter).astype(np.float32),
    )


def curls(rng: np.random.Generator) -> tuple[F32, F32]:
    """Grey and alpha of the four coats, one in each quarter."""
    size = TEXTURE_PX // 2
    noise = octaves(rng, size, {3.0: 1.0, 1.5: 0.7, 8.0: 0.5})
    noise /= noise.std()
    grey = np.clip(0.45 + 0.22 * noise, 0, 1)
    alpha = [np.clip((noise - cut) * 2.5 + 0.5, 0, 1) for cut in (-9.0, 0.1, 0.7, 1.25)]
    coats = np.concatenate([np.concatenate(alpha[2:], axis=1), np.concatenate(alpha[:2], axis=1)])
    return np.tile(grey, (2, 2)).astype(np.float32), coats.astype(np.float32)


def hair_cards(assets: Assets, persona: Persona, rest: F32, offset: F32) -> tuple[F32, F32, F32, I32, F32]:
    """The hair mesh moved with the skull: points, normals, strand directions, triangles, coordinates."""
    kind = persona.hair
    points = assets.hair[f"{kind}_v"].astype(np.float32)
    tri = assets.hair[f"{kind}_tri"].astype(np.int32)
    uv = assets.hair[f"{kind}_uv"].astype(np.float32)[assets.hair[f"{kind}_tri_uv"]]
    distance, near = cKDTree(rest[:SKULL_POINTS]).query(points, k=24)
    weight = 1 / (distance + 0.7) ** 2
    moved = points + (offset[:SKULL_POINTS][near] * weight[..., None]).sum(axis=1) / weight.sum(axis=1)[:, None]
    moved = outside_skull(moved, assets, rest, offset)
    out = points - np.array([0, 2.0, -1.0], np.float32)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    normals = smooth_normals(moved, tri, np.arange(len(moved), dtype=np.int32))
    normals *= np.sign((normals * out).sum(axis=1, keepdims=True) + 1e-6)
    normals = 0.6 * out + 0.4 * normals
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    edge1, edge2 = (moved[tri[:, k]] - moved[tri[:, 0]] for k in (1, 2))
    d1, d2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    along_t = edge2 * d1[:, :1] - edge1 * d2[:, :1]
    det = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    along_t = along_t * np.sign(det)[:, None]
    along = np.zeros_like(moved)
    for corner in range(3):
        np.add.at(along, tri[:, corner], along_t)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    uv = uv * np.array([0.5, 1], np.float32)
    parts = moved, normals.astype(np.float32), along.astype(np.float32), tri, uv
    return shells(*parts) if kind.startswith("afro") else parts


def turned_eyes(points: F32, assets: Assets, eyes_24: F32, yaw_pitch_deg: tuple[float, float]) -> F32:
    """Rotates both eyeballs about their own centres; yaw to the person's left, pitch up."""
    yaw, pitch = np.radians(yaw_pitch_deg)
    turn = rotation(float(np.degrees(yaw)), float(np.degrees(-pitch)), 0)
    out = points.copy()
    for side, sphere_4 in zip(("left", "right"), eyes_24, strict=True):
        first, last = assets.ict[f"sclera_{side}_verts"][0], assets.ict[f"iris_{side}_verts"][1]
        out[first:last] = (points[first:last] - sphere_4[:3]) @ turn.T + sphere_4[:3]
    return out


def rotation(yaw_deg: float, pitch_deg: float, roll_deg: float) -> F32:
    """Yaw turns the face to the picture's right, pitch down, roll clockwise as the picture shows it."""
    y, p, r = np.radians([yaw_deg, pitch_deg, -roll_deg])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, np.float32)


def welded(rest: F32) -> I32:
    """One number for all points that lie on the same place of the mean head."""
    _, number = np.unique(np.round(rest / 2e-3).astype(np.int64), axis=0, return_inverse=True)
    return np.asarray(number.reshape(-1), np.int32)


def make_textures(assets: Assets, persona: Persona) -> Textures:
    lips = ring_mask(assets, [*range(48, 60)], 4.0)
    places = rest_map(assets, DETAIL_PX)
    return Textures(
        face_AA3=painted_face(assets, persona, lips, places),
        back_BB3=mixed_skin(assets, persona, "backhead512"),
        detail_DD=skin_detail(assets, persona, lips, places),
        lips_AA=lips,
        iris_EE3=iris_texture(assets, persona),
        cards_AB4=cards_texture(assets, persona),
    )


def build_head(
    assets: Assets,
    persona: Persona,
    textures: Textures,
    expression: dict[str, float],
    gaze_deg: tuple[float, float],
) -> Head:
    ict = assets.ict
    rest = ict["mean"].astype(np.float32)
    offset = identity_offset(assets, persona)
    moved = persona.grow | {name: persona.grow.get(name, 0) + amount for name, amount in expression.items()}
    points = rest + offset + expression_offset(assets, moved)
    eyes = np.stack([sphere((rest + offset)[slice(*ict[f"sclera_{side}_verts"])]) for side in ("left", "right")])
    names = [str(name) for name in ict["material_names"]]
    material = np.array([MATERIAL_OF.get(name, -1) for name in names])[ict["tri_material"]]
    parts = [str(name) for name in ict["part_names"]]
    inner = np.isin(ict["tri_part"], [i for i, name in enumerate(parts) if "socket" in name])
    material = np.where(inner, SOCKET, material)
    kept = material >= 0
    tri, uv = ict["tri"][kept].astype(np.int32), ict["uv"][ict["tri_uv"][kept]].astype(np.float32)
    weld = welded(rest)
    skin_tri = tri[material[kept] == SKIN]
    rim_points, rim_tri = skirt(points, skin_tri, weld)
    lash = ict["tri_material"] == names.index("M_EyeLashes")
    lash_tri, lash_uv = ict["tri"][lash].astype(np.int32), ict["uv"][ict["tri_uv"][lash]].astype(np.float32)
    lash_used, lash_local = np.unique(lash_tri, return_inverse=True)
    hair_points, hair_normals, along, hair_tri, hair_uv = hair_cards(assets, persona, rest, offset)
    lash_points = points[lash_used]
    lash_normals = np.tile(np.array([0, 0, 1], np.float32), (len(lash_points), 1))
    return Head(
        points_V3=np.concatenate([turned_eyes(points, assets, eyes, gaze_deg), rim_points]).astype(np.float32),
        rest_V3=np.concatenate([rest, np.full_like(rim_points, -30.0)]),
        tri_T3=np.concatenate([tri, rim_tri]).astype(np.int32),
        uv_T32=np.concatenate([uv, np.zeros((len(rim_tri), 3, 2), np.float32)]),
        material_T=np.concatenate([material[kept], np.full(len(rim_tri), CLOTH)]).astype(np.int32),
        scalp_V=np.concatenate([scalp_share(points, hair_points, hair_tri), np.zeros(len(rim_points), np.float32)]),
        weld_V=np.concatenate([weld, weld.max() + 1 + np.arange(len(rim_points))]).astype(np.int32),
        card_points_V3=np.concatenate([hair_points, lash_points]).astype(np.float32),
        card_normals_V3=np.concatenate([hair_normals, lash_normals]).astype(np.float32),
        card_along_V3=np.concatenate([along, lash_normals]).astype(np.float32),
        card_tri_T3=np.concatenate([hair_tri, lash_local.reshape(-1, 3) + len(hair_points)]).astype(np.int32),
        card_uv_T32=np.concatenate([hair_uv, (lash_uv - [6, 0]) * [0.5, 1] + [0.5, 0]]).astype(np.float32),
        card_material_T=np.concatenate([np.full(len(hair_tri), HAIR), np.full(len(lash_tri), LASH)]).astype(np.int32),
        eyes_24=eyes,
        hair_gloss=persona.hair_gloss,
        scalp_tint=persona.scalp_tint,
        textures=textures,
    )
