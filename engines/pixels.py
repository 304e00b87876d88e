"""Pixel kernels that several stages share: resize, warp, blur. All take and give C-contiguous arrays.

The centre of a pixel is at integer coordinates; a resize maps the outer edges of one picture onto those of the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.jit import kernel
from engines.types import Floats, Mask, Rgb

Indices = NDArray[np.uint32]


@kernel
def resize_area(source_HW3: Rgb, height_px: int, width_px: int) -> Rgb:
    """Shrinks by averaging every source pixel exactly once (box filter). uint8 [H, W, 3] -> [height, width, 3]."""
    rows, columns = source_HW3.shape[0], source_HW3.shape[1]
    out = np.empty((height_px, width_px, 3), np.uint8)
    for row in range(height_px):
        top = row * rows // height_px
        bottom = max((row + 1) * rows // height_px, top + 1)
        for column in range(width_px):
            left = column * columns // width_px
            right = max((column + 1) * columns // width_px, left + 1)
            red = green = blue = 0
            for y in range(top, bottom):
                for x in range(left, right):
                    red += source_HW3[y, x, 0]
                    green += source_HW3[y, x, 1]
                    blue += source_HW3[y, x, 2]
            area = (bottom - top) * (right - left)
            out[row, column, 0] = (red + area // 2) // area
            out[row, column, 1] = (green + area // 2) // area
            out[row, column, 2] = (blue + area // 2) // area
    return out


@kernel
def resize_bilinear(source_HW3: Rgb, height_px: int, width_px: int) -> Rgb:
    """Enlarges with linear interpolation, edges repeated. uint8 [H, W, 3] -> [height, width, 3]."""
    rows, columns = source_HW3.shape[0], source_HW3.shape[1]
    out = np.empty((height_px, width_px, 3), np.uint8)
    for row in range(height_px):
        y = min(max((row + 0.5) * rows / height_px - 0.5, 0.0), rows - 1.0)
        y0 = min(int(y), max(rows - 2, 0))
        y1 = min(y0 + 1, rows - 1)
        fy = np.float32(y - y0)
        for column in range(width_px):
            x = min(max((column + 0.5) * columns / width_px - 0.5, 0.0), columns - 1.0)
            x0 = min(int(x), max(columns - 2, 0))
            x1 = min(x0 + 1, columns - 1)
            fx = np.float32(x - x0)
            for c in range(3):
                upper = source_HW3[y0, x0, c] * (1 - fx) + source_HW3[y0, x1, c] * fx
                lower = source_HW3[y1, x0, c] * (1 - fx) + source_HW3[y1, x1, c] * fx
                out[row, column, c] = np.uint8(upper * (1 - fy) + lower * fy + np.float32(0.5))
    return out


@kernel
def warp_affine(source_HW3: Rgb, source_from_out: Floats, height_px: int, width_px: int) -> Rgb:
    """Samples `source` linearly on an affine grid, edges repeated.

    source_from_out: float32 [2, 3], takes (x, y, 1) of the output to (x, y) of the source, both in pixels.
    """
    rows, columns = source_HW3.shape[0], source_HW3.shape[1]
    out = np.empty((height_px, width_px, 3), np.uint8)
    a, b, c = source_from_out[0, 0], source_from_out[0, 1], source_from_out[0, 2]
    d, e, f = source_from_out[1, 0], source_from_out[1, 1], source_from_out[1, 2]
    x_last, y_last = np.float32(columns - 1), np.float32(rows - 1)
    for row in range(height_px):
        for column in range(width_px):
            x = min(max(a * column + b * row + c, np.float32(0)), x_last)
            y = min(max(d * column + e * row + f, np.float32(0)), y_last)
            x0, y0 = min(int(x), max(columns - 2, 0)), min(int(y), max(rows - 2, 0))
            x1, y1 = min(x0 + 1, columns - 1), min(y0 + 1, rows - 1)
            fx, fy = np.float32(x - x0), np.float32(y - y0)
            for k in range(3):
                upper = source_HW3[y0, x0, k] * (1 - fx) + source_HW3[y0, x1, k] * fx
                lower = source_HW3[y1, x0, k] * (1 - fx) + source_HW3[y1, x1, k] * fx
                out[row, column, k] = np.uint8(upper * (1 - fy) + lower * fy + np.float32(0.5))
    return out


@kernel
def warp_area(source_HW3: Rgb, source_from_fine: Floats, size_px: int, samples: int) -> Rgb:
    """A square sampled linearly on an affine grid, `samples` a side for each of its pixels, and averaged.

    source_from_fine: float32 [2, 3], takes (x, y, 1) of the fine grid, size * samples a side, to the source's pixels.
    The same as `warp_affine` onto the fine grid and `resize_area`, but for one rounding less, in half the time.
    """
    rows, columns = source_HW3.shape[0], source_HW3.shape[1]
    out = np.empty((size_px, size_px, 3), np.uint8)
    fine_px = size_px * samples
    at, shares = np.empty(fine_px, np.uint32), np.empty((4, fine_px), np.float32)
    sums = np.empty((size_px, 3), np.float32)
    right, below = np.uint32(3 * min(columns - 1, 1)), np.uint32(3 * columns * min(rows - 1, 1))
    flat, share = source_HW3.reshape(3 * rows * columns), np.float32(1.0 / (samples * samples))
    for row in range(size_px):
        sums[:] = 0
        for fine_row in range(row * samples, (row + 1) * samples):
            _places(source_from_fine, np.float32(fine_row), rows, columns, at, shares)
            for column in range(size_px):
                red = green = blue = np.float32(0)
                for fine in range(column * samples, (column + 1) * samples):
                    here, over, down, both = shares[0, fine], shares[1, fine], shares[2, fine], shares[3, fine]
                    p, q = at[fine], at[fine] + right
                    r, s = p + below, q + below
                    red += here * np.float32(flat[p]) + over * np.float32(flat[q])
                    red += down * np.float32(flat[r]) + both * np.float32(flat[s])
                    p, q, r, s = p + np.uint32(1), q + np.uint32(1), r + np.uint32(1), s + np.uint32(1)
                    green += here * np.float32(flat[p]) + over * np.float32(flat[q])
                    green += down * np.float32(flat[r]) + both * np.float32(flat[s])
                    p, q, r, s = p + np.uint32(1), q + np.uint32(1), r + np.uint32(1), s + np.uint32(1)
                    blue += here * np.float32(flat[p]) + over * np.float32(flat[q])
                    blue += down * np.float32(flat[r]) + both * np.float32(flat[s])
                sums[column, 0] += red
                sums[column, 1] += green
                sums[column, 2] += blue
        for column in range(size_px):
            for k in range(3):
                out[row, column, k] = np.uint8(sums[column, k] * share + np.float32(0.5))
    return out


@kernel
def _places(source_from_fine: Floats, y: np.float32, rows: int, columns: int, at: Indices, shares: Floats) -> None:
    """Where the samples of one fine row lie: the byte of the upper left pixel, and the shares of the four about it.

    In a loop of its own, since without a look at pixels it is vectorised.
    """
    a, b, c = source_from_fine[0, 0], source_from_fine[0, 1], source_from_fine[0, 2]
    d, e, f = source_from_fine[1, 0], source_from_fine[1, 1], source_from_fine[1, 2]
    x_last, y_last = np.float32(columns - 1), np.float32(rows - 1)
    x_most, y_most = np.int32(max(columns - 2, 0)), np.int32(max(rows - 2, 0))
    from_x, from_y = b * y + c, e * y + f
    for fine in range(at.shape[0]):
        in_x = min(max(a * np.float32(fine) + from_x, np.float32(0)), x_last)
        in_y = min(max(d * np.float32(fine) + from_y, np.float32(0)), y_last)
        x0, y0 = min(np.int32(in_x), x_most), min(np.int32(in_y), y_most)
        fx, fy = in_x - np.float32(x0), in_y - np.float32(y0)
        both = fx * fy
        at[fine] = np.uint32(3) * (np.uint32(y0) * np.uint32(columns) + np.uint32(x0))
        shares[0, fine], shares[1, fine] = np.float32(1) - fx - (fy - both), fx - both
        shares[2, fine], shares[3, fine] = fy - both, both


@kernel
def gaussian_blur(source_HW: Floats, sigma_px: float) -> Floats:
    """Separable Gaussian of one float32 [H, W] plane, edges repeated. Cost grows with sigma: shrink first if large."""
    rows, columns = source_HW.shape
    reach = max(int(3.0 * sigma_px + 0.5), 1)
    weights = np.empty(2 * reach + 1, np.float32)
    for i in range(2 * reach + 1):
        weights[i] = np.exp(-0.5 * ((i - reach) / max(sigma_px, 1e-6)) ** 2)
    weights /= weights.sum()
    across = np.empty((rows, columns), np.float32)
    for y in range(rows):
        for x in range(columns):
            total = np.float32(0)
            for i in range(2 * reach + 1):
                total += weights[i] * source_HW[y, min(max(x + i - reach, 0), columns - 1)]
            across[y, x] = total
    out = np.zeros((rows, columns), np.float32)
    for y in range(rows):
        for i in range(2 * reach + 1):
            weight = weights[i]
            from_y = min(max(y + i - reach, 0), rows - 1)
            for x in range(columns):
                out[y, x] += weight * across[from_y, x]
    return out


@kernel
def lay_over(canvas_HW3: Rgb, patch_hw3: Rgb, alpha_hw: Mask, left_px: int, top_px: int) -> None:
    """Blends a patch into `canvas` in place; alpha uint8, 255 is opaque. What hangs over the edge is cut off."""
    for y in range(max(0, -top_px), min(patch_hw3.shape[0], canvas_HW3.shape[0] - top_px)):
        for x in range(max(0, -left_px), min(patch_hw3.shape[1], canvas_HW3.shape[1] - left_px)):
            alpha = int(alpha_hw[y, x])
            for c in range(3):
                under = int(canvas_HW3[top_px + y, left_px + x, c])
                over = int(patch_hw3[y, x, c])
                canvas_HW3[top_px + y, left_px + x, c] = np.uint8((over * alpha + under * (255 - alpha) + 127) // 255)


@kernel
def rgb_to_yuv420(rgb_HW3: Rgb, y_HW: Mask, u_hw: Mask, v_hw: Mask) -> None:
    """Writes a picture of even sides as planar 4:2:0 (BT.601, 16..235), as encoders take it: colour per 2x2 pixels.

    Takes a third of the usual library, and in the thread that calls: that one's wait for each other on a busy machine.
    The planes' rows may be longer than the picture's, but lie one behind the other (C order): that takes half the time.
    Fixed point: 16 bits of fraction, 18 where four pixels are added up; the last constants hold offset and rounding.
    """
    height, width = rgb_HW3.shape[:2]
    # Two rows at a time, their colours apart, in loops over whole rows of bytes: only such ones are vectorised.
    rows = np.empty((6, width), np.uint8)
    red, green, blue, red_below, green_below, blue_below = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]
    for row in range(0, height, 2):
        part_colours(rgb_HW3[row].reshape(3 * width), red, green, blue)
        part_colours(rgb_HW3[row + 1].reshape(3 * width), red_below, green_below, blue_below)
        _luma(red, green, blue, y_HW[row])
        _luma(red_below, green_below, blue_below, y_HW[row + 1])
        _chroma(red, red_below, green, green_below, blue, blue_below, u_hw[row // 2], v_hw[row // 2])


@kernel
def part_colours(rgb_3W: Mask, red_W: Mask, green_W: Mask, blue_W: Mask) -> None:
    """Takes a row of pixels apart. What is done with each colour then is vectorised, which it is not on pixels."""
    for column in range(red_W.shape[0]):
        red_W[column] = rgb_3W[3 * column]
        green_W[column] = rgb_3W[3 * column + 1]
        blue_W[column] = rgb_3W[3 * column + 2]


@kernel
def _luma(red_W: Mask, green_W: Mask, blue_W: Mask, y_W: Mask) -> None:
    for column in range(red_W.shape[0]):
        red, green, blue = np.int32(red_W[column]), np.int32(green_W[column]), np.int32(blue_W[column])
        y_W[column] = (16829 * red + 33039 * green + 6416 * blue + 1081344) >> 16


@kernel
def _chroma(
    red: Mask, red_below: Mask, green: Mask, green_below: Mask, blue: Mask, blue_below: Mask, u_w: Mask, v_w: Mask
) -> None:
    """Of two rows."""
    for pair in range(red.shape[0] // 2):
        left, right = 2 * pair, 2 * pair + 1
        reds = np.int32(red[left]) + np.int32(red[right]) + np.int32(red_below[left]) + np.int32(red_below[right])
        greens = (
            np.int32(green[left]) + np.int32(green[right]) + np.int32(green_below[left]) + np.int32(green_below[right])
        )
        blues = np.int32(blue[left]) + np.int32(blue[right]) + np.int32(blue_below[left]) + np.int32(blue_below[right])
        u_w[pair] = (-9714 * reds - 19070 * greens + 28784 * blues + 33685504) >> 18
        v_w[pair] = (28784 * reds - 24103 * greens - 4681 * blues + 33685504) >> 18
