"""Preparing real video: what comes out, what is left out and said, and that a rerun finishes the rest."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from distill.errors import BadClip, BadShard
from distill.prepare.clips import Tally, clips_of, sharpness
from distill.prepare.command import found, prepare_command, progress_text
from distill.prepare.process import Task, hashed, prepare_video
from distill.prepare.run import Outcome, prepare
from distill.prepare.settings import PrepareSettings
from distill.prepare.video import Picture, VideoReader
from distill.shards import MANIFEST_NAME, open_shards
from engines import EngineUnavailable, Rgb, SettingError
from engines.face.align import crop_from_frame
from engines.face.track import FaceTracker


def settings_for(output: Path, **more: object) -> PrepareSettings:
    return PrepareSettings.read({"output": output, "consent": "test only", "licence": "MIT", "frames": 8, **more})


def write_video(path: Path, pictures: list[Rgb], rate: int = 25) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "16", "preset": "ultrafast"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for number, rgb_HW3 in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb_HW3), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def smile(shared_data: Path) -> list[Rgb]:
    return [picture.rgb_HW3 for picture in VideoReader(shared_data / "clips" / "single_face.mp4")]


@pytest.fixture(scope="session")
def turning(shared_data: Path) -> list[Rgb]:
    return [p.rgb_HW3 for p in VideoReader(shared_data / "clips" / "head-pose-face-detection-male.gif")]


@pytest.fixture(scope="session")
def tracker() -> FaceTracker:
    return FaceTracker(4, "all")


def decoded(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_real_clip_becomes_samples_that_agree_with_their_landmarks(shared_data: Path, tmp_path: Path) -> None:
    video = shared_data / "clips" / "single_face.mp4"
    outcome = prepare([video], settings_for(tmp_path))
    assert (outcome.clips, outcome.refused) == (9, [])
    (shard,), bad = open_shards(tmp_path)
    assert (len(shard), bad) == (9, [])
    members = shard[4]
    facts = json.loads(members["json"])
    assert (facts["consent"], facts["licence"], facts["first_frame"]) == ("test only", "MIT", 32)
    assert facts["video_sha256"] == hashed(video)
    landmarks = np.load(io.BytesIO(members["landmarks.npy"]), allow_pickle=False)
    assert landmarks.shape == (8, 478, 3)
    tracker = FaceTracker(1, "one")
    for number in (0, 7):
        picture = decoded(members[f"{number:03}.jpg"])
        assert picture.shape == (256, 256, 3)
        again = tracker.step(tracker.init(), np.ascontiguousarray(picture), 0.0).faces[0]
        assert np.abs(again.points_px[:, :2] - landmarks[number, :, :2]).mean() < 2.0
    tracker.close()


def test_the_crop_is_that_of_the_live_path(smile: list[Rgb], tmp_path: Path, tracker: FaceTracker) -> None:
    pictures = [Picture(rgb, n / 30, n) for n, rgb in enumerate(smile[:8])]
    (clip,) = clips_of(pictures, tracker, settings_for(tmp_path), Tally())
    live, state = FaceTracker(4, "all"), tracker.init()
    for frame, picture in zip(clip.frames, pictures, strict=True):
        face = live.step(state, picture.rgb_HW3, picture.at_s).faces[0]
        np.testing.assert_array_equal(frame.crop_from_frame, crop_from_frame(face.points_px, 256))
    live.close()


def test_no_clip_runs_over_a_cut(smile: list[Rgb], turning: list[Rgb], tmp_path: Path, tracker: FaceTracker) -> None:
    other = [np.asarray(Image.fromarray(rgb).resize((640, 360))) for rgb in turning[:20]]
    joined = [*smile[:12], *other, *smile[30:50]]
    tally = Tally()
    pictures = [Picture(rgb, n / 30, n) for n, rgb in enumerate(joined)]
    clips = list(clips_of(pictures, tracker, settings_for(tmp_path), tally))
    assert tally.cuts == 2
    spans = [(clip.frames[0].number, clip.frames[-1].number) for clip in clips]
    assert len(spans) >= 4
    for first, last in spans:
        assert last - first == 7, "no frame is left out inside of a clip"
        assert not any(first < cut <= last for cut in (12, 32))


def test_missing_frames_end_a_clip(smile: list[Rgb], tmp_path: Path, tracker: FaceTracker) -> None:
    times = [n / 30 + (0.5 if n >= 6 else 0) for n in range(16)]
    pictures = [Picture(rgb, at_s, n) for n, (rgb, at_s) in enumerate(zip(smile, times))]
    (clip,) = clips_of(pictures, tracker, settings_for(tmp_path), Tally())
    assert clip.frames[0].number >= 6


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"least_face_px": 400}, "too small"),
        ({"least_sharpness": 1.0}, "blurred"),
        ({"most_yaw_deg": 0.5}, "turned too far"),
        ({"least_inside": 1.0}, "at the edge"),
    ],
)
def test_filters_count_what_they_leave_out(
    changed: dict[str, float], reason: str, turning: list[Rgb], tmp_path: Path, tracker: FaceTracker
) -> None:
    tally = Tally()
    shifted = [rgb[40:, :] for rgb in turning[:12]] if reason == "at the edge" else turning[:12]
    pictures = [Picture(np.ascontiguousarray(rgb), n / 12.5, n) for n, rgb in enumerate(shifted)]
    assert not list(clips_of(pictures, tracker, settings_for(tmp_path, **changed), tally))
    assert tally.left_out[reason] >= 6


def test_sharpness_falls_with_blur_and_ignores_contrast(smile: list[Rgb], tracker: FaceTracker, tmp_path: Path) -> None:
    from scipy import ndimage

    pictures = [Picture(rgb, n / 30, n) for n, rgb in enumerate(smile[:8])]
    (clip,) = clips_of(pictures, tracker, settings_for(tmp_path), Tally())
    face = clip.frames[0].rgb_HW3
    blurred = [sharpness(ndimage.gaussian_filter(face, (s, s, 0))) for s in (0.0, 1.0, 2.0, 4.0)]
    assert blurred == sorted(blurred, reverse=True)
    assert blurred[0] > 0.6
    assert blurred[3] < 0.15
    assert sharpness((face // 2 + 40).astype(np.uint8)) == pytest.approx(blurred[0], abs=0.12)


def test_two_people_become_two(smile: list[Rgb], turning: list[Rgb], tmp_path: Path) -> None:
    both = [
        np.concatenate([left[:, 140:500], np.asarray(Image.fromarray(right).resize((640, 360)))[:, 140:500]], axis=1)
        for left, right in zip(smile[:16], turning[:16])
    ]
    video = write_video(tmp_path / "both.mp4", both)
    report = prepare_video(Task(video, hashed(video), settings_for(tmp_path / "out")))
    assert report.people == 2
    assert report.clips >= 2
    (shard,), _ = open_shards(tmp_path / "out")
    people = [json.loads(shard[n]["json"])["person"] for n in range(len(shard))]
    assert len(set(people)) == 2


def bad_inputs(folder: Path, smile: list[Rgb]) -> dict[str, str]:
    """File name -> what is said of it."""
    whole = write_video(folder / "whole.mp4", smile[:24]).read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.txt").write_text("not a video\n" * 50)
    write_video(folder / "short.mp4", smile[:5])
    write_video(folder / "noface.mp4", [np.full((120, 160, 3), 60 + n, np.uint8) for n in range(20)])
    with av.open(str(folder / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    return {
        "cut.mp4": "cut off",
        "empty.mp4": "empty",
        "missing.mp4": "no such file",
        "noface.mp4": "no face",
        "short.mp4": "too short",
        "sound.wav": "no video",
        "text.txt": "no",
    }


def test_bad_videos_are_named_skipped_and_counted(smile: list[Rgb], tmp_path: Path) -> None:
    expected = bad_inputs(tmp_path, smile)
    videos = [tmp_path / name for name in expected]
    with pytest.raises(BadClip, match="nothing could be made of 7 videos"):
        prepare(videos, settings_for(tmp_path / "none"))
    outcome = prepare([*videos, tmp_path / "whole.mp4"], settings_for(tmp_path / "out"))
    assert (outcome.clips, len(outcome.refused)) == (3, 7)
    for name, why in expected.items():
        (line,) = [line for line in outcome.refused if str(tmp_path / name) in line]
        assert why in line


def test_a_broken_off_video_gives_what_came_before(smile: list[Rgb], tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", smile[:64]).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: len(whole) // 2])
    outcome = prepare([cut], settings_for(tmp_path / "out"))
    assert 1 <= outcome.clips < 8
    assert outcome.broke_off[0].startswith(f"{cut}: broke off at ")


def test_a_rerun_makes_only_what_is_missing_or_damaged(smile: list[Rgb], turning: list[Rgb], tmp_path: Path) -> None:
    one, two = write_video(tmp_path / "one.mp4", smile[:16]), write_video(tmp_path / "two.mp4", turning[:16])
    out = tmp_path / "out"
    prepare([one], settings_for(out))
    again = prepare([one, two, tmp_path / "one.mp4"], settings_for(out))
    assert (len(again.done), again.already) == (1, 2)
    shards = {path.name: path.read_bytes() for path in out.glob("*.tar")}
    assert len(shards) == 2
    half = next(path for path in out.glob("one*.tar"))
    half.write_bytes(half.read_bytes()[:2000])
    mended = prepare([one, two], settings_for(out))
    assert (len(mended.done), mended.already) == (1, 1)
    assert str(half) in mended.remade[0]
    assert {path.name: path.read_bytes() for path in out.glob("*.tar")} == shards, "the very same bytes again"
    assert len(open_shards(out)[0]) == 2


def test_another_size_does_not_go_into_the_same_folder(smile: list[Rgb], tmp_path: Path) -> None:
    video = write_video(tmp_path / "one.mp4", smile[:16])
    prepare([video], settings_for(tmp_path / "out"))
    with pytest.raises(SettingError, match="size_px"):
        prepare([video], settings_for(tmp_path / "out", size_px=512))
    prepare([video], settings_for(tmp_path / "out", licence="CC0"))
    (tmp_path / "out" / "prepare.json").write_text("{")
    with pytest.raises(BadShard, match=r"prepare\.json"):
        prepare([video], settings_for(tmp_path / "out"))


def test_processes_make_the_same_shards(smile: list[Rgb], turning: list[Rgb], tmp_path: Path) -> None:
    videos = [write_video(tmp_path / f"{n}.mp4", frames[:24]) for n, frames in enumerate((smile, turning))]
    videos.append(tmp_path / "missing.mp4")
    seen: list[tuple[int, int]] = []
    outcome = prepare(videos, settings_for(tmp_path / "two", workers=2), lambda done, read: seen.append((done, read)))
    prepare(videos, settings_for(tmp_path / "one"))
    assert len(outcome.refused) == 1
    assert seen[-1] == (2, 48)
    for path in (tmp_path / "one").glob("*.tar"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert (tmp_path / "one" / MANIFEST_NAME).read_bytes() == (tmp_path / "two" / MANIFEST_NAME).read_bytes()


def run(*words: object) -> Result:
    return CliRunner().invoke(prepare_command, [str(word) for word in words])


@pytest.mark.parametrize("missing", ["--consent", "--licence"])
def test_nothing_without_consent_and_licence(missing: str, tmp_path: Path) -> None:
    words = ["v.mp4", "-o", tmp_path / "out", "--consent", "c", "--licence", "l"]
    at = words.index(missing)
    without = run(*words[:at], *words[at + 2 :])
    assert without.exit_code == 2
    assert missing in without.output
    words[at + 1] = "  "
    empty = run(*words)
    assert isinstance(empty.exception, SettingError)
    assert not (tmp_path / "out").exists()


def test_the_command_reports_with_pictures(smile: list[Rgb], tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    write_video(videos / "one <b>.mp4", smile[:16])
    (videos / "zero.mp4").write_bytes(b"")
    out = tmp_path / "out"
    done = run(videos, "-o", out, "--consent", "Ada, 2026", "--licence", "MIT", "--frames", 8)
    assert done.exit_code == 3, "something was left out"
    assert f"{videos / 'zero.mp4'}: the file is empty" in done.output
    assert "2 clips in" in done.output
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "one &lt;b&gt;.mp4" in page
    assert "Ada, 2026" in page
    (picture,) = (out / "pictures").iterdir()
    assert f"pictures/{picture.name}" in page
    with Image.open(picture) as sheet:
        assert sheet.size == (6 * 96, 2 * 96)
    assert json.loads((out / "report.json").read_bytes())["clips"] == 2


def test_finds_files_in_folders_and_shows_progress(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/2.mp4", "b/1.mp4", "a.mp4"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in found((tmp_path / "b", tmp_path / "a.mp4"))] == ["1.mp4", "2.mp4", "a.mp4"]
    assert progress_text(3, 12, 500, 10.0) == "[######..................] 3/12 videos, 500 frames, 50.0 fps"


def test_killed_in_the_middle_it_goes_on_and_ends_the_same(
    smile: list[Rgb], turning: list[Rgb], tmp_path: Path
) -> None:
    videos = [write_video(tmp_path / f"{n}.mp4", (smile if n % 2 else turning)[n : n + 40]) for n in range(4)]
    out, whole = tmp_path / "killed", tmp_path / "whole"
    code = "from distill.prepare.command import prepare_command as p; p()"
    words = ["--consent", "c", "--licence", "l", "--frames", "8", *map(str, videos)]
    process = subprocess.Popen([sys.executable, "-c", code, "-o", str(out), *words], start_new_session=True)
    deadline_s = time.monotonic() + 60
    while not (out / "prepare.json").exists() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = len(json.loads((out / "prepare.json").read_bytes())["videos"])
    assert before >= 1
    outcome: Outcome = prepare(videos, settings_for(out, consent="c", licence="l"))
    assert (outcome.already, len(outcome.done)) == (before, 4 - before)
    prepare(videos, settings_for(whole, consent="c", licence="l"))
    tars = {path.name: path.read_bytes() for path in whole.glob("*.tar")}
    assert len(tars) >= 3
    assert {path.name: path.read_bytes() for path in out.glob("*.tar")} == tars
    assert len(open_shards(out)[0]) == len(tars)


@pytest.mark.timeout(300)
def test_a_cluster_makes_the_same_shards(smile: list[Rgb], turning: list[Rgb], tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra `cluster`")
    videos = [write_video(tmp_path / f"{n}.mp4", frames[:16]) for n, frames in enumerate((smile, turning))]
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        outcome = prepare(videos, settings_for(tmp_path / "ray", cluster=True))
    finally:
        ray.shutdown()
    assert len(outcome.done) == 2
    prepare(videos, settings_for(tmp_path / "here"))
    assert (tmp_path / "here" / MANIFEST_NAME).read_bytes() == (tmp_path / "ray" / MANIFEST_NAME).read_bytes()


def test_a_cluster_without_ray_says_what_to_install(
    smile: list[Rgb], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "one.mp4", smile[:8])
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(EngineUnavailable, match=r"pip install 'vividstream\[cluster\]'"):
        prepare([video], settings_for(tmp_path / "out", cluster=True))


def test_a_task_survives_the_way_to_another_machine(tmp_path: Path) -> None:
    task = Task(tmp_path / "v.mp4", "ab" * 32, settings_for(tmp_path / "out", workers=2))
    assert Task.from_json(task.to_json()) == task
