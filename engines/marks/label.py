"""The visible label: says on every picture that the face in it is synthetic.

Two letters that can be read in a thumbnail 160 pixels wide ("AI" in the person's language), and beside them the words
in smaller type. It stands in the upper right corner, and moves to another only where a face comes under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from engines.pixels import lay_over
from engines.types import Box, Mask, Rgb

Corner = Literal["upper right", "upper left", "lower right", "lower left"]
Style = Literal["plate", "outline", "letters"]
Language = Literal[
    "en", "ar", "bg", "cs", "da", "de", "el", "es", "fr", "he", "hi", "it", "ja", "ko", "nl", "pl", "pt", "ru",
    "sv", "th", "tr", "uk", "vi", "zh", "zh-Hant",
]  # fmt: skip

CORNERS: tuple[Corner, ...] = ("upper right", "upper left", "lower right", "lower left")
# Pillow's own font has ASCII only: in these, words are chosen so that no letter lacks its accent.
WORDS: dict[Language, tuple[str, str]] = {
    "en": ("AI", "modified face"),
    "da": ("AI", "kunstigt ansigt"),
    "de": ("KI", "Gesicht ersetzt"),
    "es": ("IA", "cara artificial"),
    "fr": ("IA", "visage artificiel"),
    "it": ("IA", "volto artificiale"),
    "nl": ("AI", "kunstmatig gezicht"),
    "pl": ("AI", "sztuczna twarz"),
    "pt": ("IA", "rosto artificial"),
    "sv": ("AI", "syntetiskt ansikte"),
    # Below: drawn beforehand, in `DRAWN`, by examples/draw_label_words.py. New ones at the end.
    "ar": ("AI", "وجه مُعدَّل"),
    "bg": ("ИИ", "променено лице"),
    "cs": ("AI", "upravený obličej"),
    "el": ("ΤΝ", "τροποποιημένο πρόσωπο"),
    "he": ("AI", "פנים ערוכות"),
    "hi": ("एआई", "बदला हुआ चेहरा"),
    "ja": ("AI", "顔を加工"),
    "ko": ("AI", "합성된 얼굴"),
    "ru": ("ИИ", "изменённое лицо"),
    "th": ("AI", "ใบหน้าดัดแปลง"),
    "tr": ("YZ", "değiştirilmiş yüz"),
    "uk": ("ШІ", "змінене обличчя"),
    "vi": ("AI", "khuôn mặt đã sửa"),
    "zh": ("AI", "合成人脸"),
    "zh-Hant": ("AI", "合成人臉"),
}
DRAWN = Path(__file__).with_name("label_words.ttf")  # each word as one shaped glyph: no shaping is needed to show it
FIRST_DRAWN = 0xE000
LETTERS_SHARE = 0.11  # size of the two letters over the shorter side: capitals of 7 pixels in a thumbnail of 160 x 90
BOLDER_SHARE = 0.03
WORDS_SHARE = 0.038
LEAST_WORDS_PX = 13  # smaller type cannot be read
MARGIN_SHARE = 0.02
PLATE_OPACITY = 150
LEAVES_AT = 0.05  # share of the label that a face may cover before it moves


def drawn_texts() -> dict[str, str]:
    """Texts that Pillow's own font cannot show, and the characters that stand for each in the font `DRAWN`: one for
    each word, from left to right as they are seen.
    """
    texts = dict.fromkeys(text for words in WORDS.values() for text in words if not text.isascii())
    characters = map(chr, count(FIRST_DRAWN))
    return {text: "".join(next(characters) for _ in text.split()) for text in texts}


def _in_a_font(text: str, size_px: float) -> tuple[str, ImageFont.FreeTypeFont | ImageFont.ImageFont, bool]:
    """What to draw, with which font, and whether that font is bold already."""
    drawn = drawn_texts().get(text)
    if drawn is None:
        return text, ImageFont.load_default(size_px), False
    return drawn, ImageFont.truetype(DRAWN, size_px, layout_engine=ImageFont.Layout.BASIC), True


@lru_cache(maxsize=16)
def _plate(height_px: int, width_px: int, style: Style, language: Language) -> tuple[Rgb, Mask, int]:
    """Picture, alpha and margin of the label for one picture size."""
    shorter = min(height_px, width_px)
    letters, words = WORDS[language]
    pieces = [(letters, max(shorter * LETTERS_SHARE, LEAST_WORDS_PX))]
    if style != "letters":
        pieces.append((words, max(shorter * WORDS_SHARE, LEAST_WORDS_PX)))
    pad = max(round(shorter * 0.014), 2)
    shown = [_in_a_font(text, size_px) for text, size_px in pieces]
    # At thumbnail size thin strokes drown.
    bold_px = [max(round(pieces[0][1] * BOLDER_SHARE / (2 if shown[0][2] else 1)), 1), 0]
    boxes = [font.getbbox(text, stroke_width=bold) for (text, font, _), bold in zip(shown, bold_px)]
    gap = round(shorter * 0.02)
    width = round(sum(right - left for left, _, right, _ in boxes)) + gap * (len(boxes) - 1) + 2 * pad + 2
    height = round(max(bottom - top for _, top, _, bottom in boxes)) + 2 * pad
    glyphs = Image.new("L", (width, height), 0)
    at_px = float(pad)
    for (text, font, _), bold, (left, top, right, bottom) in zip(shown, bold_px, boxes):
        place = (at_px - left, (height - (bottom - top)) / 2 - top)
        ImageDraw.Draw(glyphs).text(place, text, font=font, fill=255, stroke_width=bold)
        at_px += right - left + gap
    ink = np.array(glyphs)
    plate = np.ascontiguousarray(np.repeat(ink[:, :, None], 3, axis=2))
    return plate, np.maximum(_ground(glyphs, style, pad), ink), round(shorter * MARGIN_SHARE)


def _ground(glyphs: Image.Image, style: Style, pad: int) -> Mask:
    """How much of the picture the dark ground behind the letters hides."""
    if style == "outline":
        wide = np.array(glyphs.filter(ImageFilter.GaussianBlur(pad)), np.uint16)
        return np.minimum(wide * 12, 255).astype(np.uint8)
    ground = Image.new("L", glyphs.size, 0)
    corners = (0, 0, glyphs.width - 1, glyphs.height - 1)
    ImageDraw.Draw(ground).rounded_rectangle(corners, radius=2 * pad, fill=PLATE_OPACITY)
    return np.array(ground)


def _place(height_px: int, width_px: int, plate: Rgb, margin_px: int, corner: Corner) -> tuple[int, int]:
    """x and y of the label's upper left corner."""
    x = width_px - plate.shape[1] - margin_px if "right" in corner else margin_px
    y = height_px - plate.shape[0] - margin_px if "lower" in corner else margin_px
    return x, y


