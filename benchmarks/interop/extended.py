"""A Chromium, plain or with the browser extension, its camera and microphone fed from files."""

from __future__ import annotations

import base64
import io
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import av
import numpy as np
from PIL import Image
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from engines import Rgb, SettingError

ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
READ_BACK = """(id) => {
  const video = document.getElementById(id);
  if (!video.videoWidth) return null;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  return canvas.toDataURL("image/png");
}"""


def write_y4m(clip: Path, to: Path) -> tuple[int, int]:
    """Writes the clip as Chromium's fake camera takes it. Returns height and width."""
    with av.open(clip) as media, to.open("wb") as out:
        stream = media.streams.video[0]
        height, width = stream.height, stream.width
        out.write(f"YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1 C420jpeg\n".encode())
        for picture in media.decode(video=0):
            out.write(b"FRAME\n")
            out.write(picture.reformat(format="yuv420p").to_ndarray().tobytes())
    return height, width


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(port: int, engine: str, token: str) -> Iterator[subprocess.Popen[str]]:
    """`vividstream serve` with that engine, ready. Raises SettingError where it does not start."""
    command = [sys.executable, "-m", "streamer", "serve", "--engine", engine, "--port", str(port)]
    environment = {**os.environ, "VIVIDSTREAM_SERVE_TOKEN": token}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        assert process.stdout is not None
        if "ready" not in process.stdout.readline():
            raise SettingError("the server did not start")
        yield process
    finally:
        process.kill()
        process.communicate()


@asynccontextmanager
async def chromium_with_camera(
    path: str, y4m: Path | None, more: Sequence[str] = (), fake_ui: bool = True, fake_device: bool = True
) -> AsyncIterator[Browser]:
    """The plain browser, closed at the end whatever happens. Without a clip it has Chromium's own test picture.

    fake_ui      permission is given without asking
    fake_device  there is a camera
    """
    arguments = [*ARGUMENTS, *more]
    if fake_ui:
        arguments.append("--use-fake-ui-for-media-stream")
    if fake_device:
        arguments.append("--use-fake-device-for-media-stream")
    if y4m is not None:
        arguments.append(f"--use-file-for-fake-video-capture={y4m}")
    if sys.platform == "linux" and os.geteuid() == 0:
        arguments.append("--no-sandbox")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def extended(
    chromium: str,
    extension: Path,
    y4m: Path | None,
    more: Sequence[str] = (),
    allowed: bool = True,
    device: bool = True,
    wav: Path | None = None,
) -> AsyncIterator[BrowserContext]:
    """The browser with the extension; gone at the end with its profile.

    allowed  permission is given without asking
    device   there are a camera and a microphone, fed from `y4m` and `wav` or the browser's own
    """
    arguments = [*ARGUMENTS, *more, f"--disable-extensions-except={extension}", f"--load-extension={extension}"]
    arguments += ["--use-fake-ui-for-media-stream"] * allowed + ["--use-fake-device-for-media-stream"] * device
    for kind, path in (("video", y4m), ("audio", wav)):
        arguments += [f"--use-file-for-fake-{kind}-capture={path}"] if path is not None else []
    if sys.platform == "linux" and os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        async with async_playwright() as playwright:
            context = await playwright.chromium.launch_persistent_context(
                profile, executable_path=chromium, args=arguments, ignore_default_args=["--disable-extensions"]
            )
            try:
                yield context
            finally:
                await context.close()


async def popup_of(context: BrowserContext, name: str = "popup.html") -> Page:
    """The extension's popup, in a tab of its own."""
    worker = context.service_workers[0] if context.service_workers else await context.wait_for_event("serviceworker")
    page = await context.new_page()
    await page.goto(f"chrome-extension://{worker.url.split('/')[2]}/{name}")
    return page


async def shown(page: Page, element: str = "other") -> Rgb | None:
    """What a video element of the page shows now, uint8 [H, W, 3]; None before its first picture."""
    url = await page.evaluate(READ_BACK, element)
    if url is None:
        return None
    png = Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1])))
    return np.ascontiguousarray(np.array(png.convert("RGB")))
