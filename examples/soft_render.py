"""A small offline rasteriser for heads: z-buffer, depth peeling for hair, soft area lights, skin, eyes.

Legend: V points, T triangles, H and W the (supersampled) picture, N covered pixels of it, K values per point.
Space is the camera's: x to the right, y up, z towards the camera, centimetres. Light is linear until `tone_map`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from distill.colour import encoded
from engines.jit import kernel

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


@kernel
def raster(
    screen_V3: F32, tri_T3: I32, uv_T32: F32, alpha_AB: F32, cut: float, behind_HW: F32, inverse_z_HW: F32, id_HW: I32
) -> None:
    """Keeps for each pixel the nearest triangle that is farther than `behind_HW` (1/z; large: everything is).

    screen_V3 holds x and y in pixels and 1/z. Where alpha_AB is larger than 1x1, fragments below `cut` are left out.
    """
    height, width = id_HW.shape
    rows, columns = alpha_AB.shape
    for t in range(tri_T3.shape[0]):
        a, b, c = tri_T3[t, 0], tri_T3[t, 1], tri_T3[t, 2]
        ax, ay, az = screen_V3[a, 0], screen_V3[a, 1], screen_V3[a, 2]
        bx, by, bz = screen_V3[b, 0], screen_V3[b, 1], screen_V3[b, 2]
        cx, cy, cz = screen_V3[c, 0], screen_V3[c, 1], screen_V3[c, 2]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-9:
            continue
        left = max(0, int(np.ceil(min(ax, bx, cx))))
        right = min(width - 1, int(np.floor(max(ax, bx, cx))))
        top = max(0, int(np.ceil(min(ay, by, cy))))
        bottom = min(height - 1, int(np.floor(max(ay, by, cy))))
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                wb = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
                wc = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
                wa = 1.0 - wb - wc
                if wa < -1e-6 or wb < -1e-6 or wc < -1e-6:
                    continue
                inverse_z = wa * az + wb * bz + wc * cz
                if inverse_z <= inverse_z_HW[y, x] or inverse_z >= behind_HW[y, x] * 0.9999995:
                    continue
                if rows > 1:
                    u = (wa * az * uv_T32[t, 0, 0] + wb * bz * uv_T32[t, 1, 0] + wc * cz * uv_T32[t, 2, 0]) / inverse_z
                    v = (wa * az * uv_T32[t, 0, 1] + wb * bz * uv_T32[t, 1, 1] + wc * cz * uv_T32[t, 2, 1]) / inverse_z
                    column = min(columns - 1, max(0, int(u * columns)))
                    row = min(rows - 1, max(0, int((1.0 - v) * rows)))
                    if alpha_AB[row, column] < cut:
                        continue
                inverse_z_HW[y, x] = inverse_z
                id_HW[y, x] = t


@kernel
def interpolate(
    screen_V3: F32, tri_T3: I32, uv_T32: F32, values_VK: F32, rows_N: I32, columns_N: I32, ids_N: I32, out_NK: F32
) -> None:
    """Perspective-correct values and, in the last two columns, texture coordinates at the covered pixels."""
    count = values_VK.shape[1]
    for n in range(len(ids_N)):
        t = ids_N[n]
        a, b, c = tri_T3[t, 0], tri_T3[t, 1], tri_T3[t, 2]
        ax, ay = screen_V3[a, 0], screen_V3[a, 1]
        bx, by = screen_V3[b, 0], screen_V3[b, 1]
        cx, cy = screen_V3[c, 0], screen_V3[c, 1]
        x, y = columns_N[n], rows_N[n]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        wb = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
        wc = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
        wa = (1.0 - wb - wc) * screen_V3[a, 2]
        wb = wb * screen_V3[b, 2]
        wc = wc * screen_V3[c, 2]
        total = wa + wb + wc
        wa, wb, wc = wa / total, wb / total, wc / total
        for k in range(count):
            out_NK[n, k] = wa * values_VK[a, k] + wb * values_VK[b, k] + wc * values_VK[c, k]
        for k in range(2):
            out_NK[n, count + k] = wa * uv_T32[t, 0, k] + wb * uv_T32[t, 1, k] + wc * uv_T32[t, 2, k]


@kernel
def sample_into(texture_ABC: F32, uv_N2: F32, out_NC: F32) -> None:
    rows, columns, channels = texture_ABC.shape
    for n in range(uv_N2.shape[0]):
        x = min(max(uv_N2[n, 0] * columns - 0.5, 0.0), columns - 1.001)
        y = min(max((1.0 - uv_N2[n, 1]) * rows - 0.5, 0.0), rows - 1.001)
        column, row = int(x), int(y)
        fx, fy = x - column, y - row
        for k in range(channels):
            upper = texture_ABC[row, column, k] * (1 - fx) + texture_ABC[row, column + 1, k] * fx
            lower = texture_ABC[row + 1, column, k] * (1 - fx) + texture_ABC[row + 1, column + 1, k] * fx
            out_NC[n, k] = upper * (1 - fy) + lower * fy


def sample(texture_ABC: F32, uv_N2: F32) -> F32:
    """Bilinear; v points up as the face model has it."""
    out_NC = np.empty((len(uv_N2), texture_ABC.shape[2]), np.float32)
    sample_into(np.ascontiguousarray(texture_ABC), np.ascontiguousarray(uv_N2), out_NC)
    return out_NC


@kernel
def lit_share(screen_V3: F32, inverse_z_HW: F32, bias: float, out_V: F32) -> None:
    """How much of a 3x3 patch of the light's view does not lie in front of each point."""
    height, width = inverse_z_HW.shape
    for v in range(screen_V3.shape[0]):
        x, y = int(screen_V3[v, 0] + 0.5), int(screen_V3[v, 1] + 0.5)
        lit = 0.0
        for row in range(y - 1, y + 2):
            for column in range(x - 1, x + 2):
                inside = 0 <= row < height and 0 <= column < width
                if not inside or inverse_z_HW[row, column] < screen_V3[v, 2] + bias:
                    lit += 1.0
        out_V[v] = lit / 9.0


