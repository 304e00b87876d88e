"""Paints a face's skin: colour (mixed skins, brows, lips, freckles, beard) and relief (pores, creases), in ICT's UV.

Places are points on the model's mean head: centimetres, x to the person's left, y up, z out of the face.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from distill.colour import lab_from_linear, linear, linear_from_lab
from examples.persona_assets import DETAIL_PX, TEXTURE_PX, Assets, Persona, octaves, ramp
from examples.soft_render import F32, interpolate, raster


def skin_from_lab(lab: F32) -> F32:
    """Linear light of what skin can be: never black, never more than white."""
    return np.clip(linear_from_lab(lab), np.float32(0.002), np.float32(1))


def ring_mask(assets: Assets, landmarks: list[int], blur_px: float) -> F32:
    """The inside of a ring of the 68 landmarks as a soft mask over the face's texture."""
    ict = assets.ict
    uv_V2 = np.zeros((len(ict["mean"]), 2))
    face = ict["tri_material"] == 0
    uv_V2[ict["tri"][face]] = ict["uv"][ict["tri_uv"][face]]
    points = [(float(u * TEXTURE_PX), float((1 - v) * TEXTURE_PX)) for u, v in uv_V2[ict["lm68"][landmarks]]]
    mask = Image.new("L", (TEXTURE_PX, TEXTURE_PX))
    ImageDraw.Draw(mask).polygon(points, fill=255)
    return np.asarray(gaussian_filter(np.asarray(mask, np.float32) / 255, blur_px), np.float32)


def rest_map(assets: Assets, size_px: int) -> F32:
    """Where on the mean head each texel of the face's texture lies; far away where there is none."""
    ict = assets.ict
    face = ict["tri_material"] == 0
    uv = ict["uv"][ict["tri_uv"][face]].astype(np.float32)
    corner = np.arange(3 * len(uv), dtype=np.int32).reshape(-1, 3)
    flat = uv.reshape(-1, 2)
    screen = np.stack([flat[:, 0] * size_px - 0.5, (1 - flat[:, 1]) * size_px - 0.5, np.ones(len(flat))], axis=1)
    screen = screen.astype(np.float32)
    ids = np.full((size_px, size_px), -1, np.int32)
    far, depth = np.full(ids.shape, np.float32(1e9)), np.zeros(ids.shape, np.float32)
    raster(screen, corner, uv, np.ones((1, 1), np.float32), 0.0, far, depth, ids)
    rows, columns = (index.astype(np.int32) for index in np.nonzero(ids >= 0))
    values = ict["mean"][ict["tri"][face]].reshape(-1, 3).astype(np.float32)
    out = np.empty((len(rows), 5), np.float32)
    interpolate(screen, corner, uv, values, rows, columns, ids[rows, columns], out)
    places = np.full((size_px, size_px, 3), -99, np.float32)
    places[rows, columns] = out[:, :3]
    return places


def beard_area(places: F32) -> F32:
    """Where a man's beard grows: moustache, chin, jaw, sideburns and the upper neck."""
    x, y, z = np.abs(places[..., 0]), places[..., 1], places[..., 2]
    moustache = ramp(y, -1.0, -1.7) * ramp(y, -5.0, -3.5) * ramp(x, 3.4, 2.4)
    chin = ramp(y, -3.4, -4.6) * ramp(x, 5.0, 3.2)
    cheek = ramp(y - 0.62 * (x - 3.2), -2.6, -4.0) * ramp(x, 2.4, 3.4)
    neck = ramp(y, -11.5, -8.5) * ramp(z, -1.0, 2.0)
    return np.asarray(np.clip(np.maximum(moustache, np.maximum(chin, cheek)), 0, 1) * neck, np.float32)


