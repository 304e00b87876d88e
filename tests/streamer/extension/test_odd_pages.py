"""Pages that ask in odd ways, tabs side by side, a laptop that slept: what they get is never the real face."""

from __future__ import annotations

import asyncio
import base64
import io
import time

import numpy as np
import pytest
from PIL import Image
from playwright.async_api import Page

from benchmarks.interop.extended import shown
from engines import Rgb
from streamer.app import ROOM
from tests.streamer.extension.meetings import Meet
from tests.streamer.faces import RAW, RawFace

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(240)]

CAMERAS = """navigator.mediaDevices.enumerateDevices().then((all) => all.filter(({ kind }) => kind === "videoinput")
  .map(({ label, deviceId, groupId }) => ({ label, deviceId, groupId })))"""
# Ways to a track that a page may try, each with the picture that it then has.
LOOK = """async function look(track) {
  const video = Object.assign(document.createElement("video"), { srcObject: new MediaStream([track]), muted: true });
  await video.play();
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  track.stop();
  return { label: track.label, picture: canvas.toDataURL("image/png") };
}"""
BUTTON = """(() => {
  window.heard = [];
  document.body.insertAdjacentHTML("beforeend", "<usermedia type='camera microphone'></usermedia>");
  window.button = document.querySelector("usermedia");
  const names = ({ stream }) => stream && stream.getTracks().map(({ kind, label }) => `${kind} ${label}`).sort();
  button.addEventListener("stream", () => heard.push(names(button)));
  button.addEventListener("error", () => heard.push("error"));
})()"""
SIZES = "{ width: { ideal: 640 }, height: { ideal: 360 } }"
WAYS = {
    "by the prototype": f"MediaDevices.prototype.getUserMedia.call(navigator.mediaDevices, {{ video: {SIZES} }})",
    "by the old form": f"new Promise((good, bad) => navigator.webkitGetUserMedia({{ video: {SIZES} }}, good, bad))",
    "of a frame made this moment": f"""(() => {{
      const frame = document.body.appendChild(document.createElement("iframe"));
      return frame.contentWindow.navigator.mediaDevices.getUserMedia({{ video: {SIZES} }});
    }})()""",
    "by the method of a fresh frame": f"""(() => {{
      const frame = document.body.appendChild(document.createElement("iframe"));
      const {{ getUserMedia }} = frame.contentWindow.MediaDevices.prototype;
      return getUserMedia.call(navigator.mediaDevices, {{ video: {SIZES} }});
    }})()""",
    "by a getter that changes its mind": """(() => {
      let read = 0;
      return navigator.mediaDevices.getUserMedia({ get video() {
        return read++ === 0 ? { deviceId: { exact: ours } } : { deviceId: { exact: real } };
      } });
    })()""",
    "with names twice": "navigator.mediaDevices.getUserMedia({ video: { deviceId: { exact: [ours, real] } } })",
    "after a clone of all": f"""navigator.mediaDevices.getUserMedia({{ video: {SIZES} }}).then(async (stream) => {{
      const copy = stream.clone();
      stream.getTracks().forEach((track) => track.stop());
      return new MediaStream(copy.getVideoTracks().map((track) => track.clone()));
    }})""",
    "after applying a name": f"""navigator.mediaDevices.getUserMedia({{ video: {SIZES} }}).then(async (stream) => {{
      const [track] = stream.getVideoTracks();
      await track.applyConstraints({{ deviceId: real, advanced: [{{ deviceId: real }}], width: 640, height: 360 }});
      await track.applyConstraints({{ deviceId: {{ exact: real }} }}).then(() => ends(), () => 0);
      return stream;
    }})""",
}


def picture_of(url: str) -> Rgb:
    image = Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))).convert("RGB")
    return np.ascontiguousarray(np.array(image.resize((640, 360))))


