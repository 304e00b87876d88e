"""One aiortc call to a server over a bad line, its pictures told apart by burnt-in ids: what comes back, and when."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import aiohttp
import numpy as np
import numpy.typing as npt
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av.video.frame import VideoFrame

from benchmarks.burnt_ids import NUMBERS, burn, read

HEIGHT_PX, WIDTH_PX, FPS = 480, 640, 30
CLOCK = 90_000
LOOP = 90  # pictures, there and back
CONNECT_S = 30.0

Plane = npt.NDArray[np.uint8]


def scenes() -> list[Plane]:
    """yuv420p arrays [H * 3 / 2, W]: soft colours that drift, and something detailed that moves before them."""
    dice = np.random.default_rng(5)
    coarse = dice.integers(60, 200, (HEIGHT_PX // 40 + 2, WIDTH_PX // 40 + 4, 3)).astype(np.float32)
    ground = coarse.repeat(40, 0).repeat(40, 1)
    for axis in (0, 1):  # each block fades into the next
        ground = np.mean([np.roll(ground, shift, axis) for shift in range(0, 40, 4)], 0)
    patch = dice.integers(0, 256, (16, 16, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    made = []
    for at in range(LOOP):
        there = at if at < LOOP // 2 else LOOP - at
        picture = ground[40 : 40 + HEIGHT_PX, 40 + there : 40 + there + WIDTH_PX].astype(np.uint8)
        left = 100 + 6 * there
        picture[200:328, left : left + 128] = patch
        made.append(VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format="yuv420p"))
    return [frame.to_ndarray().astype(np.uint8) for frame in made]


class Camera(MediaStreamTrack):
    """Thirty numbered pictures a second by the clock. A picture that is not asked for in its time is not made."""

    kind = "video"

    def __init__(self, pictures: list[Plane]) -> None:
        super().__init__()
        self.taken_s: dict[int, float] = {}  # by number: when each left the camera
        self._pictures = pictures
        self._began_s: float | None = None
        self._last = -1

    async def recv(self) -> VideoFrame:
        if self.readyState != "live":
            raise MediaStreamError
        now_s = time.monotonic()
        if self._began_s is None:
            self._began_s = now_s
        number = max(self._last + 1, int((now_s - self._began_s) * FPS))
        await asyncio.sleep(max(self._began_s + number / FPS - now_s, 0))
        self._last = number
        plane = self._pictures[number % LOOP].copy()
        burn(plane[:HEIGHT_PX, :, None], number)
        frame = VideoFrame.from_ndarray(plane, format="yuv420p")
        frame.pts, frame.time_base = number * CLOCK // FPS, Fraction(1, CLOCK)
        self.taken_s[number] = time.monotonic()
        return frame


@dataclass
class Watched:
    """What came back: (when, number), each new picture once."""

    shown: list[tuple[float, int]] = field(default_factory=list)
    repeats: int = 0
    unread: int = 0  # the standby card, or a picture too coarse to read
    newest: int = -1

    def see(self, number: int | None, now_s: float) -> None:
        """A picture came; its number is known modulo NUMBERS."""
        if number is None:
            self.unread += 1
            return
        base = max(self.newest, 0)
        number = base + (number - base + NUMBERS // 2) % NUMBERS - NUMBERS // 2
        if number <= self.newest:
            self.repeats += 1
            return
        self.newest = number
        self.shown.append((now_s, number))


class Call:
    """A call that is going on."""

    def __init__(self, connection: RTCPeerConnection, camera: Camera) -> None:
        self.connection = connection
        self.camera = camera
        self.watched = Watched()
        self.reports: dict[str, Any] = {}  # the server's latest numbers, where it sends any

    def hear(self, message: object) -> None:
        """A report of the server's."""
        if isinstance(message, str):
            told = json.loads(message)
            self.reports = told.get("numbers", self.reports)

    async def watch(self, track: MediaStreamTrack) -> None:
        """Reads every picture that comes back, until the end."""
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, VideoFrame)
            luma = np.frombuffer(memoryview(frame.planes[0]), np.uint8).reshape(frame.height, -1)[:, : frame.width]
            self.watched.see(read(luma), time.monotonic())

    def ages_s(self, since_s: float, until_s: float) -> list[float]:
        """From the camera to the eye, of the pictures shown in that time."""
        taken_s = self.camera.taken_s
        return [
            at_s - taken_s[number]
            for at_s, number in self.watched.shown
            if since_s <= at_s < until_s and number in taken_s
        ]

    def gaps_s(self, since_s: float, until_s: float) -> list[float]:
        """Between two new pictures; one that is still open at either end counts."""
        times_s = [since_s, *(at_s for at_s, _ in self.watched.shown if since_s <= at_s < until_s), until_s]
        return [after - before for before, after in zip(times_s, times_s[1:])]  # noqa: RUF007

    def back_s(self, alive_s: float) -> float | None:
        """After an outage that ended then: until the first picture that was taken after it."""
        for at_s, number in self.watched.shown:
            if at_s >= alive_s and self.camera.taken_s.get(number, 0.0) >= alive_s:
                return at_s - alive_s
        return None


async def _offer(address: str, body: Mapping[str, object]) -> dict[str, str]:
    """The server's answer. The last call's goodbye may have been lost: then its place is free some seconds later."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(CONNECT_S):
        while True:
            async with http.post(address, json=body) as response:
                answer: dict[str, str] = await response.json()
            if response.status == 201:
                return answer
            if response.status != 503:
                raise RuntimeError(f"the server answered {response.status}: {answer}")
            await asyncio.sleep(1)


@asynccontextmanager
async def calling(address: str, pictures: list[Plane], codec: str) -> AsyncIterator[Call]:
    """Calls the server at this address (with its token, where it has one), and yields once pictures come back."""
    base, _, query = address.partition("?")
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    call = Call(connection, Camera(pictures))
    transceiver = connection.addTransceiver(call.camera, direction="sendrecv")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([one for one in codecs if one.name in (codec, "rtx")])
    connection.createDataChannel("numbers").on("message", call.hear)
    watching: list[asyncio.Task[None]] = []
    connection.on("track", lambda track: watching.append(asyncio.ensure_future(call.watch(track))))
    await connection.setLocalDescription(await connection.createOffer())
    body = {"sdp": connection.localDescription.sdp, "choice": {}}
    try:
        answer = await _offer(f"{base}session?{query}", body)
        await connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
        async with asyncio.timeout(CONNECT_S):
            while not call.watched.shown:  # noqa: ASYNC110  pictures have no event here
                await asyncio.sleep(0.02)
        yield call
    finally:
        await connection.close()
        await asyncio.gather(*watching, return_exceptions=True)
