"""One short call after another, ended in every way that calls end in life: what connects and soak are made of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, get_args

import aiohttp
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from benchmarks.packet_caller import KEY_EVERY, Coded, LoopTrack, PacketTap

FPS = 15.0
FIRST_S = 20.0  # for the first picture to come back, on a busy machine

# delete: by the API.  close: the browser's tab is closed.  vanish: the network is gone, nobody says a word.
# early: DELETE before it is connected.  never: the answer is thrown away, nothing ever connects.
Ending = Literal["delete", "close", "vanish", "early", "never"]
ENDINGS: tuple[Ending, ...] = get_args(Ending)


def small_loop() -> tuple[Coded, ...]:
    """A few seconds of 320x240, encoded in one thread and at once: a square that moves. A key frame first."""
    context = VideoCodecContext.create("libvpx", "w")
    context.width, context.height, context.pix_fmt, context.thread_count = 320, 240, "yuv420p", 1
    context.bit_rate, context.time_base, context.gop_size = 300_000, Fraction(1, round(FPS)), 10_000
    context.options = {"deadline": "realtime", "cpu-used": "-8", "lag-in-frames": "0", "error-resilient": "1"}
    coded = []
    for number in range(KEY_EVERY):
        frame = VideoFrame(320, 240, "yuv420p")
        for plane, level in zip(frame.planes, (120, 110, 140)):
            pixels = np.full((plane.height, plane.line_size), level, np.uint8)
            left = number * plane.width // KEY_EVERY // 2
            pixels[plane.height // 3 : plane.height // 2, left : left + plane.width // 4] = 200
            plane.update(pixels.tobytes())
        frame.pts = number
        (packet,) = context.encode(frame)
        coded.append(Coded(bytes(packet), number == 0))
    return tuple(coded)


class PausingTrack(LoopTrack):
    """A loop that can be stopped for a while."""

    paused = False

    async def recv(self) -> Any:
        while self.paused and self.readyState == "live":  # noqa: ASYNC110  a camera that is covered for seconds
            await asyncio.sleep(0.05)
        return await super().recv()


class BriefCall:
    """A caller that encodes and decodes nothing."""

    def __init__(self, http: aiohttp.ClientSession, address: str, loop: Sequence[Coded]) -> None:
        self._http, (self._base, _, self._query) = http, address.partition("?")
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._track = PausingTrack(loop, FPS, time.monotonic())
        self._taps: list[PacketTap] = []
        self._transceiver = self._connection.addTransceiver(self._track, direction="sendrecv")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        self._transceiver.setCodecPreferences([one for one in codecs if one.name in ("VP8", "rtx")])
        self._transceiver.sender.__dict__["_send_keyframe"] = self._track.want_key
        self._connection.createDataChannel("numbers")
        self._connection.on("track", lambda _: self._taps.append(PacketTap(self._transceiver.receiver)))
        self.call = ""

    async def offer(self) -> dict[str, Any]:
        """Makes the call at the server. Returns the answer. Raises RuntimeError where it is refused."""
        await self._connection.setLocalDescription(await self._connection.createOffer())
        body = {"sdp": self._connection.localDescription.sdp, "choice": {}}
        async with self._http.post(f"{self._base}session?{self._query}", json=body) as response:
            answer: dict[str, Any] = await response.json()
        if response.status != 201:
            raise RuntimeError(f"the server answered {response.status}: {answer}")
        self.call = answer["call"]
        return answer

    async def connect(self, answer: dict[str, Any]) -> float:
        """Connects, and waits for the first whole picture. Returns how long that took in seconds."""
        since_s = time.monotonic()
        await self._connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
        async with asyncio.timeout(FIRST_S):
            while not self.pictures():  # noqa: ASYNC110  a tap notes packets, it has no event
                await asyncio.sleep(0.005)
        return time.monotonic() - since_s

    def pictures(self) -> int:
        """How many whole pictures came back."""
        return sum(arrival.whole for tap in self._taps for arrival in tap.arrivals.values())

    def forget(self) -> int:
        """How many whole pictures came back; forgets all but the one that is coming in."""
        count = 0
        for tap in self._taps:
            for timestamp in list(tap.arrivals)[:-1]:
                count += tap.arrivals.pop(timestamp).whole
        self._track.sent.clear()
        return count

    def pause(self, paused: bool) -> None:
        """The camera gives nothing meanwhile."""
        self._track.paused = paused

    async def numbers(self) -> dict[str, Any]:
        """What the server says of the call."""
        async with self._http.get(f"{self._base}session/{self.call}?{self._query}") as response:
            if response.status != 200:
                raise RuntimeError(f"the call is gone: {response.status}")
            said: dict[str, Any] = await response.json()
            return said

    async def end(self, how: Ending) -> None:
        if how == "vanish":
            transport = self._transceiver.receiver.transport.transport
            for protocol in list(transport._connection._protocols):
                protocol.transport.abort()
        if how in ("delete", "early"):
            async with self._http.delete(f"{self._base}session/{self.call}?{self._query}"):
                pass
        await self._connection.close()


async def brief_call(
    http: aiohttp.ClientSession, address: str, loop: Sequence[Coded], ending: Ending, seconds: float
) -> float | None:
    """One call: for so long after its first picture, then the ending. Returns seconds to the first picture, if any."""
    call = BriefCall(http, address, loop)
    took_s = None
    try:
        answer = await call.offer()
        if ending not in ("early", "never"):
            since_s = time.monotonic()
            await call.connect(answer)
            took_s = time.monotonic() - since_s
            await asyncio.sleep(seconds)
    finally:
        await call.end(ending)
    return took_s
