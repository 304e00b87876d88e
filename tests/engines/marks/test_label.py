"""The mark that says the face is synthetic: there, legible, in its corner, nowhere else."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFont

from engines.marks.label import (
    CORNERS,
    DRAWN,
    WORDS,
    Corner,
    Language,
    Style,
    draw_label,
    drawn_texts,
    free_corner,
)
from engines.types import Box, Rgb

SIZES = [(360, 640), (480, 640), (720, 1280), (1280, 720), (1080, 1920)]


def touched(canvas: Rgb) -> NDArray[np.bool_]:
    labelled = canvas.copy()
    draw_label(labelled)
    return np.asarray((labelled != canvas).any(axis=2))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_stands_in_the_upper_right_corner_and_touches_nothing_else(height: int, width: int) -> None:
    where = np.argwhere(touched(np.full((height, width, 3), 90, np.uint8)))
    (top, left), (bottom, right) = where.min(axis=0), where.max(axis=0)
    assert top > 0
    assert right < width - 1
    assert bottom < 0.15 * height
    assert left > 0.4 * width
    assert bottom - top >= 8, "pixels high, or nobody can read it"


@pytest.mark.parametrize("level", [0, 90, 128, 200, 255])
def test_is_legible_on_any_ground(level: int) -> None:
    """Bright letters on a plate that is darker by far, on black and on white."""
    canvas = np.full((480, 640, 3), level, np.uint8)
    draw_label(canvas)
    plate = canvas[np.where(touched(np.full((480, 640, 3), 90, np.uint8)))].mean(axis=1)
    ink, ground = np.percentile(plate, 99), np.median(plate)
    contrast = ((ink / 255) ** 2.2 + 0.05) / ((ground / 255) ** 2.2 + 0.05)
    assert contrast > 4.5, "WCAG 2.2, level AA"


@pytest.mark.parametrize("language", ["en", "ru", "uk", "el", "hi", "tr"])
@pytest.mark.parametrize("style", ["plate", "outline", "letters"])
@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize(("height", "width"), [(720, 1280), (1080, 1920), (480, 640)])
def test_two_letters_can_be_read_in_a_thumbnail(
    language: Language, style: Style, level: int, height: int, width: int
) -> None:
    """160 pixels wide: strokes stand out from what is between them by 3 to 1 (WCAG 2.2, large type), over 6 rows."""

    def thumbnail(ground: int) -> NDArray[np.float64]:
        canvas = np.full((height, width, 3), ground, np.uint8)
        draw_label(canvas, style=style, language=language)
        small = Image.fromarray(canvas).resize((160, round(160 * height / width)), Image.Resampling.BOX)
        return np.asarray(small)[..., 1].astype(float)

    ink = thumbnail(0) / 255
    strokes, between = ink > 0.6, (ink < 0.15) & (thumbnail(200) < 190)
    small = (thumbnail(level) / 255) ** 2.2 + 0.05
    assert np.median(small[strokes]) / np.median(small[between]) > 3
    rows, columns = np.ptp(np.argwhere(strokes), axis=0) + 1
    assert rows >= 6
    assert columns >= 6


@pytest.mark.parametrize("language", WORDS)
def test_every_letter_of_every_language_is_in_a_font(language: Language) -> None:
    plain = ImageFont.load_default(30)
    missing = bytes(plain.getmask("\uffff"))
    for text in WORDS[language]:
        if text not in drawn_texts():
            assert all(bytes(plain.getmask(letter)) != missing for letter in text if letter != " ")


@pytest.mark.parametrize("language", [one for one in WORDS if not "".join(WORDS[one]).isascii()])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_drawn_words_have_ink_at_every_size(language: Language, height: int, width: int) -> None:
    canvas = np.full((height, width, 3), 90, np.uint8)
    draw_label(canvas, language=language)
    rows, columns = np.where((canvas > 200).all(axis=2))
    assert len(rows) > 100
    assert np.ptp(columns) > 0.15 * min(height, width)


def test_the_font_of_drawn_words_is_that_of_these_words() -> None:
    """`python -m examples.draw_label_words` draws it anew. No two texts look alike."""
    font = ImageFont.truetype(DRAWN, 40, layout_engine=ImageFont.Layout.BASIC)
    texts = drawn_texts()
    assert font.getname() == ("Vividstream Label", hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16])
    assert len({bytes(font.getmask(characters)) for characters in texts.values()}) == len(texts)
    assert DRAWN.stat().st_size < 64_000


def test_right_to_left_is_drawn_right_to_left_and_joined() -> None:
    """The Hebrew words' last letter, the narrow one of `ערוכות`, stands at the left; Arabic letters touch."""
    font = ImageFont.truetype(DRAWN, 60, layout_engine=ImageFont.Layout.BASIC)
    first, second = list(drawn_texts()[WORDS["he"][1]])
    assert font.getlength(first) > font.getlength(second), "`ערוכות`, six letters, is the left one"
    last = font.getmask(drawn_texts()[WORDS["ar"][1]][1])
    columns = np.array(last).reshape(last.size[::-1]).any(axis=0)
    assert np.count_nonzero(np.diff(columns.astype(int)) == -1) <= 2, "`وجه`: one gap, after its first letter"


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_stands_in_the_corner_that_it_is_told(height: int, width: int, corner: Corner) -> None:
    canvas = np.full((height, width, 3), 90, np.uint8)
    draw_label(canvas, corner)
    y, x = np.argwhere((canvas != 90).any(axis=2)).mean(axis=0)
    assert (y > height / 2) == ("lower" in corner)
    assert (x > width / 2) == ("right" in corner)


def test_gets_out_of_the_way_of_a_face_and_stays_there() -> None:
    face = Box(400, 0, 640, 200)
    assert free_corner(480, 640, []) == "upper right"
    assert free_corner(480, 640, [Box(200, 150, 400, 400)]) == "upper right"
    assert free_corner(480, 640, [face]) == "upper left"
    assert free_corner(480, 640, [], "upper left") == "upper left", "no jumping to and fro"
    assert free_corner(480, 640, [face, Box(0, 0, 250, 200)], "upper left") == "lower right"
    everywhere = [Box(0, 0, 640, 70), Box(0, 400, 640, 480), Box(0, 0, 640, 20)]
    assert "lower" in free_corner(480, 640, everywhere), "where it hides least"


def test_is_the_same_every_time() -> None:
    one, other = (np.full((360, 640, 3), 77, np.uint8) for _ in range(2))
    draw_label(one)
    draw_label(other)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 400), (400, 16), (17, 33)])
def test_a_picture_too_small_for_it_gets_what_fits(height: int, width: int) -> None:
    canvas = np.full((height, width, 3), 90, np.uint8)
    draw_label(canvas)
    assert canvas.shape == (height, width, 3)
    assert (canvas != 90).any()
