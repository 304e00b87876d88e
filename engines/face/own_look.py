"""What a person's own face usually looks like, point by point: so that what stands before it can be told.

Kept in the mesh's UV square, where pose and expression drop out. Brows, beard, glasses and make-up are learned with the
face and belong to it. Legend: G grid cells a side, U texels a side, 3 = brightness, red ratio, blue ratio (logarithms).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engines.face.relight import solve_in_place
from engines.jit import kernel
from engines.types import Floats, Mask

UV_PX = 48
SEASONED = 8.0  # frames that a texel must have been seen in before it is believed
LEARN_S = 4.0  # time constant of what is remembered
# What stays before the face for this long becomes part of it: new glasses, or a face that was covered when the call
# began. Else a mistake of the memory would show the real face for as long as the call lasts.
ABSORB_S = 20.0
CALM = 0.3  # how much the light of the frame before counts, in shares of the face's cells
ROUNDS = 3  # of the robust fit of the light

OWN_BRIGHTNESS, OWN_RATIO = 0.25, 0.05  # deviations that any face may show
ALIEN = 2.0  # deviations from what is usual that count as 1
SKIN_RATIO, SKIN_BRIGHTNESS = 0.11, 0.9  # what is this close to the person's own skin is skin, whatever was there
LEAST_FACING = 0.3  # cosine to the camera: below it a texel is a smear
SKIN, MOVING, HOLE = 1, 2, 3  # parts of the face on the grid: compared; lids and lips, not compared; eyes and mouth


def _texels(depth: int) -> Floats:
    return np.zeros((UV_PX, UV_PX, depth), np.float32)


@dataclass(slots=True)
class OwnLook:
    """The memory. `light_5`: brightness plane (1, x, y) and two ratios that lay over the face in the last frame."""

    mean_UU3: Floats = field(default_factory=lambda: _texels(3))
    spread_UU3: Floats = field(default_factory=lambda: _texels(3))
    seen_UU: Floats = field(default_factory=lambda: _texels(1)[..., 0])
    skin_3: Floats | None = None
    light_5: Floats = field(default_factory=lambda: np.zeros(5, np.float32))


def alien(look: OwnLook, colours_GG3: Floats, uv_GG3: Floats, part_GG: Mask) -> Floats:
    """How foreign every cell of the face is, float32 [G, G]: 0 usual, 1 and more foreign; 0 where nothing is known.

    colours_GG3  of the frame; uv_GG3 u, v (0..1) and facing (cosine) of the face there; part_GG which part it is
    """
    low, high = _range_about(look.mean_UU3, look.seen_UU)
    away = _away(colours_GG3, uv_GG3, part_GG, look.mean_UU3, look.seen_UU)
    look.light_5 = _fit_light(away, look.light_5)
    if look.skin_3 is None:
        return np.zeros(part_GG.shape, np.float32)
    return _alien(colours_GG3, uv_GG3, part_GG, low, high, look.spread_UU3, look.seen_UU, look.light_5, look.skin_3)


def learn(
    look: OwnLook,
    colours_GG3: Floats,
    uv_GG3: Floats,
    part_GG: Mask,
    covered_GG: Mask,
    thing_GG: Mask,
    elapsed_s: float,
) -> None:
    """Takes in what is not covered, with the light of this frame taken off, and slowly what a thing covers."""
    share = min(max(elapsed_s, 0.0) / LEARN_S, 1.0)
    _take_in(look, colours_GG3, uv_GG3, part_GG, covered_GG == 0, share, True)
    if thing_GG.any():
        _take_in(look, colours_GG3, uv_GG3, part_GG, thing_GG > 0, min(max(elapsed_s, 0.0) / ABSORB_S, 1.0), False)
    bare = (part_GG == SKIN) & (covered_GG == 0) & (uv_GG3[..., 2] > 0.6)
    if bare.sum() > 100:
        skin: Floats = np.median(colours_GG3[bare], axis=0).astype(np.float32)
        look.skin_3 = skin if look.skin_3 is None else look.skin_3 + np.float32(max(share, 0.02)) * (skin - look.skin_3)


def _take_in(
    look: OwnLook,
    colours_GG3: Floats,
    uv_GG3: Floats,
    part_GG: Mask,
    where_GG: NDArray[np.bool_],
    share: float,
    first_counts_whole: bool,
) -> None:
    texels = look.mean_UU3, look.spread_UU3, look.seen_UU
    _learn(*texels, colours_GG3, uv_GG3, part_GG, where_GG, look.light_5, share, first_counts_whole)


@kernel
def _fit_light(away_N6: Floats, before_5: Floats) -> Floats:
    """Robust fit of what the light added: a plane of brightness, a constant of each ratio; held by the frame before.

    away_N6: float32 [N, 6], per cell x, y (-1..1), brightness and two ratios off the memory, and how well seen.
    """
    count = away_N6.shape[0]
    if count < 50:
        return before_5
    held = CALM * count
    calm = held * np.array([1.0, 0.3, 0.3])
    light = before_5.astype(np.float64)
    for _ in range(ROUNDS):
        gram, right, total = np.diag(calm), np.empty((3, 1)), held
        right[:, 0] = calm * before_5[:3]
        ratios = held * before_5[3:].astype(np.float64)
        for i in range(count):
            x, y, off = away_N6[i, 0], away_N6[i, 1], away_N6[i, 2]
            off_plane = (off - light[0] - light[1] * x - light[2] * y) / 0.2
            off_ratio = max(abs(away_N6[i, 3] - light[3]), abs(away_N6[i, 4] - light[4])) / 0.05
            weight = away_N6[i, 5] / (1.0 + off_plane * off_plane + off_ratio * off_ratio)
            gram[0, 0] += weight
            gram[0, 1] += weight * x
            gram[0, 2] += weight * y
            gram[1, 1] += weight * x * x
            gram[1, 2] += weight * x * y
            gram[2, 2] += weight * y * y
            right[0, 0] += weight * off
            right[1, 0] += weight * x * off
            right[2, 0] += weight * y * off
            ratios[0] += weight * away_N6[i, 3]
            ratios[1] += weight * away_N6[i, 4]
            total += weight
        gram[1, 0], gram[2, 0], gram[2, 1] = gram[0, 1], gram[0, 2], gram[1, 2]
        solve_in_place(gram, right)
        light[:3], light[3:] = right[:, 0], ratios / total
    return light.astype(np.float32)


@kernel
def _range_about(mean_UU3: Floats, seen_UU: Floats) -> tuple[Floats, Floats]:
    """Least and largest value among every texel's neighbours: landmarks are a texel or two off, edges are steep."""
    side = mean_UU3.shape[0]
    low, high = np.zeros_like(mean_UU3), np.zeros_like(mean_UU3)
    for v in range(side):
        for u in range(side):
            for k in range(3):
                least, most = np.float32(1e9), np.float32(-1e9)
                for y in range(max(v - 1, 0), min(v + 2, side)):
                    for x in range(max(u - 1, 0), min(u + 2, side)):
                        if seen_UU[y, x] >= SEASONED:
                            least = min(least, mean_UU3[y, x, k])
                            most = max(most, mean_UU3[y, x, k])
                low[v, u, k], high[v, u, k] = least, most
    return low, high


