"""Lays the relit texture onto the driver's face: one pass over the pixels around the face, compiled.

Legend: V = 468 skin landmarks and two rings of 36 points around the outline; B = pixels of the box around them.
Every pixel of the box takes the driver's picture bent so that the driver's outline becomes the identity's (no second
jaw beside the new one), and over it the identity's texture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engines.face.mesh import FACE_OVAL, face_model
from engines.face.rasterise import rasterise
from engines.face.retarget import oval_rings
from engines.jit import kernel
from engines.types import SKIN_LANDMARKS, Floats, Mask, Rgb

Real = float | np.float32

SKIN, EYE, MOUTH, RING = 1, 2, 3, 4  # parts of the mesh
NEAR_RING, FAR_RING = 0.3, 0.85  # of the face's radius beyond its outline; at the far ring nothing moves any more
NEAR_FOLLOWS = 0.4  # of the outline's shift
RING_DEPTH = 0.35  # of the face's radius behind the outline, so that the face wins where they overlap
OUTLINE_GRADE, NEAR_GRADE = 0.85, 0.6  # how far the driver's own skin takes the result's tone at outline and near ring
U, V, SHIFT_X, SHIFT_Y, RED, GREEN, BLUE, GRADE, SOLID = range(9)
VALUES = 9
UNMOVED_PX = 0.05  # a pixel that moves less is copied, not resampled
OPAQUE = np.float32(0.998)  # from here on the driver's pixel is not even read
EDGE_ON, FULL_ON = 0.0, 0.22  # cosine to the camera between which the texture fades: no hard edge at the silhouette
WET_GRADE = 0.4  # how far eyes and teeth follow where the result is darker than the driver
IRIS_SHARE = 0.75  # of the identity's iris colour in the result's


@dataclass(frozen=True, slots=True)
class Patch:
    """The visible mesh in one box of the frame. values: float32 [h, w, 9], part: uint8 [h, w]."""

    values: Floats
    part: Mask
    left_px: int
    top_px: int


@dataclass(frozen=True, slots=True)
class PlacedFace:
    """The mesh in the frame: points float32 [V, 3] in pixels, values float32 [V, 9], and the box that it may touch."""

    points_V3: Floats
    values_VK: Floats
    left_px: int
    top_px: int
    right_px: int
    bottom_px: int


@lru_cache(maxsize=1)
def _mesh() -> tuple[NDArray[np.int32], Mask]:
    """Triangles of skin, eyes, mouth and rings, and the part that each belongs to."""
    model = face_model()
    count = len(FACE_OVAL)
    loops = [FACE_OVAL, SKIN_LANDMARKS + np.arange(count), SKIN_LANDMARKS + count + np.arange(count)]
    ring = []
    for inner, outer in pairwise(loops):
        for i in range(count):
            a, b, c, d = inner[i], inner[(i + 1) % count], outer[i], outer[(i + 1) % count]
            ring += [(a, b, c), (b, d, c)]
    triangles = np.concatenate(
        [model.triangles_T3, model.eye_triangles_T3, model.mouth_triangles_T3, np.array(ring, np.int32)]
    ).astype(np.int32)
    sizes = [len(model.triangles_T3), len(model.eye_triangles_T3), len(model.mouth_triangles_T3), len(ring)]
    part = np.repeat(np.array([SKIN, EYE, MOUTH, RING], np.uint8), sizes)
    return triangles, part


def _with_rings(points_px: Floats, moved_px: Floats) -> tuple[Floats, Floats]:
    """Landmarks of the driver and of the result, both [V, 3], with rings that tie the result to its surroundings."""
    shift = (moved_px - points_px)[FACE_OVAL]
    near, far = oval_rings(points_px[:SKIN_LANDMARKS], NEAR_RING), oval_rings(points_px[:SKIN_LANDMARKS], FAR_RING)
    driver = np.concatenate([points_px[:SKIN_LANDMARKS], near, far])
    result = np.concatenate([moved_px[:SKIN_LANDMARKS], near + NEAR_FOLLOWS * shift, far])
    radius = np.ptp(points_px[FACE_OVAL, 1]) / 2
    result[SKIN_LANDMARKS:, 2] += RING_DEPTH * radius
    return driver.astype(np.float32), result.astype(np.float32)


def place_face(
    points_px: Floats, moved_px: Floats, normals_S3: Floats, gain_S3: Floats, height_px: int, width_px: int
) -> PlacedFace | None:
    """The result's mesh and the rows and columns of the frame that it may touch. None where it is outside of it.

    points_px, moved_px: float32 [>= 468, 3], landmarks of the driver and of the result.
    normals_S3: float32 [468, 3], of the result; z < 0 faces the camera.
    gain_S3: float32 [468, 3], what the albedo is multiplied with.
    """
    driver, result = _with_rings(points_px, moved_px)
    left, top = np.maximum(np.floor(result[:, :2].min(axis=0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(result[:, :2].max(axis=0)) + 1, (width_px, height_px)).astype(int)
    if right - left < 2 or bottom - top < 2:
        return None
    values = np.ones((len(result), VALUES), np.float32)
    values[:SKIN_LANDMARKS, U:SHIFT_X] = face_model().uv_S2
    # How far off the driver's pixel is, not where: between vertices of different depth, perspective would bend a place
    # by a pixel or more, but a shift only in proportion, and not at all where nothing moves.
    values[:, SHIFT_X:RED] = (driver - result)[:, :2]
    values[:SKIN_LANDMARKS, RED:GRADE] = gain_S3
    facing = np.clip((-normals_S3[:, 2] - EDGE_ON) / (FULL_ON - EDGE_ON), 0, 1)
    values[:SKIN_LANDMARKS, SOLID] = facing * facing * (3 - 2 * facing)
    count = len(FACE_OVAL)
    values[:, GRADE] = np.repeat([OUTLINE_GRADE, NEAR_GRADE, 0.0], [SKIN_LANDMARKS, count, count])
    return PlacedFace(result, values, int(left), int(top), int(right), int(bottom))


def rasterised(placed: PlacedFace, camera_px: float, top_px: int, bottom_px: int) -> Patch:
    """The visible mesh in a band of rows of the frame; bands may be made side by side in threads."""
    triangles, part_T = _mesh()
    in_band = placed.points_V3 - np.array([placed.left_px, top_px, 0], np.float32)
    columns = placed.right_px - placed.left_px
    seen, part = rasterise(in_band, triangles, part_T, placed.values_VK, camera_px, bottom_px - top_px, columns)
    return Patch(seen, part, placed.left_px, top_px)


def face_patch(
    points_px: Floats,
    moved_px: Floats,
    normals_S3: Floats,
    gain_S3: Floats,
    camera_px: float,
    height_px: int,
    width_px: int,
) -> Patch | None:
    """`place_face` and `rasterised` over all rows at once."""
    placed = place_face(points_px, moved_px, normals_S3, gain_S3, height_px, width_px)
    return None if placed is None else rasterised(placed, camera_px, placed.top_px, placed.bottom_px)


@kernel
def sample(picture_HWC: Rgb, x: Real, y: Real, out: Floats) -> None:
    """All channels at a place between pixels, linear, edges repeated. Writes 0..255 into `out`, float32 [C]."""
    in_x = np.float32(min(max(x, 0.0), picture_HWC.shape[1] - 1.0))
    in_y = np.float32(min(max(y, 0.0), picture_HWC.shape[0] - 1.0))
    x0, y0 = min(int(in_x), max(picture_HWC.shape[1] - 2, 0)), min(int(in_y), max(picture_HWC.shape[0] - 2, 0))
    x1, y1 = min(x0 + 1, picture_HWC.shape[1] - 1), min(y0 + 1, picture_HWC.shape[0] - 1)
    fx, fy = np.float32(in_x - x0), np.float32(in_y - y0)
    a, b = (np.float32(1) - fx) * (np.float32(1) - fy), fx * (np.float32(1) - fy)
    c, d = (np.float32(1) - fx) * fy, fx * fy
    for k in range(out.shape[0]):
        out[k] = (
            a * picture_HWC[y0, x0, k]
            + b * picture_HWC[y0, x1, k]
            + c * picture_HWC[y1, x0, k]
            + d * picture_HWC[y1, x1, k]
        )


@kernel
def masked(mask_MM: Mask, x: Real, y: Real) -> np.float32:
    """A mask at a place between its cells, linear, 0..1; nothing outside of it."""
    if not (0 <= x < mask_MM.shape[1] - 1 and 0 <= y < mask_MM.shape[0] - 1):
        return np.float32(0)
    x0, y0 = int(x), int(y)
    fx, fy = np.float32(x - x0), np.float32(y - y0)
    upper = mask_MM[y0, x0] * (1 - fx) + mask_MM[y0, x0 + 1] * fx
    lower = mask_MM[y0 + 1, x0] * (1 - fx) + mask_MM[y0 + 1, x0 + 1] * fx
    return np.float32((upper * (1 - fy) + lower * fy) / np.float32(255))


@kernel
def lay_face(
    onto_HW3: Rgb,
    frame_HW3: Rgb,
    values: Floats,
    part: Mask,
    left_px: int,
    top_px: int,
    texture_AA4: Rgb,
    black: Real,
    grade_23: Floats,
    hair_UU: Mask,
    keep_MM: Mask,
    keep_from_frame: Floats,
    iris_23: Floats,
    iris_rgb: Floats,
    iris_level: Real,
) -> None:
    """Draws the patch into `onto`.

    texture_AA4      uint8 [A, A, 4], albedo and, in the last channel, how opaque it is laid on
    black            0..255, the camera's darkest level: haze and flare lift it, and the face must lie in the same haze
    grade_23         float32 [2, 3], the driver's mean skin colour, 0..255, and the gain that takes it to the result's
    hair_UU          uint8, 255 where the driver's own hair hangs into the face, in the atlas' square
    keep_MM          uint8, 255 where the driver's picture stays (something is in front), on the grid keep_from_frame
    iris_23          float32 [2, 3], both irises in the driver's picture: x, y, radius in pixels
    iris_rgb         float32 [3], colour that the irises get, for brightness 1
    iris_level       mean luminance of the driver's irises, 0..255: keeps pupil and highlight what they are
    """
    colour, texel = np.empty(3, np.float32), np.empty(4, np.float32)
    wet, covered = wet_gain(grade_23), keep_MM.max() > 0
    for row in range(part.shape[0]):
        for column in range(part.shape[1]):
            kind = part[row, column]
            if kind == 0:
                continue
            here = values[row, column]
            own_x, own_y = np.float32(left_px + column), np.float32(top_px + row)
            free = np.float32(1)
            if covered:
                free -= kept(keep_MM, keep_from_frame, own_x, own_y)
            # What is in front of the face stays where it is: it is not bent with the face behind it.
            x, y = own_x + free * here[SHIFT_X], own_y + free * here[SHIFT_Y]
            alpha = np.float32(0)
            if kind == SKIN:
                sample(texture_AA4, here[U] * (texture_AA4.shape[0] - 1), here[V] * (texture_AA4.shape[0] - 1), texel)
                hair = masked(hair_UU, here[U] * (hair_UU.shape[0] - 1), here[V] * (hair_UU.shape[0] - 1))
                alpha = texel[3] / np.float32(255) * here[SOLID] * free * (np.float32(1) - hair)
            if alpha < OPAQUE:
                if abs(x - own_x) + abs(y - own_y) < UNMOVED_PX:
                    for c in range(3):
                        colour[c] = frame_HW3[top_px + row, left_px + column, c]
                else:
                    sample(frame_HW3, x, y, colour)
                if kind in (SKIN, RING):
                    regrade(colour, grade_23, here[GRADE] * free)
                else:
                    for c in range(3):
                        colour[c] *= np.float32(1) + free * (wet - np.float32(1))
                if kind == EYE:
                    repaint_iris(colour, x, y, iris_23, iris_rgb, iris_level, black, IRIS_SHARE * free)
            if alpha > 0:
                lay_skin(colour, texel, here, alpha, black)
            for c in range(3):
                onto_HW3[top_px + row, left_px + column, c] = np.uint8(min(max(colour[c] + 0.5, 0), 255))


@kernel
def kept(keep_MM: Mask, keep_from_frame: Floats, x: Real, y: Real) -> np.float32:
    """How far something in front of the face hides it at a place of the frame, 0..1."""
    return masked(
        keep_MM,
        keep_from_frame[0, 0] * x + keep_from_frame[0, 1] * y + keep_from_frame[0, 2],
        keep_from_frame[1, 0] * x + keep_from_frame[1, 1] * y + keep_from_frame[1, 2],
    )


@kernel
def wet_gain(grade_23: Floats) -> np.float32:
    """White eyes and teeth follow a darker face part of the way: at full brightness they would glow in it."""
    before = grade_23[0, 0] + grade_23[0, 1] + grade_23[0, 2]
    after = grade_23[0, 0] * grade_23[1, 0] + grade_23[0, 1] * grade_23[1, 1] + grade_23[0, 2] * grade_23[1, 2]
    return np.float32(1 + WET_GRADE * (min(after / max(before, 1.0), 1.0) - 1))


@kernel
def lay_skin(colour: Floats, texel: Floats, here: Floats, alpha: Real, black: Real) -> None:
    """Blends the relit texel over `colour`, in place, in the camera's haze."""
    clear = np.float32(1 - black / 255)
    for c in range(3):
        skin = black + clear * texel[c] * here[RED + c]
        colour[c] = colour[c] + alpha * (skin - colour[c]) if alpha < OPAQUE else skin


