"""Small solids drawn by sphere tracing: capsules, boxes, tubes and rings that flow into each other, lit and shaded.

A solid is a row of floats: KIND, MATERIAL, BLEND_CM, its place [3], its axes [9] (rows: side, along, outward), its
sizes [4], DETAIL. Space is centimetres, x to the picture's right, y down, z away from the camera; the camera looks
straight along z. Sphere tracing after Hart, 1996; soft unions after Quilez's polynomial smooth minimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.jit import kernel
from engines.types import Floats

Doubles = NDArray[np.float64]

KIND, MATERIAL, BLEND = 0, 1, 2
COLUMNS = 20
CAPSULE, BOX, TUBE, RING, EGG = 0, 1, 2, 3, 4
PLAIN, NAIL, JOINT, PALM_SIDE, FOLDS, STRIPES, SCREEN, TEXT, GRILLE = 0, 1, 2, 3, 4, 5, 6, 7, 8  # DETAIL
SKIN = 0  # material 0 is skin, whatever else there is
MATERIAL_COLUMNS = 8  # red, green, blue (linear), second red, green, blue, gloss, softness of the terminator
STEPS, NEAR_CM = 96, 0.004


@dataclass(frozen=True, slots=True)
class Light:
    """towards_3: unit vector to the main light, solids' axes. key_C, ambient_C: its colour and the sky's, linear."""

    towards_3: Floats
    key_C: Floats
    ambient_C: Floats


def solid(
    kind: int,
    place: Floats,
    axes_33: Floats,
    sizes: tuple[float, ...],
    material: int = SKIN,
    blend_cm: float = 0.0,
    detail: int = PLAIN,
) -> Floats:
    """One row. sizes: CAPSULE length, radius at its start, at its end, flatness; BOX half sizes, rounding; TUBE half
    length, radius, rounding, wall (0: full); RING radius, thickness; EGG three radii."""
    row = np.zeros(COLUMNS, np.float32)
    row[:3] = kind, material, blend_cm
    row[3:6], row[6:15] = place, np.asarray(axes_33, np.float32).reshape(-1)
    row[15 : 15 + len(sizes)] = sizes
    row[19] = detail
    return row


@kernel
def _distance(row: Floats, x: float, y: float, z: float, local: Doubles) -> float:
    """Distance to one solid's surface, negative inside; writes the point in its own axes."""
    dx, dy, dz = x - row[3], y - row[4], z - row[5]
    lx = row[6] * dx + row[7] * dy + row[8] * dz
    ly = row[9] * dx + row[10] * dy + row[11] * dz
    lz = row[12] * dx + row[13] * dy + row[14] * dz
    local[0], local[1], local[2] = lx, ly, lz
    kind = int(row[0])
    if kind == 0:
        share = min(max(ly / row[15], 0.0), 1.0)
        radius = row[16] + share * (row[17] - row[16])
        away = ly - share * row[15]
        flat = row[18] if row[18] > 0 else 1.0
        return float((np.sqrt(lx * lx + away * away + (lz * flat) ** 2) - radius) / max(flat, 1.0))
    if kind == 1:
        qx, qy, qz = abs(lx) - row[15] + row[18], abs(ly) - row[16] + row[18], abs(lz) - row[17] + row[18]
        outside = np.sqrt(max(qx, 0.0) ** 2 + max(qy, 0.0) ** 2 + max(qz, 0.0) ** 2)
        return float(outside + min(max(qx, max(qy, qz)), 0.0) - row[18])
    if kind == 2:
        around = np.sqrt(lx * lx + lz * lz)
        if row[18] > 0:
            side = abs(around - row[16] + row[18]) - row[18] + row[17]
            along = abs(ly) - row[15] + row[17]
            wall = np.sqrt(max(side, 0.0) ** 2 + max(along, 0.0) ** 2) + min(max(side, along), 0.0) - row[17]
            floor_side, floor_along = around - row[16] + row[18], abs(ly - row[15] + 0.3) - 0.3
            floor = np.sqrt(max(floor_side, 0.0) ** 2 + max(floor_along, 0.0) ** 2)
            return float(min(wall, floor + min(max(floor_side, floor_along), 0.0)))
        side, along = around - row[16] + row[17], abs(ly) - row[15] + row[17]
        return float(np.sqrt(max(side, 0.0) ** 2 + max(along, 0.0) ** 2) + min(max(side, along), 0.0) - row[17])
    if kind == 3:
        around = np.sqrt(lx * lx + ly * ly) - row[15]
        return float(np.sqrt(around * around + lz * lz) - row[16])
    least = min(row[15], min(row[16], row[17]))
    return float((np.sqrt((lx / row[15]) ** 2 + (ly / row[16]) ** 2 + (lz / row[17]) ** 2) - 1.0) * least)


