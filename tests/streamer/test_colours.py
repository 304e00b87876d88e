"""The page's colours: every pair that meets can be told apart, in both schemes (WCAG 2.2, 1.4.3 and 1.4.11, AA)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import streamer

STYLE = (Path(streamer.__file__).parent / "static" / "style.css").read_text(encoding="utf-8")
TEXT, EDGE = 4.5, 3.0
PAIRS = [
    ("ink", "paper", TEXT),
    ("ink", "card", TEXT),
    ("ink", "raised", TEXT),
    ("quiet", "paper", TEXT),
    ("quiet", "card", TEXT),
    ("quiet", "well", TEXT),
    ("accent", "paper", TEXT),
    ("on-accent", "accent", TEXT),
    ("on-accent", "accent-strong", TEXT),
    ("warn-ink", "warn-paper", TEXT),
    ("live", "card", TEXT),
    ("edge", "card", EDGE),
    ("edge", "paper", EDGE),
    ("accent", "card", EDGE),
]


def colours(scheme: str) -> dict[str, str]:
    """The variables of `light`, or of `dark` over those of `light`."""
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light if scheme == "light" else light + dark))


def luminance(colour: str) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("one", "other", "least"), PAIRS)
def test_colours_that_meet_can_be_told_apart(scheme: str, one: str, other: str, least: float) -> None:
    dark, light = sorted(luminance(colours(scheme)[name]) for name in (one, other))
    assert (light + 0.05) / (dark + 0.05) >= least
