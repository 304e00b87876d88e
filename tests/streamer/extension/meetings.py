"""A call between two tabs of Chromium, one of them with the extension, and what the other side ever saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient
from playwright.async_api import BrowserContext, Page

from benchmarks.interop.extended import extended, shown
from engines import Rgb, SwapSettings, load
from streamer.app import ROOM
from streamer.config import ServerConfig
from tests.streamer.calls import Loader, negative, served
from tests.streamer.extension.browsers import TOKEN, pages, written
from tests.streamer.faces import RAW, RawFace
from tests.streamer.test_browser import wardrobe

CARD_STD = 20.0  # of a card's pixels; the negative of the clip has three times as much
COMES_S = 40.0


@dataclass
class Meeting:
    """Two tabs in a call, and what the other side ever saw."""

    context: BrowserContext
    client: TestClient[Any, Any]
    page: Page
    other: Page
    raw: RawFace

    async def sees(self) -> Rgb | None:
        """What the other side sees now. Fails where it is the real face."""
        picture = await shown(self.other)
        if picture is not None and picture.shape == (360, 640, 3):
            assert self.raw.likeness(picture) < RAW, "the other side sees the real face"
        return picture

    async def until(self, what: Callable[[Rgb], bool], within_s: float = COMES_S) -> float:
        """Looks at what the other side sees until it is so. Returns the seconds that it took."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < within_s:
            picture = await self.sees()
            if picture is not None and what(picture):
                return time.monotonic() - began_s
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within {within_s} s")

    def swapped(self, picture: Rgb) -> bool:
        """The negative of the camera's picture: what the quick engine of these tests draws."""
        return picture.shape == (360, 640, 3) and self.raw.negative(picture) < -0.5

    async def calls(self, count: int) -> None:
        async with asyncio.timeout(COMES_S):
            while len(self.client.server.app[ROOM].peers) != count:  # type: ignore[attr-defined]  # noqa: ASYNC110
                await asyncio.sleep(0.05)


def is_card(picture: Rgb) -> bool:
    return float(picture.std()) < CARD_STD


@asynccontextmanager
async def meeting(
    chromium: str,
    camera_clip: Path,
    raw_face: RawFace,
    tmp_path: Path,
    name: str,
    *,
    real: Path | None = None,
    **more: Any,
) -> AsyncIterator[Meeting]:
    """The page `name` with the extension, and the other side. `real`: with the proxy engine, its data there."""
    swap = SwapSettings(engine="proxy") if real else SwapSettings()
    config = ServerConfig(token=TOKEN, max_sessions=2, swap=swap)
    makes: tuple[Any, Any] = (load, wardrobe(real)) if real else (Loader(negative), None)
    async with served(config, *makes) as client, pages() as at:
        extension = written(tmp_path / "extension", str(client.make_url("")).rstrip("/"))
        async with extended(chromium, extension, camera_clip, **more) as context:
            other, page = await context.new_page(), await context.new_page()
            said: list[str] = []
            page.on("pageerror", lambda error: said.append(str(error)))
            await other.goto(f"{at}/other.html")
            await page.goto(f"{at}/{name}.html")
            yield Meeting(context, client, page, other, raw_face)
            assert said == []


Meet = Callable[..., AbstractAsyncContextManager[Meeting]]  # `meeting` from its page on
