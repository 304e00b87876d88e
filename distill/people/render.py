"""People as pictures, and what is exactly known about them: depth, normals, parts, landmarks, visibility.

The nearest triangle of every sample is found at `supersample` times the size. A pixel whose samples all lie on one
surface is shaded once; at edges every sample is. Shading is deferred: only points that are seen cost anything.
The same shots give the same bytes on the CPU every time, whatever else is in the batch.

Legend: B pictures of S x S pixels, N points that are shaded, M vertices, T triangles, 468 landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distill.people.assets import Assets, Kind, Part
from distill.people.backdrop import backdrop
from distill.people.hair import coverage, without_inner_shells
from distill.people.materials import SHADERS, Surroundings
from distill.people.pose import Params, Posed, pose, stack
from distill.people.rasterise import (
    EMPTY,
    Screen,
    Triangles,
    depth_of,
    empty_buffer,
    rasterise,
    triangle_of,
    weights,
)
from distill.people.shade import display, key_shadow, lamps_at, tone
from distill.people.surface import Points, dot, of, unit
from distill.people.texture import weighted
from distill.people.types import Shot
from distill.people.veil import veil

CHUNK_CPU, CHUNK_CUDA = 4, 128
VISIBLE_CM = 0.35


@dataclass(frozen=True)
class Render:
    """B pictures on the assets' device.

    rgb_BHW3        uint8, sRGB
    alpha_BHW       float32 0..1: share of the person in the pixel
    depth_BHW       float32, centimetres from the camera along its axis; inf where the background is
    normals_BHW3    float32 unit vectors in camera axes (x right, y up, z towards the camera); 0 at the background
    parts_BHW       uint8, `assets.Part`
    landmarks_BN3   float32 [B, 468, 3] pixels, MediaPipe's order, as engines.types.TrackedFace has them
    visible_BN      bool [B, 468]: within the picture and hidden by nothing
    """

    rgb_BHW3: Tensor
    alpha_BHW: Tensor
    depth_BHW: Tensor
    normals_BHW3: Tensor
    parts_BHW: Tensor
    landmarks_BN3: Tensor
    visible_BN: Tensor


@dataclass(frozen=True)
class View:
    """The camera of each picture: samples per unit of slope, and its distance from the head's middle."""

    focal_B: Tensor
    distance_B: Tensor
    side: int  # samples

    def screen(self, points_M3: Tensor, picture_M: Tensor, set_back_M: Tensor) -> Screen:
        depth = (self.distance_B[picture_M] - points_M3[:, 2]).clamp(min=1)
        scale = self.focal_B[picture_M] / depth
        half = self.side / 2 - 0.5
        inverse = (depth + set_back_M).reciprocal()
        return Screen(half + points_M3[:, 0] * scale, half - points_M3[:, 1] * scale, inverse)


@dataclass(frozen=True)
class Chosen:
    """The points to shade. Interior pixels have one, edge pixels one per sample, some of them empty."""

    sample_N: Tensor
    x_N: Tensor
    y_N: Tensor
    nearest_P: Tensor  # the buffer's least in every pixel
    inner_I: Tensor  # pixel numbers
    edge_J: Tensor
    filled_F: Tensor  # which of the J * s * s samples at edges show something


def render(assets: Assets, shots: Sequence[Shot], size_px: int, supersample: int = 2) -> Render:
    """Draws every shot, size_px square. supersample 1 is for previews."""
    chunk = CHUNK_CUDA if assets.device.type == "cuda" else CHUNK_CPU
    batches = [shots[start : start + chunk] for start in range(0, len(shots), chunk)]

    def drawn(batch: Sequence[Shot]) -> Render:
        return _render(assets, stack(batch, assets.device), size_px, supersample)

    threads = torch.get_num_threads()
    if assets.device.type == "cuda" or min(threads, len(batches)) < 2:
        parts = [drawn(batch) for batch in batches]
    else:
        # One batch per thread: operations this small gain little from threads within them, which wait for each other.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            parts = list(pool.map(drawn, batches))
        torch.set_num_threads(threads)  # what a worker sets counts for threads that are yet to start
    return Render(*(torch.cat([getattr(part, name) for part in parts]) for name in Render.__dataclass_fields__))


