"""A picture of what was measured: for each swap its identity, then driver over result over truth at a few moments.

M moments   P = TILE_PX
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from distill.evaluate.clip_features import square_picture
from distill.evaluate.swaps import Frame
from engines import Rgb
from engines.types import Floats

TILE_PX, REACH = 144, 1.8
MOMENTS, MOST_ROWS = 4, 16
LINES = ("driver", "result", "truth")
INK, PAPER, MISSING, HEAD_PX, NAME_PX = (30, 30, 30), (245, 245, 245), 200, 22, 18


class Moments:
    """Keeps a few moments of a swap whose length nobody knows: at first all, then every second, every fourth ..."""

    def __init__(self) -> None:
        self._kept: list[Rgb] = []
        self._every = 1
        self._seen = 0

    def see(self, frame: Frame, points_px: Floats) -> None:
        number, self._seen = self._seen, self._seen + 1
        if number % self._every:
            return
        pictures = (frame.driver_HW3, frame.result_HW3, frame.truth_HW3)
        self._kept.append(np.stack([missing() if one is None else cut(one, points_px) for one in pictures]))
        if len(self._kept) == 4 * MOMENTS:
            del self._kept[1::2]
            self._every *= 2

    def taken(self) -> Rgb:
        """uint8 [M, 3, P, P, 3]: spread evenly, one in each equal part."""
        count = min(MOMENTS, len(self._kept))
        chosen = [self._kept[(2 * i + 1) * len(self._kept) // (2 * count)] for i in range(count)]
        return np.stack(chosen) if chosen else np.zeros((0, len(LINES), TILE_PX, TILE_PX, 3), np.uint8)


def missing() -> Rgb:
    """The tile of what was not drawn, or is not known."""
    return np.full((TILE_PX, TILE_PX, 3), MISSING, np.uint8)


def cut(rgb_HW3: Rgb, points_px: Floats) -> Rgb:
    """The face with its surroundings, uint8 [P, P, 3]."""
    low, high = points_px[:, :2].min(axis=0), points_px[:, :2].max(axis=0)
    return small(square_picture(rgb_HW3, (low + high) / 2, REACH * float((high - low).max())))


def small(rgb_HW3: Rgb) -> Rgb:
    """The middle square of a picture as a tile."""
    height_px, width_px = rgb_HW3.shape[:2]
    side = min(height_px, width_px)
    top, left = (height_px - side) // 2, (width_px - side) // 2
    square = Image.fromarray(np.ascontiguousarray(rgb_HW3[top : top + side, left : left + side]))
    return np.array(square.resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS))


def sheet(rows: Mapping[str, tuple[Rgb, Rgb]], title: str) -> Image.Image:
    """rows: a swap's name -> the identity's tile [P, P, 3] and its moments [M, 3, P, P, 3]."""
    shown = list(rows.items())[:MOST_ROWS]
    known = [
        line for line in range(len(LINES)) if any((moments[:, line] != MISSING).any() for _, (_, moments) in shown)
    ]
    columns = 1 + max((len(moments) for _, (_, moments) in shown), default=0)
    row_px = NAME_PX + TILE_PX * max(len(known), 1)
    picture = Image.new("RGB", (columns * TILE_PX, HEAD_PX + row_px * len(shown)), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((6, 5), title, fill=INK)
    for r, (name, (photo, moments)) in enumerate(shown):
        top = HEAD_PX + r * row_px
        draw.text((6, top + 3), f"{name}: identity; {' over '.join(LINES[line] for line in known)}", fill=INK)
        picture.paste(Image.fromarray(photo), (0, top + NAME_PX))
        for c, moment in enumerate(moments, 1):
            for place, line in enumerate(known):
                picture.paste(Image.fromarray(moment[line]), (c * TILE_PX, top + NAME_PX + place * TILE_PX))
    return picture
