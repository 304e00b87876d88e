"""`eval swap` from clip to table: an engine that changes nothing is told as such, and nothing is read twice."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.errors import BadClip, NothingLeft
from distill.evaluate import look, swap_run
from distill.evaluate.faces import FaceReader
from distill.evaluate.footage import Beginning, VideoFile
from distill.evaluate.frechet import Interval
from distill.evaluate.measures import Measure, Read, measures
from distill.evaluate.readings import Look, Readings, key_of, looks_of, read, write
from distill.evaluate.settings import SwapEvalConfig
from distill.evaluate.swap_report import SwapReport, markdown, side_by_side, values
from distill.evaluate.swap_report import read as read_report
from distill.evaluate.swap_run import Measured, checked, progress, run, swap_settings
from distill.evaluate.swaps import Frame, Swap
from engines import SettingError, UnknownEngine
from tests.distill.evaluate.made_up_nets import hopenet, pooling_net

pytestmark = pytest.mark.timeout(300)
FRAMES, EVERY = 9, 4


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("nets")
    return {
        "judge": pooling_net(folder / "who.onnx", (1, 3, 112, 112), width=32),
        "hopenet": hopenet(folder / "hopenet.onnx", (33, 33, 33)),
        "deep3d": pooling_net(folder / "deep3d.onnx", (1, 3, 224, 224), width=257),
        "i3d": pooling_net(folder / "i3d.onnx", (1, 3, 3, 224, 224), width=4),
    }


def config(shared_data: Path, nets: dict[str, Path], out: Path | None, **more: object) -> SwapEvalConfig:
    given = {
        "engine": "passthrough",
        "clips": (shared_data / "clips" / "single_face.mp4",),
        "identity": ("amara", "henrik"),
        "most_frames": FRAMES,
        "every": EVERY,
        "judge": (f"arcface={nets['judge']}",),
        "hopenet": nets["hopenet"],
        "deep3d": nets["deep3d"],
        "fvd": (f"i3d={nets['i3d']}",),
        "lengths": (3,),
        "rollout_s": 4.0,
        "data": shared_data,
        "out": out,
    }
    return SwapEvalConfig.read({**given, **more})


@pytest.fixture(scope="module")
def passed(shared_data: Path, nets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Measured, Path]:
    """passthrough on the first frames of a real clip, with every instrument there is."""
    out = tmp_path_factory.mktemp("out")
    return run(config(shared_data, nets, out), lambda line: None), out


def by_key(measured: Measured) -> dict[str, Measure]:
    return {one.key: one for one in measured.report.measures}


def test_an_engine_that_changes_nothing_is_told_as_such(passed: tuple[Measured, Path]) -> None:
    found = by_key(passed[0])
    assert found["drawn"].result.value == 100
    for key in ("pose", "expression", "gaze", "hopenet", "deep3d", "fvd3_i3d"):
        assert found[key].result.value == 0, key
    for key in ("warp", "flicker"):
        assert found[key].result.value == found[key].input > 0, key
    assert found["energy"].result.value == 1
    judge = next(key for key in found if key.startswith("driver_cosine")).removeprefix("driver_cosine_")
    assert found[f"driver_cosine_{judge}"].result.value == pytest.approx(1)
    for key in ("top1", "cosine", "vidd", "variance"):
        assert found[f"{key}_{judge}"].result.value == pytest.approx(found[f"{key}_{judge}"].input), key
    assert found[f"top1_{judge}"].result.value == 50  # one of the two identities is the nearer one
    assert f"top5_{judge}" not in found  # there are only two
    assert found["drift_colour"].result.value == 0
    assert f"drift_{judge}" in found
    assert 0 < found["ms_p50"].result.value <= found["ms_p95"].result.value
    assert "true_psnr" not in found
    assert found["fvd3_i3d"].parts == 2 * (FRAMES // 3)


def test_the_report_says_what_it_is_of(passed: tuple[Measured, Path], nets: dict[str, Path]) -> None:
    report = passed[0].report
    text = markdown(report)
    assert text.startswith("# Swaps by passthrough")
    assert f"2 swaps, {2 * FRAMES} frames" in text
    assert "FVD3, i3d is of 6 clips: with so few it is too large" in text
    stored = json.loads(json.dumps(values(report)))
    assert stored["origin"]["engine"] == "passthrough"
    assert any(len(value) == 64 for name, value in stored["instruments"].items() if name.startswith("judge"))
    assert {"revision", "numpy", "measured"} <= set(stored["machine"])
    assert stored["measures"]["pose"]["by_swap"].keys() == {"single_face-amara", "single_face-henrik"}
    assert stored["inputs"].keys() == {"single_face-amara", "single_face-henrik"}
    assert report.warnings == []


def test_tiles_for_the_sheet_show_the_driver_twice(passed: tuple[Measured, Path]) -> None:
    photo, moments = passed[0].tiles["single_face-amara"]
    assert moments.shape[1:] == (3, *photo.shape)
    assert (moments[:, 0] == moments[:, 1]).all()
    assert np.ptp(moments[:, 0]) > 100
    path = swap_run.write_sheet(passed[0], passed[1])
    with Image.open(path) as picture:
        assert picture.width == (1 + len(moments)) * photo.shape[1]


def test_what_was_read_is_not_read_again(
    passed: tuple[Measured, Path], shared_data: Path, nets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> Readings:
        raise AssertionError("read again")

    monkeypatch.setattr(swap_run, "read_swap", never)
    said: list[str] = []
    again = run(config(shared_data, nets, passed[1]), said.append)
    assert sum("kept from before" in line for line in said) == 2
    first, second = ({name: one.result for name, one in by_key(each).items()} for each in (passed[0], again))
    assert repr(first) == repr(second)
    with pytest.raises(AssertionError, match="read again"):  # looked at otherwise, they are other readings
        run(config(shared_data, nets, passed[1], every=3), said.append)


def test_a_damaged_reading_is_made_again(passed: tuple[Measured, Path], tmp_path: Path) -> None:
    kept = next((passed[1] / "readings").glob("*amara*"))
    content = kept.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    assert read(tmp_path / "cut.safetensors", "any") is None
    assert read(kept, "another key") is None
    assert read(tmp_path / "none.safetensors", "any") is None


def test_readings_come_back_as_they_were(tmp_path: Path) -> None:
    made = made_up_reading(0.4)
    write(made, tmp_path / "a.safetensors", key_of(["x"]))
    found = read(tmp_path / "a.safetensors", key_of(["x"]))
    assert found is not None
    np.testing.assert_array_equal(found.looks, made.looks)
    np.testing.assert_array_equal(found.vectors["j/result"], made.vectors["j/result"])
    assert (found.frames, found.drawn) == (10, 9)
    assert read(tmp_path / "a.safetensors", key_of(["y"])) is None
    assert not list(tmp_path.glob(".*"))


def made_up_reading(pose: float, person: int = 0) -> Readings:
    looks = looks_of([Look()] * 3)
    axes = np.eye(4)
    looks[:, 0], looks[:, 1] = (0, 1, 2), pose
    pairs = np.stack([[axes[person], axes[person]]] * 3)
    return Readings(
        looks=looks,
        colour={"result": np.zeros((3, 3)), "driver": np.zeros((3, 3))},
        vectors={"j/result": pairs, "j/driver": np.stack([[axes[3], axes[3]]] * 3)},
        photos={"j": axes[person : person + 1]},
        clips={},
        took_ms=np.array([10.0, 20, 30]),
        frames=10,
        drawn=9,
    )


def test_figures_are_means_over_swaps() -> None:
    of = [Read(f"s{i}", "c", f"p{i}", made_up_reading(i + 1, i)) for i in range(3)]
    found = {one.key: one for one in measures(of, ["j"], [], {"j": {"x": np.eye(4)[3]}})}
    assert found["pose"].result.value == 2
    assert found["pose"].by_swap == {"s0": 1, "s1": 2, "s2": 3}
    assert found["drawn"].result.value == 90
    assert found["top1_j"].result.value == 100
    assert found["top1_j"].input == 0  # the driver is the stranger of the gallery
    assert found["top1_j"].title == "found first of 4, % (j)"
    assert found["cosine_j"].result.value == 1
    assert found["driver_cosine_j"].result.value == 0
    assert found["ms_p50"].result.value == 20
    assert "fvd32_i3d" not in found


def test_a_clip_that_fails_is_named_and_the_rest_is_measured(
    shared_data: Path, nets: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "good.mp4").symlink_to(shared_data / "clips" / "single_face.mp4")
    said: list[str] = []
    plain = {"judge": (f"arcface={nets['judge']}",), "hopenet": None, "deep3d": None, "fvd": (), "rollout_s": 0.0}
    given = config(shared_data, nets, None, clips=(tmp_path,), identity=("amara",), most_frames=4, **plain)
    measured = run(given, said.append)
    assert measured.report.swaps == 1
    assert len(measured.report.refused) == 1
    assert "broken.mp4" in measured.report.refused[0]
    assert "Left out, 1:" in markdown(measured.report)
    with pytest.raises(NothingLeft, match=r"broken\.mp4"):
        run(given.model_copy(update={"clips": (tmp_path / "broken.mp4",)}), said.append)


def test_frames_on_disk_are_measured_like_an_engine_s(shared_data: Path, nets: dict[str, Path], tmp_path: Path) -> None:
    """Somebody else's swapper that mirrors nothing but the colours: pose stays, identity moves."""
    clip = VideoFile(shared_data / "clips" / "single_face.mp4")
    place = tmp_path / "theirs" / "one"
    for part in ("driver", "result"):
        (place / part).mkdir(parents=True)
    for i, picture in enumerate(Beginning(clip, 4)):
        darker = (picture.rgb_HW3 * 0.8).astype(np.uint8)
        Image.fromarray(picture.rgb_HW3).save(place / "driver" / f"{i}.png")
        Image.fromarray(darker).save(place / "result" / f"{i}.png")
        if not i:
            Image.fromarray(darker).save(place / "source.png")
    given = SwapEvalConfig.read(
        {"frames": tmp_path / "theirs", "judge": (f"arcface={nets['judge']}",), "data": shared_data, "every": 2}
    )
    found = by_key(run(given, lambda line: None))
    assert 0 < found["pose"].result.value < 2
    assert found["cosine_arcface who.onnx"].result.value > found["cosine_arcface who.onnx"].input
    assert found["energy"].result.value == pytest.approx(0.64, abs=0.02)
    assert found["warp"].result.value == pytest.approx(0.8 * found["warp"].input, rel=0.15)
    assert "ms_p50" not in found


