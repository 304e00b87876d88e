"""Which triangle each sample of a picture shows: a batched rasteriser in plain tensor operations.

Triangles become rows, rows become samples (two `repeat_interleave`s, no loop over anything), and a scatter-minimum over
depth and triangle packed in one integer keeps the nearest. 1/depth runs evenly along a row, so it is counted in whole
steps: a row is two integers, and a sample's key one product and one sum. A sample on an edge shared by two triangles
belongs to exactly one of them, and ties in depth go to the lower triangle, so the result is the same every time.

Legend: M vertices of all pictures, T triangles, B pictures of HxW samples, R rows, P samples of them, N chosen ones.
A sample's number is (picture * H + row) * W + column; sample (0, 0) lies at the point (0, 0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

EMPTY = (1 << 63) - 1
ID_BITS = 24
ID_MASK = (1 << ID_BITS) - 1
NEAREST = 1 << 38  # what 1/depth is counted in: one at depth 1
TILE_PX = 16  # of the coarse map by which hidden triangles are left out

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
    have holes; it is asked only about those that nothing drawn before hides. weights: the corners' shares, [3, P].
    Triangles are numbered from `first` on in the buffer, and from 0 for `accept`.
    """
    if first + len(triangles.corners_T3) > ID_MASK:
        raise ValueError(f"more than {ID_MASK} triangles at once: draw fewer pictures together")
    if accept is None:
        drawn = _samples(screen, triangles, height, width, None, first)
        if drawn is None:
            return buffer
        sample_P, key_P = drawn
    else:
        found = _unhidden(buffer, screen, triangles, height, width, first)
        if found is None:
            return buffer
        triangle_P, sample_P, key_P, weights_3P = found
        kept_P = torch.nonzero(accept(triangle_P, sample_P, weights_3P)).squeeze(1)
        sample_P, key_P = sample_P.index_select(0, kept_P), key_P.index_select(0, kept_P)
    return buffer.scatter_reduce(0, sample_P, key_P, "amin", include_self=True)


