"""What stands still while the picture moves under it: the mark, of a camera that is held in a hand.

A frame is y(t) = c(x - m(t)) + w(x): the scene, moved by m(t), and the mark, which does not move. With the scene taken
as the mean of all frames brought back onto each other, what is left of the frames' own mean holds nothing of the scene,
and of the mark at each frequency k the share 1 - |mean of exp(-i k m)|^2: the more, the further the picture moved.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from engines.jit import kernel
from engines.types import Floats

BLURS_PX = (6.0, 3.0, 1.5)  # at which movement is sought, one after the other
ROUNDS = 4  # Gauss-Newton steps at each
LEAST_MOVED_PX = 0.1  # root mean square: below, nothing can be told apart
MARGIN_PX = 12
MOST_STEP_PX = 8.0


@kernel
def _slope(
    still: Floats, down: Floats, across: Floats, moved: Floats, by_y: float, by_x: float, margin: int
) -> tuple[float, float]:
    """Sums of gradient times difference, where `moved` was brought back by that much (straight lines)."""
    rows, columns = still.shape
    step_y, step_x = int(np.floor(by_y)), int(np.floor(by_x))
    part_y, part_x = np.float32(by_y - step_y), np.float32(by_x - step_x)
    sum_y = sum_x = 0.0
    for y in range(margin, rows - margin):
        one, next_one = min(max(y + step_y, 0), rows - 1), min(max(y + step_y + 1, 0), rows - 1)
        for x in range(margin, columns - margin):
            left, right = min(max(x + step_x, 0), columns - 1), min(max(x + step_x + 1, 0), columns - 1)
            upper = moved[one, left] + part_x * (moved[one, right] - moved[one, left])
            lower = moved[next_one, left] + part_x * (moved[next_one, right] - moved[next_one, left])
            difference = upper + part_y * (lower - upper) - still[y, x]
            sum_y += difference * down[y, x]
            sum_x += difference * across[y, x]
    return sum_y, sum_x


@kernel
def moved_by(plane_HW: Floats, by_y: float, by_x: float) -> Floats:
    """A picture moved down and to the right, by parts of a pixel too (Catmull-Rom); its edge repeats."""
    rows, columns = plane_HW.shape
    across = np.empty((rows, columns), np.float32)
    out = np.empty((rows, columns), np.float32)
    for turn in range(2):
        back = -by_x if turn == 0 else -by_y
        step = int(np.floor(back))
        t = back - step
        a = np.float32(-0.5 * t + t * t - 0.5 * t * t * t)
        b = np.float32(1 - 2.5 * t * t + 1.5 * t * t * t)
        c = np.float32(0.5 * t + 2 * t * t - 1.5 * t * t * t)
        d = np.float32(-0.5 * t * t + 0.5 * t * t * t)
        for y in range(rows):
            for x in range(columns):
                at = (x if turn == 0 else y) + step
                last = (columns if turn == 0 else rows) - 1
                p, q = min(max(at - 1, 0), last), min(max(at, 0), last)
                r, s = min(max(at + 1, 0), last), min(max(at + 2, 0), last)
                if turn == 0:
                    row = plane_HW[y]
                    across[y, x] = a * row[p] + b * row[q] + c * row[r] + d * row[s]
                else:
                    out[y, x] = a * across[p, x] + b * across[q, x] + c * across[r, x] + d * across[s, x]
    return out


def movement(luma: Sequence[Floats]) -> Floats | None:
    """How far each frame lies from the mean of all, pixels down and to the right: float32 [T, 2].

    None where there is nothing in the picture to tell it by.
    """
    by = np.zeros((len(luma), 2), np.float32)
    for blur in BLURS_PX:
        planes = [np.asarray(gaussian_filter(plane, blur, truncate=2.5)) for plane in luma]
        still = planes[len(planes) // 2]
        down, across = (np.asarray(slope, np.float32) for slope in np.gradient(still))
        inside = np.s_[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
        y, x = down[inside].ravel().astype(np.float64), across[inside].ravel().astype(np.float64)
        curvature = np.array([[y @ y, y @ x], [y @ x, x @ x]])
        if np.linalg.det(curvature) <= 1e-6 * y.size**2:
            return None
        for number, plane in enumerate(planes):
            if blur == BLURS_PX[0] and number:
                by[number] = by[number - 1]
            for _ in range(ROUNDS):
                sums = _slope(still, down, across, plane, float(by[number, 0]), float(by[number, 1]), MARGIN_PX)
                by[number] -= np.clip(np.linalg.solve(curvature, np.array(sums)), -MOST_STEP_PX, MOST_STEP_PX)
    return np.asarray(by - by.mean(axis=0), np.float32)


def standing_still(luma: Sequence[Floats]) -> Floats | None:
    """What frames have in common that does not move with them: float32 [H, W], around 0.

    luma: frames of one size, in order. None where the picture did not move, or too far to be followed.
    """
    height, width = luma[0].shape
    if len(luma) < 3 or min(height, width) < 4 * MARGIN_PX:
        return None
    by = movement(luma)
    if by is None or np.sqrt((by**2).mean()) < LEAST_MOVED_PX or np.abs(by).max() > min(height, width) / 4:
        return None
    scene = np.mean([moved_by(plane, -float(y), -float(x)) for plane, (y, x) in zip(luma, by)], axis=0)
    scene = np.asarray(scene, np.float32)
    left = [plane - moved_by(scene, float(y), float(x)) for plane, (y, x) in zip(luma, by)]
    return np.asarray(np.mean(left, axis=0), np.float32)
