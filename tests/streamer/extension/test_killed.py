"""The real command, killed in the middle of a call: the standby picture, never the real face, then the call again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from playwright.async_api import expect

from benchmarks.interop.extended import extended, free_port, popup_of, serving, shown
from tests.streamer.extension.browsers import TOKEN, pages, written
from tests.streamer.extension.meetings import is_card
from tests.streamer.faces import RAW, RawFace

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(300)]


async def test_a_killed_server_leaves_the_standby_picture_and_comes_back(
    chromium: str, camera_clip: Path, raw_face: RawFace, tmp_path: Path
) -> None:
    port = free_port()
    extension = written(tmp_path / "extension", f"http://127.0.0.1:{port}")
    async with pages() as at, extended(chromium, extension, camera_clip) as context:
        other, page = await context.new_page(), await context.new_page()
        await other.goto(f"{at}/other.html")
        await page.goto(f"{at}/meet.html")

        async def looks(seconds: float) -> list[bool]:
            """Whether each picture that the other side sees is a card; none may be the real face."""
            until_s, found = time.monotonic() + seconds, []
            while time.monotonic() < until_s:
                picture = await shown(other)
                if picture is not None:
                    assert raw_face.likeness(picture) < RAW, "the real face"
                    found.append(is_card(picture))
            return found

        with serving(port, "proxy", TOKEN) as first:
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
        with serving(port, "proxy", TOKEN):
            await expect(popup.locator("body")).to_have_attribute("data-state", "live", timeout=30_000)
            await looks(3)
            await asyncio.wait_for(page.evaluate("stream.getVideoTracks()[0].stop()"), 5)
