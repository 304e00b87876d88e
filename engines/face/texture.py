"""Photos of one person to one texture: unwrapped, cleaned of light, hair and glasses, fused, and filled.

Legend: A = side of the UV atlas in texels; S = 468 landmarks. Colours are natural logarithms of 8-bit values, where
light is a sum. Runs once per identity; nothing here is in the frame path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from engines.face.cleaning import calmed, evened, filled, from_log, light_and_foreign, log_colour, skin_white_balance
from engines.face.mesh import FACE_OVAL, LEFT_IRIS, RIGHT_IRIS, face_model, vertex_normals
from engines.face.rasterise import rasterise
from engines.face.relight import shading
from engines.face.retarget import canonical_face, expression_energy, without_expression
from engines.face.zones import UNIT, Zones, zones
from engines.identity import ATLAS_PX
from engines.types import SKIN_LANDMARKS, Floats, Mask, Rgb

FACING_NONE, FACING_FULL = 0.12, 0.5  # cosine to the camera from which a texel counts, and counts fully
ORTHOGRAPHIC_PX = 1e6
MIRROR_TRUST = 0.5  # how far a mirrored texel may stand in for one that was not seen


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo and the landmarks of its only face. rgb: uint8 [H, W, 3]; points_px: float32 [478, 3]."""

    rgb_HW3: Rgb
    points_px: Floats


@dataclass(frozen=True, slots=True)
class Texture:
    """What all photos of one person gave; shapes and ranges as in engines.identity.Identity."""

    albedo_AA3: Rgb
    confidence_AA: Mask
    shape_S3: Floats
    iris_rgb: Floats


@dataclass(frozen=True, slots=True)
class _Unwrapped:
    """One photo in the atlas. log_AA3: log colour without light; seen_AA: 0..1; mean_C: of the skin."""

    log_AA3: Floats
    seen_AA: Floats
    mean_C: Floats
    neutrality: float


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
    part = np.ones(len(triangles), np.uint8)
    values = np.concatenate([points[:, :2], normals], axis=1).astype(np.float32)
    at, covered = rasterise(atlas, triangles, part, values, ORTHOGRAPHIC_PX, ATLAS_PX, ATLAS_PX)
    colour = np.stack(
        [
            ndimage.map_coordinates(
                photo.rgb_HW3[..., c].astype(np.float32), [at[..., 1], at[..., 0]], order=1, mode="nearest"
            )
            for c in range(3)
        ],
        axis=-1,
    )
    height, width = photo.rgb_HW3.shape[:2]
    in_photo = (at[..., 0] > 0) & (at[..., 0] < width - 1) & (at[..., 1] > 0) & (at[..., 1] < height - 1)
    facing = np.clip((-at[..., 4] - FACING_NONE) / (FACING_FULL - FACING_NONE), 0, 1)
    seen = (facing * facing * (3 - 2 * facing) * (covered > 0) * in_photo * places.inside).astype(np.float32)
    log_rgb = log_colour(colour)
    normal = at[..., 2:5] / (np.linalg.norm(at[..., 2:5], axis=-1, keepdims=True) + 1e-6)
    light, foreign = light_and_foreign(log_rgb, normal, seen, places)
    shade = shading(light, normal.reshape(-1, 3).astype(np.float32)).reshape(log_rgb.shape)
    seen = np.where(foreign, np.float32(0), seen)
    _, canonical = canonical_face(photo.points_px)
    even = calmed(evened(log_rgb - shade, seen, places), seen, places)
    albedo = skin_white_balance(even, light.mean_C)
    mean = np.median(albedo[places.cheeks & (seen > 0)], axis=0) if (places.cheeks & (seen > 0)).any() else light.mean_C
    return _Unwrapped(
        albedo.astype(np.float32),
        seen.astype(np.float32),
        mean.astype(np.float32),
        np.exp(-expression_energy(canonical)),
    )


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
    mixed = (colour * confidence[..., None] + colour[:, ::-1] * mirrored[..., None]) / np.maximum(weight, 1e-6)[
        ..., None
    ]
    # What was seen fades into what is filled in over a few texels; lips and eyes give no colour to the skin around.
    solid = np.clip(np.asarray(ndimage.distance_transform_edt(weight > 0.25)) / UNIT, 0, 1)
    source = solid * np.where(places.features, 0.02, 1.0)
    ground = filled(mixed.astype(np.float32), source.astype(np.float32))
    albedo = mixed * solid[..., None] + ground * (1 - solid[..., None])
    shapes = [without_expression(canonical_face(photo.points_px)[1]) for photo in photos]
    turned = np.array([max(1 - abs(canonical_face(photo.points_px)[0].yaw_deg) / 35, 0.02) for photo in photos])
    shape = np.tensordot(turned / turned.sum(), np.array(shapes), 1).astype(np.float32)
    return Texture(from_log(albedo), (confidence * 255).astype(np.uint8), shape, _iris(photos))
