"""Drawing with swapper files: placement, colours, sources, masks and faults, with small real files of every type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from engines import (
    EngineFault,
    EnginePool,
    EngineUnavailable,
    Identity,
    IdentityStore,
    SettingError,
    Status,
    SwapSettings,
    load,
)
from engines.enroll import FaceFinder
from engines.errors import EngineRefused
from engines.face.align import crop
from engines.face.five_points import TEMPLATES, Template, five_points, template_crop
from engines.graph import GraphSpec, TensorSpec
from engines.registry import make
from engines.runtimes.ort import OrtFile
from engines.swappers.base import Inputs
from engines.swappers.onnx.contracts import CONTRACTS, offset_px
from engines.swappers.onnx.engine import Onnx
from engines.swappers.onnx.pixels import joined, split
from engines.types import Floats, Occlusion, Rgb, TrackedFace
from tests.engines.face.heads import DARK_SKIN, Looks, identity, landmarks
from tests.engines.face.scenes import clip

pytest.importorskip("onnx")

from tests.engines.swappers import onnx_files as files

KINDS = tuple(files.SIGNATURES)
DRAWN_KINDS = (*KINDS, "dfm")
Make = Callable[..., Onnx]

# Once more from ../shared/reference/models.md: how each type's picture goes in and comes out. x and y on 0..1.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NONE, HALF = ((0.0,) * 3, (1.0,) * 3), ((0.5,) * 3, (0.5,) * 3)
NORMALISED = {
    "inswapper": NONE,
    "hyperswap": HALF,
    "simswap_256": IMAGENET,
    "simswap_unofficial_512": NONE,
    "ghost": HALF,
    "hififace": HALF,
    "blendswap": NONE,
    "uniface": HALF,
    "cscs": HALF,
    "dfm": NONE,
}
SIGNED = ("hyperswap", "ghost", "hififace", "uniface", "cscs")  # come out as x .5 + .5

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


@pytest.fixture(scope="module")
def worn() -> Identity:
    return IdentityStore().load("lucia")


@pytest.fixture
def gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a swapper draw that gives its target back, which is otherwise a fault."""
    monkeypatch.setattr("engines.swappers.onnx.engine.LEAST_CHANGE", 0.0)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Make]:
    """Makes an engine with a file of a type; closes them all."""
    pool = EnginePool()
    engines: list[Onnx] = []

    def opening(kind: str, how: str = "same", size_px: int | None = None, **file: Any) -> Onnx:
        path = tmp_path / f"{kind}.onnx"
        model = files.dfm(path, how=how, **file) if kind == "dfm" else files.swapper(path, kind, how, **file)
        engine = make("onnx", files.settings_of(tmp_path, kind, model, size_px=size_px), pool)
        assert isinstance(engine, Onnx)
        engines.append(engine)
        return engine

    yield opening
    for engine in engines:
        engine.close()
    pool.close()


def head(**looks: float) -> Floats:
    return landmarks(Looks(**{"size_px": 200, "x_px": 200, "y_px": 190, **looks}))


def drawn(
    engine: Onnx, frame: Rgb, points: Floats, worn: Identity, occlusion: Occlusion | None = None, tone: str = "identity"
) -> Rgb:
    onto = frame.copy()
    inputs = Inputs(frame, TrackedFace(1, points, points, 1.0), occlusion, 0.0)
    engine.draw(engine.init(), worn, inputs, SwapSettings.read({"tone": tone}), onto)
    return onto


def middle_of(points: Floats) -> tuple[slice, slice]:
    """Pixels well inside of every mask: between the eyes and the mouth."""
    five = five_points(points)
    x, y = five[2].round().astype(int)
    return slice(y - 8, y + 8), slice(x - 8, x + 8)


def wall(height: int = 380, width: int = 400) -> Rgb:
    """Smooth, so that a resampled pixel is what it was, and with a slope, so that a shifted one is not."""
    y, x = np.mgrid[:height, :width]
    planes = [90 + 0.2 * x, 60 + 0.25 * y, 160 - 0.1 * x - 0.1 * y]
    return np.asarray(np.rint(np.stack(planes, axis=2)), np.uint8)


def normalised(kind: str, x: NDArray[Any]) -> NDArray[Any]:
    mean, std = (np.array(values) for values in NORMALISED[kind])
    return np.asarray((x - mean) / std)


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
@pytest.mark.parametrize("kind", [kind for kind in DRAWN_KINDS if kind != "simswap_256"])
def test_a_swapper_that_gives_its_target_back_changes_nothing(opened: Make, worn: Identity, kind: str) -> None:
    frame, points = wall(), head(yaw_deg=10, roll_deg=-15)
    result = drawn(opened(kind), frame, points, worn)
    assert np.abs(result.astype(int) - frame).max() <= 1


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


