"""The PipeWire camera with a real daemon, a real session manager and GStreamer as the reader."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines import Rgb
from streamer.camera.pipewire import PipeWireSink
from streamer.errors import SinkError
from tests.conftest import lacking
from tests.streamer.camera.pipewire_daemon import PipeWire, missing, wait_for

WIDTH_PX, HEIGHT_PX = 320, 240
NODE = "vividstream-test"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipeWire]:
    lack = missing()
    if lack:
        lacking(lack)
    pipewire = PipeWire(tmp_path_factory.mktemp("pw"))
    pipewire.start()
    yield pipewire
    pipewire.kill()


@pytest.fixture
def here(daemon: PipeWire, monkeypatch: pytest.MonkeyPatch) -> PipeWire:
    for name, value in daemon.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIPEWIRE_REMOTE", raising=False)
    return daemon


@pytest.fixture
def sink(here: PipeWire) -> Iterator[PipeWireSink]:
    made = PipeWireSink(NODE)
    yield made
    made.close()


class Writer:
    """Writes one picture again and again, as a live source would."""

    def __init__(self, sink: PipeWireSink, picture: Rgb) -> None:
        self.picture, self.slowest_s = picture, 0.0
        self._sink, self._over = sink, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.02):
            began = time.monotonic()
            self._sink.write(self.picture, began)
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def scene(width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> Rgb:
    """A ramp each way and a blue square: a skewed row or swapped colours would show."""
    rgb = np.zeros((height_px, width_px, 3), np.uint8)
    rgb[..., 0] = np.linspace(0, 255, width_px)[None]
    rgb[..., 1] = np.linspace(0, 255, height_px)[:, None]
    rgb[40:80, 40:80] = (0, 0, 255)
    return rgb


def read(path: Path, width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> Rgb:
    """The last whole picture of a reader's file."""
    size = width_px * height_px * 4
    whole = np.fromfile(path, np.uint8)
    return whole[: len(whole) // size * size].reshape(-1, height_px, width_px, 4)[-1, ..., :3]


@pytest.mark.parametrize(
    ("pixels", "width_px", "height_px"),
    [("I420", 320, 240), ("NV12", 320, 240), ("YUY2", 320, 240), ("NV12", 324, 242), ("YUY2", 322, 242)],
)
def test_a_reader_sees_what_was_written(
    here: PipeWire, sink: PipeWireSink, tmp_path: Path, pixels: str, width_px: int, height_px: int
) -> None:
    picture = scene(width_px, height_px)
    sink.open(width_px, height_px, 25)
    with Writer(sink, picture):
        reader = here.reader(NODE, pixels, 5, tmp_path / "seen")
        assert reader.wait(30) == 0
    error = np.abs(read(tmp_path / "seen", width_px, height_px).astype(int) - picture)
    assert np.median(error) <= 3
    assert np.percentile(error, 99) < 16  # colour is shared by 2x2 pixels


def test_it_is_a_camera_to_sandboxed_programs(here: PipeWire, sink: PipeWireSink) -> None:
    sink.open(WIDTH_PX, HEIGHT_PX, 25)
    assert wait_for(lambda: sink.there)
    nodes = [entry for entry in json.loads(here.dump()) if entry["id"] == sink.node_id]
    properties = nodes[0]["info"]["props"]
    assert (properties["media.class"], properties["media.role"]) == ("Video/Source", "Camera")
    assert properties["node.description"] == NODE
    sink.close()
    assert wait_for(lambda: NODE not in here.dump())


def test_no_work_while_nobody_watches(here: PipeWire, sink: PipeWireSink, tmp_path: Path) -> None:
    sink.open(WIDTH_PX, HEIGHT_PX, 25)
    with Writer(sink, scene()):
        assert wait_for(lambda: sink.counts.unwatched > 5)
        assert sink.readers() == 0
        for _ in range(2):  # a reader comes and goes, and another one
            reader = here.reader(NODE, "I420", -1, tmp_path / "seen")
            assert wait_for(lambda: sink.readers() == 1)
            delivered = sink.counts.delivered
            assert wait_for(lambda: sink.counts.delivered > delivered + 3)  # noqa: B023
            reader.send_signal(signal.SIGKILL)
            reader.wait()
            assert wait_for(lambda: sink.readers() == 0)
        seen, unwatched = sink.counts.delivered, sink.counts.unwatched
        assert wait_for(lambda: sink.counts.unwatched > unwatched + 5)
        assert sink.counts.delivered == seen


def test_a_new_reader_is_not_shown_an_old_picture(here: PipeWire, sink: PipeWireSink, tmp_path: Path) -> None:
    sink.open(WIDTH_PX, HEIGHT_PX, 25)
    with Writer(sink, np.full((HEIGHT_PX, WIDTH_PX, 3), 255, np.uint8)):
        first = here.reader(NODE, "I420", -1, tmp_path / "first")
        assert wait_for(lambda: sink.counts.delivered > 3)
        first.send_signal(signal.SIGSTOP)  # so that pictures are left that it was to take
        written = sink.counts.written
        assert wait_for(lambda: sink.counts.written > written + 10)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert wait_for(lambda: sink.readers() == 0)
    reader = here.reader(NODE, "I420", 1, tmp_path / "second")
    assert wait_for(lambda: sink.readers() == 1)
    with pytest.raises(subprocess.TimeoutExpired):  # nothing was written since: nothing is read
        reader.wait(0.5)
    with Writer(sink, np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)):
        assert reader.wait(30) == 0
    assert read(tmp_path / "second").max() < 8


