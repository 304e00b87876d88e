"""The wheel, installed with what it requires and nothing else, in a network namespace that has no way out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from packaging.requirements import Requirement
from PIL import Image

from tests.conftest import ROOT, lacking

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

# Loopback on (SIOCSIFFLAGS, as `ip link set lo up`), then the command, which gets nothing of this environment.
INSIDE = """
import fcntl, os, socket, struct, sys
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8914, struct.pack("16sh22x", b"lo", 0x41))
os.chdir(sys.argv[1])
os.execve(sys.argv[2], sys.argv[2:], {"HOME": sys.argv[1], "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"})
"""
# The server answers, and the engine that comes with the package is offered, before anything was asked of anybody else.
ASK = """
import json, re, signal, subprocess, sys, urllib.request
command = [sys.argv[1], "serve", "--port", "0", "--engine", "tiny", "--identity", "amara"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
said = next(line for line in server.stdout if "is ready: " in line)
address = said.split()[-1]
paths = ("", "engines", "identities")
asked = {path: urllib.request.urlopen(address + path, timeout=30).read().decode() for path in paths}
server.send_signal(signal.SIGTERM)
print(json.dumps({"status": server.wait(30), "asked": asked}))
"""


def required(name: str, found: set[str]) -> set[str]:
    """A distribution and all that it requires here, without extras, by name."""
    if name not in found:
        found.add(name)
        for text in distribution(name).requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                required(requirement.name, found)
    return found


def linked(names: set[str], site: Path) -> None:
    """Puts the installed distributions into that folder, as if they had been installed there."""
    for name in names:
        files = distribution(name).files or []
        for part in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            target, link = Path(str(distribution(name).locate_file(part))), site / part
            if not link.exists():
                link.symlink_to(target)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment that has the wheel, and of this one what the wheel requires."""
    folder = tmp_path_factory.mktemp("installed")
    wheels = folder / "wheels"
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(wheels), str(ROOT)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if built.returncode != 0:
        lacking(f"what builds the wheel ({built.stderr.strip().splitlines()[-1:]})")
    (wheel,) = wheels.glob("vividstream-*.whl")
    assert wheel.stat().st_size < 120e6
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    (site,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    linked(required("vividstream", set()) - {"vividstream"}, site)
    program = folder / "venv" / "bin"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(program / "python"),
        "install",
        "-q",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*install, str(wheel)], check=True, timeout=300)
    return program


@pytest.fixture
def alone(tmp_path: Path) -> list[str]:
    """Runs what follows with a loopback interface, no route, and a home of its own."""
    inside = ["unshare", "--user", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*inside, "true"], capture_output=True).returncode != 0:
        pytest.skip("no namespace of the network is to be had here")
    return [*inside, sys.executable, "-c", INSIDE, str(tmp_path)]


def ran(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def film(path: Path) -> None:
    """A person who does not exist, sixteen pictures."""
    portrait = Image.open(ROOT / "docs" / "personas" / "rohan.png").convert("RGB").resize((480, 480))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for number in range(16):
            picture = Image.new("RGB", (640, 480), (120, 130, 140))
            picture.paste(portrait, (80 + number, 0))
            frame = VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_there_is_no_way_out_and_nothing_else_is_installed(installed: Path, alone: list[str]) -> None:
    where = ran([*alone, str(installed / "python"), "-c", "import engines; print(engines.__file__)"])
    assert str(installed.parent) in where
    assert ran([*alone, "/bin/cat", "/proc/net/route"]).count("\n") <= 1
    devices = ran([*alone, "/bin/cat", "/proc/net/dev"]).splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    for extra in ("torch", "onnx", "dlib", "playwright"):
        with pytest.raises(AssertionError, match="ModuleNotFoundError"):
            ran([*alone, str(installed / "python"), "-c", f"import {extra}"])


@pytest.mark.parametrize("engine", ["tiny", "proxy"])
def test_a_film_is_swapped(installed: Path, alone: list[str], tmp_path: Path, engine: str) -> None:
    film(tmp_path / "in.mp4")
    said = ran([
        *alone, str(installed / "vividstream"), "file", "in.mp4", "-o", "out.mp4", "--identity", "amara",
        "--engine", engine,
    ])  # fmt: skip
    with av.open(str(tmp_path / "in.mp4")) as before, av.open(str(tmp_path / "out.mp4")) as after:
        films = [
            [shown.to_ndarray(format="rgb24").astype(int) for shown in one.decode(video=0)] for one in (before, after)
        ]
    middle = [float(np.abs(one - other)[120:360, 220:420].mean()) for one, other in zip(*films, strict=True)][8:]
    assert min(middle) > 8, said  # of 255; 2 where nothing is swapped
    assert "16 drawn" in said


def test_a_server_answers_and_offers_what_it_came_with(installed: Path, alone: list[str]) -> None:
    said = ran([*alone, str(installed / "python"), "-c", ASK, str(installed / "vividstream")])
    found = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    assert found["status"] == 0
    assert "<title>vividstream</title>" in found["asked"][""]
    assert {"tiny", "proxy"} <= set(json.loads(found["asked"]["engines"])["engines"])
    assert "amara" in json.loads(found["asked"]["identities"])["identities"]


def test_every_name_that_is_required_is_here() -> None:
    with pytest.raises(PackageNotFoundError):
        distribution("vividstream-that-is-not")
    names = required("vividstream", set())
    assert {"vividstream", "onnxruntime", "mediapipe", "numpy"} <= names
    assert not {"torch", "dlib-bin", "playwright"} & names