@dataclass(frozen=True)
class Light:
    """A soft light from one side: a cone of directions with the same colour."""

    towards: tuple[float, float, float]
    radius_deg: float
    colour: tuple[float, float, float]
    samples: int


@dataclass(frozen=True)
class Lighting:
    lights: tuple[Light, ...]
    sky: tuple[float, float, float]  # from above
    ground: tuple[float, float, float]  # from below


@dataclass(frozen=True)
class Mesh:
    """Triangles of one kind of surface set (opaque, or with alpha)."""

    points_V3: F32
    normals_V3: F32
    extra_VK: F32
    tri_T3: I32
    uv_T32: F32
    material_T: I32


def unit(vectors: F32) -> F32:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9), np.float32)


def smooth_normals(points_V3: F32, tri_T3: I32, weld_V: I32) -> F32:
    """Area-weighted normals; points with the same number in `weld_V` share theirs, so seams do not show."""
    a, b, c = (points_V3[tri_T3[:, corner]] for corner in range(3))
    face = np.cross(b - a, c - a)
    total = np.zeros((int(weld_V.max()) + 1, 3))
    for corner in range(3):
        np.add.at(total, weld_V[tri_T3[:, corner]], face)
    return unit(total[weld_V].astype(np.float32))


def cone(light: Light) -> F32:
    """Directions spread evenly over a light's disc."""
    middle = unit(np.array(light.towards, np.float32))
    side = unit(np.cross(middle, [0.0, 1.0, 0.1]).astype(np.float32))
    up = np.cross(side, middle)
    index = np.arange(light.samples) + 0.5
    radius = np.tan(np.radians(light.radius_deg)) * np.sqrt(index / light.samples)
    angle = index * 2.399963
    spread = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * up
    return unit((middle + radius[:, None] * spread).astype(np.float32))


def globe(count: int) -> F32:
    index = np.arange(count) + 0.5
    y = 1 - 2 * index / count
    angle = index * 2.399963
    ring = np.sqrt(1 - y**2)
    return np.asarray(np.stack([ring * np.cos(angle), y, ring * np.sin(angle)], axis=1), np.float32)


