"""A real Chromium for tests, its camera fed from a clip."""

from __future__ import annotations

from playwright.async_api import Page

from benchmarks.interop.extended import chromium_with_camera

__all__ = ["chromium_with_camera", "console_of"]


async def console_of(page: Page) -> list[str]:
    """Everything that the page complains about from now on."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    return said