@torch.no_grad()
def _render(assets: Assets, params: Params, size_px: int, factor: int) -> Render:
    posed = pose(assets, params)
    side, count = size_px * factor, len(params)
    half = torch.deg2rad(params.scene["field_of_view_deg"]) / 2
    view = View(side / 2 / half.tan(), params.scene["distance_cm"], side)
    back = torch.zeros_like(posed.points_M3[:, 0])
    back[: count * len(assets.head.set_back_V)] = assets.head.set_back_V.repeat(count)
    screen = view.screen(posed.points_M3, posed.owner_M, back)
    buffer = _visible_surfaces(assets, posed, screen, count, side)
    px_per_cm = view.focal_B / view.distance_B / factor
    chosen = _choose(assets, posed, buffer, count, size_px, factor, px_per_cm)
    points = _points(assets, posed, screen, buffer, chosen)
    colour, part = _shaded(assets, params, posed, points, view, px_per_cm, size_px)
    behind = backdrop(params.backgrounds, size_px, assets.device)
    light, alpha = _resolve(tone(colour), chosen, behind.reshape(-1, 3), factor)
    over = veil(assets, params, posed, screen, buffer, size_px, factor, view.distance_B, px_per_cm)
    alpha = torch.lerp(alpha, torch.ones_like(alpha), over.lashes_N)
    rgb = display(over.over(light)).reshape(count, size_px, size_px, 3)
    landmarks, visible = _landmarks(posed, view, buffer, count, factor)
    shape = (count, size_px, size_px)
    depth = depth_of(chosen.nearest_P).reshape(shape)
    parts, normals = _maps(chosen, part, points.normal_3N.T, count * size_px * size_px, factor)
    empty = alpha.reshape(shape) < 0.5
    parts = torch.where(over.lashes_N > 0.5, parts.new_tensor(int(Part.LASH)), parts)
    return Render(
        rgb,
        alpha.reshape(shape),
        torch.where(empty, torch.full_like(depth, torch.inf), depth),
        normals.reshape(*shape, 3) * ~empty[..., None],
        parts.reshape(shape) * ~empty,
        landmarks,
        visible,
    )


def _visible_surfaces(assets: Assets, posed: Posed, screen: Screen, count: int, side: int) -> Tensor:
    all_T = posed.triangles
    cut, end = posed.solid, posed.veiled
    solid = Triangles(all_T.corners_T3[:cut], all_T.picture_T[:cut], all_T.two_sided_T[:cut])
    corners, thinner = without_inner_shells(assets, posed)
    soft = Triangles(corners, all_T.picture_T[cut:end], all_T.two_sided_T[cut:end])
    buffer = empty_buffer(count, side, side, assets.device)
    buffer = rasterise(buffer, screen, solid, side, side)
    return rasterise(buffer, screen, soft, side, side, coverage(assets, posed, thinner, side, side), cut)


