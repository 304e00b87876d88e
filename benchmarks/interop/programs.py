"""Programs of the system's packages: simple-whip-client and GStreamer, which is also what the former is made of."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.interop.common import LEAST_FPS, Missing, Result, own, seen_by_us

SEND_S = 12.0
WATCH_S = 8.0
GST_PEER = Path(__file__).with_name("gst_peer.py")
SOUND = (
    "audiotestsrc is-live=true ! audioconvert ! audioresample ! opusenc ! rtpopuspay pt=100 ssrc=1 ! "
    "application/x-rtp,media=audio,encoding-name=OPUS,payload=100"
)
PICTURE = (
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=480,framerate=30/1 ! videoconvert ! "
    "vp8enc deadline=1 cpu-used=8 target-bitrate=1500000 keyframe-max-dist=60 ! rtpvp8pay pt=96 ssrc=2 ! "
    "application/x-rtp,media=video,encoding-name=VP8,payload=96"
)


def debian_version(package: str) -> str:
    """The version that Debian's package manager names; empty elsewhere."""
    if shutil.which("dpkg-query") is None:
        return ""
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
    return done.stdout.strip()


def shim(folder: Path) -> Path:
    """The library without which Debian 12's simple-whip-client does not start (see soup_shim.c)."""
    if shutil.which("cc") is None:
        raise Missing("cc (for soup_shim.c)")
    library = folder / "soup_shim.so"
    source = Path(__file__).with_name("soup_shim.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return library


async def whip_client(server: str) -> list[Result]:
    """simple-whip-client, with candidates in the offer and by PATCH.

    VP8 only: with H.264 the program ends itself ("double free") while it reads the answer, which webrtcbin alone takes.
    """
    with tempfile.TemporaryDirectory() as folder:
        return await _whip_client(server, shim(Path(folder)))


async def _whip_client(server: str, library: Path) -> list[Result]:
    path = shutil.which("whip-client")
    if path is None:
        raise Missing("simple-whip-client")
    client = f"simple-whip-client {debian_version('simple-whip-client')}"
    results = []
    for trickle in (True, False):
        stream = f"whip-client-{trickle}"
        command = [path, "-u", f"{server}/whip/{stream}", "-V", PICTURE, "-A", SOUND, "-o"]
        command += [] if trickle else ["-n"]
        since_s = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "LD_PRELOAD": str(library)},
        )  # fmt: skip
        try:
            way = f"WHIP in, {'trickle' if trickle else 'no trickle'}"
            results.append(await seen_by_us(client, way, server, stream, since_s))
        finally:
            if process.returncode is None:
                process.send_signal(2)
            try:
                output, _ = await asyncio.wait_for(process.communicate(), 5)
            except TimeoutError:
                process.kill()
                output, _ = await process.communicate()
        if not results[-1].works and (said := re.search(rb"\[ERR\][^\n]*", output)):
            results[-1] = Result(client, way, False, note=said[0].decode(errors="replace")[:120])
    return results


async def gstreamer(server: str) -> list[Result]:
    """A sender and a player of webrtcbin."""
    python = "/usr/bin/python3"
    asks = [python, "-c", "import gi; gi.require_version('GstWebRTC', '1.0')"]
    found = await asyncio.to_thread(subprocess.run, asks, capture_output=True)
    if found.returncode != 0:
        raise Missing("python3-gi gir1.2-gst-plugins-bad-1.0")
    results = [await _sent(python, server, codec) for codec in ("VP8", "H264")]
    async with own() as sender:
        await sender.send(f"{server}/whip/to-gstreamer")
        return results + [await _played(python, server, codec) for codec in ("VP8", "H264")]


async def _sent(python: str, server: str, codec: str) -> Result:
    way, stream, since_s = f"WHIP in, {codec}", f"from-gstreamer-{codec}", time.monotonic()
    process = await asyncio.create_subprocess_exec(
        python, str(GST_PEER), f"{server}/whip/{stream}", str(SEND_S), codec,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    result = await seen_by_us("GStreamer webrtcbin", way, server, stream, since_s)
    output, _ = await asyncio.wait_for(process.communicate(), SEND_S + 20)
    return replace(result, client=f"{json.loads(output)['version']} webrtcbin") if output else result


async def _played(python: str, server: str, codec: str) -> Result:
    way = f"WHEP out, {codec}"
    process = await asyncio.create_subprocess_exec(
        python, str(GST_PEER), f"{server}/whep/to-gstreamer", str(WATCH_S), codec,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(), WATCH_S + 20)
    if process.returncode != 0:
        return Result("GStreamer webrtcbin", way, False, note=errors.decode(errors="replace")[-120:])
    told = json.loads(output)
    seen_s = told["seconds"] - (told["first_s"] or 0.0)
    fps = told["pictures"] / seen_s if told["first_s"] else 0.0
    return Result(f"{told['version']} webrtcbin", way, fps > LEAST_FPS, told["first_s"] or 0.0, fps, told["size"])