def crease_lines() -> list[tuple[NDArray[np.float64], float, float]]:
    """Lines of age on the mean head's right half, as (points [P, 2], width, depth) in centimetres."""
    forehead = [
        (np.array([[-0.2, y + 0.05], [1.5, y + 0.22], [3.2, y + 0.1], [4.3, y - 0.25]]), 0.07, depth)
        for y, depth in ((6.9, 0.020), (7.7, 0.026), (8.5, 0.020))
    ]
    crow = [(np.array([[5.15, 3.3 + 0.25 * k], [6.2, 3.25 + 0.62 * k]]), 0.05, 0.018) for k in (-1.4, -0.5, 0.4, 1.3)]
    folds = [
        (np.array([[2.1, -0.3], [2.7, -1.2], [3.3, -2.5], [3.55, -3.4]]), 0.17, 0.045),
        (np.array([[3.5, -4.3], [3.6, -5.3]]), 0.16, 0.016),
        (np.array([[0.62, 4.6], [0.75, 5.6]]), 0.08, 0.030),
        (np.array([[1.9, 2.5], [2.6, 2.0], [3.6, 1.85], [4.5, 2.2]]), 0.12, 0.026),
        (np.array([[2.2, 2.0], [3.0, 1.4], [4.0, 1.25]]), 0.09, 0.018),
    ]
    return forehead + crow + folds


def creases(places: F32, amount: float) -> F32:
    """Height of the lines of age, centimetres, negative."""
    height = np.zeros(places.shape[:2], np.float32)
    if amount <= 0:
        return height
    face = (places[..., 2] > 1) & (places[..., 1] > -9)
    x, y = np.abs(places[..., 0][face]), places[..., 1][face]
    x, y = x + 0.05 * np.sin(9 * y + 3 * places[..., 0][face]), y + 0.05 * np.sin(5 * places[..., 0][face] + 2 * y)
    total = np.zeros(len(x), np.float32)
    for points, width, depth in crease_lines():
        for start, end in pairwise(points):
            along = end - start
            t = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / (along @ along), 0, 1)
            distance = np.hypot(x - start[0] - t * along[0], y - start[1] - t * along[1])
            total = np.minimum(total, -depth * np.exp(-((distance / width) ** 2)))
    height[face] = amount * total
    return height


def skin_mean_lab(face: F32) -> F32:
    """Mean Lab of forehead and a cheek."""
    patch = np.concatenate([face[220:300, 380:640].reshape(-1, 3), face[430:560, 250:360].reshape(-1, 3)])
    return np.asarray(lab_from_linear(patch).mean(axis=0), np.float32)


def mixed_skin(assets: Assets, persona: Persona, part: str) -> F32:
    """Skins are averaged in Lab, each first moved to the same mean, so that light and dark ones can be mixed."""
    total: F32 | None = None
    for stem, share in persona.skins.items():
        face = linear(assets.picture(f"skins_ictuv/{stem}_face1024.jpg"))
        mean = skin_mean_lab(face)
        picture = face if part == "face1024" else linear(assets.picture(f"skins_ictuv/{stem}_{part}.jpg"))
        lab = (lab_from_linear(picture) - mean) * persona.skin_contrast
        lab[..., 0] = np.maximum(lab[..., 0], -18)
        total = share * lab if total is None else total + share * lab
    assert total is not None
    return skin_from_lab(total + np.array(persona.skin_lab, np.float32))


def enlarged(picture: F32) -> F32:
    size = (DETAIL_PX, DETAIL_PX)
    planes = [Image.fromarray(np.ascontiguousarray(plane, np.float32)) for plane in np.moveaxis(picture, 2, 0)]
    return np.stack([np.asarray(plane.resize(size, Image.Resampling.BICUBIC)) for plane in planes], axis=-1)


