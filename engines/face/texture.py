"""Photos of one person to one texture: unwrapped, cleaned of light, hair and glasses, fused, and filled.

Legend: A = side of the UV atlas in texels; S = 468 landmarks. Colours are handled as natural logarithms of 8-bit values,
where light is a sum. Runs once per identity; nothing here is in the frame path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from engines.face.mesh import (
    FACE_OVAL,
    INNER_LIPS,
    LEFT_BROW,
    LEFT_EYE,
    LEFT_IRIS,
    NOSTRILS,
    OUTER_LIPS,
    RIGHT_BROW,
    RIGHT_EYE,
    RIGHT_IRIS,
    face_model,
    vertex_normals,
)
from engines.face.rasterise import rasterise
from engines.face.relight import Light, fit_light, shading
from engines.face.retarget import canonical_face, expression_energy, without_expression
from engines.identity import ATLAS_PX
from engines.types import SKIN_LANDMARKS, Floats, Rgb

SKIN, EYE, MOUTH = 1, 2, 3  # parts of the mesh
FACING_NONE, FACING_FULL = 0.12, 0.5  # cosine to the camera from which a texel counts, and counts fully
ORTHOGRAPHIC_PX = 1e6
FLOOR = 4.0  # 8-bit value added before the logarithm, so that black stays finite
MIRROR_TRUST = 0.5  # how far a mirrored texel may stand in for one that was not seen

LUMINANCE = np.array([0.3, 0.6, 0.1], np.float32)

Bools = np.ndarray


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo and the landmarks of its only face. rgb: uint8 [H, W, 3]; points_px: float32 [478, 3]."""

    rgb_HW3: Rgb
    points_px: Floats


@dataclass(frozen=True, slots=True)
class Texture:
    """What all photos of one person gave; shapes and ranges as in engines.identity.Identity."""

    albedo_AA3: Rgb
    confidence_AA: np.ndarray
    shape_S3: Floats
    iris_rgb: Floats


@dataclass(frozen=True, slots=True)
class _Unwrapped:
    """One photo in the atlas. log_AA3: log colour without light; seen_AA: 0..1; detail: atlas texels per photo pixel."""

    log_AA3: Floats
    seen_AA: Floats
    mean_C: Floats
    neutrality: float


@dataclass(frozen=True, slots=True)
class Zones:
    """Parts of the face in the atlas, bool [A, A]."""

    inside: Bools  # on the mesh's skin, outside eyes and mouth
    plain: Bools  # cheeks, nose, chin, the forehead's middle: skin and nothing else, as a rule
    cheeks: Bools  # the part of it below the eyes and beside the mouth: skin for certain
    features: Bools  # brows, eyes, lips, nostrils, a little enlarged: dark or red by nature, not by light
    red: Bools  # lips and the rims of the eyes, whose tint is not the skin's
    beard: Bools  # where a beard may grow
    hairy: Bools  # where the photo's hair may hang in: forehead, temples, the rim down to the mouth
    oval: Bools  # within the outline


def _polygon(landmarks: np.ndarray, grow_px: float = 0.0) -> Bools:
    uv = face_model().uv_S2 * (ATLAS_PX - 1)
    picture = Image.new("L", (ATLAS_PX, ATLAS_PX), 0)
    ImageDraw.Draw(picture).polygon([tuple(map(float, uv[i])) for i in landmarks], fill=1, outline=1)
    mask = np.array(picture).astype(bool)
    if grow_px > 0:
        mask = np.asarray(ndimage.distance_transform_edt(~mask)) <= grow_px
    return mask


def _hull(landmarks: np.ndarray, grow_px: float) -> Bools:
    """The convex surroundings of a few landmarks, for brows, whose points are two rows."""
    uv = face_model().uv_S2[landmarks] * (ATLAS_PX - 1)
    picture = Image.new("L", (ATLAS_PX, ATLAS_PX), 0)
    pen = ImageDraw.Draw(picture)
    half = len(landmarks) // 2
    pen.polygon([tuple(map(float, p)) for p in [*uv[:half], *uv[half:][::-1]]], fill=1, outline=1)
    return np.asarray(ndimage.distance_transform_edt(~np.array(picture).astype(bool))) <= grow_px


