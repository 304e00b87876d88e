"""Flat occluders: strands of hair, veils, scarves, patches of texture. Each is drawn on a square of its own, once per
clip, and waves a little in every frame. float32 [S, S, 4], linear colour times coverage, and coverage."""

from __future__ import annotations

import numpy as np

from distill.occluders.solids import noise
from engines.jit import kernel
from engines.types import Floats

HAIR, VEIL, SCARF, PATCH = "hair", "veil", "scarf", "patch"
SHEETS = (HAIR, VEIL, SCARF, PATCH)


@kernel
def strands(curves_N9: Floats, colour: Floats, light_gain: Floats, size_px: int) -> Floats:
    """Hairs as quadratic curves. curves: [N, 9] three points, width in pixels, brightness, phase."""
    out = np.zeros((size_px, size_px, 4), np.float32)
    for n in range(curves_N9.shape[0]):
        ax, ay, bx, by, cx, cy, width, bright, phase = curves_N9[n]
        length = abs(ax - bx) + abs(ay - by) + abs(bx - cx) + abs(by - cy)
        steps = int(length * 1.6) + 2
        for i in range(steps):
            t = i / (steps - 1)
            x = (1 - t) ** 2 * ax + 2 * t * (1 - t) * bx + t * t * cx
            y = (1 - t) ** 2 * ay + 2 * t * (1 - t) * by + t * t * cy
            half = width * (1.0 - 0.75 * t * t) * 0.5
            shine = 0.55 + 0.9 * np.exp(-(((t - 0.25 - 0.15 * phase) / 0.13) ** 2)) + 0.35 * np.sin(9 * t + 6 * phase)
            for py in range(int(y - half - 1), int(y + half + 3)):
                for px in range(int(x - half - 1), int(x + half + 3)):
                    if px < 0 or py < 0 or px >= size_px or py >= size_px:
                        continue
                    away = np.sqrt((px - x) ** 2 + (py - y) ** 2)
                    cover = min(max(half + 0.5 - away, 0.0), 1.0) * 0.5
                    if cover <= 0:
                        continue
                    for c in range(3):
                        lit = colour[c] * light_gain[c] * bright * max(shine, 0.15)
                        out[py, px, c] += cover * (lit - out[py, px, c])
                    out[py, px, 3] += cover * (1 - out[py, px, 3])
    return out


@kernel
def cloth(
    kind: int,
    numbers: Floats,
    first: Floats,
    second: Floats,
    light_gain: Floats,
    towards: Floats,
    size_px: int,
    seed: int,
) -> Floats:
    """Cloth hanging over the square. kind 0: veil, 1: scarf, 2: patch. numbers: see `sheet`."""
    out = np.zeros((size_px, size_px, 4), np.float32)
    turn, wave, top, bottom, density, period, sway = numbers[:7]
    cos, sin = np.cos(turn), np.sin(turn)
    for row in range(size_px):
        for column in range(size_px):
            px, py = (column + 0.5) / size_px - 0.5, (row + 0.5) / size_px - 0.5
            u, v = cos * px + sin * py, cos * py - sin * px
            fold = 6.28 * wave * (u + 0.12 * (noise(u * 3 + sway, v * 2, 0.5, seed) - 0.5)) + 3 * noise(
                u * 2, v * 3 + sway, 1.5, seed + 1
            )
            slope = np.cos(fold)
            shade = 0.62 + 0.24 * slope * (1.0 if towards[0] < 0 else -1.0) + 0.14 * np.sin(fold)
            edge = 0.03 * np.sin(11 * u + 4 * sway) + 0.05 * (noise(u * 6, sway, 2.5, seed + 2) - 0.5)
            cover = 0.0
            if kind == 2:
                radius = np.sqrt((u / max(top, 0.05)) ** 2 + (v / max(bottom, 0.05)) ** 2)
                angle = np.arctan2(v, u)
                limit = 0.75 + 0.25 * np.sin(3 * angle + period) * 0.5 + 0.5 * (noise(u * 5, v * 5, 0.2, seed) - 0.5)
                cover = min(max((limit - radius) * size_px * min(top, bottom), 0.0), 1.0)
            else:
                cover = min(max((v - top - edge) * size_px, 0.0), 1.0) * min(
                    max((bottom + edge - v) * size_px, 0.0), 1.0
                )
            if cover <= 0:
                continue
            thread = np.sin(column * 2.1) * np.sin(row * 2.1)
            if kind == 0:
                hem = min(max(1 - min(abs(v - top - edge), abs(bottom + edge - v)) * 40, 0.0), 1.0)
                cover *= min(density * (0.7 + 0.5 * np.sin(fold) ** 2) + 0.08 * thread + 0.5 * hem, 1.0)
            a, b = (u + 5) * period % 1.0, (v + 5 + 0.02 * np.sin(fold)) * period % 1.0
            share = 0.0
            if numbers[7] < 0.35:
                share = 0.5 * (1.0 if a < 0.4 else 0.0) + 0.5 * (1.0 if b < 0.4 else 0.0)
            elif numbers[7] < 0.6:
                share = 1.0 if b < 0.35 else 0.0
            elif numbers[7] < 0.8:
                share = 1.0 if (a - 0.5) ** 2 + (b - 0.5) ** 2 < 0.06 else 0.0
            else:
                share = noise(u * period, v * period, 0.0, seed + 5) * 0.8
            grain = 1.0 + 0.10 * thread + 0.10 * (noise(column * 0.7, row * 0.7, 0.0, seed + 7) - 0.5)
            for c in range(3):
                colour = (first[c] + share * (second[c] - first[c])) * shade * grain
                out[row, column, c] = max(colour, 0.0) * light_gain[c] * cover
            out[row, column, 3] = cover
    return out