@pytest.mark.parametrize("kind", DRAWN_KINDS)
def test_colours_go_in_and_come_out_as_the_type_has_them(opened: Make, worn: Identity, kind: str) -> None:
    colour = np.array([150, 120, 90])
    frame = np.full((380, 400, 3), colour, np.uint8)
    points = head()
    result = drawn(opened(kind, "shift"), frame, points, worn)
    by = np.array([0.1, -0.05, 0.2])
    shown = normalised(kind, colour / 255) + (by[::-1] if kind == "dfm" else by)
    expected = np.clip(shown * 0.5 + 0.5 if kind in SIGNED else shown, 0, 1) * 255
    np.testing.assert_allclose(result[middle_of(points)].reshape(-1, 3).mean(axis=0), expected, atol=0.6)
    assert (result[:20] == frame[:20]).all()


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


@pytest.mark.parametrize("kind", ["inswapper", "hyperswap", "ghost"])
def test_files_in_half_precision_give_the_same_picture(opened: Make, worn: Identity, kind: str) -> None:
    frame, points = wall(), head(roll_deg=10)
    full = drawn(opened(kind, "shift"), frame, points, worn)
    half = drawn(opened(kind, "shift", dtype="float16"), frame, points, worn)
    assert (full != frame).any()
    assert np.abs(full.astype(int) - half).max() <= 1


def test_half_precision_finds_its_emap(opened: Make, worn: Identity) -> None:
    full = opened("inswapper")._source_of(worn)
    half = opened("inswapper", dtype="float16")._source_of(worn)
    assert float((full * half).sum()) > 0.999999


def test_what_is_before_the_face_stays(opened: Make, worn: Identity) -> None:
    frame, points = wall(), head()
    five = five_points(points)
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255  # the picture's right half of the face
    scale = 64 / 380
    from_frame = np.array([[scale, 0, 32 - five[2, 0] * scale], [0, scale, 0]], np.float32)
    result = drawn(opened("ghost", "shift"), frame, points, worn, Occlusion(mask, from_frame, 0.5))
    edge = round(float(five[2, 0]))
    assert (result[:, edge + 1 :] == frame[:, edge + 1 :]).all()
    assert (result[middle_of(points)][:, :2] != frame[middle_of(points)][:, :2]).any()


def test_a_dfms_own_mask_holds(opened: Make, worn: Identity) -> None:
    mask = np.zeros((224, 224), np.float32)
    mask[:, :112] = 1
    frame, points = wall(), head()
    result = drawn(opened("dfm", "shift", mask=mask), frame, points, worn)
    x = round(float(five_points(points)[2, 0]))
    changed = (result != frame).any(axis=(0, 2))
    assert changed[x - 60 : x - 20].all()
    assert not changed[x + 30 :].any()


@pytest.mark.parametrize("tone", ["mix", "driver"])
def test_the_driver_s_colours_are_taken_where_they_are_asked_for(opened: Make, worn: Identity, tone: str) -> None:
    frame, points = wall(), head()
    engine = opened("ghost", "shift")
    own, plain, toned = frame, drawn(engine, frame, points, worn), drawn(engine, frame, points, worn, tone=tone)
    where = middle_of(points)
    off = [np.abs(one[where].astype(float) - own[where]).mean() for one in (plain, toned)]
    assert off[1] < (0.6 if tone == "mix" else 0.15) * off[0]


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


@pytest.mark.parametrize(("kind", "how"), [("inswapper", "nan"), ("ghost", "nan"), ("dfm", "nan"), ("ghost", "half")])
def test_a_swapper_that_fails_draws_nothing(opened: Make, worn: Identity, kind: str, how: str) -> None:
    frame, points = wall(), head()
    engine, onto = opened(kind, how), frame.copy()
    inputs = Inputs(frame, TrackedFace(1, points, points, 1.0), None, 0.0)
    why = "no numbers" if how == "nan" else r"gave float32 \[1, 3, 128, 128\] as"
    for _ in range(2):
        with pytest.raises(EngineFault, match=why):
            engine.draw(engine.init(), worn, inputs, SwapSettings(), onto)
    assert (onto == frame).all()


@pytest.mark.parametrize("kind", ["inswapper", "uniface", "dfm"])
def test_a_swapper_that_leaves_the_real_face_is_a_fault(opened: Make, worn: Identity, kind: str) -> None:
    with pytest.raises(EngineFault, match="gave the face back as it was"):
        drawn(opened(kind), wall(), head(), worn)


def test_a_mask_that_leaves_the_real_face_bare_is_a_fault(opened: Make, worn: Identity) -> None:
    mask = np.zeros((224, 224), np.float32)
    mask[:60] = 1
    with pytest.raises(EngineFault, match="found no face where there is one"):
        drawn(opened("dfm", "shift", mask=mask), wall(), head(), worn)


