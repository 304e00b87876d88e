"""A client for tests that really calls the real server: aiohttp for the offer, aiortc for the pictures."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

import numpy as np
from aiohttp.test_utils import TestClient, TestServer
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from engines import Identity, IdentityError, Manifest, Rgb, Session, SessionState, Status, StepResult, SwapSettings
from streamer.app import create_app
from streamer.config import ServerConfig

CLOCK = 90_000
Draw = Callable[[Rgb, float], StepResult]


def identity(name: str, colour: tuple[int, int, int] = (200, 150, 120)) -> Identity:
    """Somebody who does not exist, good enough for everything but drawing."""
    manifest = Manifest(
        format=1, name=name, created="2026-01-01T00:00:00+00:00", consent="made up for tests", images_sha256=(),
        made_by="tests", synthetic=True,
    )  # fmt: skip
    return Identity(
        manifest=manifest,
        albedo_AA3=np.full((512, 512, 3), colour, np.uint8),
        confidence_AA=np.full((512, 512), 255, np.uint8),
        shape_S3=np.zeros((468, 3), np.float32),
        iris_rgb=np.array([90, 70, 50], np.float32),
        portrait_PP3=np.full((256, 256, 3), colour, np.uint8),
    )


class Identities:
    """A store in memory."""

    def __init__(self, *names: str) -> None:
        self._all = {name: identity(name) for name in names}

    def names(self) -> tuple[str, ...]:
        return tuple(self._all)

    def load(self, name: str) -> Identity:
        if name not in self._all:
            raise IdentityError(f'unknown identity "{name}"')
        return self._all[name]


class StubSession:
    """What `engines.Session` is to the streamer, with `draw` in place of everything behind it."""

    def __init__(self, draw: Draw, settings: SwapSettings | None = None, worn: Identity | None = None) -> None:
        self.engine, self.why = "stub", "for tests"
        self.settings = settings or SwapSettings()
        self.identity = worn
        self.draw = draw
        self.closed = 0
        self.states = 0

    def init(self) -> SessionState:
        self.states += 1
        return SessionState(track=None)

    def warm_up(self, height_px: int, width_px: int) -> None:
        """Nothing to warm."""

    def step(self, state: SessionState, rgb_HW3: Rgb, captured_s: float) -> StepResult:
        return self.draw(rgb_HW3, captured_s)

    def set_identity(self, worn: Identity) -> None:
        self.identity = worn

    def close(self) -> None:
        self.closed += 1

    def as_session(self) -> Session:
        return cast(Session, self)


@dataclass
class Loader:
    """What `engines.load` is to the streamer; remembers what it made."""

    draw: Draw
    made: list[StubSession] = field(default_factory=list)

    def __call__(self, settings: SwapSettings, identity: Identity | None = None) -> Session:
        session = StubSession(self.draw, settings, identity)
        self.made.append(session)
        return session.as_session()


def negative(rgb_HW3: Rgb, captured_s: float = 0.0) -> StepResult:
    """A swap that anybody can tell from the picture it was made of."""
    return StepResult(np.asarray(255 - rgb_HW3, np.uint8), Status.DRAWN, 1)


class Camera(MediaStreamTrack):
    """Plays pictures round and round, in real time, counting them. `fps` pictures a second."""

    kind = "video"

    def __init__(self, pictures: Sequence[Rgb], fps: float = 30.0, first_pts: int = 0) -> None:
        super().__init__()
        self.pictures, self.fps, self.number = pictures, fps, 0
        self._first_pts = first_pts
        self._since_s = time.monotonic()

    async def recv(self) -> VideoFrame:
        due_s = self._since_s + self.number / self.fps
        await asyncio.sleep(max(due_s - time.monotonic(), 0))
        if self.readyState != "live":
            raise MediaStreamError
        frame = VideoFrame.from_ndarray(self.pictures[self.number % len(self.pictures)], format="rgb24")
        frame = frame.reformat(format="yuv420p")
        frame.pts, frame.time_base = self._first_pts + round(self.number * CLOCK / self.fps), Fraction(1, CLOCK)
        self.number += 1
        return frame


class Tone(MediaStreamTrack):
    """A microphone: 20 ms frames of a steady tone."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self._since_s = time.monotonic()

    async def recv(self) -> AudioFrame:
        await asyncio.sleep(max(self._since_s + self.number * 0.02 - time.monotonic(), 0))
        wave = (8_000 * np.sin(2 * np.pi * 440 * np.arange(960) / 48_000)).astype(np.int16)
        frame = AudioFrame.from_ndarray(wave[None, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, self.number * 960, Fraction(1, 48_000)
        self.number += 1
        return frame


@dataclass
class Received:
    """A picture as the other side sees it, and when."""

    rgb_HW3: Rgb
    pts: int
    at_s: float


class Caller:
    """One call as a browser would make it."""

    def __init__(self, client: TestClient[Any, Any]) -> None:
        self.client = client
        self.received: list[Received] = []
        self.sounds = 0
        self.reports: list[dict[str, Any]] = []
        self.pongs: list[dict[str, Any]] = []
        self.asks: list[dict[str, Any]] = []
        self.call = ""
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._tasks: list[asyncio.Task[None]] = []

    async def offer(self, *tracks: MediaStreamTrack) -> str:
        for track in tracks:
            self._connection.addTrack(track)
        self.channel = self._connection.createDataChannel("numbers")
        self.channel.on("message", self._hear)
        self._connection.on("track", lambda track: self._tasks.append(asyncio.ensure_future(self._collect(track))))
        await self._connection.setLocalDescription(await self._connection.createOffer())
        return str(self._connection.localDescription.sdp)

    async def start(self, *tracks: MediaStreamTrack, **choice: str) -> dict[str, Any]:
        sdp = await self.offer(*tracks)
        response = await self.client.post("/session", json={"sdp": sdp, "choice": choice})
        answer: dict[str, Any] = await response.json()
        assert response.status == 201, answer
        await self.take(answer)
        return answer

    async def take(self, answer: dict[str, Any]) -> None:
        """Goes on with what the server answered to `offer`."""
        self.call = answer["call"]
        await self._connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))

    async def until(self, what: Callable[[], bool], timeout_s: float = 15.0) -> None:
        """Waits until it is true. Fails the test after `timeout_s`."""
        async with asyncio.timeout(timeout_s):
            while not what():  # noqa: ASYNC110  anything can be asked
                await asyncio.sleep(0.02)

    async def pictures(self, count: int, timeout_s: float = 20.0) -> list[Received]:
        await self.until(lambda: len(self.received) >= count, timeout_s)
        return self.received

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close()

    def _hear(self, message: str) -> None:
        said = json.loads(message)
        kinds = {"pong_ms": self.pongs, "ask": self.asks, "numbers": self.reports}
        next(kept for kind, kept in kinds.items() if kind in said).append(said)

    async def _collect(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, VideoFrame):
                rgb = np.ascontiguousarray(frame.to_ndarray(format="rgb24"), np.uint8)
                self.received.append(Received(rgb, frame.pts or 0, time.monotonic()))
            else:
                self.sounds += 1


@asynccontextmanager
async def served(
    config: ServerConfig | None = None, loader: Any = None, store: Any = None
) -> AsyncIterator[TestClient[Any, Any]]:
    """The real application on a free port of 127.0.0.1; nothing is left running after it."""
    app = create_app(config or ServerConfig(), store or Identities("ada", "bo"), loader or Loader(negative))
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield client


@asynccontextmanager
async def calling(client: TestClient[Any, Any]) -> AsyncIterator[Caller]:
    caller = Caller(client)
    try:
        yield caller
    finally:
        await caller.close()


async def gone(client: TestClient[Any, Any], call: str) -> None:
    """Waits until the call has ended."""
    async with asyncio.timeout(5):
        while (await client.get(f"/session/{call}")).status != 404:  # noqa: ASYNC110  it is another program's state
            await asyncio.sleep(0.02)


def plain(colour: tuple[int, int, int], height_px: int = 120, width_px: int = 160) -> Rgb:
    """A picture of one colour."""
    return np.full((height_px, width_px, 3), colour, np.uint8)
