"""Clients for tests that speak WHIP and WHEP: aiohttp for the requests, aiortc for the media."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from av.video.frame import VideoFrame

from engines import Rgb

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"


class Client:
    """One connection that a server is asked for; `path` is where the session lies after `begin`."""

    def __init__(self, client: TestClient[Any, Any]) -> None:
        self.http = client
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.path = ""
        self.tag = ""
        self.answer = ""
        self.pictures: list[Rgb] = []
        self.sounds = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.connection.on("track", lambda track: self._tasks.append(asyncio.ensure_future(self._collect(track))))

    async def offer_to_send(self, *tracks: MediaStreamTrack) -> str:
        for track in tracks:
            self.connection.addTransceiver(track, direction="sendonly")
        return await self.local(await self.connection.createOffer())

    async def offer_to_receive(self, *kinds: str) -> str:
        for kind in kinds:
            self.connection.addTransceiver(kind, direction="recvonly")
        return await self.local(await self.connection.createOffer())

    async def local(self, description: RTCSessionDescription) -> str:
        await self.connection.setLocalDescription(description)
        return str(self.connection.localDescription.sdp)

    async def post(self, path: str, sdp: str, **more: Any) -> ClientResponse:
        headers = {"Content-Type": SDP, **more.pop("headers", {})}
        response: ClientResponse = await self.http.post(path, data=sdp, headers=headers, **more)
        self.path, self.tag = response.headers.get("Location", ""), response.headers.get("ETag", "")
        return response

    async def begin(self, path: str, sdp: str, **more: Any) -> ClientResponse:
        """Posts the offer and takes the answer. Fails the test unless it is 201."""
        response = await self.post(path, sdp, **more)
        self.answer = await response.text()
        assert response.status == 201, self.answer
        await self.connection.setRemoteDescription(RTCSessionDescription(self.answer, "answer"))
        return response

    async def patch(self, body: str, if_match: str | None = None, media_type: str = FRAGMENT) -> ClientResponse:
        headers = {"Content-Type": media_type, **({} if if_match is None else {"If-Match": if_match})}
        response: ClientResponse = await self.http.patch(self.path, data=body, headers=headers)
        return response

    async def until(self, what: Callable[[], bool], timeout_s: float = 15.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not what():  # noqa: ASYNC110  anything can be asked
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.connection.close()

    async def _collect(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, VideoFrame):
                self.pictures.append(np.ascontiguousarray(frame.to_ndarray(format="rgb24"), np.uint8))
            else:
                self.sounds += 1


@asynccontextmanager
async def client(http: TestClient[Any, Any]) -> AsyncIterator[Client]:
    one = Client(http)
    try:
        yield one
    finally:
        await one.close()


def without_candidates(sdp: str) -> str:
    """The same offer, as one that trickles sends it."""
    left_out = ("a=candidate:", "a=end-of-candidates")
    return "".join(f"{line}\r\n" for line in sdp.splitlines() if not line.startswith(left_out))


def as_fragment(sdp: str, **changes: str) -> str:
    """Credentials and candidates of the offer's first section, as PATCH brings them."""
    kept = ("a=ice-ufrag:", "a=ice-pwd:", "a=candidate:", "a=end-of-candidates")
    lines = [line for line in sdp.splitlines() if line.startswith((*kept, "m=", "a=mid:"))]
    text = "".join(f"{line}\r\n" for line in dict.fromkeys(lines))
    for name, value in changes.items():
        text = "".join(
            f"a=ice-{name}:{value}\r\n" if line.startswith(f"a=ice-{name}:") else line
            for line in text.splitlines(keepends=True)
        )
    return text
