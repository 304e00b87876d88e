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
from engines.face.skin_tone import SkinTone, skin_share, toned
from engines.jit import inlined, kernel
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


@inlined
def cell_of(x: Real, count: int) -> tuple[np.uint32, np.uint32, np.float32]:
    """The two cells about a place on a line of `count`, and the share of the second; the edge is repeated."""
    inside = min(max(x, np.float32(0)), np.float32(count - 1))
    first = np.uint32(min(np.int32(inside), np.int32(max(count - 2, 0))))
    return first, first + np.uint32(min(count - 1, 1)), np.float32(inside - np.float32(first))


@inlined
def shares_of(over: np.float32, down: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """What each of four neighbours counts: upper left, upper right, lower left, lower right."""
    both = over * down
    return np.float32(1) - over - (down - both), over - both, down - both, both


@inlined
def rgb_at(picture_HWC: Rgb, x: Real, y: Real) -> tuple[np.float32, np.float32, np.float32]:
    """Colour at a place between pixels, linear, edges repeated. 0..255."""
    x0, x1, over = cell_of(x, picture_HWC.shape[1])
    y0, y1, down = cell_of(y, picture_HWC.shape[0])
    a, b, c, d = shares_of(over, down)
    red = a * np.float32(picture_HWC[y0, x0, 0]) + b * np.float32(picture_HWC[y0, x1, 0])
    red += c * np.float32(picture_HWC[y1, x0, 0]) + d * np.float32(picture_HWC[y1, x1, 0])
    green = a * np.float32(picture_HWC[y0, x0, 1]) + b * np.float32(picture_HWC[y0, x1, 1])
    green += c * np.float32(picture_HWC[y1, x0, 1]) + d * np.float32(picture_HWC[y1, x1, 1])
    blue = a * np.float32(picture_HWC[y0, x0, 2]) + b * np.float32(picture_HWC[y0, x1, 2])
    blue += c * np.float32(picture_HWC[y1, x0, 2]) + d * np.float32(picture_HWC[y1, x1, 2])
    return red, green, blue


@inlined
def plane_at(plane_HWC: Rgb, channel: int, x: Real, y: Real) -> np.float32:
    """One channel, as `rgb_at`."""
    x0, x1, over = cell_of(x, plane_HWC.shape[1])
    y0, y1, down = cell_of(y, plane_HWC.shape[0])
    a, b, c, d = shares_of(over, down)
    level = a * np.float32(plane_HWC[y0, x0, channel]) + b * np.float32(plane_HWC[y0, x1, channel])
    return np.float32(level + c * np.float32(plane_HWC[y1, x0, channel]) + d * np.float32(plane_HWC[y1, x1, channel]))


@inlined
def masked(mask_MM: Mask, x: Real, y: Real) -> np.float32:
    """A mask at a place between its cells, linear, 0..1; nothing outside of it."""
    if not (0 <= x < np.float32(mask_MM.shape[1] - 1) and 0 <= y < np.float32(mask_MM.shape[0] - 1)):
        return np.float32(0)
    x0, y0 = np.uint32(np.int32(x)), np.uint32(np.int32(y))
    x1, y1 = x0 + np.uint32(1), y0 + np.uint32(1)
    fx, fy = np.float32(x - np.float32(x0)), np.float32(y - np.float32(y0))
    upper = np.float32(mask_MM[y0, x0]) * (np.float32(1) - fx) + np.float32(mask_MM[y0, x1]) * fx
    lower = np.float32(mask_MM[y1, x0]) * (np.float32(1) - fx) + np.float32(mask_MM[y1, x1]) * fx
    return np.float32((upper * (np.float32(1) - fy) + lower * fy) * np.float32(1 / 255))


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
    skin: SkinTone,
) -> None:
    """Draws the patch into `onto`. In one piece: a call per pixel costs as much as half of what is done there.

    texture_AA4      uint8 [A, A, 4], albedo and, in the last channel, how opaque it is laid on
    black            0..255, the camera's darkest level: haze and flare lift it, and the face must lie in the same haze
    grade_23         float32 [2, 3], the driver's mean skin colour, 0..255, and the gain that takes it to the result's
    hair_UU          uint8, 255 where the driver's own hair hangs into the face, in the atlas' square
    keep_MM          uint8, 255 where the driver's picture stays (something is in front), on the grid keep_from_frame
    iris_23          float32 [2, 3], both irises in the driver's picture: x, y, radius in pixels
    iris_rgb         float32 [3], what the brightness of the driver's irises above the haze is multiplied with
    iris_level       mean luminance of the driver's irises, 0..255: keeps pupil and highlight what they are
    skin             what the driver's own skin around the face is toned by; `unknown`: by its likeness to grade_23
    """
    wet, covered, haired = wet_gain(grade_23), keep_MM.max() > 0, hair_UU.max() > 0
    across, hairs = np.float32(texture_AA4.shape[0] - 1), np.float32(hair_UU.shape[0] - 1)
    learned = skin.share_FF.shape[0] > 0
    haze, opaque, unmoved = np.float32(black), np.float32(OPAQUE), np.float32(UNMOVED_PX)
    clear = np.float32(1) - haze * np.float32(1 / 255)
    for row in range(part.shape[0]):
        y = np.uint32(top_px + row)
        for column in range(part.shape[1]):
            kind, x = part[row, column], np.uint32(left_px + column)
            if kind == 0:
                continue
            free = np.float32(1)
            if covered:
                free -= kept(keep_MM, keep_from_frame, np.float32(x), np.float32(y))
            # What is in front of the face stays where it is: it is not bent with the face behind it.
            shift_x, shift_y = free * values[row, column, SHIFT_X], free * values[row, column, SHIFT_Y]
            from_x, from_y = np.float32(x) + shift_x, np.float32(y) + shift_y
            u, v, alpha = values[row, column, U], values[row, column, V], np.float32(0)
            if kind == SKIN:
                solid = plane_at(texture_AA4, 3, u * across, v * across) * np.float32(1 / 255)
                alpha = solid * values[row, column, SOLID] * free
                if haired:
                    alpha *= np.float32(1) - masked(hair_UU, u * hairs, v * hairs)
            red = green = blue = np.float32(0)
            if alpha < opaque:
                if abs(shift_x) + abs(shift_y) < unmoved:
                    red, green = np.float32(frame_HW3[y, x, 0]), np.float32(frame_HW3[y, x, 1])
                    blue = np.float32(frame_HW3[y, x, 2])
                else:
                    red, green, blue = rgb_at(frame_HW3, from_x, from_y)
                if learned and kind in (SKIN, RING):
                    share = free * skin_share(from_x, from_y, skin)
                    red, green, blue = toned(red, green, blue, from_x, from_y, share, skin)
                elif kind in (SKIN, RING):
                    red, green, blue = regraded(red, green, blue, grade_23, values[row, column, GRADE] * free)
                else:
                    gain = np.float32(1) + free * (wet - np.float32(1))
                    red, green, blue = red * gain, green * gain, blue * gain
                    if kind == EYE:
                        share = np.float32(IRIS_SHARE) * free
                        colour = red, green, blue
                        red, green, blue = repainted(
                            colour, from_x, from_y, iris_23, iris_rgb, np.float32(iris_level), haze, share
                        )
            if alpha > 0:  # the relit texel, in the camera's haze
                over = alpha if alpha < opaque else np.float32(1)
                red_over, green_over, blue_over = rgb_at(texture_AA4, u * across, v * across)
                red += over * (haze + clear * red_over * values[row, column, RED] - red)
                green += over * (haze + clear * green_over * values[row, column, GREEN] - green)
                blue += over * (haze + clear * blue_over * values[row, column, BLUE] - blue)
            onto_HW3[y, x, 0], onto_HW3[y, x, 1], onto_HW3[y, x, 2] = as_byte(red), as_byte(green), as_byte(blue)


