"""A real call by the page in Chromium: drawn pictures a second, their age on the screen, memory, the first picture.

    python -m benchmarks.browser_call                          tiny: five starts, then a call of 30 minutes
    python -m benchmarks.browser_call --quick                  one start, a call of 40 s
    python -m benchmarks.browser_call --engine proxy --minutes 10 --write
    python -m benchmarks.browser_call --cold --minutes 0       the first start of an installation: nothing is compiled

`vividstream serve` as anybody would start it, and a headless Chromium that is open already; its camera shows a clip at
640x480, 30 a second. Server and browser share what processors there are. first picture: from the start of the command
to the first swapped picture on the screen, the page being opened and Start pressed at once when the server says that
it is ready. age: the page's own figure, from the browser's encoder to its screen, of the ten seconds before. drawn: as
the server counts; shown: pictures that the browser put onto the screen. Memory is of the server and its decoders,
shared pages once. Lines that are wanted are said to hold or not; others' processor time is told, so that one can see
whether the run is worth anything.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import click
import numpy as np
from av.video.frame import VideoFrame
from PIL import Image, ImageOps
from playwright.async_api import Browser, Page

from benchmarks.call_latency import FREEZE_MS, processor_s, server
from benchmarks.corpus import DATA, read_clip
from benchmarks.interop.extended import chromium_with_camera
from benchmarks.report import PRIVATE, REPORTS, machine, median, table, write_report
from benchmarks.server_watch import Census, census, metric
from benchmarks.soak import MOST_GROWTH_MB, MOST_GROWTH_SHARE
from benchmarks.wanted import HEAD as WANTED_HEAD
from benchmarks.wanted import Line
from engines import SettingError
from engines.types import Rgb

CLIP = "clips/single_face.mp4"
HEIGHT_PX, WIDTH_PX, FPS = 480, 640, 30
IDENTITY = "amara"
EVERY_S = 10.0  # as long as the page's own window
SETTLE_S = 12.0  # after the first picture: until that window is full
PATIENCE_S = 180.0
POLL_S = 0.02
LIVE = "body[data-state=live]"
NOTE = """
window.shownMs = [];
document.addEventListener("DOMContentLoaded", () => {
  const video = document.getElementById("result");
  const each = (now) => {
    window.shownMs.push(performance.timeOrigin + now);
    video.requestVideoFrameCallback(each);
  };
  video.requestVideoFrameCallback(each);
});
"""


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds since `vividstream serve` was started."""

    ready_s: float  # it says so
    page_s: float  # the page is open and shows the identities
    live_s: float  # the page says that the call is live
    first_s: float  # the first swapped picture is on the screen


@dataclass(frozen=True, slots=True)
class Sample:
    """The call in the seconds before this moment. Ages in milliseconds; NaN where the page does not know yet."""

    at_s: float
    drawn_per_s: float
    shown_per_s: float
    freezes: int  # more than FREEZE_MS without a new picture on the screen
    age_p50: float
    age_p95: float
    server_age_p95: float
    memory_mb: float
    server_cores: float
    browser_cores: float
    other_cores: float  # of programs that have no part in the call
    asked_fps: float  # of the camera, by the server: less than FPS where it does not keep up
    width_px: float  # of the picture on the screen: less than the camera's for the same reason


