"""Moves a portrait: the head as a mesh that turns, what surrounds it on rings that follow less the further out.

Legend: V = 468 landmarks and 36 points on each ring, S side of the fine frame (twice the frame's), C of the canvas.
One bent map covers every pixel without holes, since the rings' outermost does not move; where the map folds, as behind
the far cheek, the depth of the mesh decides. Over the background the person moves as a layer of its own, so that
what stands behind the head stays where it is, and the photo at rest is the photo to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from distill.stills.motion import Motion, as_weights
from distill.stills.mouth import SHARE_OF_SIZE, mouth_picture
from distill.stills.portrait import SUPERSAMPLE, Portrait
from engines.face.mesh import (
    FACE_OVAL,
    INNER_LIPS,
    LEFT_IRIS,
    LEFT_LIDS,
    LIPS,
    RIGHT_IRIS,
    RIGHT_LIDS,
    Indices,
    Pose,
    face_model,
    vertex_normals,
)
from engines.face.rasterise import rasterise
from engines.face.retarget import without_expression
from engines.jit import kernel
from engines.pixels import resize_area
from engines.types import SKIN_LANDMARKS, Floats, Mask, Rgb

SKIN, EYE, MOUTH, RING = 1, 2, 3, 4
SHIFT_X, SHIFT_Y, NORMAL, SHARE, VALUES = 0, 1, slice(2, 5), 5, 6
RINGS = (0.10, 0.25, 0.45, 0.7, 1.05, 1.5, 2.1, 2.9)  # of the outline's radius beyond it
FIRM, LOOSE = 0.95, 2.7  # between these a ring follows less and less
SKULL_AT = 0.6  # from this ring on the surface is taken to lie in the plane of the skull's middle
SKULL_Z_CM = 0.5
NECK_CM = (1.0, 15.0)  # below the chin: between these the turn of the head fades into the chest
CHIN_FADES = 0.5  # of the radius, over which the jaw's own movement fades
PIVOT_CM = np.array([0.0, 5.0, 3.0], np.float32)  # where the skull sits on the spine
STILL_PX = 1e-3  # a pixel that moves less is copied
FAR_CAMERA_PX = 2e4
OPENED_CM = (0.04, 0.28)  # lips that part by so much more than in the photo show the rendered mouth
LIPS_BEHIND_CM = 0.2  # teeth stand behind the lips by a little more than in the model
OWN_INSIDE_CM = 0.35  # a mouth that is open so far in the photo keeps its inside
MEET_AT = 0.18  # of the way up from the lower lid, where closing lids meet
LASHES, WATERLINE = 0.16, 0.24  # of the eye's opening: where a closed lid's skin begins above and below it
# Rows of the upper lid above the lashes, and how much of the lid's way they go.
RIGHT_CREASE = np.array([247, 30, 29, 27, 28, 56, 190], np.int32)
LEFT_CREASE = np.array([467, 260, 259, 257, 258, 286, 414], np.int32)
CREASE_FOLLOWS = 0.45


@dataclass(frozen=True, slots=True)
class StillFrame:
    """One frame of a still that moves.

    rgb_HW3        uint8
    mask_HW        uint8, 255 on the face (inside the landmarks' outline), graded at its edge
    landmarks_N3   float32 [478, 3], frame pixels, MediaPipe's order
    surface_HW4    float32, unit normal in picture axes, and how much of the pixel belongs to the head (0..1, graded)
    motion         what was done
    """

    rgb_HW3: Rgb
    mask_HW: Mask
    landmarks_N3: Floats
    surface_HW4: Floats
    motion: Motion


def moved(portrait: Portrait, motions: Sequence[Motion]) -> Iterator[StillFrame]:
    """The portrait's frames, one for each motion."""
    source = _source_points(portrait)
    for motion in motions:
        yield _frame(portrait, source, motion)


@lru_cache(maxsize=1)
def _mesh() -> tuple[Indices, Mask]:
    model, count = face_model(), len(FACE_OVAL)
    loops = [FACE_OVAL, *(SKIN_LANDMARKS + k * count + np.arange(count) for k in range(len(RINGS)))]
    ring = []
    for inner, outer in pairwise(loops):
        for i in range(count):
            a, b, c, d = inner[i], inner[(i + 1) % count], outer[i], outer[(i + 1) % count]
            ring += [(a, b, c), (b, d, c)]
    groups = [model.triangles_T3, model.eye_triangles_T3, model.mouth_triangles_T3, np.array(ring, np.int32)]
    part = np.repeat(np.array([SKIN, EYE, MOUTH, RING], np.uint8), [len(group) for group in groups])
    return np.concatenate(groups).astype(np.int32), part


def _source_points(portrait: Portrait) -> Floats:
    """Landmarks and rings in the photo, float32 [V, 3], canvas pixels. Rings are laid out in the picture, so that they
    never cross; their depth goes back from the outline to the plane of the skull's middle."""
    points = portrait.points_px[:SKIN_LANDMARKS]
    outline = points[FACE_OVAL]
    centre = outline.mean(axis=0)
    skull_z = float(portrait.pose.to_picture(np.array([[0, 0, SKULL_Z_CM]], np.float32))[0, 2])
    rings = []
    for reach in RINGS:
        ring = centre + (outline - centre) * (1 + reach)
        back = _smooth(np.float32(reach / SKULL_AT))
        ring[:, 2] = outline[:, 2] + (skull_z - outline[:, 2]) * back
        rings.append(ring)
    return np.asarray(np.concatenate([points, *rings]), np.float32)


def _smooth(share: Floats | np.float32) -> Floats:
    s = np.clip(share, 0, 1)
    return np.asarray(s * s * (3 - 2 * s), np.float32)


def _follows(portrait: Portrait, source_V3: Floats) -> Floats:
    """How much of the head's turn each point makes, float32 [V]: all of the face, none of the chest."""
    down = portrait.pose.rotation_33[:2, 1] / np.linalg.norm(portrait.pose.rotation_33[:2, 1])
    below_cm = (source_V3[:, :2] - source_V3[152, :2]) @ down / portrait.pose.px_per_cm
    share = 1 - _smooth((below_cm - NECK_CM[0]) / (NECK_CM[1] - NECK_CM[0]))
    reach = np.concatenate([np.zeros(SKIN_LANDMARKS), np.repeat(RINGS, len(FACE_OVAL))]).astype(np.float32)
    share = share * (1 - _smooth((reach - FIRM) / (LOOSE - FIRM)))
    share[:SKIN_LANDMARKS] = 1
    return np.asarray(share, np.float32)


def turned(pose: Pose, motion: Motion) -> Pose:
    """The pose after the head has turned about where it sits on the neck."""
    yaw, pitch, roll = np.radians([motion.yaw_deg, motion.pitch_deg, motion.roll_deg])
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    rotation = (about_z @ about_y @ about_x @ pose.rotation_33).astype(np.float32)
    pivot = pose.to_picture(PIVOT_CM[None])[0]
    pivot[:2] += pose.px_per_cm * np.array(motion.shift_cm, np.float32)
    return Pose(pose.px_per_cm, rotation, (pivot - pose.px_per_cm * rotation @ PIVOT_CM).astype(np.float32))


def _animated(portrait: Portrait, motion: Motion) -> Floats:
    """The face in canonical space with another expression, float32 [468, 3]."""
    shape = portrait.canonical_S3.copy()
    if motion.relax > 0:
        shape += motion.relax * (without_expression(shape) - shape)
    weights = as_weights(motion)
    if weights.any():
        shape += np.tensordot(weights, face_model().expression_KS3, 1).astype(np.float32)
    for closed, lids, crease in zip(motion.blink, (RIGHT_LIDS, LEFT_LIDS), (RIGHT_CREASE, LEFT_CREASE)):
        if closed > 0:
            upper, lower = shape[lids[:, 0]].copy(), shape[lids[:, 1]].copy()
            meet = lower + MEET_AT * (upper - lower)
            meet[:, 2] = np.minimum(upper[:, 2], lower[:, 2])
            shape[lids[:, 0]] += closed * (meet - upper)
            shape[lids[:, 1]] += closed * (meet - lower)
            shape[crease] += CREASE_FOLLOWS * closed * (meet - upper)
    return np.asarray(shape, np.float32)


def _without_lashes(source_V3: Floats, motion: Motion) -> Floats:
    """Takes the skin of closing lids from a little beyond the landmarks, which lie on the wet edge, not on skin."""
    if not any(motion.blink):
        return source_V3
    source = source_V3.copy()
    for closed, lids in zip(motion.blink, (RIGHT_LIDS, LEFT_LIDS)):
        opening = source_V3[lids[:, 1]] - source_V3[lids[:, 0]]
        away = float(_smooth(np.float32(closed * 1.5)))
        source[lids[:, 0]] -= LASHES * away * opening
        source[lids[:, 1]] += WATERLINE * away * opening
    return source


def _result_points(portrait: Portrait, source_V3: Floats, pose: Pose, shape_S3: Floats) -> Floats:
    """Landmarks and rings in the frame, float32 [V, 3], canvas pixels."""
    before = portrait.pose.to_canonical(source_V3)
    change = np.zeros_like(before)
    change[:SKIN_LANDMARKS] = shape_S3 - portrait.canonical_S3
    jaw = change[FACE_OVAL]
    fades = [1 - _smooth(np.float32(reach / CHIN_FADES)) for reach in RINGS]
    change[SKIN_LANDMARKS:] = np.concatenate([fade * jaw for fade in fades])
    shift = pose.to_picture(before + change) - portrait.pose.to_picture(before)
    return np.asarray(source_V3 + _follows(portrait, source_V3)[:, None] * shift, np.float32)


def _frame(portrait: Portrait, source: Floats, motion: Motion) -> StillFrame:
    pose, shape = turned(portrait.pose, motion), _animated(portrait, motion)
    result = _result_points(portrait, source, pose, shape)
    source = _without_lashes(source, motion)
    side, margin = SUPERSAMPLE * portrait.size_px, portrait.margin_px
    triangles, part_T = _mesh()
    values = np.empty((len(result), VALUES), np.float32)
    values[:, SHIFT_X : SHIFT_Y + 1] = (source - result)[:, :2]
    values[:, NORMAL] = vertex_normals(result, triangles)
    values[:, SHARE] = _follows(portrait, source)
    window = result - np.array([margin, margin, 0], np.float32)
    seen, part = rasterise(window, triangles, part_T, values, FAR_CAMERA_PX, side, side)
    inside, box, share = _mouth(portrait, motion, pose, shape, result)
    irises, glance = _irises(portrait, motion)
    fine = lay_still(
        portrait.rgb_CC3, portrait.person_CC5, portrait.background_CC3, seen, part, margin, irises, glance,
        inside, np.array(box, np.int32), share,
    )  # fmt: skip
    half = portrait.size_px
    surface = np.concatenate([seen[..., NORMAL], seen[..., SHARE:]], axis=2)
    surface = surface.reshape(half, SUPERSAMPLE, half, SUPERSAMPLE, 4).mean(axis=(1, 3))
    mask = ((part > 0) & (part < RING)).reshape(half, SUPERSAMPLE, half, SUPERSAMPLE).mean(axis=(1, 3))
    landmarks = _landmarks(portrait, motion, pose, shape, result)
    return StillFrame(
        resize_area(fine, half, half),
        (mask * 255 + 0.5).astype(np.uint8),
        landmarks,
        surface.astype(np.float32),
        motion,
    )


def _mouth(
    portrait: Portrait, motion: Motion, pose: Pose, shape_S3: Floats, result_V3: Floats
) -> tuple[Floats, tuple[int, int], float]:
    """The rendered inside of the mouth, its left top corner in the fine frame, and how much of it shows (0..1)."""
    gap = float(np.linalg.norm(shape_S3[LIPS[:, 0]] - shape_S3[LIPS[:, 1]], axis=1).mean())
    share = float(_smooth(np.float32((gap - portrait.mouth_cm - OPENED_CM[0]) / (OPENED_CM[1] - OPENED_CM[0]))))
    if share == 0 or portrait.mouth_cm > OWN_INSIDE_CM:
        return np.zeros((1, 1, 3), np.float32), (0, 0), 0.0
    side, margin = SUPERSAMPLE * portrait.size_px, portrait.margin_px
    lips = result_V3[INNER_LIPS, :2] - margin
    left, top = np.clip(np.floor(lips.min(axis=0)) - 2, 0, side - 2).astype(int)
    right, bottom = np.clip(np.ceil(lips.max(axis=0)) + 3, (left + 2, top + 2), side).astype(int)
    mean, rest = face_model().mean_S3, without_expression(portrait.canonical_S3)
    anchors = np.array([0, 13, 61, 291, 164], np.int32)
    offset = (rest[anchors] - mean[anchors]).mean(axis=0)
    offset[2] += LIPS_BEHIND_CM
    scale = float(np.clip(np.ptp(rest[[61, 291], 0]) / np.ptp(mean[[61, 291], 0]), *SHARE_OF_SIZE))
    box = (int(left) + margin, int(top) + margin, int(right) + margin, int(bottom) + margin)
    inside = mouth_picture(portrait.mouth, pose, as_weights(motion), offset, scale, box, white_C(portrait))
    return inside, (int(left), int(top)), share


def white_C(portrait: Portrait) -> Floats:
    """What white would be in the photo's light, by its skin, float32 [3], 0..255. Skin's own colour is half trusted."""
    places = np.clip(portrait.points_px[[205, 425, 50, 280, 4, 151, 9, 200], :2], 0, portrait.rgb_CC3.shape[0] - 1)
    skin = np.median(portrait.rgb_CC3[places[:, 1].astype(int), places[:, 0].astype(int)].astype(np.float32), axis=0)
    level = float(skin @ np.array([0.3, 0.6, 0.1], np.float32))
    tint = (skin / max(level, 1.0) / np.array([1.25, 0.95, 0.78], np.float32)) ** 0.5
    return np.asarray(np.clip(255 * (level / 150) ** 0.7 * tint, 25, 255), np.float32)


def _irises(portrait: Portrait, motion: Motion) -> tuple[Floats, Floats]:
    """Both irises in the photo, float32 [2, 3] (x, y, radius), and how far they move, float32 [2, 2], pixels."""
    irises = np.empty((2, 3), np.float32)
    for eye, iris in enumerate((RIGHT_IRIS, LEFT_IRIS)):
        points = portrait.points_px[iris, :2]
        irises[eye, :2] = points[0]
        irises[eye, 2] = np.linalg.norm(points[1:] - points[0], axis=1).mean()
    return irises, (irises[:, 2:] * np.array(motion.gaze, np.float32)).astype(np.float32)


def _landmarks(portrait: Portrait, motion: Motion, pose: Pose, shape_S3: Floats, result_V3: Floats) -> Floats:
    """The 478 landmarks in frame pixels. Irises go with the lids' corners and the gaze."""
    irises = pose.to_picture(portrait.irises_I3)
    _, glance = _irises(portrait, motion)
    irises[:5, :2] += glance[0]
    irises[5:, :2] += glance[1]
    points = np.concatenate([result_V3[:SKIN_LANDMARKS], irises])
    points[:, :2] = (points[:, :2] - portrait.margin_px + 0.5) / SUPERSAMPLE - 0.5
    points[:, 2] /= SUPERSAMPLE
    return np.asarray(points, np.float32)


@kernel
def lay_still(
    photo_CC3: Rgb,
    person_CC5: Floats,
    background_CC3: Floats,
    seen: Floats,
    part: Mask,
    margin_px: int,
    irises_23: Floats,
    glance_22: Floats,
    inside: Floats,
    inside_at: Indices,
    inside_share: float,
) -> Rgb:
    """Samples the fine frame, uint8 [S, S, 3]. seen: [S, S, 6], the bent map's values, of which the last (share of
    the head) is multiplied in place with the person's share of the pixel; see `_frame` for the rest."""
    side, last = part.shape[0], np.float32(photo_CC3.shape[0] - 1.001)
    out = np.empty((side, side, 3), np.uint8)
    for row in range(side):
        for column in range(side):
            own_x, own_y = column + margin_px, row + margin_px
            shift_x, shift_y = seen[row, column, 0], seen[row, column, 1]
            kind = part[row, column]
            if kind == 2:
                for eye in range(2):
                    away = np.sqrt(
                        (own_x + shift_x - irises_23[eye, 0] - glance_22[eye, 0]) ** 2
                        + (own_y + shift_y - irises_23[eye, 1] - glance_22[eye, 1]) ** 2
                    ) / max(irises_23[eye, 2], np.float32(1))
                    if away < 2.2:
                        firm = min(max((np.float32(2.2) - away) / np.float32(1.0), np.float32(0)), np.float32(1))
                        shift_x -= firm * glance_22[eye, 0]
                        shift_y -= firm * glance_22[eye, 1]
            if kind == 0 or (abs(shift_x) < STILL_PX and abs(shift_y) < STILL_PX):
                if kind == 0 or kind == 4:
                    seen[row, column, 5] *= person_CC5[own_y, own_x, 4]
                for k in range(3):
                    out[row, column, k] = photo_CC3[own_y, own_x, k]
            else:
                x = min(max(np.float32(own_x) + shift_x, np.float32(0)), last)
                y = min(max(np.float32(own_y) + shift_y, np.float32(0)), last)
                x0, y0 = int(x), int(y)
                fx, fy = x - np.float32(x0), y - np.float32(y0)
                a, b = (1 - fx) * (1 - fy), fx * (1 - fy)
                c, d = (1 - fx) * fy, fx * fy
                if kind != 4:
                    for k in range(3):
                        value = (
                            a * photo_CC3[y0, x0, k]
                            + b * photo_CC3[y0, x0 + 1, k]
                            + c * photo_CC3[y0 + 1, x0, k]
                            + d * photo_CC3[y0 + 1, x0 + 1, k]
                        )
                        out[row, column, k] = np.uint8(value + np.float32(0.5))
                else:
                    person = (
                        a * person_CC5[y0, x0, 3]
                        + b * person_CC5[y0, x0 + 1, 3]
                        + c * person_CC5[y0 + 1, x0, 3]
                        + d * person_CC5[y0 + 1, x0 + 1, 3]
                    )
                    seen[row, column, 5] *= (
                        a * person_CC5[y0, x0, 4]
                        + b * person_CC5[y0, x0 + 1, 4]
                        + c * person_CC5[y0 + 1, x0, 4]
                        + d * person_CC5[y0 + 1, x0 + 1, 4]
                    )
                    for k in range(3):
                        value = (
                            a * person_CC5[y0, x0, k]
                            + b * person_CC5[y0, x0 + 1, k]
                            + c * person_CC5[y0 + 1, x0, k]
                            + d * person_CC5[y0 + 1, x0 + 1, k]
                        ) + (1 - person) * background_CC3[own_y, own_x, k]
                        out[row, column, k] = np.uint8(min(max(value + 0.5, 0.0), 255.0))
            if kind == 3 and inside_share > 0:
                in_x, in_y = column - inside_at[0], row - inside_at[1]
                if 0 <= in_x < inside.shape[1] and 0 <= in_y < inside.shape[0]:
                    for k in range(3):
                        value = out[row, column, k] + inside_share * (inside[in_y, in_x, k] - out[row, column, k])
                        out[row, column, k] = np.uint8(value + 0.5)
    return out