def light_view(points_V3: F32, towards_3: F32, size_px: int, reach_cm: float) -> F32:
    """Screen coordinates as seen from a far light; the third is larger the nearer to the light (always > 0)."""
    side = unit(np.cross([0.0, 1.0, 0.07], towards_3).astype(np.float32))
    up = np.cross(towards_3, side)
    scale = size_px / (2 * reach_cm)
    x, y, z = points_V3 @ side, points_V3 @ up, points_V3 @ towards_3
    return np.asarray(np.stack([size_px / 2 + x * scale, size_px / 2 - y * scale, z + 200.0], axis=1), np.float32)


def visibility(opaque: Mesh, soft: Mesh, alpha_AB: F32, directions_D3: F32) -> tuple[F32, F32]:
    """For every point of both meshes, how much it sees of each direction: [D, V] each."""
    size_px, reach_cm = 420, 30.0
    far = np.full((size_px, size_px), np.float32(1e9))
    no_alpha = np.ones((1, 1), np.float32)
    seen = [np.empty((len(directions_D3), len(mesh.points_V3)), np.float32) for mesh in (opaque, soft)]
    for d, direction in enumerate(directions_D3):
        depth = np.zeros((size_px, size_px), np.float32)
        ids = np.full((size_px, size_px), -1, np.int32)
        screens = [light_view(mesh.points_V3, direction, size_px, reach_cm) for mesh in (opaque, soft)]
        raster(screens[0], opaque.tri_T3, opaque.uv_T32, no_alpha, 0.0, far, depth, ids)
        raster(screens[1], soft.tri_T3, soft.uv_T32, alpha_AB, 0.5, far, depth, ids)
        for mesh, screen, out, lift, bias in zip(
            (opaque, soft), screens, seen, (0.12, 0.25), (0.14, 0.55), strict=True
        ):
            raised = light_view(mesh.points_V3 + lift * mesh.normals_V3, direction, size_px, reach_cm)
            raised[:, :2] = 0.5 * (raised[:, :2] + screen[:, :2])
            lit_share(raised, depth, bias, out[d])
    return seen[0], seen[1]


def irradiance(opaque: Mesh, soft: Mesh, alpha_AB: F32, lighting: Lighting, globe_count: int) -> tuple[F32, F32]:
    """Per point: red, green, blue diffuse light, then the visible share of each light, then of the surroundings."""
    cones = [cone(light) for light in lighting.lights]
    around = globe(globe_count)
    seen = visibility(opaque, soft, alpha_AB, np.concatenate([*cones, around]))
    results = []
    for mesh, seen_DV in zip((opaque, soft), seen, strict=True):
        light_V3 = np.zeros((len(mesh.points_V3), 3), np.float32)
        shares = []
        start = 0
        for light, directions in zip(lighting.lights, cones, strict=True):
            part = seen_DV[start : start + len(directions)]
            facing = np.maximum(directions @ mesh.normals_V3.T, 0)
            light_V3 += (part * facing).mean(axis=0)[:, None] * np.array(light.colour, np.float32)
            shares.append(part.mean(axis=0))
            start += len(directions)
        facing = np.maximum(around @ mesh.normals_V3.T, 0)
        share_up = (around[:, 1:2] + 1) / 2
        colour_D3 = share_up * np.array(lighting.sky) + (1 - share_up) * np.array(lighting.ground)
        light_V3 += (4.0 / globe_count) * (seen_DV[start:] * facing).T @ colour_D3.astype(np.float32)
        shares.append((seen_DV[start:] * facing).sum(axis=0) / np.maximum(facing.sum(axis=0), 1e-6))
        results.append(np.concatenate([light_V3, np.stack(shares, axis=1)], axis=1).astype(np.float32))
    return results[0], results[1]


