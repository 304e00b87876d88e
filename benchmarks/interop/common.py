"""The server that clients are tried against, our own sender and player for the other end, and what is written down."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from fractions import Fraction

import aiohttp
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnection
from aiortc import RTCSessionDescription as Description
from aiortc.mediastreams import MediaStreamError
from av.video.frame import VideoFrame

from benchmarks.report import REPOSITORY

READY = re.compile(r"vividstream is ready: (https?://\S+)")
READY_S = 120.0
CONNECT_S = 20.0
LOOK_S = 4.0  # how long pictures are counted
LEAST_FPS = 5.0  # of a busy machine; the sender has 30


class Missing(Exception):
    """A program or package that a client needs is not installed."""


@dataclass(frozen=True, slots=True)
class Result:
    """One client, one way. `first_s`: from the beginning to the first picture at the other end."""

    client: str
    way: str
    works: bool
    first_s: float = 0.0
    fps: float = 0.0
    size: str = ""
    note: str = ""


@contextmanager
def serving(*options: str, environment: dict[str, str] | None = None) -> Iterator[str]:
    """`vividstream serve` in a process of its own. The address without query."""
    command = [sys.executable, "-m", "streamer", "serve", "--port", "0", "--engine", "passthrough", *options]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = next((found[1] for line in process.stdout if (found := READY.search(line))), None)
        if address is None:
            raise RuntimeError(f"the server ended with {process.wait()}")
        yield address.split("?")[0].rstrip("/")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Moving(MediaStreamTrack):
    """A camera: a bar that moves over grey, 30 pictures a second."""

    kind = "video"

    def __init__(self, height_px: int = 480, width_px: int = 640) -> None:
        super().__init__()
        self._number = 0
        self._since_s = time.monotonic()
        self._plain = np.full((height_px, width_px, 3), 90, np.uint8)

    async def recv(self) -> VideoFrame:
        await asyncio.sleep(max(self._since_s + self._number / 30 - time.monotonic(), 0))
        if self.readyState != "live":
            raise MediaStreamError
        rgb = self._plain.copy()
        left = self._number * 7 % (rgb.shape[1] - 40)
        rgb[:, left : left + 40] = (200, 60, 60)
        frame = VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = self._number * 3_000, Fraction(1, 90_000)
        self._number += 1
        return frame


class Own:
    """Our own client, for the other end. `arrived` has the times of the pictures that came in."""

    def __init__(self, servers: Sequence[RTCIceServer] = (), relay_only: bool = False) -> None:
        policy = RTCIceTransportPolicy.RELAY if relay_only else RTCIceTransportPolicy.ALL
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=list(servers), iceTransportPolicy=policy))
        self.arrived: list[float] = []
        self.size = ""
        self.links: list[str] = []
        self._session = ""
        self._tasks: list[asyncio.Task[None]] = []
        self.connection.on("track", lambda track: self._tasks.append(asyncio.ensure_future(self._look(track))))

    async def send(self, address: str) -> None:
        self.connection.addTransceiver(Moving(), direction="sendonly")
        await self._post(address)

    async def watch(self, address: str) -> None:
        for kind in ("video", "audio"):
            self.connection.addTransceiver(kind, direction="recvonly")
        await self._post(address)

    async def close(self) -> None:
        async with aiohttp.ClientSession() as http:
            if self._session:
                await http.delete(self._session)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.connection.close()

    async def _post(self, address: str) -> None:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        offer = self.connection.localDescription.sdp
        async with (
            aiohttp.ClientSession() as http,
            http.post(address, data=offer, headers={"Content-Type": "application/sdp"}) as response,
        ):
            if response.status != 201:
                raise RuntimeError(f"{response.status}: {await response.text()}")
            self.links = response.headers.getall("Link", [])
            self._session = str(response.url.join(response.url.with_path(response.headers["Location"])))
            await self.connection.setRemoteDescription(Description(await response.text(), "answer"))

    async def _look(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, VideoFrame):
                self.arrived.append(time.monotonic())
                self.size = f"{frame.width}x{frame.height}"


@asynccontextmanager
async def own(servers: Sequence[RTCIceServer] = (), relay_only: bool = False) -> AsyncIterator[Own]:
    one = Own(servers, relay_only)
    try:
        yield one
    finally:
        await one.close()


async def live(server: str, stream: str, timeout_s: float = CONNECT_S) -> None:
    """Waits until somebody sends the stream: until a player is not told 409 any more. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s), aiohttp.ClientSession() as http:
        while True:
            async with http.post(
                f"{server}/whep/{stream}", data="", headers={"Content-Type": "application/sdp"}
            ) as said:
                if said.status == 201:
                    await http.delete(server + said.headers["Location"])
                    return
            await asyncio.sleep(0.2)


async def seen_by_us(client: str, way: str, server: str, stream: str, since_s: float, note: str = "") -> Result:
    """What a client sends, as our own player gets it."""
    async with own() as player:
        try:
            await live(server, stream)
            await player.watch(f"{server}/whep/{stream}")
            async with asyncio.timeout(CONNECT_S):
                while not player.arrived:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return Result(client, way, False, note=note or "no picture came")
        await asyncio.sleep(LOOK_S)
        since_look_s = time.monotonic() - LOOK_S
        fps = sum(at_s > since_look_s for at_s in player.arrived) / LOOK_S
        return Result(client, way, fps > LEAST_FPS, player.arrived[0] - since_s, fps, player.size, note)
