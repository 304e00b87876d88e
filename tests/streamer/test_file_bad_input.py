"""Files that cannot be used: one clear line that names the file, nothing half-written, and a status that says so."""

from __future__ import annotations

import contextlib
import io
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from engines import MediaError, SwapSettings
from streamer.config import FileConfig
from streamer.file import run_file
from streamer.file_report import FileReport
from tests.streamer.clips import Clip, Sound, index_of, make, picture, play

SWAP = SwapSettings(engine="passthrough")


def run(source: Path, target: Path, *, overwrite: bool = False, report: Path | None = None) -> tuple[FileReport, str]:
    told = io.StringIO()
    config = FileConfig(input=source, output=target, swap=SWAP, overwrite=overwrite, report=report)
    return run_file(config, told), told.getvalue()


def refused(source: Path, target: Path, match: str) -> None:
    """One line, naming the input, and the folder is as it was."""
    before = sorted(target.parent.iterdir())
    with pytest.raises(MediaError, match=match) as caught:
        run(source, target)
    assert str(source.name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(target.parent.iterdir()) == before


def cut(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: round(path.stat().st_size * share)])
    return path


def test_missing(tmp_path: Path) -> None:
    refused(tmp_path / "no.mp4", tmp_path / "out.mp4", "no such file")


def test_an_address(tmp_path: Path) -> None:
    refused(Path("https://example.org/in.mp4"), tmp_path / "out.mp4", "is an address; fetch the file first")


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "clips.mp4").mkdir()
    refused(tmp_path / "clips.mp4", tmp_path / "out.mp4", "is a folder")


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").touch()
    refused(tmp_path / "in.mp4", tmp_path / "out.mp4", "the file is empty")


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv", "in.gif", "in.webm", "in"])
def test_no_video_at_all(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(np.random.default_rng(1).bytes(20_000))
    refused(tmp_path / name, tmp_path / "out.mp4", "cannot be read|no video|no picture")


def test_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").write_text("This is no film. " * 300)
    refused(tmp_path / "in.mp4", tmp_path / "out.mp4", "cannot be read|no video|no picture")


@pytest.mark.parametrize("name", ["in.m4a", "in.mka", "in.mp4"])
def test_only_sound(tmp_path: Path, name: str) -> None:
    make(tmp_path / "whole.mkv", Clip(sounds=[Sound()]))
    with av.open(str(tmp_path / "whole.mkv")) as source, av.open(str(tmp_path / name), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    refused(tmp_path / name, tmp_path / "out.mp4", "only sound")


def test_a_song_with_a_cover_picture_is_no_film(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mp3"), "w") as target:
        song = target.add_stream("libmp3lame", rate=44_100)
        cover = target.add_stream("mjpeg", rate=1, width=64, height=48)
        assert isinstance(song, av.AudioStream)
        assert isinstance(cover, av.VideoStream)
        cover.codec_context.pix_fmt = "yuvj420p"
        cover.codec_context.time_base = Fraction(1, 1)
        cover.disposition = av.stream.Disposition.attached_pic
        still = av.VideoFrame.from_ndarray(picture(0), format="rgb24").reformat(format="yuvj420p")
        still.pts = 0
        target.mux(cover.encode(still))
        target.mux(cover.encode(None))
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1152), np.int16), format="s16p", layout="stereo")
        silence.sample_rate = 44_100
        target.mux(song.encode(silence))
        target.mux(song.encode(None))
    refused(tmp_path / "in.mp3", tmp_path / "out.mp4", "only sound")


def test_an_animated_webp_is_called_by_its_name(tmp_path: Path) -> None:
    pictures = [Image.fromarray(picture(index)) for index in range(3)]
    pictures[0].save(tmp_path / "in.webp", save_all=True, append_images=pictures[1:])
    refused(tmp_path / "in.webp", tmp_path / "out.mp4", "an animated WebP cannot be read here")


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv"])
def test_a_video_stream_without_a_picture(tmp_path: Path, name: str) -> None:
    with av.open(str(tmp_path / name), "w") as container:
        container.add_stream("libx264", rate=25, width=64, height=48)
        container.start_encoding()
    refused(tmp_path / name, tmp_path / "out.mp4", "no picture|no video|cannot be read")


def test_an_mp4_that_lost_its_index(tmp_path: Path) -> None:
    make(tmp_path / "in.mp4")
    cut(tmp_path / "in.mp4", 0.4)
    refused(tmp_path / "in.mp4", tmp_path / "out.mp4", "cut off before its index was written")


def test_an_mp4_whose_index_is_cut(tmp_path: Path) -> None:
    make(tmp_path / "in.mp4")
    cut(tmp_path / "in.mp4", 0.7)
    refused(tmp_path / "in.mp4", tmp_path / "out.mp4", "damaged|cannot be read|no picture")


@pytest.mark.parametrize(
    ("name", "options"),
    [("in.mp4", {"movflags": "+faststart"}), ("in.mkv", {}), ("in.webm", {})],
)
def test_what_there_is_of_a_cut_file_is_written_and_the_status_says_so(
    tmp_path: Path, name: str, options: dict[str, str]
) -> None:
    codec = "libvpx" if name.endswith("webm") else "libx264"
    stamps = range(0, 6000, 40)
    in_order = {"bf": "0"}  # stored reordered, a cut would also take pictures from between the last ones
    make(tmp_path / name, Clip(stamps, size_px=(320, 240), codec=codec, options=in_order, container_options=options))
    cut(tmp_path / name, 0.6)
    report, told = run(tmp_path / name, tmp_path / "out.mp4")
    assert report.outcome == "broken_input"
    assert report.exit_code == 3
    shown = play(tmp_path / "out.mp4")
    assert 20 < len(shown.times_s) < len(stamps)
    assert shown.indices == [n % 28 for n in range(len(shown.indices))]
    assert f"{name} broke off at " in told
    assert "warning: " in told