@kernel
def _union(rows: Floats, active: Floats, count: int, x: float, y: float, z: float, local: Doubles) -> float:
    """Distance to all active solids: each flows into those before it over its blend width."""
    total = 1e3
    for i in range(count):
        row = rows[int(active[i])]
        away = _distance(row, x, y, z, local)
        blend = row[2]
        if blend > 0:
            share = max(blend - abs(total - away), 0.0) / blend
            total = min(total, away) - share * share * blend * 0.25
        else:
            total = min(total, away)
    return total


@kernel
def noise(x: float, y: float, z: float, seed: int) -> float:
    """Smooth value noise, 0..1, one hill per unit."""
    x0, y0, z0 = np.floor(x), np.floor(y), np.floor(z)
    fx, fy, fz = x - x0, y - y0, z - z0
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    total = 0.0
    for corner in range(8):
        i, j, k = corner & 1, (corner >> 1) & 1, (corner >> 2) & 1
        h = (int(x0) + i) * 73856093 ^ (int(y0) + j) * 19349663 ^ (int(z0) + k) * 83492791 ^ seed * 2654435
        h = (h ^ (h >> 13)) * 1274126177
        value = ((h ^ (h >> 16)) & 0xFFFF) / 65535.0
        weight = (fx if i else 1 - fx) * (fy if j else 1 - fy) * (fz if k else 1 - fz)
        total += weight * value
    return total


@kernel
def _skin(row: Floats, local: Doubles, colour: Doubles, seed: int) -> float:
    """Changes skin's colour where there are nails, knuckles, creases and blood; returns the gloss to add."""
    length, radius = max(row[15], 0.1), max(row[16], 0.1)
    along = local[1] / length
    across = local[0] / max(row[16] + min(max(along, 0.0), 1.0) * (row[17] - row[16]), 0.1)
    mottled = noise(local[0] * 1.3, local[1] * 1.3, local[2] * 1.3, seed)
    fine = noise(local[0] * 9, local[1] * 9, local[2] * 9, seed + 1)
    red = 0.16 * (mottled - 0.5)
    shade = 1.0 + 0.10 * (mottled - 0.5) + 0.10 * (fine - 0.5)
    gloss = 0.0
    detail = int(row[19])
    dorsal = local[2] > 0.15 * radius
    if int(row[0]) == 0 and (detail == 1 or detail == 2):
        start = abs(local[1] + 0.05)
        if dorsal and start < 0.62:
            waves = np.sin(local[1] * 19 + 2.2 * noise(local[0] * 2, local[1] * 2, 0.0, seed + 2)) * 0.5 + 0.5
            bump = (1 - start / 0.62) * max(1 - across * across, 0.0)
            shade -= 0.28 * bump * waves
            red += 0.14 * bump
        if not dorsal and start < 0.16:
            shade -= 0.30 * (1 - start / 0.16)
        if detail == 1:
            red += 0.12 * min(max(along - 0.4, 0.0), 1.0)
            middle, half = 0.80 * length, 0.56 * length
            u, v = across / 0.80, (local[1] - middle) / half
            edge = u**4 + v**4
            if dorsal and edge < 1.0:
                base = min(max((v + 1) * 4, 0.0), 1.0)
                tip = min(max((v - 0.55) * 8, 0.0), 1.0)
                inner = min((1 - edge) * 5, 1.0)
                colour[0] = colour[0] * (1 - 0.35 * inner) + (0.62 + 0.16 * tip) * 0.35 * inner * (0.4 + colour[0])
                colour[1] = colour[1] * (1 - 0.35 * inner) + (0.42 + 0.32 * tip) * 0.35 * inner * (0.4 + colour[0])
                colour[2] = colour[2] * (1 - 0.35 * inner) + (0.36 + 0.34 * tip) * 0.35 * inner * (0.4 + colour[0])
                shade = 1.04 - 0.22 * (1 - inner) - 0.08 * (1 - base)
                red, gloss = 0.02, 0.5 * inner
    colour[0] *= shade * (1 + red)
    colour[1] *= shade * (1 - 0.35 * red)
    colour[2] *= shade * (1 - 0.30 * red)
    return gloss


