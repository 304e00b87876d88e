"""How an identity goes into a swapper file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import (
    Identity,
)
from engines.enrolment import FaceFinder
from engines.face.align import crop
from engines.face.five_points import template_crop

pytest.importorskip("onnx")
from tests.engines.swappers import onnx_files as files
from tests.engines.swappers.onnx.drawing import (
    SIGNED,
    Make,
    drawn,
    head,
    middle_of,
    wall,
)


def face_of_portrait(worn: Identity, template: Any, side: int) -> NDArray[np.float64]:
    """float64 [1, 3, S, S], 0..1."""
    finder = FaceFinder()
    points = finder.find(worn.portrait_PP3)[0].points_px
    finder.close()
    there = template_crop(points, template, side)
    return np.asarray(crop(worn.portrait_PP3, there, side).transpose(2, 0, 1)[None].astype(np.float64) / 255)


def unit(vector: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(vector / np.linalg.norm(vector))


def expected_source(kind: str, worn: Identity) -> NDArray[Any]:
    """By the reference's words, in double precision."""
    if kind == "cscs":
        face = face_of_portrait(worn, "ffhq_512", 112) * 2 - 1
        return np.asarray(unit(files.embedded(face)) + unit(files.embedded(face, files.OTHER_RECOGNISER)))
    e = files.embedded(face_of_portrait(worn, "arcface_112_v2", 112) * 2 - 1)
    if kind == "inswapper":
        return unit(unit(e) @ files.EMAP.astype(np.float64))
    if kind == "hyperswap":
        return unit(e)
    converted = e @ files.CONVERTER.astype(np.float64)
    return converted if kind == "ghost" else unit(converted)


@pytest.mark.parametrize("kind", files.WITH_EMBEDDER)
def test_the_identity_goes_in_as_the_type_wants_it(opened: Make, worn: Identity, kind: str) -> None:
    """Seen from outside: the swapper paints three numbers of what it was given, as a colour."""
    source = expected_source(kind, worn)
    scale = 0.12 / float(np.linalg.norm(source))
    engine = opened(kind, "source", scale=scale)
    np.testing.assert_allclose(engine._source_of(worn), source, atol=2e-4 * float(np.abs(source).max()) + 1e-6)
    points = head()
    result = drawn(engine, wall(), points, worn)
    shown = files.LEVEL + scale * (source @ files.TO_COLOUR.astype(np.float64))[0]
    expected = np.clip(shown * 0.5 + 0.5 if kind in SIGNED else shown, 0, 1) * 255
    assert expected.min() > 0
    assert expected.max() < 255
    np.testing.assert_allclose(result[middle_of(points)].reshape(-1, 3).mean(axis=0), expected, atol=0.6)


def test_without_the_emap_it_would_be_another_colour(worn: Identity) -> None:
    """So the test above can fail: the same numbers without the matrix, or with it the other way round."""
    e = files.embedded(face_of_portrait(worn, "arcface_112_v2", 112) * 2 - 1)
    right = unit(unit(e) @ files.EMAP)
    for wrong in (unit(e), unit(unit(e) @ files.EMAP.T)):
        assert np.abs(0.12 * 255 * (right - wrong) @ files.TO_COLOUR).max() > 3


@pytest.mark.parametrize(
    ("kind", "template", "side"), [("blendswap", "arcface_112_v2", 112), ("uniface", "ffhq_512", 256)]
)
def test_a_picture_of_the_identity_goes_in(opened: Make, worn: Identity, kind: str, template: str, side: int) -> None:
    points = head()
    result = drawn(opened(kind, "source_mean"), wall(), points, worn)
    mean = face_of_portrait(worn, template, side).mean(axis=(0, 2, 3))
    expected = (mean * 0.5 + 0.5 if kind in SIGNED else mean) * 255
    np.testing.assert_allclose(result[middle_of(points)].reshape(-1, 3).mean(axis=0), expected, atol=0.6)


def test_half_precision_finds_its_emap(opened: Make, worn: Identity) -> None:
    full = opened("inswapper")._source_of(worn)
    half = opened("inswapper", dtype="float16")._source_of(worn)
    assert float((full * half).sum()) > 0.999999
