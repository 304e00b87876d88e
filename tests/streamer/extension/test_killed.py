"""The real command, killed in the middle of a call: the standby picture, never the real face, then the call again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.streamer.chromium import write_y4m
from tests.streamer.extension.browsers import TOKEN, extended, pages, popup_of, shown, written
from tests.streamer.extension.test_calls import is_card
from tests.streamer.faces import RAW, RawFace, clip_pictures, face_box

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(300)]

READY_S = 90.0


@contextmanager
def serving(port: int) -> Iterator[subprocess.Popen[str]]:
    """`vividstream serve` with the proxy engine, ready."""
    command = [sys.executable, "-m", "streamer", "serve", "--engine", "proxy", "--port", str(port)]
    environment = {**os.environ, "VIVIDSTREAM_SERVE_TOKEN": TOKEN}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_a_killed_server_leaves_the_standby_picture_and_comes_back(
    chromium: str, shared_data: Path, tmp_path: Path
) -> None:
    film = shared_data / "clips" / "single_face.mp4"
    write_y4m(film, tmp_path / "camera.y4m")
    pictures = clip_pictures(film)
    raw = RawFace.of(pictures, face_box(pictures))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    extension = written(tmp_path / "extension", f"http://127.0.0.1:{port}")
    async with pages() as at, extended(chromium, extension, tmp_path / "camera.y4m") as context:
        other, page = await context.new_page(), await context.new_page()
        await other.goto(f"{at}/other.html")
        await page.goto(f"{at}/meet.html")

        async def looks(seconds: float) -> list[bool]:
            """Whether each picture that the other side sees is a card; none may be the real face."""
            until_s, found = time.monotonic() + seconds, []
            while time.monotonic() < until_s:
                picture = await shown(other)
                if picture is not None:
                    assert raw.likeness(picture) < RAW, "the real face"
                    found.append(is_card(picture))
            return found

        with serving(port) as first:
            await page.evaluate("join('vividstream')")
            popup = await popup_of(context)
            await page.bring_to_front()
            await expect(popup.locator("body")).to_have_attribute("data-state", "live", timeout=30_000)
            await looks(4)
            os.kill(first.pid, signal.SIGKILL)
            await looks(1.5)
            assert all(await looks(3)), "something else than the standby picture"
            await expect(popup.locator("body")).to_have_attribute("data-state", "lost")
            await expect(popup.get_by_role("alert")).to_contain_text("cannot be reached")
        with serving(port):
            await expect(popup.locator("body")).to_have_attribute("data-state", "live", timeout=30_000)
            await looks(3)
            await asyncio.wait_for(page.evaluate("stream.getVideoTracks()[0].stop()"), 5)