def zones() -> Zones:
    """Where things are in the atlas; the same for everybody, because the atlas is made of landmarks."""
    uv = face_model().uv_S2 * (ATLAS_PX - 1)
    unit = ATLAS_PX / 64
    oval = _polygon(FACE_OVAL)
    eyes = _polygon(RIGHT_EYE, 1.2 * unit) | _polygon(LEFT_EYE, 1.2 * unit)
    brows = _hull(RIGHT_BROW, 1.8 * unit) | _hull(LEFT_BROW, 1.8 * unit)
    thin_brows = _hull(RIGHT_BROW, 0.5 * unit) | _hull(LEFT_BROW, 0.5 * unit)
    lips = _polygon(OUTER_LIPS, 0.8 * unit)
    rim = np.asarray(ndimage.distance_transform_edt(oval))
    v = np.arange(ATLAS_PX)[:, None] + np.zeros((1, ATLAS_PX))
    brow_top = uv[[105, 334, 66, 296], 1].min() - 0.5 * unit
    mouth_corner = uv[[61, 291], 1].mean()
    plain = oval & ~eyes & ~brows & ~lips & (rim > 7 * unit) & (v > brow_top)
    hairy = oval & ((v < brow_top + 3 * unit) | ((rim < 9 * unit) & (v < mouth_corner)) | (rim < 10 * unit))
    nose_base = uv[[2, 98, 327], 1].max()
    cheeks = plain & (v > uv[[145, 374], 1].mean() + 1.5 * unit) & (v < nose_base)
    features = eyes | brows | lips | _polygon(NOSTRILS, 0.4 * unit)
    beard = oval & (v > nose_base)
    inside = oval & ~_polygon(RIGHT_EYE) & ~_polygon(LEFT_EYE) & ~_polygon(INNER_LIPS)
    return Zones(inside, plain, cheeks, features, lips | _polygon(RIGHT_EYE, 0.4 * unit) | _polygon(LEFT_EYE, 0.4 * unit), beard, hairy & ~eyes & ~thin_brows, oval)


def log_colour(rgb: np.ndarray) -> Floats:
    """8-bit colour -> natural logarithm, finite at black."""
    return np.log(rgb.astype(np.float32) + np.float32(FLOOR))


def from_log(log_rgb: np.ndarray) -> Rgb:
    """The inverse of log_colour, rounded and clipped to 8 bits."""
    return np.asarray(np.clip(np.exp(log_rgb) - FLOOR + 0.5, 0, 255).astype(np.uint8))


def _scaled(photo: Photo) -> Photo:
    """Shrinks a photo whose face has more pixels than the atlas has texels, so that sampling does not alias."""
    width_px = float(np.ptp(photo.points_px[FACE_OVAL, 0]))
    scale = ATLAS_PX * 0.8 / width_px
    if scale > 0.8:
        return photo
    height, width = photo.rgb_HW3.shape[:2]
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = np.array(Image.fromarray(photo.rgb_HW3).resize(size, Image.Resampling.LANCZOS))
    return Photo(small, (photo.points_px * scale).astype(np.float32))


