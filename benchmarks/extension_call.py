"""The browser extension in a call of a real front end: PeerJS from npm, its own server, two tabs of Chromium.

    python -m benchmarks.extension_call CLIP --quick    one call
    python -m benchmarks.extension_call CLIP --write    three calls, the server killed in each, and a report

`vividstream serve` in a process of its own; the browser's camera shows CLIP. Told: how long the page
waits for its camera, when the other side sees the first picture, how old pictures are (as the popup says), when the
standby picture stands there after the server was killed, when the call's is back. `passthrough` tells the extension
and the call from the engine. `--pictures FOLDER` keeps what
the other side saw. Needs Chromium, Node.js with npm (peerjs, peer) and Playwright.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from aiohttp import web
from PIL import Image
from playwright.async_api import Page

from benchmarks.interop.extended import extended, free_port, popup_of, serving, shown, write_y4m
from benchmarks.report import machine, median, table, write_report
from engines import SettingError
from streamer.extension.settings import ExtensionSettings
from streamer.extension.writer import write_extension

PACKAGES = {"peer": "1.0.2", "peerjs": "1.5.5"}
TOKEN = "a-token-for-measuring"
CARD_STD = 20.0
PATIENCE_S = 60.0
PAGE = """<!doctype html><title>PeerJS</title>
<video id="own" muted autoplay></video><video id="other" muted autoplay></video>
<script src="/peerjs.min.js"></script><script>
const opened = (id) => new Promise((resolve, reject) => {
  const peer = new Peer(id, { host: "127.0.0.1", port: %d, path: "/", config: { iceServers: [] } });
  peer.on("open", () => resolve(peer));
  peer.on("error", reject);
});
async function waits() {
  const peer = await opened("bob");
  peer.on("call", (call) => {
    call.on("stream", (stream) => (document.getElementById("other").srcObject = stream));
    call.answer();
  });
}
async function calls(width, height, rate) {
  const peer = await opened("anna");
  const beganMs = performance.now();
  window.stream = await navigator.mediaDevices.getUserMedia({
    audio: true, video: { width: { ideal: width }, height: { ideal: height }, frameRate: { max: rate } } });
  const tookMs = performance.now() - beganMs;
  document.getElementById("own").srcObject = stream;
  window.call = peer.call("bob", stream);
  return { tookMs, label: stream.getVideoTracks()[0].label, id: stream.getVideoTracks()[0].id };
}
</script>"""


@dataclass
class Result:
    """One call. Seconds, but the ages of pictures, which are milliseconds as the popup shows them."""

    camera_s: float
    first_picture_s: float
    age_p50_ms: float | None
    age_p95_ms: float | None
    card_s: float | None = None
    live_again_s: float | None = None
    same_track: bool = True


def installed(folder: Path) -> Path:
    """PeerJS and its server, from npm. Raises SettingError without npm."""
    if shutil.which("npm") is None:
        raise SettingError("npm is not installed")
    if not (folder / "node_modules" / "peerjs").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": PACKAGES}))
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True)
    return folder / "node_modules"


@asynccontextmanager
async def front_end(modules: Path) -> AsyncIterator[str]:
    """The page with PeerJS, and PeerJS's own server beside it."""
    port, page_port = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        modules / ".bin" / "peerjs", "--port", str(port), "--host", "127.0.0.1", stdout=subprocess.DEVNULL
    )
    app = web.Application()

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=PAGE % port, content_type="text/html")

    async def script(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(modules / "peerjs" / "dist" / "peerjs.min.js")

    app.add_routes([web.get("/", page), web.get("/peerjs.min.js", script)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", page_port).start()
        await asyncio.sleep(2)
        yield f"http://127.0.0.1:{page_port}/"
    finally:
        process.terminate()
        await process.wait()
        await runner.cleanup()


async def until(page: Page, card: bool, keep: Path | None = None) -> float:
    """Seconds until the other side sees the card, or something else."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < PATIENCE_S:
        picture = await shown(page)
        if picture is not None and (float(picture.std()) < CARD_STD) == card:
            took_s = time.monotonic() - began_s
            if keep is not None:
                Image.fromarray(picture).save(keep)
            return took_s
        await asyncio.sleep(0.05)
    raise SettingError(f"nothing within {PATIENCE_S:.0f} s")


async def one(
    clip: Path, modules: Path, engine: str, sizes: tuple[int, int, int], pictures: Path | None, kill: bool
) -> Result:
    """One call, from the camera to its end."""
    port = free_port()

    def keep(name: str) -> Path | None:
        return None if pictures is None else pictures / f"{name}.png"

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        settings = ExtensionSettings(folder=folder / "extension", server=f"http://127.0.0.1:{port}", token=TOKEN)
        extension = write_extension(settings)["chromium"][0]
        write_y4m(clip, folder / "camera.y4m")
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        if chromium is None:
            raise SettingError("Chromium is not installed")
        async with (
            front_end(modules) as address,
            extended(chromium, extension, folder / "camera.y4m") as context,
        ):
            with serving(port, engine, TOKEN) as server:
                bob, anna = await context.new_page(), await context.new_page()
                await bob.goto(address)
                await bob.evaluate("waits()")
                await anna.goto(address)
                told: dict[str, Any] = await anna.evaluate("(sizes) => calls(...sizes)", list(sizes))
                if told["label"] != "vividstream":
                    raise SettingError(f"the page got another camera: {told['label']}")
                first_s = await until(bob, card=False, keep=keep("first"))
                await asyncio.sleep(8)
                popup = await popup_of(context)
                await asyncio.sleep(3)
                p50_ms, p95_ms = [_milliseconds(await popup.inner_text(f"#{which}")) for which in ("p50", "p95")]
                result = Result(told["tookMs"] / 1_000, first_s, p50_ms, p95_ms)
                await until(bob, card=False, keep=keep("swapped"))
                if not kill:
                    return result
                server.send_signal(signal.SIGKILL)
                result.card_s = await until(bob, card=True, keep=keep("card"))
            with serving(port, engine, TOKEN):
                result.live_again_s = await until(bob, card=False, keep=keep("again"))
                result.same_track = told["id"] == await anna.evaluate("stream.getVideoTracks()[0].id")
    return result


def _milliseconds(text: str) -> float | None:
    return float(text.removesuffix(" ms")) if text.endswith(" ms") else None


def _report(results: list[Result], engine: str, sizes: tuple[int, int, int]) -> str:
    head = ["call", *asdict(results[0])]
    rows = [[number, *asdict(result).values()] for number, result in enumerate(results, 1)]
    card_s = median([result.card_s for result in results if result.card_s is not None])
    width, height, rate = sizes
    return (
        f"# The extension in a call of PeerJS\n\n`python -m benchmarks.extension_call`. {machine()}.\n\n"
        f"PeerJS {PACKAGES['peerjs']} with its server {PACKAGES['peer']}, two tabs of Chromium,\n{width}x{height} "
        f"at {rate} pictures a second, engine `{engine}` on the same machine.\nAfter the "
        f"kill the standby picture stands in a median of {card_s:.2f} s. `live_again_s`: from the "
        f"moment in which the\nnew server says that it is ready.\n\n{table(head, rows)}\n"
    )


@click.command()
@click.argument("clip", type=click.Path(exists=True, path_type=Path))
@click.option("--quick", is_flag=True, help="one call, nothing killed")
@click.option("--write", is_flag=True, help="write the report")
@click.option("--npm", type=click.Path(path_type=Path), default=Path("/tmp/vividstream-peerjs"), show_default=True)
@click.option("--pictures", type=click.Path(path_type=Path), help="folder for what the other side saw")
@click.option("--engine", default="proxy", show_default=True)
@click.option("--size", nargs=3, type=int, default=(640, 360, 15), show_default=True, help="width, height, rate")
def main(
    clip: Path, quick: bool, write: bool, npm: Path, pictures: Path | None, engine: str, size: tuple[int, int, int]
) -> None:
    """Measures and prints."""
    modules = installed(npm)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
    results = [asyncio.run(one(clip, modules, engine, size, pictures, not quick)) for _ in range(1 if quick else 3)]
    text = _report(results, engine, size)
    click.echo(text)
    if write:
        write_report("extension-call", text, {"calls": [asdict(result) for result in results]})


if __name__ == "__main__":
    main()