def glossy(normal_N3: F32, view_N3: F32, light_3: F32, roughness: float, f0: float) -> F32:
    """The Cook-Torrance term with GGX for one direction, cosine included."""
    half = unit(view_N3 + light_3)
    nh = np.clip((normal_N3 * half).sum(axis=1), 0, 1)
    nl = np.clip(normal_N3 @ light_3, 0, 1)
    nv = np.clip((normal_N3 * view_N3).sum(axis=1), 0.05, 1)
    vh = np.clip((view_N3 * half).sum(axis=1), 0, 1)
    a2 = roughness**4
    spread = a2 / (np.pi * ((nh * nh) * (a2 - 1) + 1) ** 2)
    k = (roughness + 1) ** 2 / 8
    masking = 1 / ((nl * (1 - k) + k) * (nv * (1 - k) + k)) / 4
    fresnel = f0 + (1 - f0) * (1 - vh) ** 5
    return np.asarray(spread * masking * fresnel * nl, np.float32)


@dataclass(frozen=True)
class Camera:
    """A pinhole on the z axis that looks down it."""

    distance_cm: float
    height_cm: float  # how much of the subject's plane the picture's height shows
    centre_y_cm: float
    size_px: int

    def screen(self, points_V3: F32) -> F32:
        depth = self.distance_cm - points_V3[:, 2]
        scale = self.size_px / self.height_cm * self.distance_cm / depth
        x = self.size_px / 2 - 0.5 + points_V3[:, 0] * scale
        y = self.size_px / 2 - 0.5 - (points_V3[:, 1] - self.centre_y_cm) * scale
        return np.asarray(np.stack([x, y, 1 / depth], axis=1), np.float32)

    def towards(self, points_N3: F32) -> F32:
        return unit(np.array([0, self.centre_y_cm, self.distance_cm], np.float32) - points_N3)


def blurred_within(picture_HWC: F32, mask_HW: F32, sigma_px: tuple[float, ...]) -> F32:
    """Gaussian blur that takes nothing from outside the mask: light wandering under the skin."""
    out = np.empty_like(picture_HWC)
    for k, sigma in enumerate(sigma_px):
        weight = gaussian_filter(mask_HW, sigma, truncate=2.5)
        out[..., k] = gaussian_filter(picture_HWC[..., k] * mask_HW, sigma, truncate=2.5) / np.maximum(weight, 1e-4)
    return out


def bumped(normal_HW3: F32, position_HW3: F32, height_HW: F32) -> F32:
    """Tilts normals by the slope of a height map given on the screen (Mikkelsen 2010)."""
    along_x, along_y = (np.gradient(position_HW3, axis=axis).astype(np.float32) for axis in (1, 0))
    slope_x, slope_y = (np.gradient(height_HW, axis=axis).astype(np.float32) for axis in (1, 0))
    across_y, across_x = np.cross(along_y, normal_HW3), np.cross(normal_HW3, along_x)
    det = (along_x * across_y).sum(axis=2)
    safe = np.where(np.abs(det) < 1e-9, 1e-9, det)
    gradient = np.sign(safe)[..., None] * (slope_x[..., None] * across_y + slope_y[..., None] * across_x)
    step = np.linalg.norm(along_x, axis=2) + np.linalg.norm(along_y, axis=2)
    smooth = (step < 6 * np.median(step[np.abs(height_HW) > 0]))[..., None] if np.any(height_HW) else True
    tilted = unit(normal_HW3 - np.where(smooth, gradient / np.abs(safe)[..., None], 0).clip(-0.8, 0.8))
    return np.where(np.isfinite(tilted), tilted, normal_HW3)


def tone_map(light: F32) -> F32:
    """Linear light to display values 0..1: a soft shoulder, then the sRGB curve."""
    x = np.maximum(light, 0)
    shoulder = np.where(x < 0.6, x, 0.6 + 0.4 * (1 - np.exp(-(x - 0.6) / 0.4)))
    return encoded(shoulder.astype(np.float32))


def shrink(picture_HWC: F32, factor: int) -> F32:
    height, width, channels = picture_HWC.shape
    blocks = picture_HWC.reshape(height // factor, factor, width // factor, factor, channels)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)
