"""The process that writes to OBS's and Unity's cameras: its protocol, with a real child.

pyvirtualcam itself is not among the things that tests install (GPL-2.0); where it is not there a stand-in of its
interface takes its place, which keeps what it is sent. The real one, under a real kernel: test_virtual_machine.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from engines import Rgb
from streamer.camera import other_systems
from streamer.camera.other_systems import ForeignSink
from streamer.errors import SinkError

WIDTH_PX, HEIGHT_PX = 64, 48
STAND_IN = """
import os, time
class Camera:
    def __init__(self, *, width, height, fps, backend, device):
        if os.environ.get("STAND_IN") == "busy":
            raise RuntimeError("'obs' backend: virtual camera output could\\n not be started")
        if os.environ.get("STAND_IN") == "crash":
            os.abort()
        if os.environ.get("STAND_IN") == "hang":
            time.sleep(60)
        self.backend, self.device = backend or "obs", device or "OBS Virtual Camera"
        self.kept = open(os.environ["KEPT"], "wb")
    def send(self, frame):
        self.kept.write(frame.tobytes()); self.kept.flush()
        if os.environ.get("STAND_IN") == "slow":
            time.sleep(0.3)
    def __enter__(self): return self
    def __exit__(self, *_): self.kept.write(b"closed"); self.kept.close()
"""


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "modules" / "pyvirtualcam"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .camera import Camera\n__version__ = '0'\n", encoding="utf-8")
    (package / "camera.py").write_text(STAND_IN + "BACKENDS = {'obs': Camera}\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setenv("KEPT", str(tmp_path / "kept"))
    return tmp_path / "kept"


def picture(value: int) -> Rgb:
    return np.full((HEIGHT_PX, WIDTH_PX, 3), value, np.uint8)


def wait_for_bytes(path: Path, count: int) -> bytes:
    end_s = time.monotonic() + 20
    while time.monotonic() < end_s and (not path.exists() or path.stat().st_size < count):
        time.sleep(0.01)
    return path.read_bytes()


def test_pictures_arrive_whole_and_the_camera_is_closed(kept: Path) -> None:
    sink = ForeignSink("obs")
    assert sink.open(WIDTH_PX, HEIGHT_PX, 25).width_px == WIDTH_PX
    assert sink.name == "obs camera OBS Virtual Camera"
    assert sink.readers() is None
    size = picture(0).size
    for number in range(3):
        sink.write(picture(number), 0.0)
        assert wait_for_bytes(kept, size * (number + 1))[-size:] == picture(number).tobytes()
    sink.close()
    sink.close()
    assert kept.read_bytes() == b"".join(picture(n).tobytes() for n in range(3)) + b"closed"


def test_a_slow_camera_gets_the_newest_and_holds_nobody_up(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN", "slow")
    sink = ForeignSink()
    sink.open(1280, 720, 25)
    large = np.zeros((720, 1280, 3), np.uint8)
    began_s = time.monotonic()
    for number in range(20):
        large[:] = number
        sink.write(large, 0.0)
    assert time.monotonic() - began_s < 1.5
    assert sink.overtaken >= 15
    time.sleep(1.0)
    sink.close()
    seen = kept.read_bytes().removesuffix(b"closed")
    assert len(seen) % large.size == 0
    assert seen[-1] == 19
    assert list(seen[:: large.size]) == sorted(seen[:: large.size])


def test_a_child_that_dies_is_a_sentence_and_can_be_started_again(kept: Path) -> None:
    sink = ForeignSink("obs")
    sink.open(WIDTH_PX, HEIGHT_PX, 25)
    assert sink._process is not None
    os.kill(sink._process.pid, signal.SIGKILL)
    sink._process.wait()
    with pytest.raises(SinkError, match="its process ended"):
        sink.write(picture(1), 0.0)
    sink.close()
    sink.open(WIDTH_PX, HEIGHT_PX, 25)
    sink.write(picture(7), 0.0)
    assert wait_for_bytes(kept, picture(0).size)[0] == 7
    sink.close()


@pytest.mark.parametrize(
    ("how", "says"), [("busy", "could not be started; install OBS"), ("crash", "its process ended")]
)
def test_a_camera_that_does_not_open_says_why(kept: Path, monkeypatch: pytest.MonkeyPatch, how: str, says: str) -> None:
    monkeypatch.setenv("STAND_IN", how)
    sink = ForeignSink("obs")
    with pytest.raises(SinkError, match=says) as raised:
        sink.open(WIDTH_PX, HEIGHT_PX, 25)
    assert "\n" not in str(raised.value)
    with pytest.raises(SinkError, match="not open"):
        sink.write(picture(0), 0.0)


def test_a_camera_that_hangs_is_given_up(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN", "hang")
    monkeypatch.setattr(other_systems, "START_S", 1.0)
    with pytest.raises(SinkError, match="did not open within"):
        ForeignSink("obs").open(WIDTH_PX, HEIGHT_PX, 25)


def test_an_unknown_kind_names_those_that_there_are(kept: Path) -> None:
    with pytest.raises(SinkError, match='cannot write to "unitycapture" here, only to: obs'):
        ForeignSink("unitycapture").open(WIDTH_PX, HEIGHT_PX, 25)


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hidden = tmp_path / "pyvirtualcam.py"
    hidden.write_text("raise ImportError('hidden')\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SinkError, match=r"pip install .vividstream\[virtualcam\]."):
        ForeignSink("obs").open(WIDTH_PX, HEIGHT_PX, 25)


def test_the_child_ends_with_its_parent(kept: Path) -> None:
    child = subprocess.Popen(other_systems.child_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(b'{"width": 64, "height": 48, "fps": 25, "backend": null, "device": null}\n')
    child.stdin.flush()
    child.stdout.readline()
    child.stdin.write(bytes(100))  # not a whole picture
    child.stdin.close()
    assert child.wait(20) == 0
    child.stdout.close()
    assert kept.read_bytes() == b"closed"
