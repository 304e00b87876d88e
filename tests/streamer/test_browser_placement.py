"""A page whose server is full goes to the next one: two real servers, a real Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from playwright.async_api import expect

from streamer.app import create_app
from streamer.config import GuardSettings, ReachSettings, ServerConfig
from streamer.signalling.http import ROOM
from streamer.signalling.placement import page_there
from tests.streamer.calls import Camera, Identities, Loader, calling, negative, plain, served
from tests.streamer.chromium import chromium_with_camera, console_of

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

TOKEN = "a-token-of-both-servers"


@pytest.mark.parametrize(
    ("other", "scheme", "token", "there"),
    [
        ("https://two.example/", "https", "se+cret", "https://two.example/?token=se%2Bcret&placed=1"),
        ("https://two.example", "http", None, "https://two.example/?placed=1"),
        ("http://two.example", "http", "secret", "http://two.example/?token=secret&placed=1"),
        ("http://two.example", "https", "secret", "http://two.example/?placed=1"),
    ],
)
def test_the_token_goes_by_no_less_safe_a_way_than_it_came(
    other: str, scheme: str, token: str | None, there: str
) -> None:
    assert page_there(other, scheme, token) == there


async def test_only_who_may_use_the_server_is_sent_on_and_only_while_it_is_full() -> None:
    reach = ReachSettings(overflow=("http://two.example",))
    async with served(ServerConfig(token=TOKEN, reach=reach)) as full, calling(full) as caller:
        shown = {"Authorization": f"Bearer {TOKEN}"}
        assert (await full.get("/elsewhere", allow_redirects=False)).status == 401
        back = await full.get("/elsewhere", headers=shown, allow_redirects=False)
        assert (back.status, back.headers["Location"]) == (307, "/")
        full.session.headers.update(shown)
        await caller.start(Camera([plain((9, 9, 9))]))
        sent = await full.get("/elsewhere", allow_redirects=False)
        assert (sent.status, sent.headers["Location"]) == (307, f"http://two.example/?token={TOKEN}&placed=1")
        refused = await full.post("/session", json={"sdp": caller._connection.localDescription.sdp})
        assert (refused.status, refused.headers["Link"]) == (503, '</elsewhere>; rel="alternate"')


async def test_the_page_goes_to_the_server_that_has_room_with_its_token_and_choice(
    chromium: str, camera_clip: Path
) -> None:
    guard = GuardSettings(calls_per_address=8)
    two = create_app(ServerConfig(token=TOKEN, guard=guard), Identities("ada", "bo"), Loader(negative))
    async with TestClient(TestServer(two, host="127.0.0.1")) as roomy:
        reach = ReachSettings(overflow=(str(roomy.make_url("")),))
        async with (
            served(ServerConfig(token=TOKEN, guard=guard, reach=reach)) as full,
            calling(full) as first,
            chromium_with_camera(chromium, camera_clip) as browser,
        ):
            full.session.headers["Authorization"] = f"Bearer {TOKEN}"
            await first.start(Camera([plain((9, 9, 9))]))
            page = await (await browser.new_context()).new_page()
            said = await console_of(page)
            await page.goto(str(full.make_url("/").with_query(token=TOKEN)))
            await page.locator("label.face", has_text="bo").click()
            await page.get_by_role("button", name="Start").click()
            await page.wait_for_url(str(roomy.make_url("/")) + "**")
            await expect(page.get_by_role("alert")).to_contain_text("This one takes you")
            await expect(page.get_by_role("radio", name="bo")).to_be_checked()
            assert TOKEN not in page.url
            assert "placed" not in page.url
            await page.get_by_role("button", name="Start").click()
            await page.wait_for_selector("body[data-state=live]", timeout=30_000)
            (peer,) = two[ROOM].peers.values()
            assert peer.identity == "bo"
            assert len(full.server.app[ROOM].peers) == 1  # type: ignore[attr-defined]
            assert all("503" in one for one in said), said