@kernel
def _pattern(row: Floats, local: Doubles, material: Floats, colour: Doubles, seed: int) -> float:
    """Cloth, stripes, screens, print and wire mesh; returns the gloss to add."""
    detail = int(row[19])
    share, gloss = 0.0, 0.0
    if detail == 4:
        folds = np.sin(local[1] * 1.7 + 5 * noise(local[0] * 0.5, local[1] * 0.4, local[2] * 0.5, seed)) * 0.5 + 0.5
        weave = noise(local[0] * 14, local[1] * 14, local[2] * 14, seed + 3)
        dim = 0.62 + 0.38 * folds - 0.12 * weave
        for c in range(3):
            colour[c] *= dim
        share = 1.0 if (local[1] % 3.1) < 0.5 and material[7] > 0.5 else 0.0
    elif detail == 5:
        share = 1.0 if (local[1] + 50.0) % 2.6 < 0.9 else 0.0
    elif detail == 6:
        inside = abs(local[0]) < row[15] - 0.35 and abs(local[1]) < row[16] - 0.45
        if local[2] > 0 and inside:
            share, gloss = 1.0, 0.5
        elif local[2] < 0:
            lens_x, lens_y = local[0] - row[15] + 1.3, local[1] - row[16] + 1.5
            for k in range(2):
                if lens_x**2 + (lens_y + 1.6 * k) ** 2 < 0.36:
                    share, gloss = 1.0, 0.6
    elif detail == 7:
        line = (local[1] + 50.0) % 1.1
        if line < 0.42 and abs(local[0]) < row[15] - 1.4 and abs(local[1]) < row[16] - 1.6:
            share = 0.75 if noise(local[0] * 3.2, np.floor((local[1] + 50.0) / 1.1) * 7.3, 0.5, seed) > 0.38 else 0.0
    elif detail == 8:
        mesh = np.sin(local[0] * 16) * np.sin(local[1] * 16) * np.sin(local[2] * 16 + 1.0)
        share = 0.7 if mesh > 0.05 else 0.0
    for c in range(3):
        colour[c] += share * (material[3 + c] - colour[c])
    return gloss


