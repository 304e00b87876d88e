"""`vividstream verify` on what this program wrote, on what it did not, over HTTP, and on the page."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from av.video.codeccontext import VideoCodecContext
from click.testing import CliRunner
from PIL import Image

from engines import Marker, MediaError, SwapSettings, VividError, instance_id, own_payload
from streamer.audit.command import _check_named
from streamer.audit.log import audit_log
from streamer.config import FileConfig
from streamer.errors import no_file
from streamer.file import run_file
from streamer.frame import Frame
from streamer.media import MediaReader
from streamer.verify.command import verify_command
from streamer.verify.http import prepare, verify_routes
from streamer.verify.look import _for_a_while, verify_address, verify_camera, verify_file
from tests.streamer.calls import served
from tests.streamer.clips import Clip, make

CLIP = Clip(size_px=(320, 240))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plain.mp4 as a camera wrote it; out.mp4 made of it by `vividstream file`; changed.mp4 that less a bit."""
    folder = tmp_path_factory.mktemp("verify")
    plain, out = make(folder / "plain.mp4", CLIP), folder / "out.mp4"
    run_file(FileConfig(input=plain, output=out, swap=SwapSettings(engine="passthrough")), io.StringIO())
    data = bytearray(out.read_bytes())
    data[data.find(b"mdat") + 800] ^= 1
    (folder / "changed.mp4").write_bytes(data)
    return folder


def test_what_was_written_here_is_marked_and_whole(folder: Path) -> None:
    verdict = verify_file(folder / "out.mp4")
    assert verdict.finding is not None
    assert verdict.finding.marked
    assert (verdict.answer, verdict.credentials.state, verdict.disagreement) == ("marked", "trusted", "")
    assert verdict.credentials.swap["instance"] == f"{instance_id():08x}"
    assert verdict.finding.payload is not None
    assert f"{instance_id():08x}".startswith(verdict.finding.payload.instance_hex)


def test_the_credentials_name_the_line_of_the_log(folder: Path) -> None:
    said = [line for line in audit_log().read() if line["event"] == "export"]
    assert {"file": "out.mp4"}.items() <= dict(said[-1]["facts"]).items()  # type: ignore[call-overload]
    assert isinstance(verify_file(folder / "out.mp4").credentials.swap["audit_sha256"], str)


def test_what_was_not_is_not(folder: Path) -> None:
    verdict = verify_file(folder / "plain.mp4")
    assert (verdict.answer, verdict.exit_code, verdict.credentials.state) == ("not marked", 3, "none")
    (folder / "rubbish.mp4").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(MediaError):
        verify_file(folder / "rubbish.mp4")


def test_one_bit_is_enough(folder: Path) -> None:
    verdict = verify_file(folder / "changed.mp4")
    assert (verdict.answer, verdict.exit_code) == ("changed", 4)
    assert verdict.credentials.failures == ("assertion.bmffHash.mismatch",)


@pytest.mark.parametrize(("name", "status"), [("out.mp4", 0), ("changed.mp4", 4)])
def test_the_command_says_so_by_its_exit_status(folder: Path, name: str, status: int) -> None:
    done = CliRunner().invoke(verify_command, [str(folder / name), "--json"])
    assert done.exit_code == status
    assert json.loads(done.output)["exit_code"] == status
    words = CliRunner().invoke(verify_command, [str(folder / name)]).output
    assert words.startswith(f"{folder / name}: ")


def test_the_command_wants_one_thing_to_look_at() -> None:
    assert CliRunner().invoke(verify_command, []).exit_code == 2
    assert CliRunner().invoke(verify_command, ["a.mp4", "--camera"]).exit_code == 2


def test_what_cannot_be_looked_at_is_an_error(folder: Path) -> None:
    (folder / "notes.txt").write_text("hello")
    for name in ("nowhere.mp4", "notes.txt"):
        with pytest.raises(MediaError, match=name):
            verify_file(folder / name)
    with pytest.raises(MediaError, match="camera"):
        verify_camera("/dev/null")
    trust = CliRunner().invoke(verify_command, [str(folder / "out.mp4"), "--trust", str(folder / "notes.txt")])
    assert isinstance(trust.exception, VividError)


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The folder over HTTP."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def test_an_address_is_fetched_and_looked_at(address: str) -> None:
    verdict = verify_address(f"{address}/out.mp4")
    assert (verdict.source, verdict.answer) == (f"{address}/out.mp4", "marked")


@pytest.mark.parametrize("path", ["/nowhere.mp4", "/"])
def test_an_address_without_a_video_is_an_error(address: str, path: str) -> None:
    with pytest.raises(MediaError):
        verify_address(address + path)


def test_nobody_who_answers_is_said_in_words() -> None:
    with pytest.raises(MediaError, match="cannot be fetched: Connection refused"):
        verify_address("http://127.0.0.1:9/a.mp4")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a.mp4", "http://", "/etc/passwd"])
def test_only_http_addresses_are_fetched(url: str) -> None:
    with pytest.raises(MediaError, match="only http and https"):
        verify_address(url)


