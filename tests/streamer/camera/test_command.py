"""`vividstream camera` from the command line: what is refused, and a whole run with the preview page as its camera."""

from __future__ import annotations

import http.client
import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from streamer.camera.command import camera_command, delay_recipe
from streamer.errors import SinkError
from tests.streamer.clips import Clip, make

NO_LOOPBACK = not any(Path("/sys/class/video4linux").glob("*")) if Path("/sys/class/video4linux").exists() else True


def invoked(arguments: list[str], runtime: Path) -> Result:
    return CliRunner().invoke(camera_command, arguments, env={"XDG_RUNTIME_DIR": str(runtime)})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "1281x720"], "both sides must be even"),
        (["--size", "big"], 'setting "size"'),
        (["--sink", "nothing"], "neither a device"),
        (["--sink", "/dev/video3", "--source", "3"], "source and sink at once"),
        (["--identity", "amara", "--no-label"], "--label-off-reason"),
        (["--print-delay"], "start `vividstream camera` first"),
        (["--tell", "hello"], "takes a JSON object"),
    ],
)
def test_a_wrong_call_is_one_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = invoked(arguments, tmp_path)
    assert done.exit_code != 0
    assert done.exception is not None
    assert said in f"{done.output}{done.exception}"


@pytest.mark.skipif(not NO_LOOPBACK, reason="this machine has video devices")
def test_without_the_module_the_command_that_loads_it_is_printed(tmp_path: Path) -> None:
    done = invoked(["--identity", "amara", "--sink", "9"], tmp_path)
    assert isinstance(done.exception, SinkError)
    assert str(done.exception).startswith("there is no virtual camera /dev/video9: the module v4l2loopback is not")
    assert "`sudo modprobe v4l2loopback video_nr=9 exclusive_caps=1 card_label=vividstream`" in str(done.exception)


def test_the_sound_is_delayed_by_what_the_picture_is_late() -> None:
    first, *_ = delay_recipe(143)
    assert first.startswith("PipeWire: pw-loopback --delay 0.143 --playback-props 'media.class=Audio/Source ")


@pytest.mark.long
def test_a_whole_run_shows_the_card_first_answers_and_ends_on_a_signal(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", Clip(size_px=(128, 96)))
    control = tmp_path / "c.sock"
    command = [
        sys.executable, "-m", "streamer", "camera", "--source", str(clip), "--loop", "--engine", "passthrough",
        "--size", "128x96", "--preview", "--unwatched", "draw", "--control", str(control),
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("commands: "):
                break
        found = re.search(r"what goes out: (http://127\.0\.0\.1:\d+/\S+/)", "".join(said))
        assert found, said
        picture = pictures_of(found[1], 6)[-1]
        assert picture.shape == (96, 128, 3)
        assert picture[..., 0].std() > 5
        told = [sys.executable, "-m", "streamer", "camera", "--control", str(control)]
        status = subprocess.run([*told, "--tell", '{"do": "status"}'], capture_output=True, text=True, timeout=60)
        answer = json.loads(status.stdout)
        assert answer["showing"] in ("drawn", "card")
        assert answer["shown"]["drawn"] > 0
        delay = subprocess.run([*told, "--print-delay"], capture_output=True, text=True, timeout=60)
        assert re.fullmatch(r"\d+ ms\n", delay.stdout), delay.stderr
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        process.stderr.close()
        assert process.wait(30) == 0
        assert rest.splitlines()[-1] == "ended: as asked"
        assert not control.exists()
    finally:
        process.kill()
        process.wait()


def pictures_of(address: str, count: int) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """As a browser takes them: parts of one answer that does not end. A wrong address gives nothing."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request("GET", "/wrong/stream")
    refused = connection.getresponse()
    refused.read()
    assert refused.status == 404
    connection.close()
    connection.request("GET", parts.path + "stream")
    answer = connection.getresponse()
    assert answer.getheader("Cache-Control") == "no-store"
    got: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = []
    end_s = time.monotonic() + 30
    while len(got) < count and time.monotonic() < end_s:
        length = 0
        while (line := answer.readline().strip()) or not length:
            if line.startswith(b"Content-Length: "):
                length = int(line.split()[-1])
        got.append(np.asarray(Image.open(io.BytesIO(answer.read(length))), np.uint8))
        answer.readline()
    connection.close()
    return got