@kernel
def trace(
    rows: Floats,
    materials: Floats,
    bounds: Floats,
    cm_per_px: float,
    towards: Floats,
    key: Floats,
    ambient: Floats,
    size_px: int,
    seed: int,
) -> Floats:
    """Draws the solids, float32 [S, S, 4]: linear colour times coverage, and coverage 0..1.

    rows: [P, 20]; the picture's left top is at (0, 0) cm. bounds: [P, 4], the solids' circles in the picture and their
    nearest z. Nothing is drawn where no circle reaches.
    """
    out = np.zeros((size_px, size_px, 4), np.float32)
    active, local, best = np.empty(rows.shape[0], np.float32), np.empty(3), np.empty(3)
    colour, normal = np.empty(3), np.empty(3)
    for row in range(size_px):
        for column in range(size_px):
            x, y = (column + 0.5) * cm_per_px, (row + 0.5) * cm_per_px
            count, front, back = 0, 1e3, -1e3
            for p in range(rows.shape[0]):
                reach = bounds[p, 2] + 0.7
                if (x - bounds[p, 0]) ** 2 + (y - bounds[p, 1]) ** 2 < reach * reach:
                    active[count] = p
                    count += 1
                    front = min(front, bounds[p, 3])
                    back = max(back, bounds[p, 3] + 2 * reach)
            if count == 0:
                continue
            z, nearest, z_nearest = front, 1e3, front
            for _ in range(STEPS):
                # Half a pixel within the surface, so that coverage is half at the outline.
                away = _union(rows, active, count, x, y, z, local) + 0.5 * cm_per_px
                if away < nearest:
                    nearest, z_nearest = away, z
                if away < NEAR_CM or z > back:
                    break
                z += max(away * 0.9, 0.01)
            coverage = min(max(1.0 - (nearest - NEAR_CM) / cm_per_px, 0.0), 1.0)
            if coverage <= 0:
                continue
            z = z_nearest
            e, length = 0.03, 0.0
            for axis in range(3):
                ax, ay, az = e * (axis == 0), e * (axis == 1), e * (axis == 2)
                normal[axis] = _union(rows, active, count, x + ax, y + ay, z + az, local) - _union(
                    rows, active, count, x - ax, y - ay, z - az, local
                )
                length += normal[axis] ** 2
            length = max(np.sqrt(length), 1e-6)
            for axis in range(3):
                normal[axis] /= length
            owner, closest = 0, 1e3
            for i in range(count):
                p = int(active[i])
                away = _distance(rows[p], x, y, z, local)
                if away < closest:
                    closest, owner = away, p
                    best[:] = local
            material = materials[int(rows[owner, 1])]
            colour[:] = material[:3]
            skin = int(rows[owner, 1]) == 0
            if skin:
                gloss = material[6] + _skin(rows[owner], best, colour, seed)
            else:
                gloss = material[6] + _pattern(rows[owner], best, material, colour, seed)
            hidden = 0.0
            for k in range(1, 4):
                step = 0.3 * k
                free = _union(
                    rows, active, count, x + normal[0] * step, y + normal[1] * step, z + normal[2] * step, local
                )
                hidden += max(step - free, 0.0) / step * (0.5 if k == 1 else 0.3 if k == 2 else 0.2)
            open_share = 1.0 - 0.75 * min(hidden, 1.0)
            dot = normal[0] * towards[0] + normal[1] * towards[1] + normal[2] * towards[2]
            sun = 1.0
            if dot > 0:
                for k in range(1, 6):
                    step = 0.35 * k
                    free = _union(
                        rows, active, count, x + normal[0] * 0.1 + towards[0] * step,
                        y + normal[1] * 0.1 + towards[1] * step, z + normal[2] * 0.1 + towards[2] * step, local,
                    )  # fmt: skip
                    sun = min(sun, min(max(0.5 + 1.6 * free / step, 0.0), 1.0))
            # Half vector between light and camera (0, 0, -1).
            hx, hy, hz = towards[0], towards[1], towards[2] - 1.0
            h = max(np.sqrt(hx * hx + hy * hy + hz * hz), 1e-6)
            shine = max((normal[0] * hx + normal[1] * hy + normal[2] * hz) / h, 0.0)
            rim = (1.0 - max(-normal[2], 0.0)) ** 3
            highlight = gloss * (0.55 * shine**28 + 0.10 * shine**6) * sun + 0.05 * gloss * rim
            sky = 0.62 - 0.38 * normal[1]
            for c in range(3):
                wrap = material[7] * (1.0 if c == 0 else 0.45 if c == 1 else 0.3) if skin else 0.0
                lit = max((dot + wrap) / (1 + wrap), 0.0) * (sun if dot > 0 else 1.0)
                bleed = (1 - open_share) * (0.12 if c == 0 and skin else 0.0)
                value = colour[c] * (key[c] * lit + ambient[c] * (sky * open_share + bleed)) + highlight * key[c]
                out[row, column, c] = value * coverage
            out[row, column, 3] = coverage
    return out


def bounds_of(rows_P: Floats) -> Floats:
    """Circle in the picture (x, y, radius) and nearest z of each solid, float32 [P, 4]."""
    bounds = np.empty((len(rows_P), 4), np.float32)
    for p, row in enumerate(rows_P):
        centre, kind, sizes = row[3:6].copy(), int(row[KIND]), row[15:19]
        if kind == CAPSULE:
            along = row[9:12] * sizes[0]
            centre += along / 2
            radius = max(sizes[1], sizes[2]) / min(sizes[3] if sizes[3] > 0 else 1, 1) + sizes[0] / 2
        elif kind == BOX:
            radius = float(np.linalg.norm(sizes[:3]))
        elif kind == TUBE:
            radius = float(np.hypot(sizes[0], sizes[1]))
        elif kind == RING:
            radius = float(sizes[0] + sizes[1])
        else:
            radius = float(sizes[:3].max())
        bounds[p] = centre[0], centre[1], radius, centre[2] - radius - 0.7
    return bounds


def drawn(rows_P: Floats, materials: Floats, light: Light, cm_per_px: float, size_px: int, seed: int) -> Floats:
    """`trace` with the bounds worked out. float32 [S, S, 4], linear, premultiplied."""
    return trace(
        rows_P.astype(np.float32),
        materials.astype(np.float32),
        bounds_of(rows_P),
        cm_per_px,
        light.towards_3.astype(np.float32),
        light.key_C.astype(np.float32),
        light.ambient_C.astype(np.float32),
        size_px,
        seed,
    )
