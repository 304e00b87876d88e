"""Rendered people, of whom every pixel's part is known: skin takes the face's tone, walls do not."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.long
def test_of_rendered_people_the_skin_is_toned_and_the_wall_is_not(shared_data: Path) -> None:
    pytest.importorskip("torch", reason="people are rendered with torch")
    from benchmarks.skin_tone import measure, summary

    figures = summary(measure(8, 0, shared_data, None))
    assert figures["neck"]["share"] > 0.75
    assert figures["skin beside the face, ears"]["share"] > 0.7
    assert figures["background"]["share"] < 0.01
    assert figures["rim: background"]["share"] < 0.06
    assert figures["clothing"]["share"] < 0.1