def painted_face(assets: Assets, persona: Persona, lips_AA: F32, places: F32) -> F32:
    rng = np.random.default_rng(persona.seed)
    face = mixed_skin(assets, persona, "face1024")
    lab = lab_from_linear(face)
    blotch = octaves(rng, TEXTURE_PX, {40: 0.6, 14: 0.5, 5: 0.35})
    lab[..., 0] += 0.9 * blotch + 0.7 * octaves(rng, TEXTURE_PX, {1.0: 1.0})
    lab[..., 1] += 0.8 * np.roll(blotch, 333, axis=1)
    if persona.freckles:
        spots = np.maximum(octaves(rng, TEXTURE_PX, {2.2: 1.0}) - 2.1, 0) * persona.freckles
        lab -= spots[..., None] * np.array([5.0, -1.5, -2.5], np.float32)
    face = skin_from_lab(lab)
    tint = np.array(persona.lip_tint, np.float32)
    share = (lips_AA * persona.lip_strength)[..., None]
    face = face * (1 - share) + share * (0.35 * face + 0.65 * tint * face.mean(axis=2, keepdims=True) / 0.3)
    for side in ([36, 37, 38, 39, 40, 41], [42, 43, 44, 45, 46, 47]):
        rim = ring_mask(assets, side, 5.0)
        face = face * (1 - (persona.liner * np.minimum(rim * 1.6, 1))[..., None])
    brow = assets.picture(f"brows_ictuv/{persona.brow}_ictuv1024.png", "RGBA")
    tail = ramp(np.abs(places[::2, ::2, 0]), 6.0, 5.0)  # some layers end in a line that runs on to the temple
    cover = (np.clip(brow[..., 3] * persona.brow_strength, 0, 1) * tail)[..., None]
    strand = 0.6 + 0.8 * brow[..., :3].mean(axis=2, keepdims=True)
    face = face * (1 - cover) + cover * np.array(persona.brow_colour, np.float32) * strand
    return with_beard(persona, enlarged(face), places, enlarged(lips_AA[..., None])[..., 0], rng)


def with_beard(persona: Persona, face: F32, places: F32, lips: F32, rng: np.random.Generator) -> F32:
    """Darker skin along the lines of age; a shadow and dots where the beard grows."""
    face = face * np.exp(8.0 * creases(places, persona.creases))[..., None]
    if persona.stubble:
        area = beard_area(places) * (1 - np.clip(2 * lips, 0, 1))
        patchy = area * np.clip(0.8 + 0.25 * octaves(rng, DETAIL_PX, {30.0: 1.0}), 0, 1)
        dots = np.clip((octaves(rng, DETAIL_PX, {0.9: 1.0}) - 0.55) * 1.2, 0, 1)
        cover = persona.stubble * patchy * (0.22 + 0.65 * dots)
        face = face + np.clip(cover, 0, 0.9)[..., None] * (np.array(persona.stubble_colour, np.float32) - face)
    return np.clip(face, 0.002, 1).astype(np.float32)


def skin_detail(assets: Assets, persona: Persona, lips_AA: F32, places: F32) -> F32:
    """Pores, fine lines and the texture's own creases as height in centimetres."""
    rng = np.random.default_rng(persona.seed + 1)
    pores = -np.maximum(octaves(rng, DETAIL_PX, {2.0: 1.0}) - 0.6, 0)
    fine = octaves(rng, DETAIL_PX, {1.1: 0.5, 3.2: 0.6, 9.0: 0.5})
    light = np.zeros((TEXTURE_PX, TEXTURE_PX), np.float32)
    for stem, share in persona.skins.items():
        light += share * assets.picture(f"skins_ictuv/{stem}_face1024.jpg").mean(axis=2)
    crease = (gaussian_filter(light, 1.0) - gaussian_filter(light, 9.0)) / (light.mean() + 0.1)
    big, lips = np.moveaxis(enlarged(np.stack([crease, lips_AA], axis=-1)), 2, 0)
    rows = octaves(rng, DETAIL_PX, {2.5: 1.0})
    folds = gaussian_filter(rows, (14, 0), mode="wrap")
    folds = folds / folds.std()
    skin = creases(places, persona.creases) + 0.0042 * pores + 0.0015 * fine
    skin = skin + persona.wrinkles * 0.11 * np.clip(big, -0.3, 0.15)
    return np.asarray(skin * (1 - lips) + lips * (0.0022 * folds + 0.0006 * fine), np.float32)
