"""The part of a crop that a learned engine draws: larger than the face's outline, so that jaw and cheeks may change.

Training and live make their masks here. Everything is in the crop of engines.face.align: size S = H = W pixels over
SPAN_CM centimetres of an upright head, so lengths are given in centimetres and mean the same at any crop size.

The region is the convex hull of the skin landmarks, pushed outwards: a hull stays sound in profile, where the outline's
far half folds onto the face. What stands in front of the face is no part of the region.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from engines.face.align import SPAN_CM, inverse
from engines.face.compose import masked
from engines.jit import kernel
from engines.pixels import part_colours, resize_area, warp_affine
from engines.types import SKIN_LANDMARKS, Floats, Occlusion, Rgb

Fill = Literal["mean", "grey"]

GROWN_CM = 1.8  # beyond the outline at cheeks, jaw and chin: an identity's jaw may stand out by 1.1 (retarget)
GROWN_UP_CM = 0.6  # ... at the forehead, where the driver's own hair begins
FEATHER_CM = 0.7  # from the region's edge inwards, over which the drawn face fades in
GREY = 127.5  # 0 of -1..1


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the region goes beyond the face's outline: to the sides and down, and up."""

    sides_cm: float = GROWN_CM
    up_cm: float = GROWN_UP_CM


LEARNED = Reach()


@dataclass(frozen=True, slots=True)
class Region:
    """Where is drawn, and how solid what is drawn is laid onto the frame.

    mask_SS   float32 0..1, 1 = to be drawn; what the network is told. Sharp but for a pixel of smoothing
    alpha_SS  float32 0..1, how the drawn face is pasted: `mask` fading in over FEATHER_CM; 0 wherever `mask` is 0
    """

    mask_SS: Floats
    alpha_SS: Floats


def face_region(
    points_px: Floats,
    size_px: int,
    covered_SS: Floats | None = None,
    reach: Reach = LEARNED,
    px_per_cm: float | None = None,
) -> Region:
    """The region of a face.

    points_px   float32 [>= 468, 2 or 3], landmarks on the crop (engines.face.align.moved)
    covered_SS  float32 [S, S], 0..1, how far something in front hides the face (`covered_on_crop`); None: nothing does
    px_per_cm   where the crop is another than that of engines.face.align: its scale, at the face
    """
    px_per_cm = size_px / SPAN_CM if px_per_cm is None else px_per_cm
    depth = depth_inside(hull_sides(points_px, size_px, reach, px_per_cm), size_px)
    return Region(*_shaped(depth, FEATHER_CM * px_per_cm, _NOTHING if covered_SS is None else covered_SS))


_NOTHING = np.zeros((0, 0), np.float32)


@kernel
def convex_hull(points_N2: Floats) -> Floats:
    """Corners of the convex hull, float32 [K, 2], clockwise as seen with y down (Andrew's monotone chain, 1979)."""
    order = np.argsort(points_N2[:, 0])
    count = order.shape[0]
    hull = np.empty((2 * count + 2, 2), np.float32)
    size = 0
    for sweep in range(2):
        least = size + 1
        for step in range(count):
            point = points_N2[order[step if sweep == 0 else count - 1 - step]]
            while size > least:
                ax = hull[size - 1, 0] - hull[size - 2, 0]
                ay = hull[size - 1, 1] - hull[size - 2, 1]
                if ax * (point[1] - hull[size - 2, 1]) - ay * (point[0] - hull[size - 2, 0]) > 0:
                    break
                size -= 1
            hull[size] = point
            size += 1
        size -= 1  # the sweep's last point is the next one's first
    return hull[: max(size, 1)].copy()


def hull_sides(points_px: Floats, size_px: int, reach: Reach = LEARNED, px_per_cm: float | None = None) -> Floats:
    """Sides of the face's grown hull, float32 [K, 3]: (in_x, in_y, start), so that a place (x, y) of the crop lies
    start + in_x x + in_y y pixels inside of a side, and outside where that is negative. Inputs as of `face_region`.
    """
    hull = convex_hull(np.ascontiguousarray(points_px[:SKIN_LANDMARKS, :2], np.float32))
    px_per_cm = size_px / SPAN_CM if px_per_cm is None else px_per_cm
    sides: Floats = _grown_sides(hull, reach.sides_cm * px_per_cm, reach.up_cm * px_per_cm)
    return sides


@kernel
def _grown_sides(hull_K2: Floats, grown_px: float, grown_up_px: float) -> Floats:
    """Sides are pushed outwards by `grown_px`, those that face up by `grown_up_px`, what lies between in proportion."""
    corners, count = hull_K2.shape[0], 0
    out = np.empty((corners, 3), np.float32)
    for i in range(corners):
        x, y = hull_K2[i, 0], hull_K2[i, 1]
        along_x, along_y = hull_K2[(i + 1) % corners, 0] - x, hull_K2[(i + 1) % corners, 1] - y
        length = np.sqrt(along_x * along_x + along_y * along_y)
        if length < 1e-6:
            continue
        in_x, in_y = -along_y / length, along_x / length  # into the hull
        up = max(in_y, np.float32(0))
        out[count, 0], out[count, 1] = in_x, in_y
        out[count, 2] = np.float32(grown_px + up * (grown_up_px - grown_px)) - x * in_x - y * in_y
        count += 1
    return out[:count].copy()


@kernel
def depth_inside(sides_K3: Floats, size_px: int) -> Floats:
    """How far inside of all sides each pixel lies, float32 [S, S] pixels; negative outside."""
    out = np.full((size_px, size_px), np.float32(1e9))
    for i in range(sides_K3.shape[0]):
        in_x = sides_K3[i, 0]
        for row in range(size_px):
            start = sides_K3[i, 2] + np.float32(row) * sides_K3[i, 1]
            for column in range(size_px):
                out[row, column] = min(out[row, column], start + np.float32(column) * in_x)
    return out