@pytest.mark.parametrize("share", [0.57, 0.6, 0.63])
def test_a_cut_among_reordered_pictures_keeps_all_that_can_be_decoded(tmp_path: Path, share: float) -> None:
    """What was stored behind the cut is lost, also where pictures shown later lie before it."""
    make(tmp_path / "in.mkv", Clip(range(0, 6000, 40), size_px=(320, 240), options={"bf": "3"}))
    cut(tmp_path / "in.mkv", share)
    there: list[int] = []
    with av.open(str(tmp_path / "in.mkv")) as container, contextlib.suppress(av.error.FFmpegError):
        there.extend(
            index_of(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)) for frame in container.decode(video=0)
        )
    report, _ = run(tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert report.outcome == "broken_input"
    assert play(tmp_path / "out.mp4").indices == there
    assert len(there) > 20


def test_a_whole_file_is_not_called_cut(tmp_path: Path) -> None:
    for name in ("in.mp4", "in.mkv", "in.mov"):
        make(tmp_path / name, Clip(sounds=[Sound(end_s=2.0)]))
        report, told = run(tmp_path / name, tmp_path / f"out-{name}")
        assert (report.outcome, report.exit_code, report.warnings) == ("complete", 0, ())
        assert "warning" not in told


def test_damage_in_the_middle_is_skipped_and_said(tmp_path: Path) -> None:
    make(tmp_path / "in.ts", Clip(range(0, 6000, 40), size_px=(320, 240)))
    data = bytearray((tmp_path / "in.ts").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(2).bytes(3000)
    (tmp_path / "in.ts").write_bytes(data)
    report, told = run(tmp_path / "in.ts", tmp_path / "out.mp4")
    assert len(play(tmp_path / "out.mp4").times_s) > 100
    assert "damaged" in told
    assert report.exit_code == 0


def test_a_picture_that_changes_its_size(tmp_path: Path) -> None:
    small = make(tmp_path / "small.264", Clip(range(10), Fraction(1, 25)))
    large = make(tmp_path / "large.264", Clip(range(10), Fraction(1, 25), size_px=(128, 96)))
    (tmp_path / "in.264").write_bytes(small.read_bytes() + large.read_bytes())
    refused(tmp_path / "in.264", tmp_path / "out.mp4", r"from 64x48 to 128x96 at 0\.\d+ s")


def test_a_picture_too_small_to_hold_a_face(tmp_path: Path) -> None:
    make(tmp_path / "in.mkv", Clip(size_px=(8, 8), codec="ffv1", pix_fmt="yuv420p"))
    refused(tmp_path / "in.mkv", tmp_path / "out.mp4", "8, 8")


def test_writing_over_the_input_is_refused_even_with_overwrite(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    before = source.read_bytes()
    (tmp_path / "link.mp4").symlink_to(source)
    os.link(source, tmp_path / "hard.mp4")
    for target in (source, tmp_path / "link.mp4", tmp_path / "hard.mp4", tmp_path / "." / "in.mp4"):
        with pytest.raises(MediaError, match="is the input itself"):
            run(source, target, overwrite=True)
    assert source.read_bytes() == before


def test_an_output_that_exists_is_replaced_only_when_asked(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    (tmp_path / "out.mp4").write_text("precious")
    with pytest.raises(MediaError, match=r"out\.mp4: exists already; --overwrite"):
        run(source, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_text() == "precious"
    run(source, tmp_path / "out.mp4", overwrite=True)
    assert len(play(tmp_path / "out.mp4").times_s) == 20


def test_a_failed_run_keeps_the_output_that_was_there(tmp_path: Path) -> None:
    small = make(tmp_path / "small.264", Clip(range(10), Fraction(1, 25)))
    large = make(tmp_path / "large.264", Clip(range(10), Fraction(1, 25), size_px=(128, 96)))
    (tmp_path / "in.264").write_bytes(small.read_bytes() + large.read_bytes())
    (tmp_path / "out.mp4").write_text("precious")
    with pytest.raises(MediaError):
        run(tmp_path / "in.264", tmp_path / "out.mp4", overwrite=True)
    assert (tmp_path / "out.mp4").read_text() == "precious"


@pytest.mark.parametrize(
    ("target", "match"),
    [
        ("no/such/out.mp4", "there is no folder"),
        ("out.avi", "cannot write .avi files"),
        ("out", "cannot write such files"),
        ("folder.mp4", "is a folder"),
    ],
)
def test_outputs_that_cannot_be(tmp_path: Path, target: str, match: str) -> None:
    make(tmp_path / "in.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(MediaError, match=match):
        run(tmp_path / "in.mp4", tmp_path / target)


def test_a_report_is_refused_before_any_work(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    for report in (source, tmp_path / "out.mp4", tmp_path / "no" / "r.json", tmp_path):
        with pytest.raises(MediaError):
            run(source, tmp_path / "out.mp4", report=report)
    assert not (tmp_path / "out.mp4").exists()


def test_stamps_finer_than_the_container_do_not_stop_it(tmp_path: Path) -> None:
    """Pictures a tenth of a millisecond apart; Matroska's clock ticks in whole milliseconds."""
    make(tmp_path / "in.mp4", Clip([0, 1, 2, 3, 500, 1000], Fraction(1, 10_000)))
    run(tmp_path / "in.mp4", tmp_path / "out.mkv")
    assert len(play(tmp_path / "out.mkv").times_s) == 6
