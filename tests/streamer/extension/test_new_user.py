"""Somebody who has never had the extension: two commands as they are printed, then a call. And who must not get in."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import expect

from benchmarks.interop.extended import extended, free_port, popup_of
from streamer.extension.pairing import NAME
from tests.streamer.extension.browsers import pages

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(240)]

CAMERA = """navigator.mediaDevices.getUserMedia({ audio: true, video: true }).then((stream) => {
  window.stream = stream;
  return stream.getVideoTracks()[0].label;
})"""
STRANGER = """(address) => Promise.all([
  fetch(`${address}/identities`).then(({ status }) => status, () => "refused"),
  fetch(`${address}/session`, { method: "POST", body: "{}" }).then(({ status }) => status, () => "refused"),
  new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve("loaded");
    image.onerror = () => resolve("refused");
    image.src = `${address}/identities/lucia/portrait`;
  }),
])"""


def printed(folder: Path, port: int) -> list[str]:
    """The first command; returns the second, as it is printed."""
    first = [sys.executable, "-m", "streamer", "extension", str(folder), "--server", f"http://127.0.0.1:{port}"]
    said = subprocess.run(first, capture_output=True, text=True, check=True).stdout
    line = next(line for line in said.splitlines() if line.startswith("Server: "))
    program, *rest = shlex.split(line.removeprefix("Server: "))
    assert program == "vividstream"
    return [sys.executable, "-m", "streamer", *rest]


@contextmanager
def running(command: list[str]) -> Iterator[str]:
    """The command, until the block ends. Yields the line with which it says that it is ready."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline()
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)


async def test_two_commands_and_a_call(chromium: str, tmp_path: Path, camera_clip: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = printed(tmp_path / "given", port)
    token = tomllib.loads((tmp_path / "given" / NAME).read_text())["serve"]["token"]
    assert all(token not in part for part in command), "processes are seen by everybody of the machine"
    extension = tmp_path / "given" / "chromium"
    async with pages() as at, extended(chromium, extension, camera_clip) as context:
        page = await context.new_page()
        await page.goto(f"{at}/other.html")
        refused = await page.evaluate(f"{CAMERA}.catch(({{ message }}) => message)")
        assert "cannot be reached" in refused
        with running(command) as ready:
            assert "ready" in ready
            popup = await popup_of(context)
            await popup.get_by_text("lucia").click()
            assert await page.evaluate(CAMERA) == "vividstream"
            await expect(popup.locator("#state")).to_contain_text("Live", timeout=30_000)
            await expect(popup.locator("#held")).to_contain_text("ms")
            assert await page.evaluate(STRANGER, address) == ["refused", "refused", "refused"], "another page gets in"
            await strangers_stay_out(address, token)


async def strangers_stay_out(address: str, token: str) -> None:
    """What a page cannot send may come from elsewhere: the server itself must refuse it."""
    shown = {"Authorization": f"Bearer {token}"}
    ours = {"Origin": "chrome-extension://liakfffbkognipacndipaommbnggjckf"}
    async with aiohttp.ClientSession() as http:

        async def status(path: str, **headers: str) -> int:
            async with asyncio.timeout(10), http.post(f"{address}{path}", data="{}", headers=headers) as answer:
                return answer.status

        assert await status("/session", **ours) == 401
        assert await status("/session", **ours, Cookie=f"vividstream_token={token}") == 401
        assert await status("/session", **shown, Origin="https://evil.example") == 403
        assert await status("/session", **shown, **ours, Host="evil.example") == 403
        assert await status("/session", **shown, **ours) in (400, 415)
        async with http.get(f"{address}/identities") as answer:
            assert answer.status == 401