def test_a_swap_without_a_face_is_a_bad_clip() -> None:
    def frames() -> Iterator[Frame]:
        grey = np.full((64, 64, 3), 128, np.uint8)
        yield from (Frame(grey, grey, i / 25) for i in range(3))

    nobody = Swap("x", "x", "x", lambda: (np.zeros((64, 64, 3), np.uint8),), (), frames)
    instruments = look.Instruments(faces=FaceReader())
    with pytest.raises(BadClip, match="no face is found in the driver's 3 frames"):
        look.read_swap(nobody, instruments)
    with pytest.raises(BadClip, match="has no frames"):
        look.read_swap(replace(nobody, frames=lambda: iter(())), instruments)
    instruments.faces.close()


def report(name: str, value: float, *swaps: str) -> SwapReport:
    found = [
        Measure("fvd32_i3d", "FVD32, i3d", "lower", Interval(value, value - 1, value + 1), 0.0, 5, {}),
        Measure("top1_dlib", "found first", "higher", Interval(71.9), 0.0, 5, {}),
        Measure("pose", "pose", "lower", Interval(math.nan), 0.0, 0, {}),
    ]
    return SwapReport(name, {}, {}, {}, found, 1, 1, [], [], dict.fromkeys(swaps, ()))


def test_reports_side_by_side_are_vividface_s_table() -> None:
    one, other = values(report("REFace", 1336.9, "a")), values(report("proxy", 1201.1, "a"))
    lines = side_by_side([one, other]).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == ["", "FVD32 (i3d)", "ID top 1 (dlib)", "pose"]
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["REFace", "1337", "71.90", "-"]
    assert len(lines) == 4
    of_others = side_by_side([one, values(report("x", 1.0, "b"))])
    assert "different clips or identities: their lines do not compare" in of_others


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SettingError, match="is no report"):
        read_report(tmp_path)
    with pytest.raises(SettingError, match="is no report"):
        read_report(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({}, SettingError, "--frames FOLDER"),
        ({"rendered": True, "clips": (Path("a"),)}, SettingError, "--rendered"),
        ({"rendered": True, "engine": "prxy"}, UnknownEngine, "proxy"),
        ({"rendered": True, "fvd": ("i3d=a", "i3d=b"), "fvd_sha256": ("0",)}, SettingError, "--fvd-sha256"),
    ],
)
def test_what_cannot_be_is_said_at_once(given: dict[str, object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        checked(SwapEvalConfig.read(given))


def test_a_file_of_another_hash_is_refused(nets: dict[str, Path]) -> None:
    given = {"rendered": True, "fvd": (f"i3d={nets['i3d']}",), "fvd_sha256": ("0" * 64,), "lengths": (3,)}
    with pytest.raises(SettingError, match="its sha256 is"):
        swap_run.clip_nets(SwapEvalConfig.read(given))


def test_settings_of_the_engine_are_words() -> None:
    found = swap_settings("onnx", ["model=a/b.onnx", "steps=2", "tone=driver", "texture_weight=0.5"])
    assert (found.model, found.steps, found.tone, found.texture_weight) == (Path("a/b.onnx"), 2, "driver", 0.5)
    assert not found.label
    for words, says in (("stps=2", "steps"), ("steps=two", "steps"), ("steps", "KEY=VALUE"), ("steps=99", "steps")):
        with pytest.raises(SettingError, match=says):
            swap_settings("tiny", [words])


def test_progress_says_how_long_it_takes() -> None:
    assert progress(1, 3, "a", "done", 60, 1) == "swap 1 of 3, a: done; about 2 min left"
    assert progress(2, 3, "b", "done", 60, 1) == "swap 2 of 3, b: done; about 60 s left"
    assert progress(3, 3, "c", "done", 60, 3) == "swap 3 of 3, c: done"