def _unwrap(photo: Photo, places: Zones) -> _Unwrapped:
    model = face_model()
    photo = _scaled(photo)
    points = photo.points_px[:SKIN_LANDMARKS]
    normals = vertex_normals(points, np.concatenate([model.triangles_T3, model.eye_triangles_T3]))
    atlas = np.concatenate([model.uv_S2 * (ATLAS_PX - 1), np.zeros((SKIN_LANDMARKS, 1))], axis=1).astype(np.float32)
    triangles = np.concatenate([model.triangles_T3, model.eye_triangles_T3, model.mouth_triangles_T3])
    part = np.full(len(triangles), SKIN, np.uint8)
    values = np.concatenate([points[:, :2], normals], axis=1).astype(np.float32)
    at, covered = rasterise(atlas, triangles, part, values, ORTHOGRAPHIC_PX, ATLAS_PX, ATLAS_PX)
    colour = np.stack(
        [
            ndimage.map_coordinates(photo.rgb_HW3[..., c].astype(np.float32), [at[..., 1], at[..., 0]], order=1, mode="nearest")
            for c in range(3)
        ],
        axis=-1,
    )
    height, width = photo.rgb_HW3.shape[:2]
    in_photo = (at[..., 0] > 0) & (at[..., 0] < width - 1) & (at[..., 1] > 0) & (at[..., 1] < height - 1)
    facing = np.clip((-at[..., 4] - FACING_NONE) / (FACING_FULL - FACING_NONE), 0, 1)
    seen = facing * facing * (3 - 2 * facing) * (covered > 0) * in_photo * places.inside
    log_rgb = log_colour(colour)
    normal = at[..., 2:5] / (np.linalg.norm(at[..., 2:5], axis=-1, keepdims=True) + 1e-6)
    light, foreign = _clean(log_rgb, normal, seen, places)
    shade = shading(light, normal.reshape(-1, 3).astype(np.float32)).reshape(log_rgb.shape)
    seen = np.where(foreign, 0, seen)
    _, canonical = canonical_face(photo.points_px)
    albedo = skin_white_balance(_evened(log_rgb - shade, seen, places), light.mean_C)
    mean = np.median(albedo[places.cheeks & (seen > 0)], axis=0) if (places.cheeks & (seen > 0)).any() else light.mean_C
    return _Unwrapped(
        albedo.astype(np.float32), seen.astype(np.float32), mean.astype(np.float32), np.exp(-expression_energy(canonical))
    )


