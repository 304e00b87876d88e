"""The extension in a real headless Chromium, in calls between two tabs: what the other side sees."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from benchmarks.interop.extended import extended, popup_of
from engines import Rgb
from streamer.app import ROOM
from tests.streamer.extension.browsers import pages, written
from tests.streamer.extension.meetings import COMES_S, Meet, is_card
from tests.streamer.test_browser import faces_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

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


async def test_a_page_like_meet_sends_the_other_face_and_never_the_real_one(meet: Meet) -> None:
    async with meet("meet") as call:
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
async def test_a_page_like_jitsi_mutes_and_unmutes(meet: Meet) -> None:
    async with meet("jitsi") as call:
        settings = await call.page.evaluate("join('vividstream')")
        assert settings["height"] <= 720
        await call.until(call.swapped)
        assert await call.page.evaluate("muteVideo()") == "ended"
        await call.calls(0)
        again = await call.page.evaluate("(id) => unmuteVideo(id)", settings["deviceId"])
        assert again["deviceId"] == settings["deviceId"]
        await call.until(call.swapped)


@pytest.mark.long
async def test_the_proxy_engines_face_is_what_the_other_side_sees(meet: Meet, shared_data: Path) -> None:
    async with meet("meet", real=shared_data) as call:
        await call.page.evaluate("join('vividstream', 640, 360, 8)")  # few pictures, for a machine with other work
        pictures: list[Rgb] = []
        async with asyncio.timeout(2 * COMES_S):
            while faces_in(pictures) < 3:
                await asyncio.sleep(0.4)
                picture = await call.sees()
                pictures += [] if picture is None or is_card(picture) else [picture]


async def test_when_the_server_goes_the_standby_picture_comes_and_then_the_face_again(meet: Meet) -> None:
    async with meet("meet") as call:
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
async def test_constraints_and_the_real_camera(meet: Meet, camera_clip: Path) -> None:
    async with meet("meet") as call:
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
async def test_what_is_wrong_is_said_in_one_sentence(meet: Meet) -> None:
    async with meet("meet") as call:
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
async def test_a_permission_that_is_taken_back_ends_the_track(meet: Meet) -> None:
    async with meet("jitsi", allowed=False) as call:
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


async def test_pages_do_not_see_the_token_and_get_nothing_else_from_the_server(meet: Meet) -> None:
    async with meet("meet") as call:
        await call.page.evaluate(SPY)
        await call.page.evaluate(ASKED, True)
        assert await call.page.evaluate("heard") == [], "the page's own world takes no part"
        reached = await call.page.evaluate("typeof globalThis.chrome?.runtime?.id + typeof globalThis.chrome?.storage")
        assert reached == "undefinedundefined"
        node = await call.page.evaluate(KNOCK)
        assert node is None, "the way between the worlds is not offered again"
