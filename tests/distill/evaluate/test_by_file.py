"""Networks from files: shown what they were made for, refused where they are something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distill.evaluate.by_file import (
    PREPROCESSINGS,
    ExpressionNet,
    Net,
    OnnxJudge,
    PoseNet,
    expected_angle,
    open_judge,
    sha256_of,
    unit,
)
from distill.evaluate.clip_features import (
    ClipNet,
    chosen_frames,
    open_clip_net,
    prepared,
    square_picture,
)
from engines import EngineUnavailable, SettingError
from engines.errors import EngineRefused
from engines.face.five_points import TEMPLATES, Template, five_points
from engines.types import Floats, Rgb
from tests.distill.evaluate.made_up_nets import hopenet, pooling_net, torchscript


def placed(template: Template, side_px: int, left_px: int, top_px: int) -> Floats:
    """A face of which the five points lie on the template of a crop of that side, at that place of the picture."""
    found = np.random.default_rng(0).normal(120, 20, (478, 3)).astype(np.float32)
    wanted = TEMPLATES[template] * side_px + (left_px, top_px)
    for index, (x, y) in zip(([33, 160, 158, 133, 153, 144], [362, 385, 387, 263, 373, 380], [4], [61], [291]), wanted):
        found[index, :2] = x, y
    assert five_points(found) == pytest.approx(wanted, abs=1e-3)
    return found


@pytest.fixture(scope="module")
def points() -> Floats:
    """Twice as large as arcface's crop, at (40, 30)."""
    return placed("arcface_112_v2", 224, 40, 30)


@pytest.fixture(scope="module")
def picture() -> Rgb:
    ramp = np.zeros((320, 320, 3), np.uint8)
    ramp[..., 0] = np.arange(320)[None] * 255 // 320
    ramp[..., 1] = np.arange(320)[:, None] * 255 // 320
    ramp[..., 2] = 40
    return ramp


def test_a_recogniser_is_shown_its_template(points: Floats, picture: Rgb) -> None:
    shown = PREPROCESSINGS["arcface"].picture(picture, points)
    assert shown.shape == (1, 3, 112, 112)
    x, y = np.arange(112) * 2 + 40, np.arange(112) * 2 + 30  # the place in the picture of each of the crop's pixels
    assert shown[0, 0, 50] == pytest.approx(x * 255 / 320 / 127.5 - 1, abs=0.015)
    assert shown[0, 1, :, 50] == pytest.approx(y * 255 / 320 / 127.5 - 1, abs=0.015)
    assert shown[0, 2] == pytest.approx(40 / 127.5 - 1, abs=1e-5)


def test_channels_may_be_the_other_way_round(points: Floats, picture: Rgb) -> None:
    rgb, bgr = (PREPROCESSINGS[kind].picture(picture, points) for kind in ("arcface", "adaface"))
    assert (rgb[:, ::-1] == bgr).all()


def test_reface_s_recogniser_sees_the_middle_of_the_ffhq_crop(picture: Rgb) -> None:
    """Rows 35 to 223 and columns 32 to 220 of 256 px, at 112. Its pixels are 188/112 of the crop's."""
    shown = PREPROCESSINGS["ir_se50"].picture(picture, placed("ffhq_512", 256, 10, 20))
    step = 188 / 112
    x, y = ((np.arange(112) + 0.5) * step - 0.5 + start for start in (10 + 32, 20 + 35))
    assert shown[0, 0, 50] == pytest.approx(x * 255 / 320 / 127.5 - 1, abs=0.012)
    assert shown[0, 1, :, 50] == pytest.approx(y * 255 / 320 / 127.5 - 1, abs=0.012)


def test_a_judge_from_a_file(tmp_path: Path, points: Floats, picture: Rgb) -> None:
    path = pooling_net(tmp_path / "who.onnx", ("N", 3, 112, 112), width=32)
    judge = open_judge(f"arcface={path}")
    try:
        vector = judge.describe(picture, points)
        assert judge.networks == (sha256_of(path),)
        assert np.linalg.norm(vector) == pytest.approx(1)
        assert judge.describe(picture, points) @ vector == pytest.approx(1)
        assert judge.describe(picture[::-1].copy(), points) @ vector < 0.999
    finally:
        judge.close()


@pytest.mark.parametrize(
    ("text", "says"), [("arcfase=x.onnx", "arcface"), ("who", "KIND=FILE"), ("arcface=none.onnx", "no such file")]
)
def test_what_is_no_judge_is_named(text: str, says: str) -> None:
    with pytest.raises((SettingError, EngineUnavailable), match=says):
        open_judge(text)


def test_a_net_of_another_input_is_refused(tmp_path: Path) -> None:
    path = pooling_net(tmp_path / "large.onnx", (1, 3, 224, 224))
    with pytest.raises(EngineRefused, match=r"1, 3, 112, 112"):
        OnnxJudge("arcface", path)
    with pytest.raises(EngineRefused, match="three, one for each angle"):
        PoseNet(path)
    with pytest.raises(EngineRefused, match="no direction"):
        unit(np.zeros(4))