def test_more_than_may_be_fetched_is_not(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.verify.look.MOST_DOWNLOAD_BYTES", 100)
    with pytest.raises(MediaError, match="larger than"):
        verify_address(f"{address}/out.mp4")


@pytest.mark.long
async def test_a_file_dropped_on_the_page_is_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = web.Application()
    prepare(app)
    app.add_routes(verify_routes())
    async with TestClient(TestServer(app)) as client:
        page = await client.get("/verify")
        assert "/verify/verify.js" in await page.text()
        assert (await client.get("/verify/verify.js")).status == 200
        assert (await client.get("/verify/..%2Fapp.js")).status == 404
        data = (folder / "changed.mp4").read_bytes()
        answer = await client.post("/verify?name=..%2Fclip.mp4", data=data)
        said = await answer.json()
        assert (answer.status, said["answer"], said["source"]) == (200, "changed", "clip.mp4")
        monkeypatch.setattr("streamer.verify.http.MOST_BYTES", 100)
        assert (await client.post("/verify?name=clip.mp4", data=data)).status == 413


def test_a_camera_is_looked_at_for_its_seconds_though_the_first_look_takes_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("streamer.verify.look.time", SimpleNamespace(monotonic=lambda: now[0]))
    picture = SimpleNamespace(to_ndarray=lambda format: np.zeros((64, 64, 3), np.uint8))
    container: Any = SimpleNamespace(decode=lambda video: iter([picture] * 1000))
    looked = 0
    for looked, _ in enumerate(_for_a_while(container, 6.0), 1):
        now[0] += 20.0 if looked == 1 else 0.1
    assert looked == 62


async def test_a_dropped_file_comes_through_the_whole_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger than other requests may be, and not read by anything before it is looked at; nor waited for for ever."""
    came: list[bytes] = []

    async def looked_at(path: Path, name: str) -> web.Response:
        came.append(await asyncio.to_thread(path.read_bytes))
        return web.json_response({"source": name})

    async def for_ever() -> AsyncIterator[bytes]:
        yield b"some"
        await asyncio.Event().wait()

    monkeypatch.setattr("streamer.verify.http._looked_at", looked_at)
    monkeypatch.setattr("streamer.verify.http.SILENT_S", 0.2)
    data = bytes(range(256)) * 2000
    async with served() as client:
        assert (await client.post("/verify?name=a.mp4", data=data)).status == 200
        assert came == [data]
        assert (await client.post("/verify?name=a.mp4", data=for_ever())).status == 408
        assert (await client.post("/verify?name=a.mp4", data=b"again")).status == 200, "nobody holds the place"
        monkeypatch.setattr("streamer.verify.http.MOST_BYTES", 100)
        assert (await client.post("/verify?name=a.mp4", data=data)).status == 413
    assert len(came) == 2


@pytest.mark.long
async def test_what_is_no_video_is_said_on_the_page_without_a_path(folder: Path) -> None:
    app = web.Application()
    prepare(app)
    app.add_routes(verify_routes())
    async with TestClient(TestServer(app)) as client:
        answer = await client.post("/verify?name=clip.mp4", data=b"rubbish")
        assert answer.status == 422
        assert "/tmp" not in await answer.text()


def test_what_is_no_file_is_called_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By every command that reads one, in the same words."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("words")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # a socket's path has room for 100 letters
        listener.bind("socket")
    for name, says in (
        ("none", "no such file"),
        (".", "is a folder, not a picture or film"),
        ("/dev/null", "is a device, not a picture or film; --camera looks at what a camera shows"),
        ("pipe", "is a pipe, not a picture or film"),
        ("socket", "is a socket, not a picture or film"),
        ("text/none", "Not a directory"),
    ):
        with pytest.raises(MediaError, match=f"{name}: {says}$"):
            verify_file(tmp_path / name)
    assert no_file(tmp_path / "pipe", "a video file", pipes=True) == ""
    for refused in (lambda: MediaReader(tmp_path), lambda: _check_named(tmp_path, [], tmp_path / "log")):
        with pytest.raises(VividError, match="is a folder, not a video file"):
            refused()


def test_a_phone_s_photo_of_which_exif_says_how_it_was_held_is_looked_at(tmp_path: Path) -> None:
    """Pictures stored across, with EXIF's word on it; and without, where only the mark tells."""
    picture = np.full((480, 640, 3), 120, np.uint8)
    Marker(own_payload()).apply(picture)
    stored = Image.fromarray(picture).rotate(90, expand=True)
    exif = stored.getexif()
    exif[0x0112] = 6  # turned by a quarter, clockwise, to be looked at
    for name, facts in (("said.jpg", exif), ("unsaid.jpg", Image.Exif())):
        stored.save(tmp_path / name, quality=90, exif=facts)
        verdict = verify_file(tmp_path / name)
        assert verdict.finding is not None
        assert verdict.finding.payload == own_payload()
        assert "found in 1 picture;" in "\n".join(verdict.lines())


def test_what_a_browser_recorded_of_a_call_changes_its_size(tmp_path: Path) -> None:
    """As MediaRecorder writes it where a call does: one stream, pictures of two sizes."""
    parts: list[av.Packet[Any]] = []
    for width, height in ((320, 240), (160, 120)):
        coder = av.CodecContext.create("libvpx", "w")
        assert isinstance(coder, VideoCodecContext)
        coder.width, coder.height, coder.pix_fmt, coder.time_base = width, height, "yuv420p", Fraction(1, 10)
        coder.bit_rate = 1_000_000
        picture = np.full((height, width, 3), 120, np.uint8)
        Marker(own_payload()).apply(picture)
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number + len(parts)
            parts += coder.encode(frame)
        parts += coder.encode(None)
    with av.open(str(tmp_path / "call.webm"), "w") as container:
        stream = container.add_stream("libvpx", rate=10, width=320, height=240)
        for number, packet in enumerate(parts):
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 10)
            container.mux(packet)
    with closing(MediaReader(tmp_path / "call.webm", any_size=True)) as reader:
        sizes = [item.rgb_HW3.shape[:2] for item in reader if isinstance(item, Frame)]
    assert set(sizes) == {(240, 320), (120, 160)}
    finding = verify_file(tmp_path / "call.webm").finding
    assert finding is not None
    assert finding.payload == own_payload()