@inlined
def as_byte(level: np.float32) -> np.uint8:
    return np.uint8(min(max(level + np.float32(0.5), np.float32(0)), np.float32(255)))


@inlined
def kept(keep_MM: Mask, keep_from_frame: Floats, x: np.float32, y: np.float32) -> np.float32:
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


@inlined
def regraded(
    red: np.float32, green: np.float32, blue: np.float32, grade_23: Floats, share: np.float32
) -> tuple[np.float32, np.float32, np.float32]:
    """The driver's skin around the face, taken part of the way to the result's tone; all else as it is."""
    if share < np.float32(0.01):
        return red, green, blue
    level = red + green + blue + np.float32(3)
    of_level, of_skin = np.float32(1) / level, np.float32(1) / (grade_23[0, 0] + grade_23[0, 1] + grade_23[0, 2])
    off = abs((red + np.float32(1)) * of_level - grade_23[0, 0] * of_skin)
    off += abs((blue + np.float32(1)) * of_level - grade_23[0, 2] * of_skin)
    bright = level * of_skin
    dark = max(np.float32(0.55) - bright, np.float32(0))
    # A highlight on skin is paler the brighter it is.
    allowed = np.float32(0.05) + np.float32(0.12) * min(max(bright - np.float32(1), np.float32(0)), np.float32(1))
    alike = np.float32(1.6) - off / allowed - dark * np.float32(1 / 0.12)
    alike = min(max(alike, np.float32(0)), np.float32(1)) * share
    return (
        red + red * alike * (grade_23[1, 0] - np.float32(1)),
        green + green * alike * (grade_23[1, 1] - np.float32(1)),
        blue + blue * alike * (grade_23[1, 2] - np.float32(1)),
    )


@inlined
def repainted(
    colour: tuple[np.float32, np.float32, np.float32],
    x: np.float32,
    y: np.float32,
    iris_23: Floats,
    iris_rgb: Floats,
    iris_level: np.float32,
    black: np.float32,
    share: np.float32,
) -> tuple[np.float32, np.float32, np.float32]:
    """A pixel of the driver's eye in the identity's iris colour; pupil and highlight stay."""
    red, green, blue = colour
    for eye in range(2):
        distance = np.sqrt((x - iris_23[eye, 0]) ** 2 + (y - iris_23[eye, 1]) ** 2) / iris_23[eye, 2]
        if distance < np.float32(1.5):
            luminance = np.float32(0.3) * red + np.float32(0.6) * green + np.float32(0.1) * blue
            bright = max(luminance - black, np.float32(0))
            level = bright / max(iris_level - black, np.float32(6))
            slope = min(iris_23[eye, 2], np.float32(4))  # the rim is a pixel wide at least: no steps in small eyes
            edge = np.float32(0.5) + (np.float32(0.875) - distance) * slope
            inside = share * min(max(edge, np.float32(0)), np.float32(1))
            inside *= min(max((np.float32(2) - level) * np.float32(2), np.float32(0)), np.float32(1))
            red += inside * (black + iris_rgb[0] * bright - red)
            green += inside * (black + iris_rgb[1] * bright - green)
            blue += inside * (black + iris_rgb[2] * bright - blue)
    return red, green, blue


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
