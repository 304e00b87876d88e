"""A Chromium that has the extension, and the pages that it is tried on."""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image
from playwright.async_api import BrowserContext, Page, async_playwright

from engines import Rgb
from streamer.extension.settings import ExtensionSettings
from streamer.extension.writer import write_extension
from tests.streamer.chromium import ARGUMENTS

PAGES = Path(__file__).parent / "pages"
TOKEN = "a-token-of-some-length"
READ_BACK = """(id) => {
  const video = document.getElementById(id);
  if (!video.videoWidth) return null;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  return canvas.toDataURL("image/png");
}"""


def written(folder: Path, server: str, **more: Any) -> Path:
    """The extension for Chromium, as the command writes it, for that server."""
    settings = ExtensionSettings(folder=folder, server=server, **{"token": TOKEN, **more})
    return write_extension(settings)["chromium"][0]


@asynccontextmanager
async def pages(more: Sequence[web.RouteDef] = ()) -> AsyncIterator[str]:
    """Where the pages of the folder `pages` are served: on another port than any vividstream server."""
    app = web.Application()
    app.add_routes([*more, web.static("/", PAGES)])
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("")).rstrip("/")


@asynccontextmanager
async def extended(
    chromium: str,
    extension: Path,
    y4m: Path | None,
    more: Sequence[str] = (),
    allowed: bool = True,
    device: bool = True,
) -> AsyncIterator[BrowserContext]:
    """The browser with the extension, its camera fed from the clip; gone at the end with its profile."""
    arguments = [*ARGUMENTS, *more, f"--disable-extensions-except={extension}", f"--load-extension={extension}"]
    arguments += ["--use-fake-ui-for-media-stream"] * allowed + ["--use-fake-device-for-media-stream"] * device
    if y4m is not None:
        arguments.append(f"--use-file-for-fake-video-capture={y4m}")
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
