"""A real Chromium for tests, its camera fed from a clip."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import av
from playwright.async_api import Browser, Page, async_playwright

ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


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


@asynccontextmanager
async def chromium_with_camera(
    path: str, y4m: Path | None, more: Sequence[str] = (), fake_ui: bool = True, fake_device: bool = True
) -> AsyncIterator[Browser]:
    """The browser, closed at the end whatever happens. Without a clip it has Chromium's own test picture.

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


async def console_of(page: Page) -> list[str]:
    """Everything that the page complains about from now on."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    return said