@kernel
def regrade(colour: Floats, grade_23: Floats, share: Real) -> None:
    """Takes the driver's skin around the face part of the way to the result's tone, in place; leaves all else."""
    if share < 0.01:
        return
    red, green, blue = colour[0] + 1, colour[1] + 1, colour[2] + 1
    level = red + green + blue
    skin_level = grade_23[0, 0] + grade_23[0, 1] + grade_23[0, 2]
    off = abs(red / level - grade_23[0, 0] / skin_level) + abs(blue / level - grade_23[0, 2] / skin_level)
    dark = max(0.55 - level / skin_level, 0.0)
    # A highlight on skin is paler the brighter it is.
    allowed = 0.05 + 0.12 * min(max(level / skin_level - 1.0, 0.0), 1.0)
    alike = min(max(1.6 - off / allowed - dark / 0.12, 0.0), 1.0) * share
    for c in range(3):
        colour[c] *= 1 + alike * (grade_23[1, c] - 1)


@kernel
def repaint_iris(
    colour: Floats, x: Real, y: Real, iris_23: Floats, iris_rgb: Floats, iris_level: Real, black: Real, share: Real
) -> None:
    """Gives a pixel of the driver's eye the identity's iris colour, in place; pupil and highlight stay."""
    for eye in range(2):
        distance = np.sqrt((x - iris_23[eye, 0]) ** 2 + (y - iris_23[eye, 1]) ** 2) / iris_23[eye, 2]
        if distance < 1.0:
            bright = max(0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] - black, 0.0)
            level = bright / max(iris_level - black, 6.0)
            inside = share * min((1.0 - distance) * 4, 1.0) * min(max((2.0 - level) * 2, 0.0), 1.0)
            for c in range(3):
                colour[c] += inside * (black + iris_rgb[c] * bright - colour[c])