async def test_no_way_of_asking_gives_the_real_face(meet: Meet, raw_face: RawFace) -> None:
    async with meet("meet") as call:
        await call.page.evaluate("greenRoom()")
        before, again = await call.page.evaluate(CAMERAS), await call.page.evaluate(CAMERAS)
        assert before == again, "asked twice it is the same list"
        names = {camera["label"]: camera["deviceId"] for camera in before}
        ours = names.pop("vividstream")
        (real,) = names.values()
        known = f"const ours = {ours!r}, real = {real!r}; {LOOK}"
        for name, way in WAYS.items():
            seen = await call.page.evaluate(
                f"(async () => {{ {known} return look((await {way}).getVideoTracks()[0]); }})()"
            )
            assert seen["label"] == "vividstream", name
            assert raw_face.likeness(picture_of(seen["picture"])) < RAW, name


async def test_the_browsers_own_button_gives_ours(meet: Meet, raw_face: RawFace) -> None:
    async with meet("meet") as call:
        if not await call.page.evaluate("'HTMLUserMediaElement' in window"):
            pytest.skip("this Chromium has no <usermedia>")
        await call.page.evaluate(BUTTON)
        await asyncio.sleep(1)  # a button that has just come does not take clicks
        await call.page.locator("usermedia").click()
        async with asyncio.timeout(20):
            while not await call.page.evaluate("heard.length"):  # noqa: ASYNC110  the browser's own time
                await asyncio.sleep(0.1)
        assert await call.page.evaluate("heard") == [["audio Fake Default Audio Input", "video vividstream"]]
        seen = await call.page.evaluate(f"(async () => {{ {LOOK} return look(button.stream.getVideoTracks()[0]); }})()")
        assert raw_face.likeness(picture_of(seen["picture"])) < RAW


async def test_two_tabs_have_a_call_each_and_one_id(meet: Meet) -> None:
    async with meet("meet") as call:
        second = await call.context.new_page()
        await second.goto(call.page.url)
        begin = f"navigator.mediaDevices.getUserMedia({{ audio: true, video: {SIZES} }}).then((one) => (both = one))"
        show = "document.getElementById('own').srcObject = both"
        for page in (call.page, second):
            await page.evaluate(f"{begin}.then(() => ({show}, 0))")
        await call.calls(2)
        ids = [await page.evaluate("both.getVideoTracks()[0].getSettings().deviceId") for page in (call.page, second)]
        assert ids[0] == ids[1]
        for page in (call.page, second):
            await page.bring_to_front()
            assert await is_swapped(page, call.raw), "one of two tabs"
        await call.page.evaluate("both.getTracks().forEach((track) => track.stop())")
        await call.calls(1)
        assert await is_swapped(second, call.raw), "the other tab's end is not this one's"


async def is_swapped(page: Page, raw: RawFace, within_s: float = 20.0) -> bool:
    began_s = time.monotonic()
    while time.monotonic() - began_s < within_s:
        picture = await shown(page, "own")
        if picture is not None:
            assert raw.likeness(picture) < RAW, "the real face"
            if raw.negative(picture) < -0.5:
                return True
        await asyncio.sleep(0.1)
    return False


async def test_a_laptop_that_slept_wakes_to_the_standby_picture_then_the_face(meet: Meet) -> None:
    async with meet("meet") as call:
        await call.page.evaluate("join('vividstream')")
        await call.until(call.swapped)
        cdp = await call.context.new_cdp_session(call.page)
        await cdp.send("Page.setWebLifecycleState", {"state": "frozen"})
        for peer in tuple(call.client.server.app[ROOM].peers.values()):  # type: ignore[attr-defined]
            peer.hang_up("the server went while the page slept")
        until_s = time.monotonic() + 15
        while time.monotonic() < until_s:
            await call.sees()  # which fails where it is the real face
            await asyncio.sleep(0.2)
        await cdp.send("Page.setWebLifecycleState", {"state": "active"})
        await call.until(call.swapped)
        assert await call.page.evaluate("stream.getVideoTracks()[0].readyState") == "live"
