"""The microphone that a page gets together with our camera: held back, and else as any other."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, expect

from benchmarks.extension_sync import LIMIT_MS, measured, write_beeps
from benchmarks.flash_clip import write_flash_clip
from benchmarks.interop.extended import extended, popup_of, write_y4m
from streamer.config import ServerConfig
from streamer.extension.writer import SOURCE
from tests.streamer.calls import Loader, negative, served
from tests.streamer.extension.browsers import TOKEN, pages, written

BOTH = "navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false }, video: { width: 320 } })"
LOUDNESS = """async (track) => {
  const context = new AudioContext();
  const meter = context.createAnalyser();
  context.createMediaStreamSource(new MediaStream([track])).connect(meter);
  meter.fftSize = 32768;
  await context.resume();
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  const samples = new Float32Array(meter.fftSize);
  meter.getFloatTimeDomainData(samples);
  await context.close();
  return Math.max(...samples.map(Math.abs));
}"""


def paced(steps: list[tuple[float, float]], at_s: list[float]) -> list[float]:
    """The delays at these moments, of a voice that is to follow (moment, ms)."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    script = """
const [steps, moments] = %s;
const pace = new Pace();
const found = moments.map((at) => {
  while (steps.length > 0 && steps[0][0] <= at) pace.follow(steps[0][1], steps.shift()[0]);
  return pace.at(at);
});
console.log(JSON.stringify(found));
""" % json.dumps([steps, at_s])  # noqa: UP031  the script is full of braces
    text = (SOURCE / "pace.js").read_text(encoding="utf-8") + script
    done = subprocess.run([program, "--input-type=module", "-"], input=text, text=True, capture_output=True, check=True)
    found: list[float] = json.loads(done.stdout)
    return found


def test_the_delay_goes_to_the_pictures_age_without_a_jump() -> None:
    moments = [number / 10 for number in range(100)]
    found = paced([(0.0, 100.0), (1.0, 150.0), (5.0, 152.0), (6.0, 0.0)], moments)
    changes = [abs(after - before) for before, after in pairwise(found)]
    assert max(changes) <= 5.01, "faster than 50 ms a second"
    assert found[40] == found[59] == 150.0, "a little more or less is left alone"
    assert found[-1] == 0.0
    assert paced([(0.0, 5_000.0)], [100.0]) == [1_000.0]
    assert paced([(0.0, -20.0)], [1.0]) == [0.0]


@asynccontextmanager
async def opened(chromium: str, tmp_path: Path, y4m: Path, **more: Any) -> AsyncIterator[tuple[BrowserContext, Page]]:
    """A page that may ask for everything, beside a server that draws."""
    wav = tmp_path / "beeps.wav"
    write_beeps(wav)
    config = ServerConfig(token=TOKEN, max_sessions=2)
    async with served(config, Loader(negative)) as client, pages() as at:
        extension = written(tmp_path / "extension", str(client.make_url("")).rstrip("/"))
        async with extended(chromium, extension, y4m, wav=wav, **more) as context:
            page = await context.new_page()
            await page.goto(f"{at}/other.html")
            yield context, page


@pytest.mark.browser
@pytest.mark.long
@pytest.mark.timeout(180)
async def test_the_microphone_behaves_as_any_other(chromium: str, tmp_path: Path, camera_clip: Path) -> None:
    async with opened(chromium, tmp_path, camera_clip) as (context, page):
        asked = page.evaluate
        await asked("navigator.mediaDevices.getUserMedia({ audio: true }).then((one) => (window.alone = one))")
        await asked(f"{BOTH}.then((one) => {{ window.stream = one; [window.track] = one.getAudioTracks(); }})")
        real = await asked("alone.getAudioTracks()[0].label")
        assert await asked("track.label") == real
        assert await asked("stream.getTracks().map(({ kind }) => kind).sort().join()") == "audio,video"
        settings = await asked("track.getSettings()")
        assert settings["deviceId"] == await asked("alone.getAudioTracks()[0].getSettings().deviceId")
        assert settings["echoCancellation"] is False, "what was asked for is asked of the real one"
        assert await asked("track.getConstraints()") == {"echoCancellation": False}
        assert (await asked("track.getCapabilities()"))["deviceId"] == settings["deviceId"]
        assert await asked(f"({LOUDNESS})(track)") > 0.2
        await asked("track.applyConstraints({ echoCancellation: true })")
        assert await asked("track.getConstraints()") == {"echoCancellation": True}
        refused = await asked(
            "track.applyConstraints({ deviceId: { exact: 'gone' } })"
            ".catch(({ name, constraint }) => [name, constraint])"
        )
        assert refused == ["OverconstrainedError", "deviceId"]
        await asked("track.enabled = false")
        assert await asked(f"({LOUDNESS})(track)") == 0
        await asked("window.copy = track.clone()")
        assert await asked("[copy.enabled, copy.label, copy.id !== track.id]") == [False, real, True]
        await asked("copy.enabled = true; track.stop()")
        assert await asked("[track.readyState, copy.readyState]") == ["ended", "live"]
        assert await asked(f"({LOUDNESS})(copy)") > 0.2
        assert await asked("[stream.clone().getAudioTracks()[0].readyState]") == ["ended"]
        popup = await popup_of(context)
        await expect(popup.locator("#held")).to_contain_text("ms")
        await asked("stream.getVideoTracks()[0].stop()")
        assert await asked("copy.readyState") == "live", "who switches the camera off still speaks"
        options = await popup_of(context, "options.html")
        await options.get_by_label("Hold the microphone").uncheck()
        await options.get_by_role("button").click()
        await expect(options.locator("#state")).to_contain_text("Saved")
        kept = (
            "navigator.mediaDevices.getUserMedia({ audio: true }).then((one) => one.getAudioTracks()[0].getSettings())"
        )
        assert (await asked(kept))["deviceId"] == settings["deviceId"]


@pytest.mark.browser
@pytest.mark.long
@pytest.mark.timeout(120)
async def test_a_microphone_that_is_taken_back_ends(chromium: str, tmp_path: Path, camera_clip: Path) -> None:
    async with opened(chromium, tmp_path, camera_clip, allowed=False) as (context, page):
        await context.grant_permissions(["camera", "microphone"], origin="/".join(page.url.split("/")[:3]))
        await page.evaluate(f"{BOTH}.then((one) => {{ window.stream = one; window.ended = []; }})")
        await page.evaluate("for (const one of stream.getTracks()) one.onended = () => ended.push(one.kind)")
        await context.clear_permissions()
        async with asyncio.timeout(15):
            while await page.evaluate("ended.length") < 2:  # noqa: ASYNC110  the browser's own time
                await asyncio.sleep(0.1)
        assert await page.evaluate("stream.getTracks().map((one) => one.readyState)") == ["ended", "ended"]


@pytest.mark.browser
@pytest.mark.long
@pytest.mark.timeout(240)
async def test_the_voice_is_in_step_with_the_picture(chromium: str, tmp_path: Path, shared_data: Path) -> None:
    write_flash_clip(tmp_path / "clip.mkv", shared_data / "clips" / "single_face.mp4", height_px=360)
    write_y4m(tmp_path / "clip.mkv", tmp_path / "camera.y4m")
    write_beeps(tmp_path / "beeps.wav")
    found = await measured(tmp_path, "proxy", 10, True, 15.0)
    if found.picture_spread > LIMIT_MS:
        pytest.skip(f"the machine is too busy to tell: its pictures alone vary by {found.picture_spread:.0f} ms")
    assert abs(found.skew_p50) < LIMIT_MS
    assert found.voice_delay > found.picture_delay / 2, "the voice was not held back"