@kernel
def _shaped(depth_SS: Floats, feather_px: float, covered_SS: Floats) -> tuple[Floats, Floats]:
    size = depth_SS.shape[0]
    mask, alpha = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    per_px, hides = np.float32(1 / feather_px), covered_SS.shape[0] > 0
    for row in range(size):
        for column in range(size):
            depth = depth_SS[row, column]
            if depth <= 0:
                continue
            free = np.float32(1) - covered_SS[row, column] if hides else np.float32(1)
            mask[row, column] = min(depth, np.float32(1)) * free
            ramp = min(depth * per_px, np.float32(1))
            alpha[row, column] = ramp * ramp * (np.float32(3) - np.float32(2) * ramp) * free
    return mask, alpha


def covered_on_crop(occlusion: Occlusion | None, crop_from_frame: Floats, size_px: int) -> Floats | None:
    """What stands in front of the face, on the crop: float32 [S, S], 0..1. None where nothing does."""
    if occlusion is None or not occlusion.covered_HW.any():
        return None
    mask_from_crop = composed(occlusion.mask_from_frame, inverse(crop_from_frame))
    covered: Floats = _sampled(occlusion.covered_HW, mask_from_crop, size_px)
    return covered


def composed(c_from_b: Floats, b_from_a: Floats) -> Floats:
    """`c_from_a`, float32 [2, 3]; computed in double precision."""
    linear = c_from_b[:, :2].astype(np.float64)
    both = linear @ b_from_a.astype(np.float64)
    both[:, 2] += c_from_b[:, 2]
    out: Floats = both.astype(np.float32)
    return out


@kernel
def _sampled(mask_MM: Rgb, mask_from_crop: Floats, size_px: int) -> Floats:
    out = np.empty((size_px, size_px), np.float32)
    for row in range(size_px):
        for column in range(size_px):
            x = mask_from_crop[0, 0] * column + mask_from_crop[0, 1] * row + mask_from_crop[0, 2]
            y = mask_from_crop[1, 0] * column + mask_from_crop[1, 1] * row + mask_from_crop[1, 2]
            out[row, column] = masked(mask_MM, x, y)
    return out


def fill_colour(crop_SS3: Rgb, mask_SS: Floats, fill: Fill) -> Floats:
    """The colour that stands where the face was, float32 [3], 0..255: the masked pixels' own mean, or plain grey."""
    if fill == "grey":
        return np.full(3, GREY, np.float32)
    total, weight = _masked_sum(crop_SS3, mask_SS)
    return (total / weight).astype(np.float32) if weight > 0 else np.full(3, GREY, np.float32)


@kernel
def _masked_sum(crop_SS3: Rgb, mask_SS: Floats) -> tuple[Floats, float]:
    total, weight, columns = np.zeros(3, np.float64), 0.0, crop_SS3.shape[1]
    colours = np.empty((3, columns), np.uint8)
    for row in range(mask_SS.shape[0]):
        part_colours(crop_SS3[row].reshape(3 * columns), colours[0], colours[1], colours[2])
        for column in range(columns):
            weight += mask_SS[row, column]
        for c in range(3):
            along = 0.0
            for column in range(columns):
                along += mask_SS[row, column] * np.float32(colours[c, column])
            total[c] += along
    return total.astype(np.float32), weight


@kernel
def planes(crop_SS3: Rgb) -> Floats:
    """Pixels as networks read them: uint8 [S, S, 3], 0..255 -> float32 [1, 3, S, S], -1..1."""
    rows, columns = crop_SS3.shape[0], crop_SS3.shape[1]
    out, colours = np.empty((1, 3, rows, columns), np.float32), np.empty((3, columns), np.uint8)
    for row in range(rows):
        part_colours(crop_SS3[row].reshape(3 * columns), colours[0], colours[1], colours[2])
        for c in range(3):
            for column in range(columns):
                out[0, c, row, column] = np.float32(colours[c, column]) * np.float32(1 / 127.5) - np.float32(1)
    return out


@kernel
def masked_planes(crop_SS3: Rgb, mask_SS: Floats, fill_3: Floats) -> Floats:
    """As `planes`, with the region filled by one colour (0..255): nothing of the face is left where the mask is 1."""
    rows, columns = crop_SS3.shape[0], crop_SS3.shape[1]
    out, colours = np.empty((1, 3, rows, columns), np.float32), np.empty((3, columns), np.uint8)
    for row in range(rows):
        part_colours(crop_SS3[row].reshape(3 * columns), colours[0], colours[1], colours[2])
        for c in range(3):
            fill = fill_3[c]
            for column in range(columns):
                mask = mask_SS[row, column]
                mixed = (np.float32(1) - mask) * np.float32(colours[c, column]) + mask * fill
                # A blend by 1 would leave a rounding error of the face's own pixel.
                shown = mixed if mask < np.float32(1) else fill
                out[0, c, row, column] = shown * np.float32(1 / 127.5) - np.float32(1)
    return out


def small_picture(picture_SS3: Rgb, side_px: int) -> Rgb:
    """A square picture at the size that the face encoder reads: averaged, or where larger than it was, interpolated."""
    size_px = picture_SS3.shape[0]
    if size_px % side_px == 0:
        averaged: Rgb = resize_area(picture_SS3, side_px, side_px)
        return averaged
    scale = size_px / side_px
    middle = (scale - 1) / 2
    there = np.array([[scale, 0, middle], [0, scale, middle]], np.float32)
    sampled: Rgb = warp_affine(picture_SS3, there, side_px, side_px)
    return sampled
