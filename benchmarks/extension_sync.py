"""Whether the voice that a page gets from the browser extension is in step with the picture: beeps and flashes.

    python -m benchmarks.extension_sync               with the voice held back and without, passthrough and proxy
    python -m benchmarks.extension_sync --quick       with and without, proxy, half as long
    python -m benchmarks.extension_sync --write

Chromium's camera shows a flash every second, its microphone beeps every second. What comes from them is noted where the
extension opens them, and again where the page has its tracks, on one clock. skew: how much later the voice is than the
picture of the same moment (negative: earlier). 45 ms is what nobody notices (ITU-R BT.1359). The page asks
for camera and microphone without anybody having clicked into it. Needs Chromium and Playwright.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import wave
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from aiohttp import web
from playwright.async_api import BrowserContext

from benchmarks.corpus import DATA
from benchmarks.flash_clip import BEEP_S, write_flash_clip
from benchmarks.interop.extended import extended, free_port, popup_of, serving, write_y4m
from benchmarks.packet_caller import BEEP_HZ, BEEP_LEVEL, SOUND_CLOCK
from benchmarks.report import machine, table, write_report
from streamer.extension.settings import ExtensionSettings
from streamer.extension.writer import write_extension

CLIP = "clips/single_face.mp4"
SCRIPT = Path(__file__).with_suffix(".js")
TOKEN = "a-token-for-measuring"
ASKED = """ask({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  video: { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { max: %d } } })"""
NOTED = "({ flashes: sync.flashes, beeps: sync.beeps })"
LIMIT_MS = 45.0
WARM_S = 12.0  # the delay follows the picture's slowly, so that nobody hears it
LONGEST_MS = 900.0  # that a flash or beep may be away: the next one follows after a second
EARLIEST_MS = 5.0  # by which a beep may seem to come before it was there: sound comes in pieces


@dataclass(frozen=True, slots=True)
class Skew:
    """One call's figures, milliseconds."""

    engine: str
    voice: str  # held back, or as it is
    pairs: int
    picture_delay: float  # median, from the real camera to the page
    voice_delay: float  # median
    skew_p50: float
    skew_p95: float  # of its size, each flash by itself
    picture_spread: float  # the same of the picture alone, around its own median: what no delay of the voice can mend


def write_beeps(path: Path, seconds: int = 10) -> None:
    """A beep at the beginning of every second, as Chromium's fake microphone takes it."""
    times_s = np.arange(seconds * SOUND_CLOCK) / SOUND_CLOCK
    samples = BEEP_LEVEL * np.sin(2 * np.pi * BEEP_HZ * times_s) * (times_s % 1.0 < BEEP_S)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SOUND_CLOCK)
        out.writeframes(samples.astype("<i2").tobytes())


def delays(before_ms: Sequence[float], after_ms: Sequence[float], early_ms: float = 0.0) -> dict[float, float]:
    """Of each that came again when: by when it was there first. Both ascending."""
    found = {}
    for one in before_ms:
        place = bisect_left(after_ms, one - early_ms)
        if place < len(after_ms) and after_ms[place] - one < LONGEST_MS:
            found[one] = after_ms[place] - one
    return found


class Worlds:
    """The page's own world and the extension's in it, to evaluate expressions in, as nobody who clicks."""

    def __init__(self, context: BrowserContext) -> None:
        self._context = context
        self._ids: dict[str, int] = {}
        self._cdp: Any = None

    async def open(self, address: str) -> None:
        page = await self._context.new_page()
        self._cdp = await self._context.new_cdp_session(page)
        self._cdp.on("Runtime.executionContextCreated", lambda event: self._note(event["context"]))
        await page.goto(address)
        await self._cdp.send("Runtime.enable")
        async with asyncio.timeout(10):
            while len(self._ids) < 2:  # noqa: ASYNC110  the browser's own time
                await asyncio.sleep(0.05)

    def _note(self, world: dict[str, Any]) -> None:
        if world["name"] in ("", "vividstream"):
            self._ids[world["name"] or "page"] = world["id"]

    async def evaluate(self, world: str, expression: str) -> Any:
        asked = {"expression": expression, "contextId": self._ids[world], "awaitPromise": True, "returnByValue": True}
        answer = await self._cdp.send("Runtime.evaluate", asked)
        if "exceptionDetails" in answer:
            raise click.ClickException(str(answer["exceptionDetails"]))
        return answer["result"].get("value")


