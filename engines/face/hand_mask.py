"""The area that a hand covers, from its 21 landmarks: fingers and forearm as capsules, the palm as a polygon."""

from __future__ import annotations

import numpy as np

from engines.jit import kernel
from engines.types import Floats, Mask

# Radii in lengths of the palm (wrist to the middle finger's knuckle), from hands of our clips held before a face.
BONES = np.array(
    [
        (0, 1, 0.20), (1, 2, 0.20), (2, 3, 0.16), (3, 4, 0.14),
        (5, 6, 0.16), (6, 7, 0.14), (7, 8, 0.13),
        (9, 10, 0.16), (10, 11, 0.14), (11, 12, 0.13),
        (13, 14, 0.15), (14, 15, 0.13), (15, 16, 0.12),
        (17, 18, 0.14), (18, 19, 0.12), (19, 20, 0.11),
        (0, 5, 0.20), (0, 9, 0.22), (0, 13, 0.20), (0, 17, 0.18), (5, 9, 0.18), (9, 13, 0.18), (13, 17, 0.16),
        (2, 5, 0.20),
    ],
    np.float32,
)  # fmt: skip
FOREARM_RADIUS, FOREARM_LENGTH = 0.30, 2.0
EDGE = 1.0  # cells over which the mask fades
WRIST, MIDDLE_KNUCKLE = 0, 9


def hand_mask(points_N2: Floats, side: int) -> Mask:
    """uint8 [side, side], 255 where the hand is. points_N2: its 21 landmarks in cells of the grid."""
    palm = points_N2[MIDDLE_KNUCKLE] - points_N2[WRIST]
    # Seen from the fingers' side the palm looks short, so its width counts as well.
    length = max(float(np.hypot(*palm)), 1.2 * float(np.hypot(*(points_N2[5] - points_N2[17]))))
    segments = np.empty((len(BONES) + 1, 5), np.float32)
    segments[:-1, :2] = points_N2[BONES[:, 0].astype(int)]
    segments[:-1, 2:4] = points_N2[BONES[:, 1].astype(int)]
    segments[:-1, 4] = BONES[:, 2] * length
    direction = palm / max(float(np.hypot(*palm)), 1e-6)
    segments[-1, :2] = points_N2[WRIST]
    segments[-1, 2:4] = points_N2[WRIST] - direction * (FOREARM_LENGTH * length)
    segments[-1, 4] = FOREARM_RADIUS * length
    return _capsules(segments, side)


@kernel
def _capsules(segments_B5: Floats, side: int) -> Mask:
    """The union of capsules (x, y of both ends, radius), with soft edges."""
    out = np.zeros((side, side), np.uint8)
    for s in range(segments_B5.shape[0]):
        ax, ay, bx, by, radius = segments_B5[s]
        reach = radius + EDGE
        dx, dy = bx - ax, by - ay
        square = max(dx * dx + dy * dy, np.float32(1e-6))
        for y in range(max(int(min(ay, by) - reach), 0), min(int(max(ay, by) + reach) + 2, side)):
            for x in range(max(int(min(ax, bx) - reach), 0), min(int(max(ax, bx) + reach) + 2, side)):
                share = min(max(((x - ax) * dx + (y - ay) * dy) / square, np.float32(0)), np.float32(1))
                away = np.sqrt((x - ax - share * dx) ** 2 + (y - ay - share * dy) ** 2) - radius
                value = min(max(np.float32(0.5) - away / EDGE, np.float32(0)), np.float32(1)) * 255
                if value > out[y, x]:
                    out[y, x] = np.uint8(value)
    return out
