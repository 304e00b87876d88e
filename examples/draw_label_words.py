"""Draws the label's words of languages that Pillow's own font lacks: engines/marks/label_words.ttf.

    pip install fonttools uharfbuzz
    apt-get install fonts-noto-core fonts-noto-cjk
    python -m examples.draw_label_words --fonts /usr/share/fonts

Each text is shaped here (joined Arabic letters, Devanagari's signs, right to left); each word becomes one glyph of a
small font, so that showing it needs neither the fonts nor a shaping library. The outlines are Noto's (SIL OFL 1.1).
"""

from __future__ import annotations

import argparse
import hashlib
import unicodedata
from pathlib import Path

import uharfbuzz as hb  # type: ignore[import-not-found, unused-ignore]
from fontTools.fontBuilder import FontBuilder  # type: ignore[import-untyped, unused-ignore]
from fontTools.pens.cu2quPen import Cu2QuPen  # type: ignore[import-untyped, unused-ignore]
from fontTools.pens.transformPen import TransformPen  # type: ignore[import-untyped, unused-ignore]
from fontTools.pens.ttGlyphPen import TTGlyphPen  # type: ignore[import-untyped, unused-ignore]

from engines.marks.label import DRAWN, WORDS, drawn_texts

EM = 1000
FIXED_S = 3_850_000_000  # since 1904
CJK = {"ja": 0, "ko": 1, "zh": 2, "zh-Hant": 3}  # their places in Noto Sans CJK
OTHERS = {"ar": "NotoSansArabic", "he": "NotoSansHebrew", "hi": "NotoSansDevanagari", "th": "NotoSansThai"}


def face_of(language: str, bold: bool, fonts: Path) -> hb.Face:
    """The Noto font for a language. Raises FileNotFoundError."""
    weight = "Bold" if bold else "Regular"
    name = f"NotoSansCJK-{weight}.ttc" if language in CJK else f"{OTHERS.get(language, 'NotoSans')}-{weight}.ttf"
    found = next(iter(sorted(fonts.rglob(name))), None)
    if found is None:
        raise FileNotFoundError(f"{name} is not under {fonts}")
    return hb.Face(hb.Blob(found.read_bytes()), CJK.get(language, 0))


def drawn(text: str, language: str, face: hb.Face) -> list[tuple[object, int]]:
    """A text's words as TrueType glyphs with their widths, from left to right as they are seen."""
    font, buffer = hb.Font(face), hb.Buffer()
    text = unicodedata.normalize("NFC", text)
    buffer.add_str(text)
    buffer.guess_segment_properties()
    buffer.language = language
    hb.shape(font, buffer)
    scale, at = EM / face.upem, 0
    pen, words = TTGlyphPen(None), []
    for info, place in zip(buffer.glyph_infos, buffer.glyph_positions, strict=True):
        if info.codepoint == 0:
            raise ValueError(f"{text}: the font lacks a letter of it")
        move = (scale, 0, 0, scale, (at + place.x_offset) * scale, place.y_offset * scale)
        font.draw_glyph_with_pen(info.codepoint, TransformPen(Cu2QuPen(pen, 1.0, reverse_direction=False), move))
        at += place.x_advance
        if text[info.cluster] == " ":
            words.append((pen.glyph(), round(at * scale)))
            pen, at = TTGlyphPen(None), 0
    return [*words, (pen.glyph(), round(at * scale))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"))
    fonts = parser.parse_args().fonts
    places = drawn_texts()
    of = {text: (language, text == words[0]) for language, words in WORDS.items() for text in words if text in places}
    glyphs, widths = {".notdef": TTGlyphPen(None).glyph()}, {".notdef": 500}
    for text, characters in places.items():
        language, bold = of[text]
        words = drawn(text, language, face_of(language, bold, fonts))
        for character, (glyph, width) in zip(characters, words, strict=True):
            glyphs[f"u{ord(character):04X}"], widths[f"u{ord(character):04X}"] = glyph, width
    builder = FontBuilder(EM, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({int(name[1:], 16): name for name in list(glyphs)[1:]})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics({name: (width, glyphs[name].xMin if hasattr(glyphs[name], "xMin") else 0)
                                    for name, width in widths.items()})  # fmt: skip
    builder.setupHorizontalHeader(ascent=1060, descent=-340)
    builder.setupNameTable(
        {
            "familyName": "Vividstream Label",
            "styleName": texts_sha256()[:16],
            "copyright": "Outlines: Copyright 2010-2021 Google LLC and Adobe (Noto Sans, Noto Sans CJK)",
            "licenseDescription": "SIL Open Font License, Version 1.1",
            "licenseInfoURL": "https://openfontlicense.org",
        }
    )
    builder.setupOS2(sTypoAscender=1060, sTypoDescender=-340)
    builder.setupPost()
    builder.font["head"].created = builder.font["head"].modified = FIXED_S  # the same bytes every time
    builder.font.recalcTimestamp = False
    builder.save(DRAWN)
    print(f"{DRAWN}: {len(places)} texts, {DRAWN.stat().st_size} bytes")


def texts_sha256() -> str:
    """Of all drawn texts, by which a test sees that the font is theirs."""
    return hashlib.sha256("\n".join(drawn_texts()).encode()).hexdigest()


if __name__ == "__main__":
    main()
