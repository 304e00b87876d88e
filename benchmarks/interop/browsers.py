"""Chromium by Playwright, Firefox by WebDriver BiDi: both as they come from the system's packages, headless."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import async_playwright

from benchmarks.interop.common import CONNECT_S, LEAST_FPS, LOOK_S, Missing, Result, own, seen_by_us

Evaluate = Callable[[str], Awaitable[Any]]  # the value of a JavaScript expression, awaited

ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
SCRIPT = Path(__file__).with_name("browser.js")
FIREFOX_PREFERENCES = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "media.autoplay.default": 0,
    "media.gmp-manager.updateEnabled": False,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "remote.active-protocols": 1,
}


@asynccontextmanager
async def chromium(page_address: str) -> AsyncIterator[Evaluate]:
    """A page of Chromium with its made-up camera."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise Missing("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS])
        try:
            context = await browser.new_context(bypass_csp=True)
            page = await context.new_page()
            await page.goto(page_address)
            yield page.evaluate
        finally:
            await browser.close()


@asynccontextmanager
async def firefox(page_address: str, extension: Path | None = None) -> AsyncIterator[Evaluate]:
    """A page of Firefox with its made-up camera, and the extension in that folder for as long."""
    path = shutil.which("firefox-esr") or shutil.which("firefox")
    if path is None:
        raise Missing("firefox-esr")
    with tempfile.TemporaryDirectory() as profile:
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in FIREFOX_PREFERENCES.items()]
        (Path(profile) / "user.js").write_text("\n".join(lines))
        process = await asyncio.create_subprocess_exec(
            path, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(60), aiohttp.ClientSession() as http:
                address = await _bidi_address(process)
                async with http.ws_connect(f"{address}/session", max_msg_size=0) as socket:
                    driver = Bidi(socket)
                    async with driver.running():
                        yield await driver.open(page_address, extension)
        finally:
            process.kill()
            await process.wait()


async def _bidi_address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    async for line in process.stderr:
        if found := re.search(rb"WebDriver BiDi listening on (ws://\S+)", line):
            return found[1].decode()
    raise RuntimeError("Firefox ended before it could be driven")


class Bidi:
    """As much of WebDriver BiDi as it takes to open a page and evaluate JavaScript in it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        reading = asyncio.create_task(self._read())
        try:
            yield
        finally:
            reading.cancel()

    async def open(self, page_address: str, extension: Path | None = None) -> Evaluate:
        await self._ask("session.new", {"capabilities": {"alwaysMatch": {"acceptInsecureCerts": True}}})
        if extension is not None:
            where = {"type": "path", "path": str(extension)}
            await self._ask("webExtension.install", {"extensionData": where})
        contexts = (await self._ask("browsingContext.getTree", {}))["contexts"]
        context = contexts[0]["context"]
        await self._ask("browsingContext.navigate", {"context": context, "url": page_address, "wait": "complete"})

        async def evaluate(expression: str) -> Any:
            told = await self._ask(
                "script.evaluate",
                {
                    "expression": f"(async () => JSON.stringify(await ({expression})) ?? 'null')()",
                    "target": {"context": context},
                    "awaitPromise": True,
                    "userActivation": True,
                },
            )
            if told["type"] == "exception":
                raise RuntimeError(told["exceptionDetails"]["text"])
            return json.loads(told["result"]["value"])

        return evaluate

    async def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        waiting = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        said = await waiting
        if said["type"] == "error":
            raise RuntimeError(f"{method}: {said['error']}: {said['message']}")
        result: dict[str, Any] = said["result"]
        return result

    async def _read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if said.get("id") in self._waiting:
                self._waiting.pop(said["id"]).set_result(said)


def running(script: str) -> str:
    """An expression that runs the script."""
    return f"(async () => {{ {script}\n return 1; }})()"


async def shown(evaluate: Evaluate, client: str, way: str, since_s: float, video: str = "", note: str = "") -> Result:
    """What a page of a browser shows, in a call that has begun at `since_s`."""
    expression = f"interop.shown({video})"
    async with asyncio.timeout(CONNECT_S):
        while (now := await evaluate(expression))["frames"] < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    first_s = time.monotonic() - since_s
    at_s = time.monotonic()
    await asyncio.sleep(LOOK_S)
    later = await evaluate(expression)
    fps = (later["frames"] - now["frames"]) / (time.monotonic() - at_s)
    return Result(client, way, fps > LEAST_FPS, first_s, fps, f"{later['width']}x{later['height']}", note)


async def tried(name: str, version: str, browser: Any, server: str) -> list[Result]:
    """A browser in all ways: the page, WHIP with trickle and an ICE restart, WHEP."""
    client, results = f"{name} {version}", []
    async with browser(server) as evaluate:
        since_s = time.monotonic()
        await evaluate(running(SCRIPT.read_text()))
        await evaluate("document.getElementById('toggle').click()")
        results.append(await shown(evaluate, client, "page", since_s, "document.getElementById('result')"))
        await evaluate("document.getElementById('toggle').click()")
        await asyncio.sleep(1)

        stream = f"from-{name.lower()}"
        since_s = time.monotonic()
        await evaluate(f"interop.send('/whip/{stream}', {{ trickle: true }})")
        sent = await seen_by_us(client, "WHIP in, trickle", server, stream, since_s)
        told = await evaluate("interop.pair()")
        results.append(replace(sent, note=f"PATCH {_counts(told['statuses'][1:])}"))
        status = await evaluate("interop.restart()")
        since_s = time.monotonic()
        again = await seen_by_us(client, "WHIP in, after an ICE restart", server, stream, since_s, f"PATCH {status}")
        results.append(replace(again, works=again.works and status == "200"))
        await evaluate("interop.end()")

        async with own() as sender:
            await sender.send(f"{server}/whip/to-{name.lower()}")
            since_s = time.monotonic()
            await evaluate(f"interop.watch('/whep/to-{name.lower()}', {{ trickle: true }})")
            results.append(await shown(evaluate, client, "WHEP out, trickle", since_s))
            await evaluate("interop.end()")
    return results


def _counts(statuses: list[int]) -> str:
    return ", ".join(f"{status} x{statuses.count(status)}" for status in sorted(set(statuses))) or "none"
