"""Where swapper files draw: templates, crops, and that nothing moves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from engines import (
    Identity,
)
from engines.enrolment import FaceFinder
from engines.face.five_points import TEMPLATES, Template, five_points, template_crop
from engines.graph import GraphSpec, TensorSpec
from engines.runtimes.ort import OrtFile
from engines.swappers.onnx.contracts import CONTRACTS, offset_px
from engines.swappers.onnx.pixels import joined, split
from engines.types import Floats

pytest.importorskip("onnx")
from tests.engines.swappers import onnx_files as files
from tests.engines.swappers.onnx.drawing import (
    KINDS,
    SIGNED,
    Make,
    drawn,
    head,
)

TEMPLATE_OF: Mapping[str, Template] = {
    "inswapper": "arcface_128",
    "hyperswap": "arcface_128",
    "simswap_256": "arcface_112_v1",
    "simswap_unofficial_512": "arcface_112_v1",
    "ghost": "arcface_112_v1",
    "hififace": "mtcnn_512",
    "blendswap": "ffhq_512",
    "uniface": "ffhq_512",
    "cscs": "ffhq_512",
    "dfm": "dfl_whole_face",
}

# Points of the published templates in pixels of the side they were published for.
ARCFACE_112 = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]

FFHQ_512 = [
    [192.98138, 239.94708],
    [318.90277, 240.1936],
    [256.63416, 314.01935],
    [201.26117, 371.41043],
    [313.08905, 371.15118],
]


def test_the_templates_are_the_published_points() -> None:
    arcface = np.array(ARCFACE_112)
    np.testing.assert_allclose(TEMPLATES["arcface_112_v2"] * 112, arcface, atol=1e-3)
    np.testing.assert_allclose(TEMPLATES["arcface_128"] * 128, arcface + np.array([8, 0]), atol=1e-3)
    np.testing.assert_allclose(TEMPLATES["ffhq_512"] * 512, FFHQ_512, atol=1e-3)
    for points in TEMPLATES.values():
        (right, left, nose, right_mouth, left_mouth) = points
        assert right[0] < right_mouth[0] < nose[0] < left_mouth[0] < left[0]
        assert right[1] < nose[1] < right_mouth[1]
        assert left[0] + right[0] == pytest.approx(1.0, abs=0.03)


def test_the_five_points_are_where_a_detector_of_five_points_sees_them(shared_data: Path) -> None:
    """YuNet's, over frontal portraits of people who do not exist; in parts of the eyes' distance."""
    levels = {stride: (640 // stride) ** 2 for stride in (8, 16, 32)}
    outputs = [
        TensorSpec(f"{name}_{stride}", (1, count, width))
        for stride, count in levels.items()
        for name, width in (("cls", 1), ("obj", 1), ("kps", 10))
    ]
    spec = GraphSpec("yunet", (TensorSpec("input", (1, 3, 640, 640)),), tuple(outputs))
    detector = OrtFile(shared_data / "models" / "yunet_s_640_640.onnx", spec, threads=1)
    finder, apart = FaceFinder(), []
    for path in sorted((shared_data / "synth_faces").rglob("*.jpg"))[::6]:
        photo = np.asarray(Image.open(path).convert("RGB"))[:640, :640]
        canvas = np.zeros((640, 640, 3), np.float32)
        canvas[: photo.shape[0], : photo.shape[1]] = photo[..., ::-1]
        found = detector.run(detector.init(), {"input": canvas.transpose(2, 0, 1)[None]}, {})
        scores = {n: found[f"cls_{n}"][0, :, 0] * found[f"obj_{n}"][0, :, 0] for n in levels}
        stride = max(scores, key=lambda n: float(scores[n].max()))
        best = int(scores[stride].argmax())
        cell = np.array([best % (640 // stride), best // (640 // stride)])
        seen = (found[f"kps_{stride}"][0, best].reshape(5, 2) + cell) * stride
        faces = finder.find(np.ascontiguousarray(photo))
        if scores[stride][best] > 0.7 and faces:
            ours = five_points(faces[0].points_px)
            distance = float(np.linalg.norm(ours[1] - ours[0]))
            if abs(ours[2, 0] - ours[:2, 0].mean()) < 0.15 * distance:  # frontal
                apart.append((ours - seen) / distance)
    finder.close()
    detector.close()
    assert len(apart) >= 12
    off = np.median(np.stack(apart), axis=0)
    np.testing.assert_allclose(off[:3], 0, atol=0.07, err_msg="eyes and nose")
    np.testing.assert_allclose(off[3:], 0, atol=0.1, err_msg="mouth: outer corners here, inner ones there")


def test_every_type_has_its_template_and_inswapper_its_half_pixel() -> None:
    assert {kind: contract.template for kind, contract in CONTRACTS.items()} == TEMPLATE_OF
    assert [offset_px("inswapper", side) for side in (128, 256, 512)] == [0, 128 / 32768 * 256 - 0.5, 1.5]
    assert offset_px("hyperswap", 256) == 0


def umeyama(given: Floats, wanted: Floats) -> NDArray[np.float64]:
    """Least-squares similarity by singular values, as in the paper."""
    a, b = given - given.mean(axis=0), wanted - wanted.mean(axis=0)
    u, sizes, vt = np.linalg.svd(b.T @ a / len(a))
    sign = np.diag([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    linear = u @ sign @ vt * np.trace(np.diag(sizes) @ sign) / (a**2).sum() * len(a)
    return np.concatenate([linear, (wanted.mean(axis=0) - linear @ given.mean(axis=0))[:, None]], axis=1)


@pytest.mark.parametrize("looks", [{}, {"yaw_deg": 35, "roll_deg": 25}, {"size_px": 60, "roll_deg": -40}])
def test_a_crop_lays_the_points_over_the_template(looks: dict[str, float]) -> None:
    points = head(**looks)
    for name, template in TEMPLATES.items():
        wanted = umeyama(five_points(points).astype(np.float64), template.astype(np.float64) * 256 + 0.5)
        np.testing.assert_allclose(template_crop(points, name, 256, 0.5), wanted, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_swapper_paints_on_its_template_lies_on_the_face(opened: Make, worn: Identity, kind: str) -> None:
    """A disc at each point of the template, in the swapper's own picture: in the frame they lie where the face is."""
    side, name = files.SIGNATURES[kind][0][0], TEMPLATE_OF[kind]
    y, x = np.mgrid[:side, :side]
    discs = np.zeros((side, side), np.float32)
    for px, py in TEMPLATES[name] * side:
        discs = np.maximum(discs, np.clip(side / 24 - np.hypot(x - px, y - py) + 0.5, 0, 1))
    paint = np.repeat(discs[None, None], 3, axis=1) * (2 if kind in SIGNED else 1) - (1 if kind in SIGNED else 0)
    points = head(roll_deg=12)
    result = drawn(opened(kind, "paint", paint=paint), np.zeros((380, 400, 3), np.uint8), points, worn)
    there = umeyama(five_points(points).astype(np.float64), TEMPLATES[name].astype(np.float64) * side)
    for place in TEMPLATES[name] * side:
        expected = np.linalg.solve(there[:, :2], place - there[:, 2])
        left, top = expected.round().astype(int) - 12
        window = result[top : top + 25, left : left + 25, 1].astype(np.float64)
        assert window.max() > 200
        centre = np.array(ndimage.center_of_mass(window))[::-1] + np.array([left, top])
        assert np.hypot(*(centre - expected)) < 0.5


