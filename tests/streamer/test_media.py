"""Reading and writing: times, order, turns, colours and companions survive the way through a file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from engines import MediaError
from streamer.frame import Frame
from streamer.media import Companion, MediaReader
from streamer.muxer import MediaWriter, kind_of
from tests.streamer.clips import MILLI, Clip, Sound, burst_times_s, make, picture, play

UNEVEN = (0, 33, 70, 71, 150, 400, 401, 900)
NTSC = Fraction(1001, 30_000)


def copy(source: Path, target: Path) -> tuple[MediaReader, MediaWriter]:
    """What `vividstream file` does, without a session between."""
    with closing(MediaReader(source)) as reader:
        writer = MediaWriter(target, reader)
        try:
            for item in reader:
                writer.write(item)
            writer.finish()
        finally:
            writer.abandon()
        return reader, writer


@pytest.mark.parametrize(
    ("source", "target", "clip"),
    [
        ("in.mp4", "out.mp4", Clip(range(30), NTSC)),
        ("in.mp4", "out.mov", Clip(range(30), NTSC)),
        ("in.mkv", "out.mp4", Clip(UNEVEN)),
        ("in.mp4", "out.mkv", Clip(UNEVEN)),
        ("in.mov", "out.webm", Clip(UNEVEN)),
        ("in.webm", "out.mp4", Clip(UNEVEN, codec="libvpx")),
        ("in.avi", "out.mp4", Clip(range(10), Fraction(1, 10), codec="mpeg4")),
        ("in.mp4", "out.mp4", Clip(range(0, 90_000, 3003), Fraction(1, 90_000))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_picture_keeps_its_time_and_its_place(tmp_path: Path, source: str, target: str, clip: Clip) -> None:
    before = play(make(tmp_path / source, clip))
    copy(tmp_path / source, tmp_path / target)
    after = play(tmp_path / target)
    assert before.times_s == [stamp * clip.time_base for stamp in clip.stamps]
    assert after.times_s == before.times_s
    assert after.indices == [index % 28 for index in range(len(clip.stamps))]


@pytest.mark.parametrize(
    ("aspect", "size_px"), [(Fraction(16, 11), (94, 48)), (Fraction(8, 9), (64, 54)), (Fraction(40, 39), (64, 48))]
)
def test_pixels_that_players_stretch_are_made_square(
    tmp_path: Path, aspect: Fraction, size_px: tuple[int, int]
) -> None:
    """A digital television's picture: a head that is pressed together cannot be tracked and drawn as a head."""
    make(tmp_path / "in.mp4", Clip(range(3), Fraction(1, 25), pixel_aspect=aspect))
    with closing(MediaReader(tmp_path / "in.mp4", square_pixels=True)) as reader:
        pictures = [item.rgb_HW3 for item in reader if isinstance(item, Frame)]
        kept = reader.facts.pixel_aspect
    assert {picture.shape[:2][::-1] for picture in pictures} == {size_px}
    assert len(pictures) == 3
    assert (kept == 1) == (size_px != (64, 48))
    stored = MediaReader(tmp_path / "in.mp4")
    assert (stored.facts.width_px, stored.facts.height_px, stored.facts.pixel_aspect) == (64, 48, aspect)
    stored.close()


def test_of_an_animated_avif_all_pictures_are_read_and_not_the_still(tmp_path: Path) -> None:
    pictures = [Image.fromarray(picture(index)) for index in range(5)]
    pictures[0].save(tmp_path / "in.avif", save_all=True, append_images=pictures[1:], duration=80)
    copy(tmp_path / "in.avif", tmp_path / "out.mp4")
    assert [round(float(time_s), 3) for time_s in play(tmp_path / "out.mp4").times_s] == [0, 0.08, 0.16, 0.24, 0.32]