@kernel
def _away(colours_GG3: Floats, uv_GG3: Floats, part_GG: Mask, mean_UU3: Floats, seen_UU: Floats) -> Floats:
    side, texels = part_GG.shape[0], mean_UU3.shape[0]
    out = np.empty((side * side, 6), np.float32)
    count = 0
    for row in range(side):
        for column in range(side):
            if part_GG[row, column] != SKIN or uv_GG3[row, column, 2] < LEAST_FACING:
                continue
            u = min(max(int(uv_GG3[row, column, 0] * texels), 0), texels - 1)
            v = min(max(int(uv_GG3[row, column, 1] * texels), 0), texels - 1)
            if seen_UU[v, u] < SEASONED:
                continue
            out[count, 0] = 2.0 * column / (side - 1) - 1.0
            out[count, 1] = 2.0 * row / (side - 1) - 1.0
            for k in range(3):
                out[count, 2 + k] = colours_GG3[row, column, k] - mean_UU3[v, u, k]
            out[count, 5] = uv_GG3[row, column, 2]
            count += 1
    return out[:count].copy()


@kernel
def _alien(
    colours_GG3: Floats,
    uv_GG3: Floats,
    part_GG: Mask,
    low_UU3: Floats,
    high_UU3: Floats,
    spread_UU3: Floats,
    seen_UU: Floats,
    light_5: Floats,
    skin_3: Floats,
) -> Floats:
    side, texels = part_GG.shape[0], seen_UU.shape[0]
    out = np.zeros((side, side), np.float32)
    for row in range(side):
        for column in range(side):
            if part_GG[row, column] != SKIN or uv_GG3[row, column, 2] < LEAST_FACING:
                continue
            u = min(max(int(uv_GG3[row, column, 0] * texels), 0), texels - 1)
            v = min(max(int(uv_GG3[row, column, 1] * texels), 0), texels - 1)
            if seen_UU[v, u] < SEASONED:
                continue
            x, y = 2.0 * column / (side - 1) - 1.0, 2.0 * row / (side - 1) - 1.0
            bright = colours_GG3[row, column, 0] - light_5[0] - light_5[1] * x - light_5[2] * y
            red, blue = colours_GG3[row, column, 1] - light_5[3], colours_GG3[row, column, 2] - light_5[4]
            off_skin = max(abs(red - skin_3[1]), abs(blue - skin_3[2])) / SKIN_RATIO
            off_skin = max(off_skin, abs(bright - skin_3[0]) / SKIN_BRIGHTNESS)
            if off_skin < 1.0:
                continue
            off = max(low_UU3[v, u, 0] - bright, bright - high_UU3[v, u, 0], np.float32(0))
            off_red = max(low_UU3[v, u, 1] - red, red - high_UU3[v, u, 1], np.float32(0))
            off_blue = max(low_UU3[v, u, 2] - blue, blue - high_UU3[v, u, 2], np.float32(0))
            grain = np.exp(
                max(np.float32(4.0) - colours_GG3[row, column, 0], np.float32(0))
            )  # colour of the dark is noise
            usual = np.sqrt(spread_UU3[v, u, 0] + OWN_BRIGHTNESS**2)
            usual_ratio = np.sqrt(spread_UU3[v, u, 1] + spread_UU3[v, u, 2] + OWN_RATIO**2) * grain
            ratio = np.sqrt(off_red * off_red + off_blue * off_blue) / usual_ratio
            out[row, column] = max(ratio, off / usual) / ALIEN
    return out


