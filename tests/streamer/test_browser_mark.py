"""The invisible mark in a real call: what Chromium received and shows is found marked, by this installation."""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.async_api import Page

from benchmarks.interop.extended import write_y4m
from engines import Rgb, SwapSettings, detect_mark, load, own_payload
from streamer.config import ServerConfig
from streamer.verify.look import verify_file
from tests.streamer.calls import served
from tests.streamer.chromium import chromium_with_camera
from tests.streamer.test_browser import wardrobe

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(180)]

LIVE_MS = 60_000
PICTURES = 10
RECORDED_MS = 5_000
LEAST_PX = 120  # of the shorter side; a machine without time sends less at first
READ_BACK = """() => {
  const video = document.getElementById("result");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  return canvas.toDataURL("image/png");
}"""


RECORD = """(milliseconds) => new Promise((done) => {
  const recorder = new MediaRecorder(document.getElementById("result").srcObject, {mimeType: "video/webm;codecs=vp8"});
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.onstop = () => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.readAsDataURL(new Blob(parts));
  };
  recorder.start();
  setTimeout(() => recorder.stop(), milliseconds);
})"""


async def recorded(page: Page) -> list[Rgb]:
    """Pictures of the result's video element, half a second apart: about 10 s of a call."""
    pictures: list[Rgb] = []
    for _ in range(4 * PICTURES):
        url = await page.evaluate(READ_BACK)
        picture = np.array(Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))).convert("RGB"))
        if min(picture.shape[:2]) >= LEAST_PX:
            pictures.append(picture)
        if len(pictures) == PICTURES:
            break
        await asyncio.sleep(0.5)
    return pictures


@pytest.mark.parametrize(("engine", "marked"), [("proxy", True), ("passthrough", False)])
async def test_what_the_receiver_sees_is_marked_also_without_a_label(
    chromium: str, shared_data: Path, tmp_path: Path, engine: str, marked: bool
) -> None:
    """Swapped pictures, and those of waiting; what nobody drew on is not."""
    camera = tmp_path / "camera.y4m"
    write_y4m(shared_data / "clips" / "single_face.mp4", camera)
    config = ServerConfig(swap=SwapSettings(engine=engine, label=False, label_off_reason="a test"))
    async with (
        served(config, load, wardrobe(shared_data)) as client,
        chromium_with_camera(chromium, camera) as browser,
    ):
        page = await (await browser.new_context()).new_page()
        await page.goto(str(client.make_url("/")))
        await page.wait_for_selector(".face")
        await page.get_by_role("button", name="Start").click()
        await page.wait_for_selector("body[data-showing=drawn]", timeout=LIVE_MS)
        pictures = await recorded(page)
        film = tmp_path / "recorded.webm"
        film.write_bytes(base64.b64decode((await page.evaluate(RECORD, RECORDED_MS)).split(",", 1)[1]))
    if not pictures:
        pytest.skip("this machine is too busy for pictures of any size")
    found = detect_mark(pictures, search=False)
    assert found.payload == (own_payload() if marked else None)
    verdict = await asyncio.to_thread(verify_file, film)
    assert verdict.finding is not None
    assert verdict.finding.payload == found.payload, "Chromium's own recording of the call, coded once more"
    if marked:
        alone = [detect_mark([picture], search=False).marked for picture in pictures]
        assert sum(alone) >= 0.7 * len(alone), "but for pictures of the first moments, of hardly any bits"