def test_the_last_picture_is_shown_as_long_as_before(tmp_path: Path) -> None:
    before = play(make(tmp_path / "in.mp4", Clip(UNEVEN)))
    copy(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert play(tmp_path / "out.mp4").end_s == before.end_s > Fraction(9, 10)


def test_copied_sound_is_the_same_packets_at_the_same_times(tmp_path: Path) -> None:
    make(tmp_path / "in.mp4", Clip(sounds=[Sound(), Sound(language="deu", start_s=0.5)]))
    _, writer = copy(tmp_path / "in.mp4", tmp_path / "out.mp4")

    def packets(path: Path) -> list[tuple[int, str | None, bytes, Fraction]]:
        with av.open(str(path)) as container:
            return sorted(
                (p.stream.index, p.stream.language, bytes(p), p.pts * p.time_base)
                for p in container.demux(*container.streams.audio)
                if p.size and p.pts is not None
            )

    assert writer.sounds == ["aac, copied", "aac, copied"]
    assert packets(tmp_path / "out.mp4") == packets(tmp_path / "in.mp4")
    assert {language for _, language, _, _ in packets(tmp_path / "out.mp4")} == {"eng", "deu"}


@pytest.mark.parametrize(
    ("source", "target", "sound", "said"),
    [
        ("in.mkv", "out.mp4", Sound("pcm_s16le"), "pcm_s16le, encoded as aac"),
        ("in.mkv", "out.webm", Sound("pcm_s16le", rate_hz=44_100), "pcm_s16le, encoded as opus"),
        ("in.mkv", "out.mp4", Sound("pcm_s16le", start_s=0.6), "pcm_s16le, encoded as aac"),
        ("in.mkv", "out.webm", Sound("pcm_s16le", start_s=0.6), "pcm_s16le, encoded as opus"),
        ("in.mkv", "out.mp4", Sound("pcm_s16le", gap_s=(0.6, 1.1)), "pcm_s16le, encoded as aac"),
        ("in.mkv", "out.webm", Sound("pcm_s16le", gap_s=(0.6, 1.1)), "pcm_s16le, encoded as opus"),
        ("in.mp4", "out.webm", Sound("aac"), "aac, encoded as opus"),
        ("in.mp4", "out.mkv", Sound("aac"), "aac, copied"),
        ("in.mp4", "out.mp4", Sound("aac", gap_s=(0.6, 1.1)), "aac, copied"),
        ("in.mkv", "out.webm", Sound("libopus"), "opus, copied"),
        ("in.mp4", "out.webm", Sound("libopus"), "opus, copied"),
    ],
)
def test_sound_stays_in_step(tmp_path: Path, source: str, target: str, sound: Sound, said: str) -> None:
    make(tmp_path / source, Clip(sounds=[sound]))
    _, writer = copy(tmp_path / source, tmp_path / target)
    before, after = burst_times_s(tmp_path / source), burst_times_s(tmp_path / target)
    assert writer.sounds == [said]
    assert len(before) >= 5
    assert after == pytest.approx(before, abs=0.004)
    assert play(tmp_path / target).times_s == play(tmp_path / source).times_s


def test_video_that_starts_after_its_sound_still_does(tmp_path: Path) -> None:
    make(tmp_path / "in.mkv", Clip(range(700, 2000, 100), sounds=[Sound("pcm_s16le")]))
    copy(tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert play(tmp_path / "out.mp4").times_s[0] == Fraction(7, 10)
    assert burst_times_s(tmp_path / "out.mp4") == pytest.approx(burst_times_s(tmp_path / "in.mkv"), abs=0.004)


def test_a_clock_that_does_not_start_at_0_is_moved_for_all_streams_alike(tmp_path: Path) -> None:
    make(tmp_path / "in.ts", Clip(range(3000, 5000, 100), sounds=[Sound(start_s=3.0, end_s=5.0)]))
    before, bursts = play(tmp_path / "in.ts"), burst_times_s(tmp_path / "in.ts")
    assert before.times_s[0] >= 3
    reader, _ = copy(tmp_path / "in.ts", tmp_path / "out.mp4")
    after = play(tmp_path / "out.mp4")
    assert reader.moved_s == pytest.approx(float(before.times_s[0]), abs=0.1)
    assert min(after.times_s) < 0.1
    assert [t - after.times_s[0] for t in after.times_s] == [t - before.times_s[0] for t in before.times_s]
    heard = np.array(burst_times_s(tmp_path / "out.mp4")) - float(after.times_s[0])
    assert heard == pytest.approx(np.array(bursts) - float(before.times_s[0]), abs=0.001)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_pictures_come_upright(tmp_path: Path, degrees: int, mirror: bool) -> None:
    make(tmp_path / "turned.mp4", Clip(turn_deg=degrees))
    make(tmp_path / "in.mp4", Clip(turn_deg=degrees, mirror=mirror))
    with av.open(str(tmp_path / "turned.mp4")) as container:
        stored = next(container.decode(video=0))
    expected = np.rot90(stored.to_ndarray(format="rgb24"), round(stored.rotation / 90))  # libavutil: counter-clockwise
    if mirror:
        expected = expected[:, ::-1]
    reader, _ = copy(tmp_path / "in.mp4", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        shown = next(container.decode(video=0))
    assert reader.facts.turned == (mirror or degrees != 0)
    assert abs(stored.rotation) % 360 in {degrees, 360 - degrees}
    assert shown.rotation == 0
    assert np.abs(shown.to_ndarray(format="rgb24").astype(int) - expected).mean() < 4


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "out.webm"])
def test_odd_sizes_gain_one_pixel_and_lose_none(tmp_path: Path, target: str) -> None:
    make(tmp_path / "in.mkv", Clip(size_px=(63, 47), pix_fmt="yuv444p"))
    copy(tmp_path / "in.mkv", tmp_path / target)
    shown = play(tmp_path / target).pictures[3].astype(int)
    assert shown.shape == (48, 64, 3)
    assert np.abs(shown[:47, :63] - picture(3, (63, 47))).mean() < 6
    assert np.abs(shown[:47, 63] - shown[:47, 62]).mean() < 6


def test_a_gif_keeps_its_size_and_times(tmp_path: Path) -> None:
    make(tmp_path / "in.mkv", Clip((0, 50, 100, 230, 500), size_px=(63, 47), pix_fmt="yuv444p"))
    copy(tmp_path / "in.mkv", tmp_path / "out.gif")
    first = play(tmp_path / "out.gif")
    assert first.times_s == [Fraction(n, 100) for n in (0, 5, 10, 23, 50)]
    assert first.pictures[0].shape == (47, 63, 3)
    assert first.indices == [0, 1, 2, 3, 4]
    copy(tmp_path / "out.gif", tmp_path / "again.mp4")
    again = play(tmp_path / "again.mp4")
    assert again.times_s == first.times_s
    assert again.indices == first.indices


def test_a_gif_leaves_out_what_its_clock_cannot_tell_apart(tmp_path: Path) -> None:
    make(tmp_path / "in.mp4", Clip(range(0, 300, 10), sounds=[Sound(end_s=0.5)]))
    _, writer = copy(tmp_path / "in.mp4", tmp_path / "out.gif")
    gaps = np.diff(np.array(play(tmp_path / "out.gif").times_s))
    assert writer.pictures_left_out == 15
    assert min(gaps) >= Fraction(2, 100)
    assert writer.left_out == ["sound stream 1 (gif holds no sound)"]


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1},
        {"colorspace": 5, "color_primaries": 5, "color_trc": 6, "color_range": 2},
    ],
    ids=["unmarked", "bt709", "bt601 full range"],
)
@pytest.mark.parametrize("target", ["out.mp4", "out.webm"])
def test_colours_and_their_tags_are_kept(tmp_path: Path, tags: dict[str, int], target: str) -> None:
    make(tmp_path / "in.mp4", Clip(tags=tags, size_px=(128, 96)))
    copy(tmp_path / "in.mp4", tmp_path / target)
    frames = []
    for name in ("in.mp4", target):
        with av.open(str(tmp_path / name)) as container:
            frames.append(list(container.decode(video=0))[5])
    before, after = frames
    assert after.color_range in {before.color_range, 1 if before.color_range == 0 else before.color_range}
    for name in tags:
        assert getattr(after, name) == getattr(before, name) == tags[name]
    stored_before = before.to_ndarray().astype(int)  # yuv420p as stored: no conversion can hide a shift
    stored_after = after.to_ndarray().astype(int)
    assert abs((stored_after - stored_before).mean()) < 0.35
    assert np.abs(stored_after - stored_before).mean() < 1.5


