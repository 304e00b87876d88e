"""The page in a real headless Chromium, its camera fed from a real clip."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient
from PIL import Image
from playwright.async_api import Browser, Page, expect

from engines import Identity, IdentityStore, Rgb, Status, StepResult, SwapSettings, load, standby_card
from engines.face.track import FaceTracker
from streamer.app import ROOM
from streamer.config import ServerConfig
from tests.streamer.calls import Identities, Loader, negative, served
from tests.streamer.chromium import chromium_with_camera, console_of
from tests.streamer.faces import RAW, RawFace, photo_identity

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

LIVE_MS = 30_000
READ_BACK = """() => {
  const video = document.getElementById("result");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  return canvas.toDataURL("image/png");
}"""


@asynccontextmanager
async def opened(client: TestClient[Any, Any], browser: Browser, **context: Any) -> AsyncIterator[Page]:
    """The page, open and filled, in a fresh profile. Fails at the end if the page or its policy complained."""
    fresh = await browser.new_context(**context)
    try:
        page = await fresh.new_page()
        said = await console_of(page)
        await page.goto(str(client.make_url("/")))
        await page.wait_for_selector(".face")
        yield page
        assert said == []
    finally:
        await fresh.close()


async def start(page: Page) -> None:
    await page.get_by_role("button", name="Start").click()
    await page.wait_for_selector("body[data-state=live]", timeout=LIVE_MS)


async def picture_of(page: Page) -> Rgb:
    """What the result's video element shows now, uint8 [H, W, 3]."""
    url = await page.evaluate(READ_BACK)
    png = Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1])))
    return np.ascontiguousarray(np.array(png.convert("RGB")))


def faces_in(pictures: list[Rgb]) -> int:
    tracker = FaceTracker(max_faces=4, follow="all")
    state = tracker.init()
    found = [len(tracker.step(state, picture, number / 5).faces) for number, picture in enumerate(pictures)]
    tracker.close()
    return sum(count == 1 for count in found)


async def test_the_page_shows_the_swapped_face_and_the_age_of_its_pictures(
    chromium: str, camera_clip: Path, raw_face: RawFace, shared_data: Path
) -> None:
    config = ServerConfig(swap=SwapSettings(engine="proxy"))
    async with (
        served(config, load, wardrobe(shared_data)) as client,
        chromium_with_camera(chromium, camera_clip) as browser,
        opened(client, browser) as page,
    ):
        await start(page)
        await page.wait_for_selector("body[data-showing=drawn]", timeout=LIVE_MS)
        numbers = page.locator("#numbers")
        await expect(numbers).to_have_attribute("data-age-kind", "camera-to-screen", timeout=LIVE_MS)
        pictures = []
        for _ in range(8):
            pictures.append(await picture_of(page))
            await asyncio.sleep(0.3)
        data = await page.evaluate("({...document.getElementById('numbers').dataset})")
        shown = await page.locator("#age").inner_text()
    assert {picture.shape for picture in pictures} == {(360, 640, 3)}
    assert max(raw_face.likeness(picture) for picture in pictures) < RAW, "the plain camera's face is on the page"
    assert faces_in(pictures) >= 4, "the swapped face is a face"
    p50_ms, p95_ms = float(data["ageP50Ms"]), float(data["ageP95Ms"])
    assert 0 < float(data["serverAgeP50Ms"]) < p50_ms <= p95_ms < 600
    assert re.fullmatch(r"\d+ ms", shown)
    assert data["engine"] == "proxy"


async def test_the_check_above_notices_the_plain_camera(chromium: str, camera_clip: Path, raw_face: RawFace) -> None:
    config = ServerConfig(swap=SwapSettings(engine="passthrough", label=False))
    async with (
        served(config, load) as client,
        chromium_with_camera(chromium, camera_clip) as browser,
        opened(client, browser) as page,
    ):
        await start(page)
        await page.wait_for_selector("body[data-showing=drawn]", timeout=LIVE_MS)
        pictures = []
        for _ in range(5):
            await asyncio.sleep(0.3)
            pictures.append(await picture_of(page))
        await expect(page.locator("#label-note")).to_contain_text("does not mark")
    assert max(raw_face.likeness(picture) for picture in pictures) > RAW
    assert faces_in(pictures) >= 3


async def test_a_person_starts_changes_the_face_and_stops_with_the_keyboard(chromium: str, camera_clip: Path) -> None:
    loader = Loader(negative)
    async with (
        served(loader=loader) as client,
        chromium_with_camera(chromium, camera_clip) as browser,
        opened(client, browser, reduced_motion="reduce") as page,
    ):
        await page.get_by_role("button", name="Start").focus()
        await page.keyboard.press("Enter")
        await page.wait_for_selector("body[data-state=live]", timeout=LIVE_MS)
        await expect(page.get_by_role("status")).to_have_text("Live: the result is shown")
        await page.get_by_role("radio", name="ada").focus()
        await page.keyboard.press("ArrowRight")
        await expect(page.get_by_role("radio", name="bo")).to_be_checked()
        await expect(page.locator("#numbers")).to_have_attribute("data-identity", "bo", timeout=5_000)
        await page.get_by_role("radio", name="Split").focus()
        await page.keyboard.press("Space")
        slider = page.get_by_role("slider")
        await slider.focus()
        await page.keyboard.press("Home")
        await expect(slider).to_have_value("0")
        await page.get_by_role("button", name="Stop").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("body")).to_have_attribute("data-state", "idle")
        await expect(page.locator("#age")).to_have_text("–")
        async with asyncio.timeout(5):
            while loader.made[-1].closed == 0:  # noqa: ASYNC110  the worker frees it in its own time
                await asyncio.sleep(0.02)


