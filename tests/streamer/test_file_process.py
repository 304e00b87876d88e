"""`vividstream file` as a process of its own: signals, a full disk, exit statuses, what is left in the folder."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.streamer.clips import Clip, Sound, burst_times_s, interleaved, make, play

ROOT = Path(__file__).parent.parent.parent
FRAMES = 900


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 s of noise with sound: seconds of work for the encoder, and a large result."""
    path = tmp_path_factory.mktemp("long") / "in.mkv"
    noise = np.random.default_rng(3).integers(0, 255, (240, 320, 3), np.uint8)
    make(path.with_name("sound.mkv"), Clip(sounds=[Sound(end_s=36.0)]))
    with av.open(str(path.with_name("sound.mkv"))) as source, av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25, width=320, height=240, time_base=Fraction(1, 25))
        sound = container.add_stream_from_template(source.streams.audio[0])
        packets = [packet for packet in source.demux(audio=0) if packet.size]
        for packet in packets:
            packet.stream = sound
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, index * 7, axis=1), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            packets += video.encode(frame)
        container.mux(interleaved([*packets, *video.encode(None)]))
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "streamer", "file", *map(str, arguments), "--engine", "passthrough"]


def finished(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=100)


@pytest.fixture
def started(long_clip: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that has begun to write `out.mp4`."""
    process = subprocess.Popen(
        command(long_clip, "-o", tmp_path / "out.mp4", "--report", tmp_path / "r.json"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline_s = time.monotonic() + 60
        while not any(part.stat().st_size > 100_000 for part in tmp_path.glob(".*.part.mp4")):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.communicate()


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_playable_file_and_a_report(
    started: subprocess.Popen[str], tmp_path: Path, number: int, status: int
) -> None:
    started.send_signal(number)
    _, told = started.communicate(timeout=60)
    assert started.returncode == status
    assert left_in(tmp_path) == ["out.mp4", "r.json"]
    shown = play(tmp_path / "out.mp4")
    assert 0 < len(shown.times_s) < FRAMES
    assert shown.times_s == [Fraction(n, 25) for n in range(len(shown.times_s))]
    heard = burst_times_s(tmp_path / "out.mp4")
    assert heard == pytest.approx([0.25 * n for n in range(len(heard))], abs=0.005)
    assert abs(heard[-1] - float(shown.end_s)) < 1.5
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["outcome"] == "stopped"
    assert report["exit_code"] == status
    assert report["frames"]["written"] == len(shown.times_s)
    assert "stopping" in told
    assert "Traceback" not in told


def test_a_second_ctrl_c_throws_the_file_away(started: subprocess.Popen[str], tmp_path: Path) -> None:
    started.send_signal(signal.SIGINT)
    started.send_signal(signal.SIGTERM)  # two of the same kind would be one while the first is pending
    _, told = started.communicate(timeout=60)
    assert started.returncode == 130
    assert left_in(tmp_path) == []
    assert told.splitlines()[-1] == "interrupted"
    assert "Traceback" not in told


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "out.gif"])
def test_a_file_that_may_not_grow(long_clip: Path, tmp_path: Path, target: str) -> None:
    done = subprocess.run(
        command(long_clip, "-o", tmp_path / target, "--report", tmp_path / "r.json"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        preexec_fn=limit_file_size,
    )
    assert done.returncode == 1
    assert left_in(tmp_path) == []
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert f"{target}: cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root; the file size limit is tested instead")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here; the file size limit is tested instead")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_a_disk_that_fills(long_clip: Path, small_disk: Path, target: str) -> None:
    done = finished(long_clip, "-o", small_disk / target, "--report", small_disk / "r.json")
    assert done.returncode == 1
    assert left_in(small_disk) == []
    assert done.stderr.splitlines()[-1].endswith(f"{target}: cannot be written: No space left on device")
    assert "Traceback" not in done.stderr


def fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(4096))


def test_a_disk_without_room_for_the_report(tmp_path: Path, small_disk: Path) -> None:
    """What was swapped stays, and the error says what is missing."""
    source = make(tmp_path / "in.mp4")
    fill(small_disk)
    done = finished(source, "-o", tmp_path / "out.mp4", "--report", small_disk / "r.json")
    assert done.returncode == 1
    assert "r.json: cannot be written: No space left on device" in done.stderr
    assert left_in(small_disk) == ["ballast"]
    assert len(play(tmp_path / "out.mp4").times_s) == 20


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    source = make(tmp_path / "in.mp4")
    (tmp_path / "locked").mkdir(mode=0o555)
    done = finished(source, "-o", tmp_path / "locked" / "out.mp4")
    assert done.returncode == 1
    assert "may not be written to" in done.stderr


def test_statuses(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    whole = finished(source, "-o", tmp_path / "out.mp4")
    assert (whole.returncode, whole.stdout) == (0, "")
    assert "20 frames" in whole.stderr
    again = finished(source, "-o", tmp_path / "out.mp4")
    assert (again.returncode, len(again.stderr.splitlines())) == (1, 1)
    assert again.stderr.startswith("error: ")
    stamps = range(0, 6000, 40)
    make(tmp_path / "cut.mp4", Clip(stamps, size_px=(320, 240), container_options={"movflags": "+faststart"}))
    data = (tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 3 // 4])
    cut = finished(tmp_path / "cut.mp4", "-o", tmp_path / "rest.mp4")
    assert cut.returncode == 3
    assert "cut.mp4 broke off at" in cut.stderr
