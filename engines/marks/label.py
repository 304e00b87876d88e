"""The visible label: says on every picture that the face in it is synthetic."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from engines.pixels import lay_over
from engines.types import Mask, Rgb

TEXT = "AI-modified face"
LEAST_TEXT_PX = 13


@lru_cache(maxsize=8)
def _plate(height_px: int, width_px: int) -> tuple[Rgb, Mask, int]:
    """Picture, alpha and margin of the label for one picture size."""
    size_px = max(min(height_px, width_px) * 0.04, LEAST_TEXT_PX)
    margin_px = round(size_px * 0.6)
    font = ImageFont.load_default(size_px)
    left, top, right, bottom = font.getbbox(TEXT)
    pad = round(size_px * 0.45)
    plate_size = (round(right - left) + 2 * pad, round(bottom - top) + 2 * pad)
    alpha = Image.new("L", plate_size, 0)
    ImageDraw.Draw(alpha).rounded_rectangle((0, 0, plate_size[0] - 1, plate_size[1] - 1), radius=pad, fill=150)
    glyphs = Image.new("L", plate_size, 0)
    ImageDraw.Draw(glyphs).text((pad - left, pad - top), TEXT, font=font, fill=255)
    ink = np.array(glyphs)
    plate = np.repeat(ink[:, :, None], 3, axis=2)
    return np.ascontiguousarray(plate), np.maximum(np.array(alpha), ink), margin_px


def label_plate(height_px: int, width_px: int) -> tuple[Rgb, int, int]:
    """The label for pictures of a size, for those who lay it on elsewhere: colours and opacity, uint8 [h, w, 4], and
    the x and y of its corner.
    """
    plate, alpha, margin_px = _plate(height_px, width_px)
    return np.dstack([plate, alpha]), width_px - plate.shape[1] - margin_px, margin_px


def draw_label(canvas_HW3: Rgb) -> None:
    """Draws the label into the upper right corner of uint8 [H, W, 3], in place."""
    height, width = canvas_HW3.shape[:2]
    plate, alpha, margin_px = _plate(height, width)
    lay_over(canvas_HW3, plate, alpha, width - plate.shape[1] - margin_px, margin_px)
