"""A real coturn between caller and server: nothing but its relay is used, with the credentials of the 201's Link."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from aiortc import RTCIceServer

from benchmarks.interop.browsers import SCRIPT, chromium, running
from benchmarks.interop.common import LEAST_FPS, LOOK_S, Missing, Result, own, seen_by_us, serving
from benchmarks.interop.programs import debian_version

SECRET = "made up for this run"
LINK = re.compile(r'<([^>]+)>; rel="ice-server"(?:; username="([^"]+)"; credential="([^"]+)")?')


@asynccontextmanager
async def coturn() -> AsyncIterator[int]:
    """coturn on a free port of 127.0.0.1, with a shared secret. Loopback peers are allowed: there are no others."""
    path = shutil.which("turnserver")
    if path is None:
        raise Missing("coturn")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            path, "-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--listening-port={port}",
            "--use-auth-secret", f"--static-auth-secret={SECRET}", "--realm=interop", "--no-tls", "--no-dtls",
            "--no-cli", "--allow-loopback-peers", "--no-multicast-peers", "--no-tcp-relay", "--log-file=stdout",
            f"--pidfile={folder}/pid", f"--userdb={folder}/db",
            cwd=folder, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await asyncio.sleep(1.0)
            yield port
        finally:
            process.terminate()
            await process.wait()


def servers_of(links: list[str]) -> list[RTCIceServer]:
    """ICE servers as `Link` headers name them."""
    found = [LINK.match(link) for link in links]
    return [RTCIceServer(urls=one[1], username=one[2], credential=one[3]) for one in found if one is not None]


async def relayed() -> list[Result]:
    """Own client and Chromium, relay only on their side and on the server's."""
    client = f"coturn {debian_version('coturn')}"
    results = []
    async with coturn() as port:
        turn = ("--turn-server", f"turn:127.0.0.1:{port}?transport=udp", "--relay-only")
        environment = {"VIVIDSTREAM_SERVE_TURN_SECRET": SECRET}
        with serving("--max-sessions", "4", "--max-viewers", "8", *turn, environment=environment) as server:
            async with own() as asking:
                await asking.send(f"{server}/whip/asking")
                servers = servers_of(asking.links)
            async with own(servers, relay_only=True) as sender, own(servers, relay_only=True) as player:
                since_s = time.monotonic()
                await sender.send(f"{server}/whip/relayed")
                await player.watch(f"{server}/whep/relayed")
                async with asyncio.timeout(20):
                    while not player.arrived:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                await asyncio.sleep(LOOK_S)
                fps = sum(at_s > time.monotonic() - LOOK_S for at_s in player.arrived) / LOOK_S
                first_s = player.arrived[0] - since_s
                way = "own client in and out, relay only"
                results.append(Result(client, way, fps > LEAST_FPS, first_s, fps, player.size))
            wrong = [RTCIceServer(urls=servers[0].urls, username=servers[0].username, credential="wrong")]
            async with own(wrong, relay_only=True) as stranger:
                try:
                    await stranger.send(f"{server}/whip/stranger")
                    await asyncio.sleep(3)
                    refused = stranger.connection.connectionState != "connected"
                except (ConnectionError, RuntimeError, OSError):
                    refused = True
                results.append(Result(client, "a wrong credential gets nothing", refused))
            results.append(await _chromium(client, server))
    return results


async def _chromium(client: str, server: str) -> Result:
    async with chromium(server) as evaluate:
        await evaluate(running(SCRIPT.read_text()))
        servers = "(await (await fetch('/ice')).json()).iceServers"
        since_s = time.monotonic()
        await evaluate(f"(async () => interop.send('/whip/c', {{ relayOnly: true, iceServers: {servers} }}))()")
        sent = await seen_by_us(client, "Chromium, WHIP in, relay only", server, "c", since_s)
        local = (await evaluate("interop.pair()"))["local"]
        note = f"local candidate: {', '.join(map(str, local))}"
        return replace(sent, works=sent.works and local == ["relay"], note=note)