def test_an_identity_without_a_face_in_its_portrait_is_refused(opened: Make) -> None:
    engine = opened("hyperswap")
    for _ in range(2):
        with pytest.raises(EngineFault, match='identity "made-up": no face is found in its portrait'):
            engine.prepare(identity(DARK_SKIN), SwapSettings())


def test_an_embedder_that_gives_no_numbers_is_a_fault(tmp_path: Path, worn: Identity) -> None:
    settings = files.settings_of(tmp_path, "hyperswap", files.swapper(tmp_path / "model.onnx", "hyperswap"))
    assert settings.embedder is not None
    files.embedder(settings.embedder, nan=True)
    session = load(settings)
    with pytest.raises(EngineFault, match="no numbers"):
        session.set_identity(worn)
    session.close()


def test_what_is_missing_or_too_much_is_said(tmp_path: Path) -> None:
    ghost = files.swapper(tmp_path / "ghost.onnx", "ghost")
    whole = files.settings_of(tmp_path, "ghost", ghost)

    def refusal(**changes: object) -> str:
        with pytest.raises((EngineUnavailable, SettingError)) as refused:
            load(SwapSettings.read({**whole.model_dump(), **changes}))
        assert "\n" not in str(refused.value)
        return str(refused.value)

    assert "--model FILE" in refusal(model=None)
    assert "no such file" in refusal(model=tmp_path / "other.onnx")
    assert "arcface_w600k_r50" in refusal(embedder=None)
    assert "--embedder FILE" in refusal(embedder=None)
    assert "crossface_ghost" in refusal(converter=None)
    assert "is not a face recogniser" in refusal(embedder=whole.converter)
    assert "is not a converter" in refusal(converter=whole.embedder)
    assert 'setting "embedder": a swapper of type dfm needs none' in refusal(model=files.dfm(tmp_path / "d.onnx"))
    assert "--runtime ort" in refusal(runtime="torch")
    assert "valid: 256, 512, 768, 1024" in refusal(size_px=320)


def test_a_damaged_swapper_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = files.swapper(tmp_path / "model.onnx", "ghost")
    settings = files.settings_of(tmp_path, "ghost", path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EngineRefused, match="damaged or cut"):
        load(settings)
    path.write_bytes(whole.replace(b"MatMul", b"MutMal"))
    with pytest.raises(EngineUnavailable, match=r"ONNX Runtime cannot open model\.onnx"):
        load(settings)


def test_a_page_cannot_choose_files_of_the_server() -> None:
    for key in ("model", "embedder", "converter"):
        with pytest.raises(SettingError, match=f'setting "{key}"'):
            SwapSettings.read({"engine": "onnx", key: "/etc/passwd"})


def test_sessions_share_what_is_opened_until_the_file_changes(tmp_path: Path) -> None:
    settings = files.settings_of(tmp_path, "ghost", files.swapper(tmp_path / "model.onnx", "ghost"))
    pool = EnginePool()
    first, second = load(settings, pool=pool), load(settings, pool=pool)
    assert first._drawer._shared is second._drawer._shared  # type: ignore[attr-defined]
    files.swapper(tmp_path / "model.onnx", "ghost", "shift")
    third = load(settings, pool=pool)
    assert third._drawer._shared is not first._drawer._shared  # type: ignore[attr-defined]
    for session in (first, second, third):
        session.close()
    pool.close()


def test_a_clip_is_swapped_from_beginning_to_end(tmp_path: Path, worn: Identity, shared_data: Path) -> None:
    frames = [np.ascontiguousarray(frame) for frame in clip(shared_data / "clips" / "single_face.mp4", 6)]
    settings = files.settings_of(tmp_path, "hyperswap", files.swapper(tmp_path / "model.onnx", "hyperswap", "source"))
    session = load(settings, worn)
    assert "model.onnx, said to be hyperswap, 256 px; ONNX Runtime on cpu" in session.why
    session.warm_up(*frames[0].shape[:2])
    state = session.init()
    for number, frame in enumerate(frames):
        result = session.step(state, frame, number / 30)
        assert result.status is Status.DRAWN
        assert (result.rgb_HW3 != frame).any(axis=2).mean() > 0.02
    session.close()


def test_a_session_whose_swapper_fails_shows_no_picture(tmp_path: Path, worn: Identity, shared_data: Path) -> None:
    frames = [np.ascontiguousarray(frame) for frame in clip(shared_data / "clips" / "single_face.mp4", 3)]
    settings = files.settings_of(tmp_path, "ghost", files.swapper(tmp_path / "model.onnx", "ghost", "nan"))
    session = load(settings, worn)
    state = session.init()
    for number, frame in enumerate(frames):
        with pytest.raises(EngineFault, match="no numbers"):
            session.step(state, frame, number / 30)
    session.close()