def growth(values: Sequence[float]) -> tuple[float, float]:
    """Medians of the first and the last third, without the first value: caches are still warming then."""
    rest = list(values[1:]) or list(values)
    size = max(len(rest) // 3, 1)
    return median(rest[:size]), median(rest[-size:])


def wanted(starts: Sequence[Start], samples: Sequence[Sample]) -> list[Line]:
    """What is asked of a call with a learned engine."""
    found = [Line("first picture, s, median", median([one.first_s for one in starts]), 3.0)] if starts else []
    if not samples:
        return found
    was_mb, now_mb = growth([one.memory_mb for one in samples])
    was_ms, now_ms = growth([one.age_p95 for one in samples])
    return [
        *found,
        Line("drawn pictures a second, median", median([one.drawn_per_s for one in samples]), 24.0, at_most=False),
        Line("shown pictures a second, median", median([one.shown_per_s for one in samples]), 24.0, at_most=False),
        Line(
            "width of the shown picture, px, median", median([one.width_px for one in samples]), WIDTH_PX, at_most=False
        ),
        Line("age p50, ms, median of all windows", median([one.age_p50 for one in samples]), 90.0),
        Line("age p95, ms, median of all windows", median([one.age_p95 for one in samples]), 150.0),
        Line("age p95, ms, last third over first", now_ms - was_ms, 20.0),
        Line("memory, MB, at most", max(one.memory_mb for one in samples), 1000.0),
        Line("memory, MB, last third over first", now_mb - was_mb, max(MOST_GROWTH_MB, MOST_GROWTH_SHARE * was_mb)),
    ]


def write_camera(rgbs: Sequence[Rgb], to: Path) -> None:
    """Pictures as Chromium's fake camera takes them, filled to the call's size, forth and back without a jump."""
    with to.open("wb") as out:
        out.write(f"YUV4MPEG2 W{WIDTH_PX} H{HEIGHT_PX} F{FPS}:1 Ip A1:1 C420jpeg\n".encode())
        for rgb in [*rgbs, *rgbs[-2:0:-1]]:
            filled = ImageOps.fit(Image.fromarray(rgb), (WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC)
            frame = VideoFrame.from_ndarray(np.asarray(filled), format="rgb24").reformat(format="yuv420p")
            out.write(b"FRAME\n" + frame.to_ndarray().tobytes())


def drawn_count(text: str) -> float:
    """Of the first call, by /metrics."""
    return metric(text, "shown_total", 'what="drawn"') or 0.0


async def metrics(http: aiohttp.ClientSession, address: str) -> str:
    async with http.get(f"{address}metrics") as response:
        return await response.text()


async def started(http: aiohttp.ClientSession, browser: Browser, address: str, began_s: float) -> tuple[Page, Start]:
    """Opens the page and starts a call. Raises SettingError where no swapped picture comes."""
    ready_s = time.time() - began_s
    page = await (await browser.new_context()).new_page()
    await page.add_init_script(NOTE)
    await page.goto(address)
    await page.wait_for_selector(".face")
    page_s = time.time() - began_s
    await page.click("#toggle")
    until_s = time.time() + PATIENCE_S
    while drawn_count(await metrics(http, address)) < 1:
        if time.time() > until_s:
            raise SettingError(f"no swapped picture within {PATIENCE_S:.0f} s: {await page.inner_text('#notice')}")
        await asyncio.sleep(POLL_S)
    since_ms, first_ms = 1e3 * (time.time() - POLL_S), None
    while first_ms is None:
        first_ms = await page.evaluate("(since) => shownMs.find((ms) => ms >= since)", since_ms)
    await page.wait_for_selector(LIVE)
    return page, Start(ready_s, page_s, time.time() - began_s, first_ms / 1e3 - began_s)


def busy_s() -> float:
    """Processor time of everything on this machine, since it was started."""
    fields = [int(field) for field in Path("/proc/stat").read_text(encoding="utf-8").split("\n")[0].split()[1:9]]
    user, nice, system, _, _, irq, softirq, _ = fields
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Moment:
    """Counters from which a sample is made."""

    at_s: float
    drawn: float
    server_s: float
    all_ours_s: float
    busy_s: float

    @classmethod
    async def now(cls, http: aiohttp.ClientSession, address: str, pid: int) -> Moment:
        drawn = drawn_count(await metrics(http, address))
        return cls(time.monotonic(), drawn, processor_s(pid), processor_s(os.getpid()), busy_s())


def sample(before: Moment, now: Moment, began_s: float, seen: dict[str, Any], held: Census, asked: float) -> Sample:
    """What two moments and the page say."""
    took_s = now.at_s - before.at_s
    server_s, ours_s = now.server_s - before.server_s, now.all_ours_s - before.all_ours_s
    shown = np.array(seen["shownMs"], np.float64)
    return Sample(
        at_s=now.at_s - began_s,
        drawn_per_s=(now.drawn - before.drawn) / took_s,
        shown_per_s=len(shown) / took_s,
        freezes=int((np.diff(shown) > FREEZE_MS).sum()),
        age_p50=_age(seen, "ageP50Ms"),
        age_p95=_age(seen, "ageP95Ms"),
        server_age_p95=float(seen["data"].get("serverAgeP95Ms", "nan")),
        memory_mb=held.memory_mb,
        server_cores=server_s / took_s,
        browser_cores=(ours_s - server_s) / took_s,
        other_cores=max(now.busy_s - before.busy_s - ours_s, 0.0) / took_s,
        asked_fps=asked,
        width_px=float(seen["width"]),
    )


def _age(seen: dict[str, Any], name: str) -> float:
    """Of pictures on the screen, and no other age."""
    on_screen = seen["data"].get("ageKind") == "camera-to-screen"
    return float(seen["data"][name]) if on_screen else float("nan")


async def watched(
    http: aiohttp.ClientSession, page: Page, address: str, pid: int, seconds: float, every_s: float
) -> list[Sample]:
    """The call until its end. Raises SettingError where it ends before."""
    look = """({shownMs: window.shownMs.splice(0), data: {...document.getElementById("numbers").dataset},
                width: document.getElementById("result").videoWidth})"""
    await asyncio.sleep(min(SETTLE_S, seconds / 2))
    await page.evaluate(look)
    began_s, before, samples = time.monotonic(), await Moment.now(http, address, pid), list[Sample]()
    while time.monotonic() < began_s + seconds:
        await asyncio.sleep(every_s)
        if await page.query_selector(LIVE) is None:
            raise SettingError(f"the call is over: {await page.inner_text('#notice')}")
        seen, held = await page.evaluate(look), await census(http, address, pid)
        now, asked = await Moment.now(http, address, pid), metric(await metrics(http, address), "asked_fps", "call=")
        samples.append(sample(before, now, began_s, seen, held, asked or float("nan")))
        before = now
        click.echo(f"{samples[-1]}", err=True)
    return samples


async def calls(engine: str, starts: int, seconds: float, every_s: float, clip: Path, cold: bool) -> Measured:
    """Starts the server so many times; the last call stays."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise SettingError("Chromium is not installed")
    found, samples = list[Start](), list[Sample]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_camera(read_clip(clip).frames, folder / "camera.y4m")
        async with (
            aiohttp.ClientSession() as http,
            chromium_with_camera(path, folder / "camera.y4m") as browser,
        ):
            for number in range(starts):
                environment = {"NUMBA_CACHE_DIR": str(folder / f"kernels-{number}")} if cold else {}
                began_s = time.time()
                with server("ours", engine, ("--identity", IDENTITY), environment) as (address, pid):
                    page, start = await started(http, browser, address, began_s)
                    found.append(start)
                    click.echo(f"{engine}: {start}", err=True)
                    if number == starts - 1 and seconds > 0:
                        samples = await watched(http, page, address, pid, seconds, every_s)
                    await page.context.close()
    return Measured(engine, cold, found, samples)


@dataclass(frozen=True, slots=True)
class Measured:
    """All of one engine."""

    engine: str
    cold: bool
    starts: list[Start]
    samples: list[Sample]


START_HEAD = ("ready", "page open", "live", "first swapped picture")
CALL_HEAD = ("", "median", "first third", "last third", "least", "most")


def report(runs: Sequence[Measured], clip: str) -> str:
    """The tables."""
    parts = ["# A call in Chromium", "", f"{machine()}.", "", f"{clip} at {WIDTH_PX}x{HEIGHT_PX}, {FPS} a second.", ""]
    for run in runs:
        parts += [f"## {run.engine}{', nothing compiled before' if run.cold else ''}", ""]
        rows = [line.row() for line in wanted([] if run.cold else run.starts, run.samples)]
        parts += [table(WANTED_HEAD, rows), ""] if rows else []
        starts = [[f"{value:.2f}" for value in asdict(start).values()] for start in run.starts]
        parts += ["Starts, seconds since the command:", "", table(START_HEAD, starts), ""]
        if run.samples:
            parts += [f"{len(run.samples)} samples, {run.samples[-1].at_s / 60:.1f} minutes:", "", _call(run), ""]
    return "\n".join(parts)


def _call(run: Measured) -> str:
    names = [name for name in asdict(run.samples[0]) if name != "at_s"]
    rows = []
    for name in names:
        values = [float(getattr(one, name)) for one in run.samples]
        figures = (median(values), *growth(values), min(values), max(values))
        rows.append((name.replace("_", " "), *(f"{value:.2f}" for value in figures)))
    return table(CALL_HEAD, rows)


@click.command(help=__doc__)
@click.option("--engine", "engines", multiple=True, default=("tiny",), show_default=True, help="may be repeated")
@click.option("--minutes", type=click.FloatRange(0), default=30.0, show_default=True, help="of the call that stays")
@click.option("--starts", type=click.IntRange(1), default=5, show_default=True, help="of the server")
@click.option("--clip", default=CLIP, show_default=True, help="what the camera shows, under the data folder")
@click.option("--cold", is_flag=True, help="with an empty cache of compiled kernels; one start")
@click.option("--quick", is_flag=True, help="one start, a call of 40 s")
@click.option("--write", is_flag=True, help="into docs/benchmarks; else into out/")
def main(
    engines: tuple[str, ...], minutes: float, starts: int, clip: str, cold: bool, quick: bool, write: bool
) -> None:
    starts = 1 if quick or cold else starts
    seconds, every_s = (min(40.0, 60 * minutes), 5.0) if quick else (60 * minutes, EVERY_S)
    runs = [asyncio.run(calls(engine, starts, seconds, every_s, DATA / clip, cold)) for engine in engines]
    text = report(runs, clip)
    click.echo(text)
    figures = {"runs": [asdict(run) for run in runs]}
    name = "-".join(("browser-call", *(("cold",) if cold else ()), *engines))
    click.echo(f"written: {write_report(name, text, figures, REPORTS if write else PRIVATE)}")


if __name__ == "__main__":
    main()