def _clean(log_rgb: Floats, normal: Floats, seen: Floats, places: Zones) -> tuple[Light, Bools]:
    """The photo's light, and the texels that are not this person's skin: hair that hangs in, rims of glasses."""
    step = max(ATLAS_PX // 128, 1)
    grid = (slice(None, None, step), slice(None, None, step))

    def fit(weight: np.ndarray) -> Light:
        chosen = weight[grid] > 0
        return fit_light(normal[grid][chosen], log_rgb[grid][chosen], weight[grid][chosen])

    light = fit(seen * places.cheeks if (seen * places.cheeks > 0.3).mean() > 0.02 else seen * places.plain)
    foreign = _hair(log_rgb, normal, seen, places, light)
    light = fit(seen * (places.plain | (places.hairy & ~foreign)))
    return light, _hair(log_rgb, normal, seen, places, light)


def _hair(log_rgb: Floats, normal: Floats, seen: Floats, places: Zones, light: Light) -> Bools:
    """Texels of the hairy zones whose colour or roughness is not that of the plain skin. bool [A, A]."""
    unit = ATLAS_PX / 64
    linear = Light(light.coefficients_BC * np.array([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5], np.float32)[:, None], light.mean_C)
    flat = log_rgb - shading(linear, normal.reshape(-1, 3).astype(np.float32)).reshape(log_rgb.shape) - light.mean_C
    luminance = flat @ LUMINANCE
    chroma = flat - luminance[..., None]
    sure = places.cheeks & (seen > 0.5)
    if not sure.any():
        return np.zeros_like(places.oval)
    middle, spread = _middle_and_spread(luminance[sure])
    luminance = luminance - middle
    tint_C, tint = _middle_and_spread(chroma[sure])
    chroma = chroma - tint_C
    mean = ndimage.gaussian_filter(luminance, 0.25 * unit)
    rough = np.sqrt(ndimage.gaussian_filter((luminance - ndimage.gaussian_filter(luminance, 0.6 * unit)) ** 2, 0.6 * unit))
    smooth = float(np.median(rough[sure]))
    dark, strange, strands = -2.5 * spread - 0.08, 4 * tint + 0.06, 3 * smooth + 0.03
    odd = (mean < dark) | (np.abs(chroma).max(axis=-1) > strange) | (rough > strands)
    hairy = places.hairy & ~(places.beard if _bearded(mean, rough, smooth, places) else np.False_)
    odd &= hairy
    odd = ndimage.binary_opening(odd, iterations=max(int(0.2 * unit), 1))
    # Hair hangs from the rim: what is not joined to it is a mole, a wrinkle or a shadow and stays.
    rim = places.oval & ~ndimage.binary_erosion(places.oval, iterations=int(1.5 * unit))
    joined = ndimage.binary_propagation(odd & rim, mask=ndimage.binary_dilation(odd, iterations=int(0.5 * unit)) & places.oval)
    return np.asarray(ndimage.binary_dilation(joined, iterations=int(1.8 * unit)) & hairy)


def _bearded(mean: Floats, rough: Floats, smooth: float, places: Zones) -> bool:
    """Whether chin and upper lip are hairy: then what is dark along the jaw is a beard and belongs to the person."""
    rim = np.asarray(ndimage.distance_transform_edt(places.oval))
    middle = places.beard & places.plain & (rim > 8 * ATLAS_PX / 64)
    return bool(np.median(mean[middle]) < -0.18 or np.median(rough[middle]) > 2.2 * smooth)


def _middle_and_spread(values: np.ndarray) -> tuple[Floats, float]:
    """Median, per channel where there are several, and a robust standard deviation (1.48 MAD), at least 0.02."""
    middle = np.median(values, axis=0)
    return middle, max(1.48 * float(np.median(np.abs(values - middle))), 0.02)


def _pressed(deviation: np.ndarray, free: float, share: float) -> np.ndarray:
    """Lets a deviation through up to about `free`, and `share` of what goes beyond."""
    return np.asarray(free * np.tanh(deviation / free) * (1 - share) + share * deviation)


def _evened(log_rgb: Floats, seen: Floats, places: Zones) -> Floats:
    """Takes out what the harmonics left of the light: highlights, cast shadows, coloured patches, none of it skin.

    Broad deviations of brightness and tint are measured on skin only (normalised convolution over what is no feature)
    and taken off; shadows below the nose mostly stay, since a beard looks the same. Tint that is far from the face's
    own is light as well, however small the patch: skin varies in brightness, hardly in tint.
    """
    unit = ATLAS_PX / 64
    sure = places.cheeks & (seen > 0.3)
    if not sure.any():
        return log_rgb
    middle = np.median(log_rgb[sure], axis=0)
    flat = log_rgb - middle
    beard = ndimage.gaussian_filter(places.beard.astype(np.float32), unit)
    for sigma, lit, shaded in ((3.0, 0.8, 0.65), (1.3, 0.6, 0.35)):
        luminance = flat @ LUMINANCE
        weight = (seen * places.inside * ~places.features / (1 + (luminance / 0.5) ** 2)).astype(np.float32)
        total = ndimage.gaussian_filter(weight, sigma * unit) + 1e-4
        broad = ndimage.gaussian_filter(luminance * weight, sigma * unit) / total
        flat = flat - (np.where(broad > 0, lit, shaded * (1 - 0.8 * beard)) * broad)[..., None]
    luminance = flat @ LUMINANCE
    tint = flat - luminance[..., None]
    blood = ndimage.gaussian_filter(places.red.astype(np.float32), 0.5 * unit)[..., None]
    tint = tint * blood + _pressed(tint, 0.05, 0.15) * (1 - blood)
    luminance = np.where((luminance > 0) & places.inside, _pressed(luminance, 0.12, 0.25), luminance)
    return np.asarray(luminance[..., None] + tint + middle, np.float32)


def skin_white_balance(log_rgb: Floats, mean_C: Floats) -> Floats:
    """Moves a face's mean tint into the range of human skin: what lies outside of it is the photo's light.

    Range in log(red/green) and log(blue/green) of 8-bit sRGB, over the portraits and skins the project was tuned on.
    """
    ratio = np.array([mean_C[0] - mean_C[1], mean_C[2] - mean_C[1]])
    allowed = np.clip(ratio, (0.18, -0.42), (0.46, -0.10))
    move = (allowed - ratio) * 0.85
    shift = np.array([move[0], 0.0, move[1]])
    return np.asarray(log_rgb + shift - shift @ LUMINANCE, np.float32)


def filled(values_AAC: Floats, weight_AA: Floats) -> Floats:
    """Fills texels of low weight from their surroundings, coarse to fine (normalised convolution, Knutsson 1993)."""
    result = np.zeros_like(values_AAC)
    trust = np.zeros_like(weight_AA)
    for sigma in (1.5, 3.0, 6.0, 12.0, 24.0, 48.0, 96.0):
        blurred_weight = ndimage.gaussian_filter(weight_AA, sigma)
        share = np.clip(blurred_weight * 4, 0, 1) * (1 - trust)
        for c in range(values_AAC.shape[-1]):
            blurred = ndimage.gaussian_filter(values_AAC[..., c] * weight_AA, sigma) / (blurred_weight + 1e-6)
            result[..., c] += share * blurred
        trust += share
    result /= np.maximum(trust, 1e-6)[..., None]
    return (values_AAC * weight_AA[..., None] + result * (1 - weight_AA[..., None])).astype(np.float32)


def _fuse(views: Sequence[_Unwrapped]) -> tuple[Floats, Floats]:
    """Log albedo and confidence of all photos, the best photo of each texel by far the heaviest."""
    reference = views[0].mean_C
    total = np.zeros(views[0].seen_AA.shape, np.float32)
    colour = np.zeros(views[0].log_AA3.shape, np.float32)
    for view in views:
        weight = ndimage.gaussian_filter(view.seen_AA, 2.0) * (view.seen_AA > 0)
        weight = (weight * view.neutrality) ** 6 + 1e-12 * (view.seen_AA > 0)
        colour += weight[..., None] * (view.log_AA3 - view.mean_C + reference)
        total += weight
    confidence = np.max([view.seen_AA for view in views], axis=0)
    return colour / np.maximum(total, 1e-20)[..., None], confidence


def _iris(photos: Sequence[Photo]) -> Floats:
    """Mean colour of the irises: the ring between pupil and rim, lids and highlights left out."""
    samples = []
    for photo in photos:
        height, width = photo.rgb_HW3.shape[:2]
        for iris in (RIGHT_IRIS, LEFT_IRIS):
            centre, rim = photo.points_px[iris][0, :2], photo.points_px[iris][1:, :2]
            radius = float(np.linalg.norm(rim - centre, axis=1).mean())
            # Left and right of the pupil only: above and below are the lids.
            for angle in np.radians([-35, -15, 0, 15, 35, 145, 165, 180, 195, 215]):
                for share in (0.5, 0.65, 0.8):
                    x, y = centre + radius * share * np.array([np.cos(angle), np.sin(angle)])
                    if 0 <= x < width and 0 <= y < height:
                        samples.append(photo.rgb_HW3[int(y), int(x)])
    colours = np.array(samples or [(90, 70, 60)], np.float32)
    order = np.argsort(colours.sum(axis=1))
    return np.asarray(colours[order[len(order) // 8 : max(len(order) * 6 // 8, 1)]].mean(axis=0), np.float32)


def build_texture(photos: Sequence[Photo]) -> Texture:
    """Fuses one or several photos of one person. At least one photo; landmarks must be inside or near the picture."""
    places = zones()
    views = [_unwrap(photo, places) for photo in photos]
    colour, confidence = _fuse(views)
    mirrored = confidence[:, ::-1] * MIRROR_TRUST * (1 - confidence)
    weight = confidence + mirrored
    mixed = (colour * confidence[..., None] + colour[:, ::-1] * mirrored[..., None]) / np.maximum(weight, 1e-6)[..., None]
    # What was seen fades into what is filled in over a few texels; lips and eyes give no colour to the skin around.
    solid = np.clip(np.asarray(ndimage.distance_transform_edt(weight > 0.25)) / (ATLAS_PX / 64), 0, 1)
    source = solid * np.where(places.features, 0.02, 1.0)
    ground = filled(mixed.astype(np.float32), source.astype(np.float32))
    albedo = mixed * solid[..., None] + ground * (1 - solid[..., None])
    shapes = [without_expression(canonical_face(photo.points_px)[1]) for photo in photos]
    turned = np.array([max(1 - abs(canonical_face(photo.points_px)[0].yaw_deg) / 35, 0.02) for photo in photos])
    shape = np.tensordot(turned / turned.sum(), np.array(shapes), 1).astype(np.float32)
    return Texture(from_log(albedo), (confidence * 255).astype(np.uint8), shape, _iris(photos))