def hair_curves(rng: np.random.Generator, size_px: int, face_px: float) -> Floats:
    """A lock of hair falling over the face, in the middle of the square: [N, 9]."""
    locks = []
    for _ in range(int(rng.integers(2, 6))):
        count = int(rng.integers(30, 110))
        root = np.array([size_px / 2 + rng.normal(0, 0.25) * face_px, size_px / 2 - rng.uniform(0.8, 1.1) * face_px])
        swing, fall = rng.normal(0, 0.25) * face_px, rng.uniform(1.0, 1.9) * face_px
        wide = rng.uniform(0.03, 0.11) * face_px
        place = rng.normal(0, 1, count)
        curves = np.empty((count, 9), np.float32)
        curves[:, 0], curves[:, 1] = root[0] + place * wide * 0.6, root[1] + rng.normal(0, 2, count)
        curves[:, 2] = root[0] + swing + place * wide + rng.normal(0, 0.25 * wide, count)
        curves[:, 3] = root[1] + fall * 0.5
        curves[:, 4] = root[0] + swing * rng.uniform(-0.4, 1.4) + place * wide * 0.7 + rng.normal(0, 0.5 * wide, count)
        curves[:, 5] = root[1] + fall * rng.uniform(0.8, 1.05, count)
        curves[:, 6] = rng.uniform(0.7, 1.5, count) * max(face_px / 120, 0.7)
        curves[:, 7], curves[:, 8] = rng.uniform(0.6, 1.15, count), rng.uniform(-1, 1) + rng.normal(0, 0.1, count)
        locks.append(curves)
    return np.concatenate(locks)


def sheet_numbers(rng: np.random.Generator, kind: str) -> Floats:
    """turn, waves, top, bottom, density, pattern's period, sway (set by frame), pattern."""
    if kind == VEIL:
        top, bottom = rng.uniform(-0.10, 0.05), 0.8
        shape = (rng.normal(0, 0.1), rng.uniform(2, 5), top, bottom, rng.uniform(0.25, 0.65))
    elif kind == SCARF:
        top = rng.uniform(-0.05, 0.15)
        shape = (rng.normal(0, 0.25), rng.uniform(1.5, 4), top, top + rng.uniform(0.2, 0.5), 1.0)
    else:
        shape = (rng.uniform(-3, 3), rng.uniform(0.5, 3), rng.uniform(0.1, 0.3), rng.uniform(0.1, 0.3), 1.0)
    return np.array([*shape, rng.uniform(5, 24), 0.0, rng.uniform()], np.float32)