@kernel
def _learn(
    mean_UU3: Floats,
    spread_UU3: Floats,
    seen_UU: Floats,
    colours_GG3: Floats,
    uv_GG3: Floats,
    part_GG: Mask,
    where_GG: NDArray[np.bool_],
    light_5: Floats,
    share: float,
    first_counts_whole: bool,
) -> None:
    side, texels = part_GG.shape[0], seen_UU.shape[0]
    total = np.zeros((texels, texels, 4), np.float32)
    for row in range(side):
        for column in range(side):
            if part_GG[row, column] != SKIN or not where_GG[row, column] or uv_GG3[row, column, 2] < LEAST_FACING:
                continue
            x, y = 2.0 * column / (side - 1) - 1.0, 2.0 * row / (side - 1) - 1.0
            u = min(max(int(uv_GG3[row, column, 0] * texels), 0), texels - 1)
            v = min(max(int(uv_GG3[row, column, 1] * texels), 0), texels - 1)
            total[v, u, 0] += colours_GG3[row, column, 0] - light_5[0] - light_5[1] * x - light_5[2] * y
            total[v, u, 1] += colours_GG3[row, column, 1] - light_5[3]
            total[v, u, 2] += colours_GG3[row, column, 2] - light_5[4]
            total[v, u, 3] += 1
    for v in range(texels):
        for u in range(texels):
            if total[v, u, 3] == 0:
                continue
            step = np.float32(share)
            if first_counts_whole:
                step = max(step, 1 / (seen_UU[v, u] + 1))
            for k in range(3):
                off = total[v, u, k] / total[v, u, 3] - mean_UU3[v, u, k]
                mean_UU3[v, u, k] += step * off
                if seen_UU[v, u] > 0:
                    spread_UU3[v, u, k] += step * (off * off - spread_UU3[v, u, k])
            seen_UU[v, u] = min(seen_UU[v, u] + 1, np.float32(1000))