def test_hopenet_s_bins_are_degrees(tmp_path: Path, points: Floats, picture: Rgb) -> None:
    net = PoseNet(hopenet(tmp_path / "hopenet.onnx", (33, 43, 30)))
    try:
        assert net.angles_deg(picture, points) == pytest.approx([0, 30, -9], abs=1e-3)
    finally:
        net.close()
    half = np.full(66, -40, np.float32)
    half[[33, 34]] = 5
    assert expected_angle(half) == pytest.approx(1.5, abs=1e-4)


def test_deep3d_is_shown_a_face_of_102_px_in_the_middle(tmp_path: Path, points: Floats, picture: Rgb) -> None:
    net = ExpressionNet(pooling_net(tmp_path / "deep3d.onnx", (1, 3, 224, 224), width=257))
    try:
        spread = np.array([3.0, -3.0]) * 40  # px per unit; the picture's y points down
        seen = net.STANDARD[:, :2] * spread + np.array([200.0, 150.0])
        scale, shift = net.laid(seen)
        assert scale == pytest.approx(102 / 120)
        assert scale * np.array([200, 150]) + shift == pytest.approx([112, 112])
        found = net.coefficients(picture, points)
        whole = net._net.run(np.zeros((1, 3, 224, 224), np.float32))[0]
        assert found.shape == (64,)
        assert whole.shape == (1, 257)
    finally:
        net.close()
    small = ExpressionNet(pooling_net(tmp_path / "small.onnx", (1, 3, 224, 224), width=8))
    with pytest.raises(EngineRefused, match="257"):
        small.coefficients(picture, points)
    small.close()


def clip(frames: int) -> list[Rgb]:
    return [np.full((224, 224, 3), 10 * i, np.uint8) for i in range(frames)]


def test_i3d_sees_all_frames_and_videomae_sixteen_of_them(tmp_path: Path) -> None:
    assert len(chosen_frames("i3d", clip(20))) == 20
    chosen = chosen_frames("videomae", clip(32)[:25])
    assert len(chosen) == 16
    assert [int(one[0, 0, 0]) // 10 for one in chosen_frames("videomae", clip(16))] == list(range(16))
    with pytest.raises(ValueError, match="16 frames, not 8"):
        chosen_frames("videomae", clip(8))
    black, white = [np.zeros((224, 224, 3), np.uint8)], [np.full((224, 224, 3), 255, np.uint8)]
    assert prepared("i3d", black).min() == -1
    assert prepared("i3d", white).max() == 1
    assert (prepared("videomae", black).min(), prepared("videomae", white).max()) == (0, 1)
    assert prepared("i3d", clip(4)).shape == (1, 3, 4, 224, 224)


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_both_forms_of_a_clip_net(tmp_path: Path, form: str) -> None:
    if form == "onnx":
        path = pooling_net(tmp_path / "i3d.onnx", (1, 3, 4, 224, 224), width=8)
    else:
        path = torchscript(tmp_path / "i3d.pt")
    net = open_clip_net(f"i3d={path}", (4,))
    try:
        assert net.sha256 == sha256_of(path)
        assert net.features(clip(4)).shape == (8,) if form == "onnx" else (24,)
        assert (net.features(clip(4)) == net.features(clip(4))).all()
    finally:
        net.close()


def test_what_is_no_clip_net_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"a pickle, or nothing at all")
    with pytest.raises(EngineUnavailable, match="no TorchScript file"):
        ClipNet("i3d", tmp_path / "a.pt", (32,))
    with pytest.raises(SettingError, match="i3d=FILE or videomae=FILE"):
        open_clip_net("i4d=a.pt", (32,))
    with pytest.raises(EngineRefused, match="one picture"):
        ClipNet("videomae", pooling_net(tmp_path / "short.onnx", (1, 3, 4, 224, 224)), (32,))


def test_a_square_of_the_frame_is_scaled_about_its_middle() -> None:
    ramp = np.repeat(np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 200, 0), 3, 2)
    half = square_picture(ramp, np.array([99.5, 99.5], np.float32), 100)
    assert half.shape == (224, 224, 3)
    assert half[112, :, 0].mean() == pytest.approx(99.5, abs=0.6)
    assert half[112, -1, 0] - half[112, 0, 0] == pytest.approx(99, abs=2)
    small = square_picture(ramp, np.array([99.5, 99.5], np.float32), 200)
    assert small[5, [0, -1], 0] == pytest.approx([0, 199], abs=1)


def test_a_net_says_what_it_gives(tmp_path: Path) -> None:
    net = Net(pooling_net(tmp_path / "net.onnx", (1, 3, 16, 16), width=3), (1, 3, 16, 16))
    found = net.run(np.ones((1, 3, 16, 16), np.float32))
    assert net.outputs == ("numbers",)
    assert found[0].shape == (1, 3)
    net.close()
