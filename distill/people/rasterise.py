"""Which triangle each sample of a picture shows: a batched rasteriser in plain tensor operations.

Triangles become rows, rows become samples (two `repeat_interleave`s, no loop over anything), and a scatter-minimum over
depth and triangle packed in one integer keeps the nearest. A sample on an edge shared by two triangles belongs to
exactly one of them, and ties in depth go to the lower triangle, so the result is the same every time.

Legend: M vertices of all pictures, T triangles, B pictures of HxW samples, R rows, P samples of triangles, N chosen ones.
A sample's number is (picture * H + row) * W + column; sample (0, 0) lies at the point (0, 0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

EMPTY = (1 << 63) - 1
ID_MASK = (1 << 32) - 1

Accept = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Screen:
    """Vertices as a camera sees them: x to the right and y down in samples, and the inverse of the depth."""

    x_M: Tensor
    y_M: Tensor
    inverse_M: Tensor


@dataclass(frozen=True)
class Triangles:
    """Corners as vertex numbers [T, 3], the picture of each triangle [T], and which are seen from behind too [T]."""

    corners_T3: Tensor
    picture_T: Tensor
    two_sided_T: Tensor


def empty_buffer(pictures: int, height: int, width: int, device: torch.device) -> Tensor:
    """Nothing drawn yet: int64 [B * H * W]."""
    return torch.full((pictures * height * width,), EMPTY, dtype=torch.int64, device=device)


def rasterise(
    buffer: Tensor,
    screen: Screen,
    triangles: Triangles,
    height: int,
    width: int,
    accept: Accept | None = None,
    first: int = 0,
) -> Tensor:
    """Draws triangles over what `buffer` holds, and returns the new buffer; see `triangle_of` and `depth_of`.

    Front faces run counterclockwise with y up. `accept(triangle, sample, weights)` may refuse samples of triangles that
    have holes; it is asked only about those that nothing drawn before hides. weights: the corners' shares, [P, 3].
    Triangles are numbered from `first` on in the buffer, and from 0 for `accept`.
    """
    rows = _rows(screen, triangles, height, width)
    if rows is None:
        return buffer
    triangle_R, x_R, count_R, base_R, inverse_R, slope_R, least_R, most_R = rows
    row_P, step_P = expand(count_R)
    inverse_P = inverse_R[row_P].addcmul(step_P.to(torch.float32), slope_R[row_P])
    inverse_P = torch.minimum(torch.maximum(inverse_P, least_R[row_P]), most_R[row_P])
    sample_P = base_R[row_P] + step_P
    triangle_P = triangle_R[row_P]
    key_P = (inverse_P.reciprocal().view(torch.int32).to(torch.int64) << 32) | (triangle_P + first)
    if accept is not None:
        open_P = torch.nonzero(key_P < buffer[sample_P]).squeeze(1)
        triangle_P, sample_P, key_P = triangle_P[open_P], sample_P[open_P], key_P[open_P]
        weights_P3 = weights(screen, triangles, triangle_P, *place(sample_P, height, width))
        kept_P = torch.nonzero(accept(triangle_P, sample_P, weights_P3)).squeeze(1)
        sample_P, key_P = sample_P[kept_P], key_P[kept_P]
    return buffer.scatter_reduce(0, sample_P, key_P, "amin", include_self=True)


def expand(count_R: Tensor) -> tuple[Tensor, Tensor]:
    """Each row as often as it counts, and the number 0, 1, 2, ... within the row."""
    row_P = torch.repeat_interleave(torch.arange(len(count_R), device=count_R.device), count_R)
    start_R = count_R.cumsum(0) - count_R
    return row_P, torch.arange(len(row_P), device=count_R.device) - start_R[row_P]


def place(sample_N: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Column and row of samples, float32."""
    within_N = sample_N % (height * width)
    return (within_N % width).to(torch.float32), (within_N // width).to(torch.float32)


def triangle_of(buffer_N: Tensor) -> Tensor:
    """Number of the triangle seen; only where something is seen."""
    return buffer_N & ID_MASK


def depth_of(buffer_N: Tensor) -> Tensor:
    """Depth of what is seen, float32; inf where nothing is."""
    depth_N = (buffer_N >> 32).to(torch.int32).view(torch.float32)
    return torch.where(buffer_N == EMPTY, torch.full_like(depth_N, torch.inf), depth_N)


def weights(screen: Screen, triangles: Triangles, triangle_N: Tensor, x_N: Tensor, y_N: Tensor) -> Tensor:
    """Perspective-correct shares of the corners at the given points, [N, 3]; beyond an edge at most a little."""
    corners_N3 = triangles.corners_T3[triangle_N]
    a, b, c = corners_N3.unbind(1)
    ax, ay, bx, by, cx, cy = (v for k in (a, b, c) for v in (screen.x_M[k], screen.y_M[k]))
    ux, uy, vx, vy, px, py = bx - ax, by - ay, cx - ax, cy - ay, x_N - ax, y_N - ay
    area = ux * vy - uy * vx
    area = torch.where(area.abs() < 1e-6, torch.full_like(area, 1e-6), area)
    wb = (px * vy - py * vx) / area
    wc = (ux * py - uy * px) / area
    flat = torch.stack([1 - wb - wc, wb, wc], 1).clamp(-0.25, 1.25)
    scaled = flat * torch.stack([screen.inverse_M[k] for k in (a, b, c)], 1)
    return scaled / scaled.sum(1, keepdim=True)


def _rows(screen: Screen, triangles: Triangles, height: int, width: int) -> tuple[Tensor, ...] | None:
    """Rows of samples, for each: triangle, first column, count, first sample, 1/depth there, its slope and limits."""
    corners = triangles.corners_T3.unbind(1)
    x = [screen.x_M[k] for k in corners]
    y = [screen.y_M[k] for k in corners]
    z = [screen.inverse_M[k] for k in corners]
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    top, bottom = torch.minimum(torch.minimum(y[0], y[1]), y[2]), torch.maximum(torch.maximum(y[0], y[1]), y[2])
    left, right = torch.minimum(torch.minimum(x[0], x[1]), x[2]), torch.maximum(torch.maximum(x[0], x[1]), x[2])
    near = torch.minimum(torch.minimum(z[0], z[1]), z[2])
    first = top.ceil().clamp(0, height)
    last = bottom.ceil().clamp(0, height)
    shown = (area < -1e-9) | (triangles.two_sided_T & (area > 1e-9))
    shown &= (last > first) & (right > 0) & (left < width - 1) & (left.ceil() < right.ceil()) & (near > 0)
    kept = torch.nonzero(shown).squeeze(1)
    if not len(kept):
        return None
    x, y, z = [v[kept] for v in x], [v[kept] for v in y], [v[kept] for v in z]
    # 1/depth is a plane over the screen.
    area, first, last = area[kept], first[kept], last[kept]
    dz1, dz2 = z[1] - z[0], z[2] - z[0]
    along_x = (dz1 * (y[2] - y[0]) - dz2 * (y[1] - y[0])) / area
    along_y = (dz2 * (x[1] - x[0]) - dz1 * (x[2] - x[0])) / area
    origin = z[0] - along_x * x[0] - along_y * y[0]
    least, most = torch.minimum(torch.minimum(z[0], z[1]), z[2]), torch.maximum(torch.maximum(z[0], z[1]), z[2])
    (xa, ya), (xb, yb), (xc, yc) = _by_height(x, y)
    long, upper, lower = _slope(xa, ya, xc, yc), _slope(xa, ya, xb, yb), _slope(xb, yb, xc, yc)
    picture = triangles.picture_T[kept]
    row_R, step_R = expand((last - first).to(torch.int64))
    table = torch.stack([xa, ya, xb, yb, long, upper, lower, first, origin, along_x, along_y, least, most], 1)
    xa, ya, xb, yb, long, upper, lower, first, origin, along_x, along_y, least, most = table[row_R].unbind(1)
    row = first + step_R
    one = xa + (row - ya) * long
    other = torch.where(row < yb, xa + (row - ya) * upper, xb + (row - yb) * lower)
    start = torch.minimum(one, other).ceil().clamp(0, width)
    count = (torch.maximum(one, other).ceil().clamp(0, width) - start).to(torch.int64)
    full = torch.nonzero(count > 0).squeeze(1)
    if not len(full):
        return None
    tri = kept[row_R[full]]
    row, start = row[full], start[full]
    base = (picture[row_R[full]] * height + row.to(torch.int64)) * width + start.to(torch.int64)
    inverse = origin[full] + along_x[full] * start + along_y[full] * row
    return tri, start, count[full], base, inverse, along_x[full], least[full], most[full]


def _slope(xa: Tensor, ya: Tensor, xb: Tensor, yb: Tensor) -> Tensor:
    """Columns per row of an edge from its upper end; computed alike for both triangles that share it."""
    rise = yb - ya
    return torch.where(rise > 0, (xb - xa) / torch.where(rise > 0, rise, torch.ones_like(rise)), torch.zeros_like(rise))


def _by_height(x: list[Tensor], y: list[Tensor]) -> tuple[tuple[Tensor, Tensor], ...]:
    def ordered(i: tuple[Tensor, Tensor], j: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, Tensor], ...]:
        swap = j[1] < i[1]
        pick = [(torch.where(swap, b, a), torch.where(swap, a, b)) for a, b in zip(i, j, strict=True)]
        return (pick[0][0], pick[1][0]), (pick[0][1], pick[1][1])

    a, b, c = zip(x, y, strict=True)
    a, b = ordered(a, b)
    b, c = ordered(b, c)
    a, b = ordered(a, b)
    return a, b, c