async def test_a_refused_camera_is_said_in_words(chromium: str) -> None:
    async with (
        served() as client,
        chromium_with_camera(chromium, None, ["--deny-permission-prompts"], fake_ui=False) as browser,
        opened(client, browser) as page,
    ):
        await page.get_by_role("button", name="Start").click()
        await expect(page.get_by_role("alert")).to_contain_text("did not allow the camera")
        await expect(page.locator("body")).to_have_attribute("data-state", "idle")


async def test_no_camera_is_said_in_words(chromium: str) -> None:
    async with (
        served() as client,
        chromium_with_camera(chromium, None, fake_device=False) as browser,
        opened(client, browser) as page,
    ):
        await page.get_by_role("button", name="Start").click()
        await expect(page.get_by_role("alert")).to_contain_text("No camera was found")


async def test_a_busy_server_is_said_in_words(chromium: str, camera_clip: Path) -> None:
    async with (
        served() as client,
        chromium_with_camera(chromium, camera_clip) as browser,
        opened(client, browser) as first,
    ):
        await start(first)
        second = await browser.new_page()
        await second.goto(str(client.make_url("/")))
        await second.wait_for_selector(".face")
        await second.get_by_role("button", name="Start").click()
        await expect(second.get_by_role("alert")).to_contain_text("server is busy")
        await second.close()


async def test_a_stuck_engine_and_a_lost_face_are_said_in_words(chromium: str, camera_clip: Path) -> None:
    failing = asyncio.Event()

    def moody(rgb_HW3: Rgb, captured_s: float) -> StepResult:
        if failing.is_set():
            raise RuntimeError("out of memory")
        height_px, width_px = rgb_HW3.shape[:2]
        return StepResult(standby_card(height_px, width_px).copy(), Status.STANDBY, 0)

    async with (
        served(loader=Loader(moody)) as client,
        chromium_with_camera(chromium, camera_clip) as browser,
        opened(client, browser) as page,
    ):
        await start(page)
        await expect(page.get_by_role("alert")).to_contain_text("No face is in view", timeout=LIVE_MS)
        failing.set()
        await expect(page.get_by_role("alert")).to_contain_text("The engine failed", timeout=LIVE_MS)


async def test_a_lost_connection_is_said_and_mended(chromium: str, camera_clip: Path) -> None:
    async with (
        served() as client,
        chromium_with_camera(chromium, camera_clip) as browser,
        opened(client, browser) as page,
    ):
        await start(page)
        for peer in tuple(client.server.app[ROOM].peers.values()):  # type: ignore[attr-defined]
            peer.hang_up("a test")
        await page.wait_for_selector("body[data-state=lost]", timeout=LIVE_MS)
        await expect(page.get_by_role("alert")).to_contain_text("connection to the server was lost")
        await page.wait_for_selector("body[data-state=live]", timeout=LIVE_MS)
        await expect(page.locator("#notice")).to_be_hidden()


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 800)])
async def test_the_page_fits_and_everything_has_a_name(chromium: str, width: int, height: int) -> None:
    async with (
        served() as client,
        chromium_with_camera(chromium, None) as browser,
        opened(client, browser, viewport={"width": width, "height": height}) as page,
    ):
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        nameless = await page.evaluate(NAMELESS)
        assert nameless == []
        await expect(page.get_by_role("radio", name="ada")).to_be_checked()
        await expect(page.get_by_label("Camera", exact=True)).to_be_visible()
        await expect(page.get_by_label("Engine", exact=True)).to_be_visible()


NAMELESS = """() => [...document.querySelectorAll("button, input, select, video, img")]
  .filter((one) => !one.labels?.length && !one.getAttribute("aria-label"))
  .filter((one) => !one.textContent.trim() && !one.hasAttribute("alt"))
  .map((one) => one.outerHTML)"""


def wardrobe(shared_data: Path) -> Any:
    """A built-in persona to wear; a photo's person where none is built in."""
    store = IdentityStore(None)
    if store.names():
        return store

    class Wardrobe(Identities):
        def __init__(self, worn: Identity) -> None:
            super().__init__()
            self._all[worn.name] = worn

    return Wardrobe(photo_identity(shared_data / "synth_faces" / "t0003_schnell.jpg"))


@pytest.mark.long
async def test_a_browser_sends_fewer_pictures_when_it_is_asked_to(chromium: str, camera_clip: Path) -> None:
    def slow(rgb_HW3: Rgb, captured_s: float) -> StepResult:
        time.sleep(0.1)
        return negative(rgb_HW3)

    async with (
        served(loader=Loader(slow)) as client,
        chromium_with_camera(chromium, camera_clip) as browser,
        opened(client, browser) as page,
    ):
        await start(page)
        (peer,) = client.server.app[ROOM].peers.values()  # type: ignore[attr-defined]
        async with asyncio.timeout(60):
            while True:
                numbers: dict[str, Any] = peer.numbers()
                if numbers["asked"]["fps"] <= 15 and numbers["fps_in"] < 18:
                    break
                await asyncio.sleep(0.5)
        await page.get_by_text("Where the time goes").click()
        await expect(page.locator("#asked-sub")).to_have_text("the engine does not keep up")
        await expect(page.locator("#stages tr")).to_have_count(6)
