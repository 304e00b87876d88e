"""LiveKit: tokens, refusals of its real library, and what goes through its sources. Never against a LiveKit server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engines import EngineUnavailable
from streamer.joining.command import read_secret
from streamer.joining.errors import CannotJoin, Unreachable
from streamer.joining.livekit_room import CHILD, Bridge, LivekitStays, check_token, environment, find_python, refusal
from streamer.joining.settings import JoinConfig
from tests.streamer.joining.janus_room import HEIGHT_PX, WIDTH_PX, grey, tone

NOW_S = 1_800_000_000.0


def token(exp: float = NOW_S + 600, **grant: object) -> str:
    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"iss": "key", "sub": "ada", "exp": exp, "video": {"roomJoin": True, "room": "r", **grant}}
    signed = part(b'{"alg":"HS256"}') + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.new(b"secret", signed, hashlib.sha256).digest())).decode()


@pytest.fixture(scope="module")
def library() -> Path:
    """An interpreter that has LiveKit's library."""
    for python in (Path(os.environ.get("VIVIDSTREAM_LIVEKIT_PYTHON", "/nowhere")), environment() / "bin" / "python"):
        if python.is_file():
            return python
    pytest.skip("LiveKit's library is not installed in an environment of its own (docs/join.md)")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nonsense", "that is no token of LiveKit"),
        ("a.b.c", "that is no token of LiveKit"),
        (token()[:-60].replace(".", "", 1), "that is no token of LiveKit"),
        (token(exp=NOW_S - 300), "the token ended 5 min ago: ask for a new one"),
        (token(roomJoin=False), "lets nobody into a room"),
        (token(canPublish=False), "lets one watch only"),
    ],
)
def test_what_a_server_would_refuse_is_said_before_anything_starts(text: str, sentence: str) -> None:
    with pytest.raises(CannotJoin, match=sentence):
        check_token(text, NOW_S)
    check_token(token(), NOW_S)


def test_without_the_library_the_command_that_installs_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineUnavailable, match="is no interpreter"):
        find_python(tmp_path / "python")
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *_, **__: str(tmp_path))
    with pytest.raises(EngineUnavailable, match=f"python3 -m venv {tmp_path}/livekit && .*/pip install livekit==1"):
        find_python(None)


def test_a_secret_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\nmore\n", encoding="utf-8")
    assert read_secret(tmp_path / "token") == "abc"


def test_refusals_of_the_library_are_sentences() -> None:
    assert "the token was made for another server" in str(refusal("wss://a", "client error: 401 Unauthorized - x"))
    assert isinstance(refusal("wss://a", "IO error: Connection refused"), Unreachable)


async def test_the_bridge_keeps_the_newest_picture_and_sound_in_order() -> None:
    bridge = Bridge(has_sound=True)
    now_s = time.monotonic()
    bridge.see(grey(10), now_s, False)
    bridge.see(grey(200), now_s, False)
    for number in range(3):
        bridge.hear(tone(number, now_s - 1 + number * 0.02))
    kinds = [(await bridge.next())[:1] for _ in range(4)]
    assert kinds == [b"S", b"S", b"S", b"V"]


@asynccontextmanager
async def refusing() -> AsyncIterator[str]:
    """What a LiveKit server answers to a token that it did not make: a stand-in for the one thing that is said."""
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=401, text="invalid token")

    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        yield f"ws://127.0.0.1:{server.port}"


async def test_the_real_library_says_who_refuses(library: Path) -> None:
    async with refusing() as url:
        for address, sentence in ((url, "does not let us in"), ("ws://127.0.0.1:9", "nobody answers at ws://")):
            stays = LivekitStays(Bridge(True), library, address, token(time.time() + 60), JoinConfig(), lambda _: None)
            with pytest.raises(CannotJoin, match=sentence):
                await stays.attend()


def test_pictures_and_sounds_go_through_the_real_librarys_sources(library: Path) -> None:
    """What is put into the sources comes out of the tracks that would be published."""
    code = f"""
import asyncio, importlib.util, json, os, struct, time, sys
spec = importlib.util.spec_from_file_location("child", {str(CHILD)!r})
child = importlib.util.module_from_spec(spec); spec.loader.exec_module(child)
from livekit import rtc
import numpy as np
W, H = {WIDTH_PX}, {HEIGHT_PX}
async def main():
    one = child.Participant(W, H, True)
    pictures, sounds = [], []
    async def see():
        async for event in rtc.VideoStream(one.video):
            luma = np.frombuffer(event.frame.convert(rtc.VideoBufferType.I420).data, np.uint8)[:W * H]
            pictures.append(float(luma.mean()))
    async def hear():
        async for event in rtc.AudioStream(one.sound, sample_rate=48000, num_channels=2):
            sounds.append(float(np.frombuffer(event.frame.data, np.int16).std()))
    tasks = [asyncio.create_task(see()), asyncio.create_task(hear())]
    wave = (8000 * np.sin(np.arange(1920) / 10)).astype(np.int16).tobytes()
    for _ in range(25):
        stamp = struct.pack("!Q", int(time.monotonic() * 1e6))
        one.picture(stamp + bytes([200]) * (W * H) + bytes([128]) * (W * H // 2))
        for _ in range(2): await one.heard(wave)
        await asyncio.sleep(0.04)
    one.picture(b"12345678short")
    print(json.dumps([one.counts, pictures, sounds]))
asyncio.run(main()); sys.stdout.flush(); os._exit(0)
"""
    done = subprocess.run([str(library), "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    counts, pictures, sounds = json.loads(done.stdout.splitlines()[-1])
    assert counts == {"pictures": 25, "sounds": 50, "refused": 1}
    assert len(pictures) > 15
    assert np.median(pictures) == pytest.approx(200, abs=2)
    assert max(sounds) > 3_000


async def test_a_child_that_is_told_to_leave_ends(library: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        str(library), "-I", str(CHILD), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(child.communicate(b""), 30)
    assert (child.returncode, out) == (0, b"")