@pytest.mark.usefixtures("gives_back")
@pytest.mark.parametrize(("kind", "side"), [("inswapper", 128), ("inswapper", 256), ("ghost", 256), ("dfm", 256)])
def test_on_a_photo_nothing_moves(opened: Make, worn: Identity, shared_data: Path, kind: str, side: int) -> None:
    frame = np.asarray(Image.open(shared_data / "photos" / "astronaut.png").convert("RGB"))
    finder = FaceFinder()
    points = finder.find(np.ascontiguousarray(frame))[0].points_px
    finder.close()
    result = drawn(opened(kind, side=side), np.ascontiguousarray(frame), points, worn)
    changed = (result != frame).any(axis=2)
    y, x = np.nonzero(changed)
    oval = points[:468, :2]
    reach = 0.1 * np.ptp(oval[:, 1])
    assert oval[:, 0].min() - reach < x.min() < x.max() < oval[:, 0].max() + reach
    assert oval[:, 1].min() - reach < y.min() < y.max() < oval[:, 1].max() + reach
    box = (slice(y.min() + 10, y.max() - 10), slice(x.min() + 10, x.max() - 10))
    before, after = (ndimage.gaussian_filter(picture[box].mean(axis=2), 2) for picture in (frame, result))
    down, across = np.gradient(before)
    shift, *_ = np.linalg.lstsq(np.stack([across.ravel(), down.ravel()], axis=1), (before - after).ravel(), rcond=None)
    assert np.hypot(*shift) < 0.1, "pixels"
    assert np.abs(after - before).mean() < (3 if kind == "dfm" else 1.5), "levels; a DFM sharpens what goes in"


def test_a_crop_in_parts_is_put_together_as_it_was() -> None:
    whole = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    for times in (1, 2, 3):
        parts = split(whole, times)
        assert [part.shape for part in parts] == [(12 // times, 12 // times, 3)] * times**2
        again = joined([part.transpose(2, 0, 1).astype(np.float32) for part in parts])
        np.testing.assert_array_equal(again.transpose(1, 2, 0), whole)


@pytest.mark.usefixtures("gives_back")
def test_a_larger_crop_keeps_more_detail(opened: Make, worn: Identity, shared_data: Path) -> None:
    frame = np.ascontiguousarray(
        Image.open(shared_data / "photos" / "astronaut.png").convert("RGB").resize((1024, 1024))
    )
    finder = FaceFinder()
    points = finder.find(frame)[0].points_px
    finder.close()
    lost = []
    for size_px in (None, 256):
        result = drawn(opened("inswapper", size_px=size_px), frame, points, worn)
        lost.append(float(np.abs(result.astype(float) - frame).sum()))
    assert lost[1] < 0.6 * lost[0]
