"""Files and addresses as live sources: paced by their own clock, round and round, with sound, and what is wrong."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from engines import MediaError, SettingError
from streamer.capture.picture import SOUND_SAMPLES, CapturedPicture, CapturedSound, inside
from streamer.capture.source import Source, SourceState, open_source
from streamer.mailbox import Latest
from tests.streamer.clips import Clip, Sound, index_of, make

WAIT_S = 10.0


class Box(Latest[CapturedPicture]):
    """Keeps everything that comes."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[CapturedPicture] = []

    def put(self, item: CapturedPicture) -> None:
        self.got.append(item)
        super().put(item)


def until(ready: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not ready():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.01)


@contextmanager
def running(source: Source, box: Box, **options: object) -> Iterator[None]:
    source.start(box, **options)  # type: ignore[arg-type]
    try:
        yield
    finally:
        assert source.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.6 s: 6 pictures, with sound."""
    wanted = Clip(stamps=tuple(range(0, 600, 100)), sounds=(Sound(end_s=0.6),))
    return make(tmp_path_factory.mktemp("film") / "clip.mp4", wanted)


def test_a_film_is_played_at_its_own_pace_and_ends(clip: Path) -> None:
    box, sounds = Box(), list[CapturedSound]()
    source = open_source(str(clip))
    with running(source, box, sounds=sounds.append):
        until(lambda: source.status.state is SourceState.ENDED)
    assert [index_of(one.to_rgb()) for one in box.got] == [0, 1, 2, 3, 4, 5]
    gaps_s = np.diff([one.captured_s for one in box.got])
    assert np.allclose(gaps_s, 0.1, atol=0.02)
    assert source.status.why == "clip.mp4 is over"
    assert {one.frame.samples for one in sounds} == {SOUND_SAMPLES}
    assert len(sounds) == pytest.approx(0.6 / 0.02, abs=4)


def test_sound_and_pictures_have_one_clock(clip: Path) -> None:
    """The tone sets in at 0 and every quarter of a second of the film; pictures are at every tenth."""
    box, sounds = Box(), list[CapturedSound]()
    source = open_source(str(clip))
    with running(source, box, sounds=sounds.append):
        until(lambda: source.status.state is SourceState.ENDED)
    began_s = box.got[0].captured_s
    loud_s = [
        one.captured_s - began_s for one in sounds if np.abs(one.frame.to_ndarray().astype(np.float32)).max() > 3000
    ]
    assert loud_s, "no tone was heard"
    for at_s in loud_s:
        assert min(abs(at_s - quarter) for quarter in (0.0, 0.25, 0.5)) < 0.06
    gaps_s = np.diff([one.captured_s for one in sounds])
    assert np.allclose(gaps_s, 0.02, atol=0.005)


def test_a_film_goes_round(clip: Path) -> None:
    box = Box()
    source = open_source(str(clip), loop=True)
    with running(source, box):
        until(lambda: len(box.got) >= 8)
    assert [index_of(one.to_rgb()) for one in box.got[:8]] == [0, 1, 2, 3, 4, 5, 0, 1]
    assert [one.number for one in box.got[:8]] == list(range(1, 9))
    captured = [one.captured_s for one in box.got[:8]]
    assert captured == sorted(captured)


def test_a_film_stands_still_while_it_is_paused(clip: Path) -> None:
    box = Box()
    source = open_source(str(clip), loop=True)
    with running(source, box):
        until(lambda: len(box.got) >= 2)
        source.pause()
        until(lambda: source.status.state is SourceState.WAITING)
        before = len(box.got)
        time.sleep(0.4)
        assert len(box.got) == before
        source.resume()
        until(lambda: len(box.got) > before)
        assert source.status.state is SourceState.LIVE


def test_a_picture_is_fitted_with_bars_before_it_is_drawn(clip: Path) -> None:
    box = Box()
    source = open_source(str(clip))
    with running(source, box, fit_px=(128, 48)):
        until(lambda: len(box.got) >= 1)
    rgb_HW3 = box.got[0].to_rgb()
    assert rgb_HW3.shape == (48, 128, 3)
    assert not rgb_HW3[:, :32].any()
    assert not rgb_HW3[:, -32:].any()
    assert rgb_HW3[:, 33:-33].any()


@pytest.mark.parametrize(
    ("size_px", "frame_px", "expected"),
    [
        ((640, 480), (1280, 720), (960, 720)),
        ((1920, 1080), (1280, 720), (1280, 720)),
        ((1080, 1920), (1280, 720), (405, 720)),
    ],
)
def test_proportions_are_kept(size_px: tuple[int, int], frame_px: tuple[int, int], expected: tuple[int, int]) -> None:
    assert inside(size_px, frame_px) == expected


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.mp4", None, "no such file"),
        ("text.mp4", b"no film at all", "it is no video"),
        ("empty.mp4", b"", "it is no video"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    source = open_source(str(path))
    with pytest.raises(MediaError, match=said):
        source.start(Box())
    assert source.close()


def test_a_file_without_pictures_is_refused(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "sound.wav"), "w") as media:
        stream = media.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        media.mux(stream.encode(frame))
    source = open_source(str(tmp_path / "sound.wav"))
    with pytest.raises(MediaError, match="no pictures in it"):
        source.start(Box())


def test_an_address_that_nobody_answers_at_is_refused_or_waited_for() -> None:
    source = open_source("http://127.0.0.1:9/film.mp4")
    with pytest.raises(MediaError, match="cannot be reached"):
        source.start(Box())
    patient = open_source("http://127.0.0.1:9/film.mp4?token=secret")
    with running(patient, Box(), patient=True):
        assert patient.status.state is SourceState.WAITING
        assert "secret" not in patient.status.why


def test_a_film_is_read_over_http(clip: Path) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(clip.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        box = Box()
        source = open_source(f"http://127.0.0.1:{server.server_address[1]}/clip.mp4")
        with running(source, box):
            until(lambda: len(box.got) >= 3)
        assert [index_of(one.to_rgb()) for one in box.got[:3]] == [0, 1, 2]
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("what", ["clip.mp4", "rtsp://127.0.0.1/secret?token=hidden"])
def test_a_microphone_beside_a_file_is_refused_in_a_sentence(what: str) -> None:
    """Nothing would be heard of it, and the file's own sound would go out instead."""
    with pytest.raises(SettingError, match='the microphone "hw:9" is heard beside a camera only') as refused:
        open_source(what, microphone="hw:9")
    assert "--sound source" in str(refused.value)
    assert "hidden" not in str(refused.value)
