"""Packages from npm in a page of Chromium: @eyevinn/whip-web-client sends, @eyevinn/webrtc-player plays (WHEP)."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.interop.browsers import SCRIPT, chromium, running, shown
from benchmarks.interop.common import Missing, Result, own, seen_by_us

PACKAGES = {"@eyevinn/whip-web-client": "1.1.7", "@eyevinn/webrtc-player": "0.13.0", "esbuild": "0.25.0"}
ENTRY = """
import { WHIPClient } from "@eyevinn/whip-web-client";
import { WebRTCPlayer } from "@eyevinn/webrtc-player";
window.npm = { WHIPClient, WebRTCPlayer };
"""
SEND = """(async () => {
  const opts = { iceServers: [], noTrickleIce: %s };
  const client = window.sending = new npm.WHIPClient({ endpoint: location.origin + "/whip/from-npm", opts });
  const fetched = window.fetched = [];
  const original = window.original ??= window.fetch;
  window.fetch = async (...given) => {
    const got = await original(...given);
    fetched.push([given[1]?.method, got.status]);
    return got;
  };
  const media = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 }, audio: true });
  await client.ingest(media);
  return true;
})()"""
PLAY = """(async () => {
  const video = Object.assign(document.createElement("video"), { muted: true, autoplay: true, id: "npm" });
  document.body.appendChild(video);
  const player = window.playing = new npm.WebRTCPlayer({ video, type: "whep", iceServers: [], debug: false });
  await player.load(new URL(location.origin + "/whep/to-npm"));
  return true;
})()"""


def bundled(folder: Path) -> str:
    """Both packages as one script. Installs them into the folder where they are not there yet."""
    if shutil.which("npm") is None:
        raise Missing("npm")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules" / ".bin" / "esbuild").exists():
        (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": PACKAGES}))
        install = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(install, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (folder / "entry.js").write_text(ENTRY)
    command = ["node_modules/.bin/esbuild", "entry.js", "--bundle", "--format=iife", "--log-level=error"]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


async def packages(server: str, folder: Path) -> list[Result]:
    """Both packages, in one page of Chromium."""
    script = await asyncio.to_thread(bundled, folder)
    results = []
    sender_name = f"@eyevinn/whip-web-client {PACKAGES['@eyevinn/whip-web-client']}"
    player_name = f"@eyevinn/webrtc-player {PACKAGES['@eyevinn/webrtc-player']}"
    async with chromium(server) as evaluate:
        for part in (SCRIPT.read_text(), script):
            await evaluate(running(part))
        for trickle in (True, False):
            since_s = time.monotonic()
            await evaluate(SEND % ("false" if trickle else "true"))
            way = f"WHIP in, {'trickle' if trickle else 'no trickle'}"
            sent = await seen_by_us(sender_name, way, server, "from-npm", since_s)
            fetched: list[Any] = await evaluate("fetched")
            said = ", ".join(f"{method} {status}" for method, status in dict.fromkeys(map(tuple, fetched)))
            results.append(Result(sender_name, way, sent.works, sent.first_s, sent.fps, sent.size, said))
            await evaluate("sending.destroy()")
            await asyncio.sleep(1)
        async with own() as sender:
            await sender.send(f"{server}/whip/to-npm")
            since_s = time.monotonic()
            await evaluate(PLAY)
            results.append(await shown(evaluate, player_name, "WHEP out", since_s, "document.getElementById('npm')"))
            await evaluate("playing.destroy()")
    return results
