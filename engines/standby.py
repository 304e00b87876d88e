"""Pictures that are always safe to show: nobody can be recognised in them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from engines.errors import KeyFault
from engines.marks.invisible import Marker
from engines.marks.own import own_payload
from engines.marks.payload import Payload
from engines.pixels import lay_over, resize_area, resize_bilinear
from engines.types import Box, Rgb

SCENE_CELLS = 8  # across the longer side: with 12 a recogniser still tells people apart whose face fills the picture
FACE_CELLS = 4  # across a hidden face: eyes, nose and mouth fall into one or two cells each
HIDDEN_OVER = 0.1  # of the box, on each side: the blur reaches beyond it and fades out there
DIM = 0.55


def blurred_scene(rgb_HW3: Rgb) -> Rgb:
    """The scene blurred beyond recognition and dimmed. uint8 [H, W, 3] -> a new picture of the same size."""
    height, width = rgb_HW3.shape[:2]
    cell_px = max(height, width) / SCENE_CELLS
    rows, columns = max(round(height / cell_px), 2), max(round(width / cell_px), 2)
    cells = (resize_area(rgb_HW3, rows, columns) * DIM + 16).astype(np.uint8)
    smooth = resize_bilinear(cells, min(rows * 4, height), min(columns * 4, width))
    return resize_bilinear(smooth, height, width)


def hide_face(canvas_HW3: Rgb, box: Box) -> None:
    """Makes a face in `canvas` unrecognisable in place: an ellipse around the box, blurred to a few cells."""
    height, width = canvas_HW3.shape[:2]
    over_x, over_y = box.width_px * HIDDEN_OVER, box.height_px * HIDDEN_OVER
    left, top = max(int(box.left_px - over_x), 0), max(int(box.top_px - over_y), 0)
    right, bottom = min(int(box.right_px + over_x) + 1, width), min(int(box.bottom_px + over_y) + 1, height)
    if right - left < 2 or bottom - top < 2:
        return
    patch = np.ascontiguousarray(canvas_HW3[top:bottom, left:right])
    rows = max(min(round(FACE_CELLS * patch.shape[0] / patch.shape[1]), 8), 2)
    cells = resize_area(patch, rows, FACE_CELLS)
    y = (np.arange(top, bottom) - (box.top_px + box.bottom_px) / 2) / (box.height_px / 2)
    x = (np.arange(left, right) - (box.left_px + box.right_px) / 2) / (box.width_px / 2)
    distance = np.sqrt(x[None, :] ** 2 + y[:, None] ** 2)
    alpha = (np.clip((1 + 2 * HIDDEN_OVER - distance) / HIDDEN_OVER, 0, 1) * 255).astype(np.uint8)
    lay_over(canvas_HW3, resize_bilinear(cells, patch.shape[0], patch.shape[1]), alpha, left, top)


@lru_cache(maxsize=8)
def _card(height_px: int, width_px: int, text: str, payload: Payload) -> Rgb:
    fade = np.linspace(46, 26, height_px, dtype=np.float32)[:, None, None] * np.array([0.95, 1.0, 1.1], np.float32)
    card = Image.fromarray(np.broadcast_to(fade, (height_px, width_px, 3)).astype(np.uint8))
    if text:
        font = ImageFont.load_default(max(width_px / 32, 10))
        place = (width_px / 2, height_px / 2)
        ImageDraw.Draw(card).text(place, text, font=font, anchor="mm", fill=(205, 210, 216))
    picture = np.array(card)
    Marker(payload).apply(picture)
    picture.flags.writeable = False
    return picture


def standby_card(height_px: int, width_px: int, text: str = "") -> Rgb:
    """A plain card that needs no frame, for when no picture can be had. uint8 [height, width, 3], read only. It carries
    the invisible mark, so that a recording of a call is marked throughout.
    """
    try:
        payload = own_payload()
    except KeyFault:
        payload = Payload(0, 0)  # nobody's: there must be a card, whatever is wrong with the disk
    return _card(height_px, width_px, text, payload)