@kernel
def patch_means(picture_HW3: Rgb, points_px: Floats, reach_px: int) -> Floats:
    """Mean colour of a square around each point. float32 [V, >= 2] pixels -> float32 [V, 3], 0..255."""
    rows, columns = picture_HW3.shape[0], picture_HW3.shape[1]
    out = np.zeros((points_px.shape[0], 3), np.float32)
    for i in range(points_px.shape[0]):
        cx, cy = int(points_px[i, 0] + 0.5), int(points_px[i, 1] + 0.5)
        count = 0
        for y in range(max(cy - reach_px, 0), min(cy + reach_px + 1, rows)):
            for x in range(max(cx - reach_px, 0), min(cx + reach_px + 1, columns)):
                for c in range(3):
                    out[i, c] += picture_HW3[y, x, c]
                count += 1
        for c in range(3):
            out[i, c] /= max(count, 1)
    return out


def detail_octaves(before_HW3: Rgb, after_HW3: Rgb, patch: Patch) -> float:
    """log2 of the fine detail of the drawn skin over that of the camera's picture in the same place."""
    before, after = skin_detail(before_HW3, after_HW3, patch.part, patch.left_px, patch.top_px)
    return float(np.log2((after + 0.5) / (before + 0.5)))


@kernel
def skin_detail(before_HW3: Rgb, after_HW3: Rgb, part: Mask, left_px: int, top_px: int) -> tuple[float, float]:
    """Mean absolute Laplacian of the green channel over the skin, in two pictures; every other pixel."""
    first, second, count = 0.0, 0.0, 0
    rows, columns = before_HW3.shape[0], before_HW3.shape[1]
    for row in range(1, part.shape[0] - 1, 2):
        y = top_px + row
        for column in range(1, part.shape[1] - 1, 2):
            x = left_px + column
            if part[row, column] != SKIN or not (0 < y < rows - 1 and 0 < x < columns - 1):
                continue
            count += 1
            for which in range(2):
                image = before_HW3 if which == 0 else after_HW3
                around = int(image[y - 1, x, 1]) + int(image[y + 1, x, 1]) + int(image[y, x - 1, 1])
                bend = abs(around + int(image[y, x + 1, 1]) - 4 * int(image[y, x, 1]))
                if which == 0:
                    first += bend
                else:
                    second += bend
    return first / max(count, 1), second / max(count, 1)