def fragments(
    buffer: Tensor, screen: Screen, triangles: Triangles, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Every sample of every triangle that nothing in the buffer hides: triangle [P], sample [P], shares [3, P]."""
    found = _unhidden(buffer, screen, triangles, height, width, 0)
    return None if found is None else (found[0], found[1], found[3])


def _unhidden(
    buffer: Tensor, screen: Screen, triangles: Triangles, height: int, width: int, first: int
) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Triangle, sample, key and shares of all that nothing in the buffer hides."""
    kept_T = torch.nonzero(~_hidden(buffer, screen, triangles, height, width)).squeeze(1)
    drawn = _samples(screen, triangles, height, width, kept_T, first)
    if drawn is None:
        return None
    sample_P, key_P = drawn
    open_P = torch.nonzero(key_P < buffer.index_select(0, sample_P)).squeeze(1)
    sample_P, key_P = sample_P.index_select(0, open_P), key_P.index_select(0, open_P)
    triangle_P = triangle_of(key_P) - first
    return triangle_P, sample_P, key_P, weights(screen, triangles, triangle_P, *place(sample_P, height, width))


def _samples(
    screen: Screen, triangles: Triangles, height: int, width: int, among_T: Tensor | None, first: int
) -> tuple[Tensor, Tensor] | None:
    """Samples that (these) triangles cover, and their keys."""
    rows = _rows(screen, triangles, height, width, among_T)
    if rows is None:
        return None
    base_R, count_R, key_R, slope_R = rows
    start_R = count_R.cumsum(0) - count_R
    row_P = torch.repeat_interleave(count_R)
    step_P = torch.arange(len(row_P), device=row_P.device)
    # Steps count from the first row's start on, which the rows' own starts take back; what overflows comes round again.
    key_P = slope_R.index_select(0, row_P).mul_(step_P)
    key_P += (key_R - slope_R * start_R + first).index_select(0, row_P)
    return step_P.add_((base_R - start_R).index_select(0, row_P)), key_P


def _hidden(buffer: Tensor, screen: Screen, triangles: Triangles, height: int, width: int) -> Tensor:
    """Small triangles that lie behind everything drawn in the tiles they touch, [T]. Only such as surely are."""
    if height % TILE_PX or width % TILE_PX:
        return torch.zeros_like(triangles.two_sided_T)
    tall, wide = height // TILE_PX, width // TILE_PX
    farthest = buffer.reshape(-1, TILE_PX, width).amax(1).reshape(-1, wide, TILE_PX).amax(2).reshape(-1)
    corners = triangles.corners_T3.T.contiguous()
    x, y, inverse = (torch.stack([v.index_select(0, k) for k in corners]) for v in _parts(screen))
    left, right = _tiles(x.amin(0), wide), _tiles(x.amax(0), wide)
    top, bottom = _tiles(y.amin(0), tall), _tiles(y.amax(0), tall)
    small = (right - left <= 1) & (bottom - top <= 1)
    least = _key(inverse.amax(0) + 1e-6)
    base = triangles.picture_T * tall
    for row in (top, bottom):
        for column in (left, right):
            small &= farthest.index_select(0, (base + row) * wide + column) < least
    return small


def _parts(screen: Screen) -> tuple[Tensor, Tensor, Tensor]:
    return screen.x_M, screen.y_M, screen.inverse_M


def _tiles(place_T: Tensor, most: int) -> Tensor:
    return (place_T / TILE_PX).floor_().clamp_(0, most - 1).to(torch.int64)


def _key(inverse: Tensor) -> Tensor:
    """What is compared: the smaller, the nearer. The lowest bits are left for the triangle."""
    return (NEAREST - (inverse * NEAREST).to(torch.int64)) << ID_BITS


def expand(count_T: Tensor) -> tuple[Tensor, Tensor]:
    """Each triangle as often as it counts, and the numbers 0, 1, 2, ... for each."""
    triangle_R = torch.repeat_interleave(count_T)
    start_T = count_T.cumsum(0) - count_T
    return triangle_R, torch.arange(len(triangle_R), device=count_T.device) - start_T.index_select(0, triangle_R)


def place(sample_N: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Column and row of samples, float32."""
    within_N = sample_N % (height * width)
    return (within_N % width).to(torch.float32), (within_N // width).to(torch.float32)


def triangle_of(buffer_N: Tensor) -> Tensor:
    """Number of the triangle seen; only where something is seen."""
    return buffer_N & ID_MASK


def depth_of(buffer_N: Tensor) -> Tensor:
    """Depth of what is seen, float32; inf where nothing is."""
    inverse_N = NEAREST - (buffer_N >> ID_BITS)  # below zero where nothing is
    return (inverse_N.to(torch.float32) / NEAREST).clamp_(min=0).reciprocal_()


def weights(screen: Screen, triangles: Triangles, triangle_N: Tensor, x_N: Tensor, y_N: Tensor) -> Tensor:
    """Perspective-correct shares of the corners at the given points, [3, N]; beyond an edge at most a little."""
    a, b, c = triangles.corners_T3.index_select(0, triangle_N).unbind(1)
    ax, bx, cx = (screen.x_M.index_select(0, k) for k in (a, b, c))
    ay, by, cy = (screen.y_M.index_select(0, k) for k in (a, b, c))
    ux, uy, vx, vy, px, py = bx - ax, by - ay, cx - ax, cy - ay, x_N - ax, y_N - ay
    area = ux * vy - uy * vx
    area = torch.where(area.abs() < 1e-6, 1e-6, area).reciprocal_()
    wb = ((px * vy - py * vx) * area).clamp_(-0.25, 1.25)
    wc = ((ux * py - uy * px) * area).clamp_(-0.25, 1.25)
    wa = (1 - wb - wc) * screen.inverse_M.index_select(0, a)
    wb *= screen.inverse_M.index_select(0, b)
    wc *= screen.inverse_M.index_select(0, c)
    return torch.stack([wa, wb, wc]) / (wa + wb + wc)


def _rows(
    screen: Screen, triangles: Triangles, height: int, width: int, among_T: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Rows of samples of (these) triangles, for each: first sample, count, key there and its step; int64."""
    kept, x, y, z, area, first, last = _seen(screen, triangles, height, width, among_T)
    if not len(kept):
        return None
    dz1, dz2 = z[1] - z[0], z[2] - z[0]
    along_x = (dz1 * (y[2] - y[0]) - dz2 * (y[1] - y[0])) / area
    along_y = (dz2 * (x[1] - x[0]) - dz1 * (x[2] - x[0])) / area
    origin = z[0] - along_x * x[0] - along_y * y[0]
    least, most = torch.minimum(torch.minimum(z[0], z[1]), z[2]), torch.maximum(torch.maximum(z[0], z[1]), z[2])
    (xa, ya), (xb, yb), (xc, yc) = _by_height(x, y)
    long, upper, lower = _slope(xa, ya, xc, yc), _slope(xa, ya, xb, yb), _slope(xb, yb, xc, yc)
    row_R, step_R = expand((last - first).to(torch.int64))
    edges = torch.stack([xa, ya, xb, yb, long, upper, lower, first]).index_select(1, row_R)
    xa, ya, xb, yb, long, upper, lower, first = edges.unbind(0)
    row = first + step_R
    one = xa + (row - ya) * long
    fall = row - yb
    other = xb + fall * lower
    other = torch.where(fall < 0, xa + (row - ya) * upper, other)
    start = torch.minimum(one, other).ceil_().clamp_(0, width)
    count = torch.maximum(one, other).ceil_().clamp_(0, width).sub_(start)
    full = torch.nonzero(count > 0).squeeze(1)
    row_R, row, start, count = (value.index_select(0, full) for value in (row_R, row, start, count))
    plane = torch.stack([origin, along_x, along_y, least, most]).index_select(1, row_R)
    inverse, slope, along_y, least, most = plane.unbind(0)
    inverse = inverse + slope * start + along_y * row
    # Of slivers the slope is unsure: both ends of a row are kept within the triangle.
    begin = torch.minimum(torch.maximum(inverse, least), most)
    end = torch.minimum(torch.maximum(inverse + slope * (count - 1), least), most)
    slope = (((end - begin) / (count - 1).clamp_(min=1)) * NEAREST).to(torch.int64)
    base = triangles.picture_T.index_select(0, kept) * height
    base = (base.index_select(0, row_R) + row.to(torch.int64)) * width + start.to(torch.int64)
    key = _key(begin).add_(kept.index_select(0, row_R))
    return base, count.to(torch.int64), key, -(slope << ID_BITS)


def _seen(
    screen: Screen, triangles: Triangles, height: int, width: int, among_T: Tensor | None
) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor], Tensor, Tensor, Tensor]:
    """Triangles that face the camera and touch a sample: number, x, y, 1/depth, doubled area, first and last row."""
    corners, two_sided = triangles.corners_T3, triangles.two_sided_T
    if among_T is not None:
        corners, two_sided = corners.index_select(0, among_T), two_sided.index_select(0, among_T)
    corners = corners.T.contiguous()
    x = [screen.x_M.index_select(0, k) for k in corners]
    y = [screen.y_M.index_select(0, k) for k in corners]
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    first = torch.minimum(torch.minimum(y[0], y[1]), y[2]).ceil_().clamp_(0, height)
    last = torch.maximum(torch.maximum(y[0], y[1]), y[2]).ceil_().clamp_(0, height)
    left = torch.minimum(torch.minimum(x[0], x[1]), x[2]).ceil_()
    right = torch.maximum(torch.maximum(x[0], x[1]), x[2]).ceil_()
    shown = (area < -1e-9) | (two_sided & (area > 1e-9))
    shown &= (last > first) & (left < right) & (right > 0) & (left < width)
    kept = torch.nonzero(shown).squeeze(1)
    x, y = [v.index_select(0, kept) for v in x], [v.index_select(0, kept) for v in y]
    z = [screen.inverse_M.index_select(0, k.index_select(0, kept)) for k in corners]
    area, first, last = (v.index_select(0, kept) for v in (area, first, last))
    return kept if among_T is None else among_T.index_select(0, kept), x, y, z, area, first, last


def _slope(xa: Tensor, ya: Tensor, xb: Tensor, yb: Tensor) -> Tensor:
    """Columns per row of an edge from its upper end; computed alike for both triangles that share it."""
    rise = yb - ya
    return (xb - xa) / rise.clamp(min=1e-12)


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