def test_a_reader_that_stands_still_holds_nobody_up(here: PipeWire, sink: PipeWireSink, tmp_path: Path) -> None:
    sink.open(WIDTH_PX, HEIGHT_PX, 25)
    with Writer(sink, scene()) as writer:
        reader = here.reader(NODE, "I420", -1, tmp_path / "seen")
        assert wait_for(lambda: sink.counts.delivered > 3)
        reader.send_signal(signal.SIGSTOP)
        written = sink.counts.written
        assert wait_for(lambda: sink.counts.written > written + 50)
        reader.send_signal(signal.SIGKILL)
        reader.wait()
    assert writer.slowest_s < 0.5


def test_the_camera_returns_with_pipewire(here: PipeWire, sink: PipeWireSink, tmp_path: Path) -> None:
    sink.open(WIDTH_PX, HEIGHT_PX, 25)
    with Writer(sink, scene()):
        assert here.reader(NODE, "I420", 2, tmp_path / "before").wait(30) == 0
        here.kill()
        assert wait_for(lambda: not sink.there)
        assert sink.readers() == 0
        here.start()
        assert wait_for(lambda: sink.there and sink.counts.returns == 1)
        assert here.reader(NODE, "I420", 2, tmp_path / "after").wait(30) == 0
    assert np.median(np.abs(read(tmp_path / "after").astype(int) - scene())) <= 3


def test_it_ends_while_pipewire_is_away(here: PipeWire, sink: PipeWireSink) -> None:
    sink.open(WIDTH_PX, HEIGHT_PX, 25)
    here.kill()
    assert wait_for(lambda: not sink.there)
    began = time.monotonic()
    sink.close()
    assert time.monotonic() - began < 5
    here.start()


def test_without_pipewire_it_says_what_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing():
        lacking(missing())
    monkeypatch.setenv("PIPEWIRE_RUNTIME_DIR", str(tmp_path))
    sink = PipeWireSink()
    with pytest.raises(SinkError, match="systemctl --user start pipewire"):
        sink.open(WIDTH_PX, HEIGHT_PX, 25)
    sink.close()


def test_bad_calls_are_refused(here: PipeWire, sink: PipeWireSink) -> None:
    with pytest.raises(SinkError, match="not open"):
        sink.write(scene(), 0.0)
    with pytest.raises(SinkError, match="even"):
        sink.open(321, 240, 25)
    with pytest.raises(SinkError, match="take yuyv"):
        sink.open(322, 240, 25, "i420")
    sink.open(WIDTH_PX, HEIGHT_PX, 25)
    with pytest.raises(SinkError, match="open already"):
        sink.open(WIDTH_PX, HEIGHT_PX, 25)
    with pytest.raises(ValueError, match="is wanted"):
        sink.write(scene(322, 242), 0.0)
