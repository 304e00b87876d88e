"""What aiortc 1.16 gives by itself, as its own examples use it: each picture to RGB and back, nothing changed in it.

    python -m benchmarks.stock_echo [HOST]     prints its address; POST /session

Something to compare with in the same run, not something to use: it bounds nothing.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any

import aioice.ice
from aiohttp import web
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from av.video.frame import VideoFrame


class Through(MediaStreamTrack):
    """A track that makes RGB of each picture and a picture of the RGB."""

    kind = "video"

    def __init__(self, track: MediaStreamTrack) -> None:
        super().__init__()
        self._track = track

    async def recv(self) -> VideoFrame:
        frame: Any = await self._track.recv()
        copy = VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")
        copy.pts, copy.time_base = frame.pts, frame.time_base
        return copy


async def _session(request: web.Request) -> web.Response:
    offer = await request.json()
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    request.app["connections"].add(connection)

    @connection.on("track")
    def on_track(track: MediaStreamTrack) -> None:
        if track.kind == "video":
            connection.addTrack(Through(track))
        else:
            connection.addTrack(track)

    await connection.setRemoteDescription(RTCSessionDescription(offer["sdp"], "offer"))
    await connection.setLocalDescription(await connection.createAnswer())
    return web.json_response({"call": "stock", "sdp": connection.localDescription.sdp, "type": "answer"}, status=201)


async def _close(app: web.Application) -> None:
    await asyncio.gather(*(connection.close() for connection in app["connections"]))


async def _serve(host: str) -> None:
    app = web.Application()
    app["connections"] = set()
    app.router.add_post("/session", _session)
    app.on_shutdown.append(_close)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, 0).start()
    print(f"stock aiortc is ready: http://{host}:{runner.addresses[0][1]}/", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [host]  # this address only
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(host))
