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
import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from distill.errors import BadShard, NothingLeft
from distill.prepare.clips import Tally, clips_of, sharpness
from distill.prepare.command import found, prepare_command, progress_text, summary
from distill.prepare.process import Task, hashed, prepare_video
from distill.prepare.run import Outcome, _in_processes, prepare
from distill.prepare.settings import PrepareSettings
from distill.prepare.video import Picture, VideoReader
from distill.shards import MANIFEST_NAME, open_shards
from engines import EngineUnavailable, Rgb, SettingError
from engines.face.align import crop_from_frame
from engines.face.track import FaceTracker


def settings_for(output: Path, **more: object) -> PrepareSettings:
    return PrepareSettings.read({"output": output, "consent": "test only", "licence": "MIT", "frames": 8, **more})


def write_video(path: Path, pictures: list[Rgb], rate: int = 25, key_every: int = 250) -> Path:
    options = {"crf": "16", "preset": "ultrafast", "g": str(key_every)}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options=options)
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
    with pytest.raises(NothingLeft, match="nothing could be made of 7 videos") as nothing:
        prepare(videos, settings_for(tmp_path / "none"))
    assert len(nothing.value.refused) == 7, "each is named"
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


def damage(video: Path, packets: range) -> None:
    """Overwrites the middle of those packets; the file's structure stays."""
    with av.open(str(video)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.pos is not None]
    content = bytearray(video.read_bytes())
    rng = np.random.default_rng(3)
    for position, size in (places[n] for n in packets):
        content[position + size // 4 : position + size // 2] = rng.bytes(size // 2 - size // 4)
    video.write_bytes(content)


def test_damaged_pictures_are_counted_and_no_clip_holds_one(smile: list[Rgb], tmp_path: Path) -> None:
    """Decoders patch damage over in silence: grey blocks and smears would go into the training as a person's face."""
    video = write_video(tmp_path / "spoilt.mp4", smile[:60], key_every=20)
    damage(video, range(26, 29))
    reader = VideoReader(video)
    read = [picture.number for picture in reader]
    assert set(range(20)) | set(range(40, 60)) <= set(read)
    assert not set(range(26, 40)) & set(read), "the rest up to the next key frame shows the damage, too"
    assert reader.left_out is not None
    assert f"{60 - len(read)} of 60 pictures are damaged" in reader.left_out
    outcome = prepare([video], settings_for(tmp_path / "out"))
    assert outcome.broke_off == [f"{video}: {reader.left_out}"]
    (shard,), _ = open_shards(tmp_path / "out")
    firsts = [json.loads(shard[n]["json"])["first_frame"] for n in range(len(shard))]
    assert firsts, "the rest is used"
    for first in firsts:
        assert set(range(first, first + 8)) <= set(read), "no clip runs over the gap"


def test_a_video_that_is_damaged_throughout_is_refused(smile: list[Rgb], tmp_path: Path) -> None:
    video = write_video(tmp_path / "spoilt.mp4", smile[:30])
    damage(video, range(0, 30))
    with pytest.raises(NothingLeft) as nothing:
        prepare([video], settings_for(tmp_path / "out"))
    assert nothing.value.refused[0].startswith(f"{video}: ")


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


def test_the_same_content_is_read_once_and_named_as_it_is_called_now(smile: list[Rgb], tmp_path: Path) -> None:
    one = write_video(tmp_path / "one.mp4", smile[:16])
    copy, short = tmp_path / "copy.mp4", write_video(tmp_path / "short.mp4", smile[:4])
    copy.write_bytes(one.read_bytes())
    first = prepare([one, copy, short], settings_for(tmp_path / "out"))
    assert (len(first.done), first.already, first.clips) == (2, 1, 2)
    moved = short.rename(tmp_path / "moved.mp4")
    again = prepare([one, moved], settings_for(tmp_path / "out"))
    assert again.refused == [f"{moved}: too short: 4 frames, a clip has 8"]


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


def test_the_command_names_every_file_also_where_nothing_is_left(tmp_path: Path) -> None:
    for name in ("one.mp4", "two.mp4"):
        (tmp_path / name).write_bytes(b"")
    done = run(tmp_path, "-o", tmp_path / "out", "--consent", "c", "--licence", "l")
    assert isinstance(done.exception, NothingLeft)
    for name in ("one.mp4", "two.mp4"):
        assert f"{tmp_path / name}: the file is empty" in done.output


def test_the_last_line_counts_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    outcome = Outcome(already=2, refused=["a"], broke_off=["b", "c"], remade=["d"], clips=9)
    assert summary(outcome, 7, Path("out"), Path("out/report.html")) == (
        "9 clips in out; 7 videos, 2 of them known from before; 1 damaged shards made again; 1 could not be used; "
        "2 not wholly; see out/report.html"
    )


FULL_DISK = """
import resource, sys
from distill.prepare.command import prepare_command
if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop()),) * 2)
    prepare_command(standalone_mode=False)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_it_by_name_keeps_what_is_done_and_a_rerun_finishes(
    workers: int, smile: list[Rgb], turning: list[Rgb], tmp_path: Path
) -> None:
    """The limit on a file's size stands in for the disk's end: the second video's shard does not fit."""
    small, large = write_video(tmp_path / "0.mp4", turning[:10]), write_video(tmp_path / "1.mp4", smile[:40])
    others = [write_video(tmp_path / f"{n}.mp4", smile[n : n + 24]) for n in range(2, 6)]
    out, script = tmp_path / "out", tmp_path / "full.py"
    script.write_text(FULL_DISK)
    words = ["--consent", "c", "--licence", "l", "--frames", "8", "--workers", str(workers), "-o", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script), str(small), str(large), *map(str, others), *words, str(400_000)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "NotWritten" in done.stderr
    assert "cannot be written: File too large" in done.stderr
    assert "the same command goes on from there" in done.stderr
    assert not list(out.glob(".*")), "nothing half written stays"
    assert all(path.name.startswith("0-") for path in out.glob("*.tar"))
    rerun = prepare([small, large, *others], settings_for(out, consent="c", licence="l"))
    assert rerun.already == (1 if workers == 1 else rerun.already)
    assert rerun.already + len(rerun.done) == 6
    assert len(open_shards(out)[0]) == 6


def test_processes_that_are_no_longer_wanted_read_no_more_videos(smile: list[Rgb], tmp_path: Path) -> None:
    videos = [write_video(tmp_path / f"{n}.mp4", smile[n : n + 40]) for n in range(8)]
    settings = settings_for(tmp_path / "out", workers=2)
    reports = _in_processes([Task(video, hashed(video), settings) for video in videos], 2, lambda done, read: None)
    assert next(reports).clips == 5
    reports.close()  # type: ignore[attr-defined]
    assert len(list((tmp_path / "out").glob("*.tar"))) <= 6


def test_every_setting_is_an_option_whose_help_tells_the_true_default() -> None:
    options = {option.name: option for option in prepare_command.params if isinstance(option, click.Option)}
    assert options.keys() == PrepareSettings.model_fields.keys()
    for name, field in PrepareSettings.model_fields.items():
        if not field.is_required() and field.default is not None:
            default = "no" if field.default is False else format(field.default, "s" if field.default == "auto" else "g")
            assert f"[default: {default}]" in (options[name].help or ""), name


def test_finds_files_in_folders_and_shows_progress(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/2.mp4", "b/1.mp4", "a.mp4"):
        (tmp_path / name).write_bytes(b"")
    given = (tmp_path / "b", tmp_path / "a.mp4")
    assert [path.name for path in found(given, tmp_path / "out")] == ["1.mp4", "2.mp4", "a.mp4"]
    assert progress_text(3, 12, 500, 10.0) == "[######..................] 3/12 videos, 500 frames, 50.0 fps"


def test_an_empty_folder_and_an_output_that_is_a_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "v.mp4").write_bytes(b"x")
    rights = ("--consent", "c", "--licence", "l")
    nothing = run(tmp_path / "empty", "-o", tmp_path / "out", *rights)
    assert str(nothing.exception) == f"no files in {tmp_path / 'empty'}"
    no_folder = run(tmp_path / "v.mp4", "-o", tmp_path / "v.mp4", *rights)
    assert str(no_folder.exception) == f"{tmp_path / 'v.mp4'}: is a file; shards need a folder"


def test_what_was_written_is_no_input_of_the_next_run(tmp_path: Path) -> None:
    """People put their shards beside their videos; a report's pictures would be one-frame videos then."""
    (tmp_path / "shards" / "pictures").mkdir(parents=True)
    for name in ("one.mp4", ".hidden", "shards/one-0000.tar", "shards/pictures/one.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert found((tmp_path,), tmp_path / "shards") == [tmp_path / "one.mp4"]
    assert found((tmp_path / ".hidden",), tmp_path / "shards") == [tmp_path / ".hidden"], "named is named"


def test_killed_in_the_middle_it_goes_on_and_ends_the_same(
    smile: list[Rgb], turning: list[Rgb], tmp_path: Path
) -> None:
    videos = [write_video(tmp_path / f"{n}.mp4", (smile if n % 2 else turning)[n : n + 24]) for n in range(4)]
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