def _choose(
    assets: Assets, posed: Posed, buffer: Tensor, count: int, size: int, factor: int, px_per_cm_B: Tensor
) -> Chosen:
    """Which points stand for the picture."""
    each = factor * factor
    planes = _planes(buffer, count, size, factor)
    nearest = planes[0]
    for plane in planes[1:]:
        nearest = torch.minimum(nearest, plane)
    busy = torch.nonzero(nearest != EMPTY).squeeze(1)
    keys = [plane.index_select(0, busy) for plane in planes]
    kind_T = assets.kind_A.to(torch.int32).index_select(0, posed.template_T)
    kinds = [kind_T.index_select(0, triangle_of(key).clamp_(max=len(kind_T) - 1)) for key in keys]
    step = (4.0 / px_per_cm_B).index_select(0, busy // (size * size))
    inner = kinds[0] != Kind.GLASSES
    least = most = depth_of(keys[0])
    for key, kind in zip(keys[1:], kinds[1:], strict=True):
        depth = depth_of(key)
        least, most = torch.minimum(least, depth), torch.maximum(most, depth)
        inner &= kind == kinds[0]
    inner &= most - least < step  # inf where a sample is empty
    inner &= most < torch.inf
    inner_I, edge_J = busy[torch.nonzero(inner).squeeze(1)], busy[torch.nonzero(~inner).squeeze(1)]

    def first_sample(pixel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        column, row, picture = pixel % size, (pixel // size) % size, pixel // (size * size)
        return column * factor, row * factor, picture * (size * factor) ** 2

    x, y, base = first_sample(inner_I)
    middle = (factor - 1) / 2
    sample_I = base + y * size * factor + x
    ex, ey, ebase = (value[:, None] for value in first_sample(edge_J))
    step_x = torch.arange(each, device=buffer.device) % factor
    step_y = torch.arange(each, device=buffer.device) // factor
    ex, ey = ex + step_x, ey + step_y
    sample_J = (ebase + ey * size * factor + ex).reshape(-1)
    filled = torch.nonzero(buffer[sample_J] != EMPTY).squeeze(1)
    return Chosen(
        torch.cat([sample_I, sample_J[filled]]),
        torch.cat([x + middle, ex.reshape(-1)[filled].to(torch.float32)]),
        torch.cat([y + middle, ey.reshape(-1)[filled].to(torch.float32)]),
        nearest, inner_I, edge_J, filled,
    )  # fmt: skip


def _planes(buffer: Tensor, count: int, size: int, factor: int) -> list[Tensor]:
    """The buffer's samples by their place within a pixel: s * s times [B * S * S]."""
    grid = buffer.reshape(count, size, factor, size, factor)
    return [grid[:, :, j, :, i].reshape(-1) for j in range(factor) for i in range(factor)]


def _points(assets: Assets, posed: Posed, screen: Screen, buffer: Tensor, chosen: Chosen) -> Points:
    triangle = triangle_of(buffer.index_select(0, chosen.sample_N))
    share = weights(screen, posed.triangles, triangle, chosen.x_N, chosen.y_N).T.contiguous()
    moving = torch.cat([posed.points_M3, posed.normals_M3, posed.extra_M2], 1)
    now = weighted(moving, posed.triangles.corners_T3.index_select(0, triangle), share).T.contiguous()
    template = posed.template_T.index_select(0, triangle)
    corner = 3 * template[:, None] + torch.arange(3, device=template.device)
    fixed = weighted(assets.corner_values_AC, corner, share).T.contiguous()
    picture = posed.triangles.picture_T.index_select(0, triangle)
    along = torch.stack([dot(of(posed.turn_B33[:, k], picture), fixed[2:5]) for k in range(3)])
    pixel = torch.full_like(picture, -1)
    pixel[: len(chosen.inner_I)] = chosen.inner_I
    return Points(
        picture, assets.kind_A.index_select(0, template), now[:3], unit(now[3:6]), now[6].clamp(0, 1),
        now[7].clamp(0, 1), fixed[0], fixed[1], unit(along), fixed[5:8], assets.card_A.index_select(0, template), pixel,
    )  # fmt: skip


def _shaded(
    assets: Assets, params: Params, posed: Posed, at: Points, view: View, px_per_cm_B: Tensor, size_px: int
) -> tuple[Tensor, Tensor]:
    """Linear light after exposure [N, 3] and part [N] of every point."""
    shadow = key_shadow(params, posed)
    colour, part = torch.zeros_like(at.position_3N), torch.zeros_like(at.picture_N)
    for kinds, shade in SHADERS.items():
        which = torch.nonzero(torch.stack([at.kind_N == kind for kind in kinds]).any(0)).squeeze(1)
        if not len(which):
            continue
        some = at.only(which)
        towards = -some.position_3N
        towards[2] += of(view.distance_B, some.picture_N)
        towards = unit(towards)
        if Kind.HAIR not in kinds:
            away = dot(some.normal_3N, towards) < 0
            some = replace(some, normal_3N=torch.where(away, -some.normal_3N, some.normal_3N))
        lamps = lamps_at(params, shadow, some)
        colour[:, which], part[which] = shade(
            Surroundings(assets, params, posed, px_per_cm_B, size_px), some, lamps, towards
        )
    return (colour * of(params.scene["exposure"], at.picture_N)).T.contiguous(), part


def _resolve(colour: Tensor, chosen: Chosen, behind: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Linear light of all pixels [B * S * S, 3] and the person's share in them."""
    each = factor * factor
    inner = len(chosen.inner_I)
    alpha = behind.new_zeros(len(behind))
    alpha[chosen.inner_I] = 1
    samples = behind[chosen.edge_J].repeat_interleave(each, 0)
    samples[chosen.filled_F] = colour[inner:]
    seen = behind.new_zeros(len(samples))
    seen[chosen.filled_F] = 1
    behind = behind.clone()
    behind[chosen.inner_I] = colour[:inner]
    behind[chosen.edge_J] = samples.reshape(-1, each, 3).mean(1)
    alpha[chosen.edge_J] = seen.reshape(-1, each).mean(1)
    return behind, alpha


def _maps(chosen: Chosen, part: Tensor, normal: Tensor, pixels: int, factor: int) -> tuple[Tensor, Tensor]:
    """Part and normal of each pixel: of its first sample that shows something."""
    each, inner = factor * factor, len(chosen.inner_I)
    parts = torch.zeros(pixels, dtype=torch.uint8, device=part.device)
    normals = torch.zeros((pixels, 3), device=part.device)
    parts[chosen.inner_I], normals[chosen.inner_I] = part[:inner].to(torch.uint8), normal[:inner]
    place = torch.full((len(chosen.edge_J) * each,), len(part), device=part.device)
    place[chosen.filled_F] = torch.arange(inner, len(part), device=part.device)
    first = place.reshape(-1, each).amin(1)
    parts[chosen.edge_J], normals[chosen.edge_J] = part[first].to(torch.uint8), normal[first]
    return parts, normals


def _landmarks(posed: Posed, view: View, buffer: Tensor, count: int, factor: int) -> tuple[Tensor, Tensor]:
    """Landmarks in pixels, and which are hidden by nothing."""
    points = posed.landmarks_BN3
    depth = view.distance_B[:, None] - points[..., 2]
    scale = view.focal_B[:, None] / depth
    half = view.side / 2 - 0.5
    x, y = half + points[..., 0] * scale, half - points[..., 1] * scale
    column, row = x.round().to(torch.int64), y.round().to(torch.int64)
    inside = (column >= 0) & (row >= 0) & (column < view.side) & (row < view.side)
    picture = torch.arange(count, device=x.device)[:, None]
    reach = torch.arange(-1, 2, device=x.device)
    rows = (row[..., None, None] + reach[:, None]).clamp(0, view.side - 1)
    columns = (column[..., None, None] + reach).clamp(0, view.side - 1)
    seen = depth_of(buffer[(picture[..., None, None] * view.side + rows) * view.side + columns])
    nearest = torch.where(seen.isinf(), torch.zeros_like(seen), seen).amax((2, 3))
    visible = inside & (depth <= nearest + VISIBLE_CM)
    z = (depth - depth.mean(1, keepdim=True)) * (view.focal_B / view.distance_B)[:, None]
    to_px = [(value + 0.5) / factor - 0.5 for value in (x, y)]
    return torch.stack([*to_px, z / factor], 2), visible
