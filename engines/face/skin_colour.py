"""What colours a driver's skin has in this picture, against all else in it, as one table to look pixels up in.

Colours are seen as brightness (mean logarithm of the channels), redness (log red - log green) and yellowness (log green
- log blue). Skin is two soft bodies in that space, one of the face, one of the neck, learned where geometry is sure;
everything else is a histogram of the picture far from head and neck. The table holds how much likelier skin is than
either the surroundings or something never seen before, as a logarithm, limited to MOST on both sides.

Legend: R, Y, L bins of redness, yellowness and brightness.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engines.jit import inlined, kernel
from engines.types import Floats, Rgb

Real = float | np.float32
REDS, YELLOWS, LEVELS = 24, 24, 14
RED_LOW, YELLOW_LOW, LEVEL_LOW = np.float32(-0.4), np.float32(-0.5), np.float32(2.2)
CHROMA_STEP, LEVEL_STEP = np.float32(0.06), np.float32(0.25)
LIFT = 8.0  # of 255, added before the logarithm: sensor noise in the dark is not colour
MOST = np.float32(4.0)
ROUNDS = 4  # of reweighting
# What a body of skin colour is described by (`skin_body`): means, slopes of tint over brightness, spreads, range.
RED, YELLOW, LEVEL, RED_SLOPE, YELLOW_SLOPE, RED_SPREAD, YELLOW_SPREAD, LEVEL_SPREAD = range(8)
BODY = 8
LEAST_RED, LEAST_YELLOW = 0.045, 0.055  # spread: pixels vary more than the means over patches that are measured
STRANGE = 2.8  # spreads from the skin at which it is as likely something never seen before
SHADE, GLARE = 1.7, 0.35  # log units below and above the measured range that skin may have
SHADE_SLOPE, GLARE_SLOPE = 0.35, 1.0  # how fast the tint's spread grows there
PALER = 0.5  # of the tint is lost, a log unit above the range: highlights are the lamp's colour
NECK_REACH = 2.2  # times the face's spreads: within them neck may differ from the face
LEAST_TRUST = 0.15  # share of the neck's place that must be skin-like for the neck to be learned from


@lru_cache(maxsize=1)
def logarithms() -> Floats:
    """Of every 8-bit level, float32 [256]."""
    levels: Floats = np.log(np.arange(256, dtype=np.float32) + np.float32(LIFT)).astype(np.float32)
    levels.setflags(write=False)
    return levels


@kernel
def skin_body(rgb_V3: Floats, weight_V: Floats) -> Floats:
    """The body of skin colour that samples span, float32 [8]; what lies off most of them counts less.

    rgb_V3: 0..255. weight_V: not negative; their sum must be positive.
    """
    count = rgb_V3.shape[0]
    at = np.empty((count, 3), np.float32)
    for v in range(count):
        red, green, blue = np.log(rgb_V3[v, 0] + LIFT), np.log(rgb_V3[v, 1] + LIFT), np.log(rgb_V3[v, 2] + LIFT)
        at[v, 0], at[v, 1], at[v, 2] = red - green, green - blue, (red + green + blue) / 3
    robust, body = weight_V.astype(np.float64), np.zeros(BODY)
    for _ in range(ROUNDS):
        total = max(robust.sum(), 1e-6)
        mean, square, cross = np.zeros(3), np.zeros(3), np.zeros(2)
        for v in range(count):
            for c in range(3):
                mean[c] += robust[v] * at[v, c] / total
        for v in range(count):
            off = at[v, 2] - mean[2]
            for c in range(3):
                square[c] += robust[v] * (at[v, c] - mean[c]) ** 2 / total
            cross[0] += robust[v] * (at[v, 0] - mean[0]) * off / total
            cross[1] += robust[v] * (at[v, 1] - mean[1]) * off / total
        for c in range(2):
            body[c] = mean[c]
            body[RED_SLOPE + c] = min(max(cross[c] / (square[2] + 0.02), -0.15), 0.05)
            body[RED_SPREAD + c] = np.sqrt(max(square[c] - body[RED_SLOPE + c] * cross[c], 0.0))
        body[LEVEL], body[LEVEL_SPREAD] = mean[2], np.sqrt(square[2])
        body[RED_SPREAD], body[YELLOW_SPREAD] = body[RED_SPREAD] + LEAST_RED, body[YELLOW_SPREAD] + LEAST_YELLOW
        for v in range(count):
            robust[v] = weight_V[v] / (1 + (strangeness(body, at[v, 0], at[v, 1], at[v, 2]) / 4) ** 2)
    return body.astype(np.float32)


@inlined
def strangeness(body: Floats | NDArray[np.float64], red: Real, yellow: Real, level: Real) -> Real:
    """Squared distance of a colour from a body of skin, in spreads."""
    middle, reach = body[LEVEL], 1.5 * body[LEVEL_SPREAD]
    below, above = max(middle - reach - level, 0.0), max(level - middle - reach, 0.0)
    along = min(max(level - middle, -reach), reach)
    wide = 1 + SHADE_SLOPE * below + GLARE_SLOPE * above
    paler = 1 - PALER * min(above, 1.0)
    off_red = (red - paler * (body[RED] + body[RED_SLOPE] * along)) / (wide * body[RED_SPREAD])
    off_yellow = (yellow - paler * (body[YELLOW] + body[YELLOW_SLOPE] * along)) / (wide * body[YELLOW_SPREAD])
    beyond = (max(below - SHADE, 0.0) + max(above - GLARE, 0.0)) / 0.2
    far: Real = off_red * off_red + off_yellow * off_yellow + beyond * beyond
    return far


@kernel
def neck_weights(rgb_V3: Floats, face: Floats) -> Floats:
    """How far each sample of the neck's place can be skin at all, judged by the face: 0..1, float32 [V]."""
    out = np.empty(rgb_V3.shape[0], np.float32)
    wide = face.copy()
    wide[RED_SPREAD] *= NECK_REACH
    wide[YELLOW_SPREAD] *= NECK_REACH
    for v in range(rgb_V3.shape[0]):
        red, green, blue = np.log(rgb_V3[v, 0] + LIFT), np.log(rgb_V3[v, 1] + LIFT), np.log(rgb_V3[v, 2] + LIFT)
        far = strangeness(wide, red - green, green - blue, (red + green + blue) / 3)
        out[v] = min(max(1.6 - 0.4 * far, 0.0), 1.0)
    return out


