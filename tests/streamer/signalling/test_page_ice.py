"""The page's way to find a connection (static/ice.js), in a real Chromium: late candidates, and another ICE session."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Page

from engines import SwapSettings, load
from streamer.config import ServerConfig
from streamer.signalling.http import ROOM
from streamer.transport.ice_restart import transport_of
from tests.streamer.calls import served
from tests.streamer.chromium import chromium_with_camera

CALL = """async () => {
  const { Ice, iceServers } = await import("/static/ice.js");
  const stream = await navigator.mediaDevices.getUserMedia({ video: true });
  const connection = (window.connection = new RTCPeerConnection({ iceServers: await iceServers() }));
  const ice = (window.ice = new Ice(connection));
  const video = (window.video = document.createElement("video"));
  connection.ontrack = ({ track }) => { video.srcObject = new MediaStream([track]); video.muted = true; video.play(); };
  connection.addTransceiver(stream.getVideoTracks()[0], { direction: "sendrecv", streams: [stream] });
  await connection.setLocalDescription(await connection.createOffer());
  const sdp = connection.localDescription.sdp;
  const body = JSON.stringify({ sdp });
  const response = await fetch("/session", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const answer = await response.json();
  await connection.setRemoteDescription({ type: "answer", sdp: answer.sdp });
  ice.begin(`/session/${answer.call}`, answer.tag);
  return { call: answer.call, early: sdp.includes("a=candidate:") };
}"""
SHOWN = "() => video.getVideoPlaybackQuality().totalVideoFrames"


async def shown(page: Page, count: int) -> None:
    """Waits until the page has shown more pictures than that."""
    async with asyncio.timeout(20):
        while await page.evaluate(SHOWN) <= count:  # noqa: ASYNC110  it is a browser
            await asyncio.sleep(0.05)


@pytest.mark.browser
async def test_candidates_follow_the_offer_and_a_new_session_follows_the_old_one(chromium: str) -> None:
    config = ServerConfig(swap=SwapSettings(engine="passthrough", label=False))
    async with served(config, load) as http, chromium_with_camera(chromium, None) as browser:
        page = await browser.new_page()
        await page.goto(str(http.make_url("/")))
        begun = await page.evaluate(CALL)
        assert not begun["early"], "the offer waits for no candidate"
        await shown(page, 5)
        peer = http.server.app[ROOM].peers[begun["call"]]  # type: ignore[attr-defined]
        assert peer.line.candidates > 0, "they came by PATCH"
        before = transport_of(peer._connection)._connection
        assert await page.evaluate("ice.restart()")
        assert await peer.line._restart.finished
        assert transport_of(peer._connection)._connection is not before
        count = await page.evaluate(SHOWN)
        await shown(page, count + 5)
        assert await page.evaluate("connection.connectionState") == "connected"