def label_plate(
    height_px: int, width_px: int, style: Style = "plate", language: Language = "en"
) -> tuple[Rgb, int, int]:
    """The label for pictures of a size, for those who lay it on elsewhere: colours and opacity, uint8 [h, w, 4], and
    the x and y of its corner, upper right.
    """
    plate, alpha, margin_px = _plate(height_px, width_px, style, language)
    return np.dstack([plate, alpha]), *_place(height_px, width_px, plate, margin_px, "upper right")


def draw_label(
    canvas_HW3: Rgb, corner: Corner = "upper right", style: Style = "plate", language: Language = "en"
) -> None:
    """Draws the label into a corner of uint8 [H, W, 3], in place."""
    height, width = canvas_HW3.shape[:2]
    plate, alpha, margin_px = _plate(height, width, style, language)
    lay_over(canvas_HW3, plate, alpha, *_place(height, width, plate, margin_px, corner))


def free_corner(
    height_px: int,
    width_px: int,
    faces: Sequence[Box],
    now: Corner = "upper right",
    style: Style = "plate",
    language: Language = "en",
) -> Corner:
    """Where the label hides no face: where it stands `now` while a face covers next to nothing of it there, else the
    first corner without one, else the corner that hides least.
    """
    plate, _, margin_px = _plate(height_px, width_px, style, language)
    hidden = {
        corner: _covered(_place(height_px, width_px, plate, margin_px, corner), plate.shape, faces)
        for corner in CORNERS
    }
    if hidden[now] <= LEAVES_AT:
        return now
    return min(CORNERS, key=lambda corner: (hidden[corner], CORNERS.index(corner)))


def _covered(place_px: tuple[int, int], shape: tuple[int, ...], faces: Sequence[Box]) -> float:
    """Share of the label that lies on faces."""
    left, top = place_px
    height, width = shape[:2]
    covered = 0.0
    for face in faces:
        across = min(face.right_px, left + width) - max(face.left_px, left)
        down = min(face.bottom_px, top + height) - max(face.top_px, top)
        covered += max(across, 0.0) * max(down, 0.0)
    return covered / (width * height)