@asynccontextmanager
async def empty_page() -> AsyncIterator[str]:
    """Where a page with nothing in it is served."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>nothing</title>", content_type="text/html")

    app, port = web.Application(), free_port()
    app.add_routes([web.get("/", page)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{port}/"
    finally:
        await runner.cleanup()


async def measured(folder: Path, engine: str, fps: int, held: bool, seconds: float) -> Skew:
    """One call to a fresh server from a fresh browser."""
    port, chromium = free_port(), shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise click.ClickException("Chromium is not installed: apt install chromium")
    settings = ExtensionSettings(folder=folder / "extension", server=f"http://127.0.0.1:{port}", token=TOKEN)
    extension = write_extension(settings)["chromium"][0]
    with serving(port, engine, TOKEN):
        async with (
            empty_page() as address,
            extended(chromium, extension, folder / "camera.y4m", wav=folder / "beeps.wav") as context,
        ):
            popup = await popup_of(context)
            await popup.evaluate("(sound) => chrome.storage.local.set({ sound, identity: 'lucia' })", held)
            worlds = Worlds(context)
            await worlds.open(address)
            script = SCRIPT.read_text(encoding="utf-8")
            await worlds.evaluate("vividstream", f"{script};noteAll()")
            await worlds.evaluate("page", script)
            told = await worlds.evaluate("page", ASKED % fps)
            if told["clicked"] or told["camera"] != "vividstream":
                raise click.ClickException(f"not what is to be measured: {told}")
            await asyncio.sleep(WARM_S + seconds)
            real, given = [await worlds.evaluate(world, NOTED) for world in ("vividstream", "page")]
    return _skew(real, given, engine, "held back" if held else "as it is")


def _skew(real: dict[str, list[float]], given: dict[str, list[float]], engine: str, voice: str) -> Skew:
    pictures = delays(real["flashes"], given["flashes"])
    voices = delays(real["beeps"], given["beeps"], EARLIEST_MS)
    began_ms = min(given["beeps"], default=0.0) + WARM_S * 1e3
    late = sorted(beep for beep in voices if beep > began_ms)
    flashes = [flash for flash in pictures if flash > began_ms]
    if not flashes or not late:
        raise click.ClickException(f"{engine}: no flash came with its beep")
    picture_ms = np.array([pictures[flash] for flash in flashes])
    voice_ms = np.array([voices[late[bisect_left(late, flash) - 1]] for flash in flashes])
    skew_ms, spread_ms = voice_ms - picture_ms, np.abs(picture_ms - np.median(picture_ms))
    return Skew(
        engine, voice, len(flashes),
        float(np.median(picture_ms)), float(np.median(voice_ms)), float(np.median(skew_ms)),
        float(np.percentile(np.abs(skew_ms), 95)), float(np.percentile(spread_ms, 95)),
    )  # fmt: skip


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--seconds", default=30.0, help="of each call that count")
@click.option("--quick", is_flag=True, help="15 s, proxy alone")
@click.option("--fps", default=15, help="pictures a second that the page asks for at most")
@click.option("--write", is_flag=True, help="write docs/benchmarks/DATE-extension-sync.{md,json}")
def main(seconds: float, quick: bool, fps: int, write: bool) -> None:
    runs: list[Skew] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_flash_clip(folder / "clip.mkv", DATA / CLIP, height_px=360)
        write_y4m(folder / "clip.mkv", folder / "camera.y4m")
        write_beeps(folder / "beeps.wav")
        for engine in ("proxy",) if quick else ("passthrough", "proxy"):
            for held in (True, False):
                runs.append(asyncio.run(measured(folder, engine, fps, held, 15.0 if quick else seconds)))
                click.echo(str(runs[-1]), err=True)
    head = "engine,voice,pairs,picture's delay p50,voice's delay p50,skew p50,skew p95,picture's own spread p95".split(
        ","
    )
    rows = [[f"{value:.1f}" if isinstance(value, float) else value for value in asdict(run).values()] for run in runs]
    about = __doc__.split("\n\n")[-1].strip() if __doc__ else ""
    title = f"# The voice beside the picture in a web call: milliseconds, at most {LIMIT_MS:.0f} wanted"
    text = "\n".join([title, "", f"{machine()}.", "", about, "", table(head, rows), ""])
    click.echo(text)
    if write:
        click.echo(
            f"written: {write_report('extension-sync', text, {'runs': [asdict(run) for run in runs]})}", err=True
        )


if __name__ == "__main__":
    main()
