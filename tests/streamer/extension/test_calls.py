"""The extension in a real headless Chromium, in calls between two tabs: what the other side sees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from playwright.async_api import BrowserContext, Page, expect

from benchmarks.interop.extended import extended, popup_of, shown
from engines import Rgb, SwapSettings, load
from streamer.app import ROOM
from streamer.config import ServerConfig
from tests.streamer.calls import Loader, negative, served
from tests.streamer.extension.browsers import TOKEN, pages, written
from tests.streamer.faces import RAW, RawFace
from tests.streamer.test_browser import faces_in, wardrobe

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

CARD_STD = 20.0  # of a card's pixels; the negative of the clip has three times as much
COMES_S = 40.0
ASKED = """(video) => navigator.mediaDevices.getUserMedia({ video }).then(
  (stream) => { const [track] = stream.getVideoTracks(); const { label } = track; track.stop(); return label; },
  ({ name, message, constraint }) => ({ name, message, ...(constraint && { constraint }) }))"""
SPY = """() => {
  window.heard = [];
  const { dispatchEvent } = EventTarget.prototype;
  EventTarget.prototype.dispatchEvent = function (event) {
    heard.push(event.type, event.detail);
    return dispatchEvent.call(this, event);
  };
  for (const name of ["addTrack", "addTransceiver", "createOffer", "setRemoteDescription"]) {
    RTCPeerConnection.prototype[name] = () => heard.push(name);
  }
  window.fetch = (...given) => heard.push(String(given[0]));
}"""
KNOCK = """() => {
  let got = null;
  document.addEventListener("vividstream-here", (event) => (got = event.relatedTarget));
  document.dispatchEvent(new MouseEvent("vividstream-where"));
  return got;
}"""
LABELS = """() => navigator.mediaDevices.enumerateDevices().then(
  (all) => all.filter(({ kind }) => kind === "videoinput").map(({ label }) => label))"""


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


async def test_a_page_like_meet_sends_the_other_face_and_never_the_real_one(
    chromium: str, camera_clip: Path, raw_face: RawFace, tmp_path: Path
) -> None:
    async with meeting(chromium, camera_clip, raw_face, tmp_path, "meet") as call:
        green = await call.page.evaluate("greenRoom()")
        assert green["kinds"] == ["audio", "video"]
        assert green["labels"][0] == "vividstream"
        assert len(green["labels"]) == 2, "the real camera can be chosen too"
        joined = await call.page.evaluate("join('vividstream')")
        assert joined["label"] == "vividstream"
        settings, able = joined["settings"], joined["capabilities"]
        assert (settings["width"], settings["height"], settings["facingMode"]) == (640, 360, "user")
        assert settings["deviceId"] == able["deviceId"]
        await call.until(call.swapped)
        assert await call.page.evaluate("document.getElementById('own').videoWidth") == 640, "the clone shows it too"
        smaller = await call.page.evaluate("smaller()")
        assert (smaller["width"], smaller["height"], smaller["frameRate"]) == (320, 180, 15)
        await call.until(lambda picture: picture.shape == (180, 320, 3))
        assert await call.page.evaluate("offAndOn('vividstream')") == "ended"
        await call.until(call.swapped)
        await call.page.evaluate("stream.getTracks().forEach((track) => track.stop())")
        await call.calls(0)


@pytest.mark.long
async def test_a_page_like_jitsi_mutes_and_unmutes(
    chromium: str, camera_clip: Path, raw_face: RawFace, tmp_path: Path
) -> None:
    async with meeting(chromium, camera_clip, raw_face, tmp_path, "jitsi") as call:
        settings = await call.page.evaluate("join('vividstream')")
        assert settings["height"] <= 720
        await call.until(call.swapped)
        assert await call.page.evaluate("muteVideo()") == "ended"
        await call.calls(0)
        again = await call.page.evaluate("(id) => unmuteVideo(id)", settings["deviceId"])
        assert again["deviceId"] == settings["deviceId"]
        await call.until(call.swapped)


@pytest.mark.long
async def test_the_proxy_engines_face_is_what_the_other_side_sees(
    chromium: str, camera_clip: Path, raw_face: RawFace, tmp_path: Path, shared_data: Path
) -> None:
    async with meeting(chromium, camera_clip, raw_face, tmp_path, "meet", real=shared_data) as call:
        await call.page.evaluate("join('vividstream', 640, 360, 8)")  # few pictures, for a machine with other work
        pictures: list[Rgb] = []
        async with asyncio.timeout(2 * COMES_S):
            while faces_in(pictures) < 3:
                await asyncio.sleep(0.4)
                picture = await call.sees()
                pictures += [] if picture is None or is_card(picture) else [picture]


async def test_when_the_server_goes_the_standby_picture_comes_and_then_the_face_again(
    chromium: str, camera_clip: Path, raw_face: RawFace, tmp_path: Path
) -> None:
    async with meeting(chromium, camera_clip, raw_face, tmp_path, "meet") as call:
        await call.page.evaluate("join('vividstream')")
        await call.until(call.swapped)
        track = "JSON.stringify([stream.getVideoTracks()[0].id, stream.getVideoTracks()[0].readyState])"
        before = await call.page.evaluate(track)
        for peer in tuple(call.client.server.app[ROOM].peers.values()):  # type: ignore[attr-defined]
            peer.hang_up("a test")
        assert await call.until(is_card, 5.0) < 3.0
        await call.until(call.swapped)
        assert await call.page.evaluate(track) == before, "the track is the same all the time"


@pytest.mark.long
async def test_constraints_and_the_real_camera(
    chromium: str, camera_clip: Path, raw_face: RawFace, tmp_path: Path
) -> None:
    async with meeting(chromium, camera_clip, raw_face, tmp_path, "meet") as call:
        asked = call.page.evaluate
        assert await asked(ASKED, {"deviceId": "a camera that is gone"}) == "vividstream"
        assert (await asked(ASKED, {"width": {"exact": 5000}}))["constraint"] == "width"
        assert (await asked(ASKED, {"facingMode": {"exact": "environment"}}))["constraint"] == "facingMode"
        real = await asked(
            "navigator.mediaDevices.enumerateDevices().then((all) => all.find(({ kind, label }) => "
            "kind === 'videoinput' && label !== 'vividstream').deviceId)"
        )
        assert str(camera_clip) in await asked(ASKED, {"deviceId": {"exact": real}}), "who chooses it gets it"
        popup = await popup_of(call.context)
        await expect(popup.get_by_role("alert")).to_contain_text("shows your real camera")
        await popup.get_by_role("switch").uncheck()
        await expect(popup.locator("#state")).to_contain_text("Off")
        async with asyncio.timeout(5):
            while not await asked("changes.length"):  # noqa: ASYNC110  devicechange is on its way
                await asyncio.sleep(0.05)
        assert "vividstream" not in await asked(LABELS)
        options = await popup_of(call.context, "options.html")
        await popup.get_by_role("switch").check()
        await options.evaluate("chrome.storage.local.set({ hide: true })")
        assert await asked(LABELS) == ["vividstream"]
        assert (await asked(ASKED, {"deviceId": {"exact": real}}))["name"] == "OverconstrainedError"


@pytest.mark.long
async def test_what_is_wrong_is_said_in_one_sentence(
    chromium: str, camera_clip: Path, raw_face: RawFace, tmp_path: Path
) -> None:
    async with meeting(chromium, camera_clip, raw_face, tmp_path, "meet") as call:
        popup = await popup_of(call.context)
        for changed, sentence in (
            ({"token": "a-token-that-is-wrong"}, "does not take this token"),
            ({"token": ""}, "wants its token"),
            ({"server": "http://127.0.0.1:9"}, "cannot be reached"),
            ({"server": "http://192.0.2.1"}, "needs https"),
        ):
            await popup.evaluate("(changed) => chrome.storage.local.set(changed)", changed)
            refused: Any = await call.page.evaluate(ASKED, True)
            assert refused["name"] == "NotReadableError"
            await expect(popup.get_by_role("alert")).to_contain_text(refused["message"])
            assert sentence in refused["message"] or "cannot be reached" in refused["message"]
        assert len(call.client.server.app[ROOM].peers) == 0  # type: ignore[attr-defined]


async def answer_of(chromium: str, tmp_path: Path, ask: Callable[[Page], Awaitable[Any]], **more: Any) -> Any:
    """What a page of that browser says, with no server anywhere."""
    async with pages() as at, extended(chromium, written(tmp_path, "http://127.0.0.1:9"), None, **more) as context:
        page = await context.new_page()
        await page.goto(f"{at}/meet.html")
        return await ask(page)


@pytest.mark.long
async def test_no_camera_and_no_permission(chromium: str, tmp_path: Path) -> None:
    async def ask(page: Page) -> Any:
        return await page.evaluate(LABELS), await page.evaluate(ASKED, True)

    labels, refused = await answer_of(chromium, tmp_path / "none", ask, device=False)
    assert labels == []
    assert refused["name"] == "NotFoundError"
    assert "Plug one in" in refused["message"]
    denied = ["--deny-permission-prompts"]
    labels, refused = await answer_of(chromium, tmp_path / "denied", ask, more=denied, allowed=False)
    assert labels == [""], "no name before the permission"
    assert refused["name"] == "NotAllowedError"
    assert "Allow it" in refused["message"]


@pytest.mark.long
async def test_a_permission_that_is_taken_back_ends_the_track(
    chromium: str, camera_clip: Path, raw_face: RawFace, tmp_path: Path
) -> None:
    async with meeting(chromium, camera_clip, raw_face, tmp_path, "jitsi", allowed=False) as call:
        site = "/".join(call.page.url.split("/")[:3])
        await call.context.grant_permissions(["camera", "microphone"], origin=site)
        await call.page.reload()
        await call.page.evaluate("join('vividstream')")
        await call.until(call.swapped)
        await call.context.clear_permissions()
        async with asyncio.timeout(10):
            while "video ended" not in await call.page.evaluate("events"):  # noqa: ASYNC110  the browser's own time
                await asyncio.sleep(0.05)
        assert await call.page.evaluate("stream.getVideoTracks()[0].readyState") == "ended"
        await call.calls(0)


async def test_pages_do_not_see_the_token_and_get_nothing_else_from_the_server(
    chromium: str, camera_clip: Path, raw_face: RawFace, tmp_path: Path
) -> None:
    async with meeting(chromium, camera_clip, raw_face, tmp_path, "meet") as call:
        await call.page.evaluate(SPY)
        await call.page.evaluate(ASKED, True)
        assert await call.page.evaluate("heard") == [], "the page's own world takes no part"
        reached = await call.page.evaluate("typeof globalThis.chrome?.runtime?.id + typeof globalThis.chrome?.storage")
        assert reached == "undefinedundefined"
        node = await call.page.evaluate(KNOCK)
        assert node is None, "the way between the worlds is not offered again"