@pytest.mark.parametrize("stamps", [range(0, 1000, 40), UNEVEN], ids=["even", "uneven"])
def test_interlaced_pictures_become_whole_ones_at_their_own_times(tmp_path: Path, stamps: Sequence[int]) -> None:
    clip = Clip(stamps, size_px=(128, 96), options={"x264-params": "tff=1", "crf": "8"})
    before = play(make(tmp_path / "in.mkv", clip))
    with av.open(str(tmp_path / "in.mkv")) as container:
        assert next(container.decode(video=0)).interlaced_frame
    reader, _ = copy(tmp_path / "in.mkv", tmp_path / "out.mp4")
    after = play(tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not next(container.decode(video=0)).interlaced_frame
    assert reader.interlaced
    assert after.times_s == before.times_s
    # Each field shows the one moment here, so the picture must come back; `index_of` reads a patch of it.
    assert after.indices == before.indices == [index % 28 for index in range(len(stamps))]


def test_subtitles_go_along_where_the_container_takes_them(tmp_path: Path) -> None:
    make(tmp_path / "plain.mkv")
    lines = "1\n00:00:00,500 --> 00:00:01,000\nHello\n\n2\n00:00:01,200 --> 00:00:01,500\nBye\n"
    (tmp_path / "lines.srt").write_text(lines)
    with (
        av.open(str(tmp_path / "plain.mkv")) as film,
        av.open(str(tmp_path / "lines.srt")) as texts,
        av.open(str(tmp_path / "in.mkv"), "w") as target,
    ):
        video = target.add_stream_from_template(film.streams.video[0], opaque=True)
        words = target.add_stream_from_template(texts.streams.subtitles[0])
        for source, stream in ((texts, words), (film, video)):
            for packet in source.demux():
                if packet.size:
                    packet.stream = stream
                    target.mux(packet)
    _, kept = copy(tmp_path / "in.mkv", tmp_path / "out.mkv")
    _, lost = copy(tmp_path / "in.mkv", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mkv")) as container:
        shown = [(packet.pts, packet.duration, bytes(packet)) for packet in container.demux(subtitles=0) if packet.size]
    assert shown == [(500, 500, b"Hello"), (1200, 300, b"Bye")]
    assert kept.left_out == []
    assert lost.left_out == ["subtitle stream 1 (mp4 holds no subrip)"]


def test_the_place_of_a_recording_is_left_out(tmp_path: Path) -> None:
    place = {"location": "+52.5200+013.4050/", "location-eng": "+52.5200+013.4050/", "title": "a film"}
    make(tmp_path / "in.mov", Clip(metadata=place))
    with av.open(str(tmp_path / "in.mov")) as container:
        assert any("location" in key for key in container.metadata), "the clip of this test has no place"
    copy(tmp_path / "in.mov", tmp_path / "out.mov")
    with av.open(str(tmp_path / "out.mov")) as container:
        assert container.metadata["title"] == "a film"
        assert not any("location" in key for key in container.metadata)


def test_titles_chapters_and_pixel_aspect_are_kept(tmp_path: Path) -> None:
    make(tmp_path / "plain.mkv", Clip(metadata={"title": "a film"}, pixel_aspect=Fraction(4, 3)))
    with av.open(str(tmp_path / "plain.mkv")) as source, av.open(str(tmp_path / "in.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        target.metadata.update(source.metadata)
        target.set_chapters(
            [
                {"id": n, "start": start, "end": end, "time_base": MILLI, "metadata": {"title": title}}
                for n, (start, end, title) in enumerate([(0, 500, "one"), (500, 1500, "two")])
            ]
        )
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    copy(tmp_path / "in.mkv", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.metadata["title"] == "a film"
        first, chapter = container.chapters()
        assert (first["metadata"]["title"], chapter["metadata"]["title"]) == ("one", "two")
        assert chapter["time_base"] is not None
        assert chapter["start"] * chapter["time_base"] == Fraction(1, 2)
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_a_raw_stream_without_times_gets_the_ones_of_its_rate(tmp_path: Path, shared_data: Path) -> None:
    copy(shared_data / "clips" / "openh264" / "test_vd_1d.264", tmp_path / "out.mp4")
    assert play(tmp_path / "out.mp4").times_s == [Fraction(n, 25) for n in range(9)]


def test_stamps_that_do_not_rise_are_mended_and_counted(tmp_path: Path) -> None:
    """Two recordings written one after the other: the clock starts again in the middle."""
    one = make(tmp_path / "one.ts", Clip(range(10_000, 11_000, 100)))
    (tmp_path / "in.ts").write_bytes(one.read_bytes() + make(tmp_path / "two.ts", Clip()).read_bytes())
    reader, _ = copy(tmp_path / "in.ts", tmp_path / "out.mp4")
    shown = play(tmp_path / "out.mp4")
    assert len(shown.times_s) == 30
    assert all(0 < b - a <= Fraction(2, 10) for a, b in zip(shown.times_s, shown.times_s[1:], strict=False))
    assert reader.retimed >= 1


def test_damaged_sound_does_not_stop_the_pictures(tmp_path: Path) -> None:
    """In a transport stream every AAC packet has a header, which an mp4 needs to understand."""
    make(tmp_path / "in.ts", Clip(sounds=[Sound()]))
    with closing(MediaReader(tmp_path / "in.ts")) as reader:
        writer = MediaWriter(tmp_path / "out.mp4", reader)
        heard = 0
        for item in reader:
            if isinstance(item, Companion):
                heard += 1
                if heard % 5 == 0:
                    spoiled: av.Packet[Any] = av.Packet(b"\xff\xf1" + bytes(20))
                    spoiled.pts, spoiled.dts, spoiled.time_base = (
                        item.packet.pts,
                        item.packet.dts,
                        item.packet.time_base,
                    )
                    item = Companion(spoiled, item.index)
            writer.write(item)
        writer.finish()
    assert writer.refused == heard // 5 > 10
    assert len(play(tmp_path / "out.mp4").times_s) == 20
    assert len(burst_times_s(tmp_path / "out.mp4")) >= 5


def test_an_unknown_ending_names_the_known_ones() -> None:
    with pytest.raises(MediaError, match=r"x\.avi: cannot write \.avi files, only .*\.mp4.*\.webm"):
        kind_of(Path("x.avi"))