@inlined
def bins_of(logs: Floats, red: np.uint8, green: np.uint8, blue: np.uint8) -> tuple[np.float32, np.float32, np.float32]:
    """Where a pixel lies in the table, in bins."""
    r, g, b = logs[red], logs[green], logs[blue]
    level = (r + g + b) * np.float32(1 / 3)
    return (
        min(max((r - g - RED_LOW) * np.float32(1 / CHROMA_STEP), np.float32(0)), np.float32(REDS - 1.001)),
        min(max((g - b - YELLOW_LOW) * np.float32(1 / CHROMA_STEP), np.float32(0)), np.float32(YELLOWS - 1.001)),
        min(max((level - LEVEL_LOW) * np.float32(1 / LEVEL_STEP), np.float32(0)), np.float32(LEVELS - 1.001)),
    )


@kernel
def counted(rgb_HW3: Rgb, logs: Floats, step_px: int, body_22: Floats) -> Floats:
    """Histogram of the surroundings, float32 [R, Y, L] that adds up to the number of pixels counted.

    Every step_px-th pixel counts, but for those within body_22, left and top, right and bottom: head and neck.
    """
    out = np.zeros((REDS, YELLOWS, LEVELS), np.float32)
    for y in range(step_px // 2, rgb_HW3.shape[0], step_px):
        for x in range(step_px // 2, rgb_HW3.shape[1], step_px):
            if body_22[0, 1] < y < body_22[1, 1] and body_22[0, 0] < x < body_22[1, 0]:
                continue
            i, j, k = bins_of(logs, rgb_HW3[y, x, 0], rgb_HW3[y, x, 1], rgb_HW3[y, x, 2])
            out[int(i + np.float32(0.5)), int(j + np.float32(0.5)), int(k + np.float32(0.5))] += 1
    return out


@kernel
def strange_weights(rgb_V3: Floats, face: Floats) -> Floats:
    """How little samples from above and beside the head are like the face: 0 skin .. 1 anything else, float32 [V]."""
    out = np.empty(rgb_V3.shape[0], np.float32)
    for v in range(rgb_V3.shape[0]):
        red, green, blue = np.log(rgb_V3[v, 0] + LIFT), np.log(rgb_V3[v, 1] + LIFT), np.log(rgb_V3[v, 2] + LIFT)
        level = (red + green + blue) / 3
        dark = max(face[LEVEL] - 1.5 * face[LEVEL_SPREAD] - 0.4 - level, 0.0) / 0.15  # no chin casts a shadow here
        far = strangeness(face, red - green, green - blue, level) + dark * dark
        out[v] = min(max(far / 4 - 1, 0.0), 1.0)
    return out


@kernel
def add_samples(counts_RYL: Floats, rgb_V3: Floats, weight_V: Floats) -> None:
    """Adds samples, 0..255, to a histogram, in place."""
    for v in range(rgb_V3.shape[0]):
        red, green, blue = np.log(rgb_V3[v, 0] + LIFT), np.log(rgb_V3[v, 1] + LIFT), np.log(rgb_V3[v, 2] + LIFT)
        i = min(max((red - green - RED_LOW) / CHROMA_STEP, 0.0), REDS - 1.0)
        j = min(max((green - blue - YELLOW_LOW) / CHROMA_STEP, 0.0), YELLOWS - 1.0)
        k = min(max(((red + green + blue) / 3 - LEVEL_LOW) / LEVEL_STEP, 0.0), LEVELS - 1.0)
        counts_RYL[int(i + 0.5), int(j + 0.5), int(k + 0.5)] += weight_V[v]


@kernel
def softened(counts_RYL: Floats) -> Floats:
    """The histogram with each bin spread over its neighbours, 1 2 1 along each axis."""
    source = counts_RYL
    for axis in range(3):
        out = np.empty_like(source)
        for i in range(REDS):
            for j in range(YELLOWS):
                for k in range(LEVELS):
                    if axis == 0:
                        sides = source[max(i - 1, 0), j, k] + source[min(i + 1, REDS - 1), j, k]
                    elif axis == 1:
                        sides = source[i, max(j - 1, 0), k] + source[i, min(j + 1, YELLOWS - 1), k]
                    else:
                        sides = source[i, j, max(k - 1, 0)] + source[i, j, min(k + 1, LEVELS - 1)]
                    out[i, j, k] = np.float32(0.25) * sides + np.float32(0.5) * source[i, j, k]
        source = out
    return source


@kernel
def skin_table(face: Floats, neck: Floats, trust: float, surroundings_RYL: Floats) -> Floats:
    """How much likelier skin is than anything else, per bin: natural logarithm, float32 [R, Y, L] within -MOST..MOST.

    surroundings_RYL: any positive scale. trust: of the neck's body, 0..1.
    """
    out = np.empty((REDS, YELLOWS, LEVELS), np.float32)
    total = max(surroundings_RYL.sum(), 1e-6)
    # Skin's greatest density, a bin: a normal distribution of tint over an even one of about two units of brightness.
    volume = CHROMA_STEP * CHROMA_STEP * LEVEL_STEP
    densest = volume / (2 * np.pi * face[RED_SPREAD] * face[YELLOW_SPREAD] * (1.0 + 3 * face[LEVEL_SPREAD]))
    unknown, doubt = np.exp(-0.5 * STRANGE * STRANGE), 3.0 * (1 - trust)
    for i in range(REDS):
        red = RED_LOW + CHROMA_STEP * np.float32(i)
        for j in range(YELLOWS):
            yellow = YELLOW_LOW + CHROMA_STEP * np.float32(j)
            for k in range(LEVELS):
                level = LEVEL_LOW + LEVEL_STEP * np.float32(k)
                far = strangeness(face, red, yellow, level)
                if trust > LEAST_TRUST:
                    far = min(far, strangeness(neck, red, yellow, level) + doubt)
                other = surroundings_RYL[i, j, k] / total / densest + unknown
                out[i, j, k] = min(max(-0.5 * far - np.log(other), -MOST), MOST)
    return out


@inlined
def likelihood(table_RYL: Floats, i: np.float32, j: np.float32, k: np.float32) -> np.float32:
    """The table at a place between its bins, linear."""
    i0, j0, k0 = np.uint32(i), np.uint32(j), np.uint32(k)
    i1, j1, k1 = i0 + np.uint32(1), j0 + np.uint32(1), k0 + np.uint32(1)
    fi, fj, fk = i - np.float32(i0), j - np.float32(j0), k - np.float32(k0)
    a = table_RYL[i0, j0, k0] + fk * (table_RYL[i0, j0, k1] - table_RYL[i0, j0, k0])
    b = table_RYL[i0, j1, k0] + fk * (table_RYL[i0, j1, k1] - table_RYL[i0, j1, k0])
    c = table_RYL[i1, j0, k0] + fk * (table_RYL[i1, j0, k1] - table_RYL[i1, j0, k0])
    d = table_RYL[i1, j1, k0] + fk * (table_RYL[i1, j1, k1] - table_RYL[i1, j1, k0])
    low, high = a + fj * (b - a), c + fj * (d - c)
    return np.float32(low + fi * (high - low))


@inlined
def odds(
    table_RYL: Floats, logs: Floats, red: np.uint8, green: np.uint8, blue: np.uint8, lowest: np.float32
) -> np.float32:
    """Log odds for skin of a pixel's colour where skin is not darker than `lowest` (mean log level)."""
    i, j, k = bins_of(logs, red, green, blue)
    dark = lowest - (LEVEL_LOW + LEVEL_STEP * k)
    found = likelihood(table_RYL, i, j, k)
    if dark > 0:
        found = max(found - np.float32(6) * dark, -MOST)
    return np.float32(found)
