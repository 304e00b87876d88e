"""A real Chromium for tests, its camera fed from a clip."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

from benchmarks.interop.extended import ARGUMENTS


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
