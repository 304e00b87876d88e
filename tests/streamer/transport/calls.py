"""Two real aiortc connections over loopback, with a line between them that loses, delays and goes dead."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aioice.ice
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCRtpSender, VideoStreamTrack
from aiortc.mediastreams import MediaStreamTrack
from av.video.frame import VideoFrame

HEIGHT_PX, WIDTH_PX = 240, 320

Lossy = Callable[[bytes], bool]


@dataclass
class Line:
    """What happens to every datagram of every connection in this process."""

    loss: float = 0.0  # of media packets
    delay_s: float = 0.0  # one way
    dead: bool = False
    drop: Lossy = lambda data: False
    dropped: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def loses(self, data: bytes) -> bool:
        is_media = 128 <= data[0] <= 191
        lost = self.dead or (is_media and (self.drop(data) or self.dice.random() < self.loss))
        self.dropped += lost
        return lost

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Over loopback only."""
        monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])

        def send(protocol: aioice.ice.StunProtocol, data: bytes, address: tuple[str, int]) -> None:
            if not self.loses(data):
                asyncio.get_running_loop().call_later(self.delay_s, deliver, protocol, data, address)

        def deliver(protocol: aioice.ice.StunProtocol, data: bytes, address: tuple[str, int]) -> None:
            if not protocol.transport.is_closing():
                protocol.transport.sendto(data, address)

        async def send_data(protocol: aioice.ice.StunProtocol, data: bytes, address: tuple[str, int]) -> None:
            send(protocol, data, address)

        def send_stun(protocol: aioice.ice.StunProtocol, message: Any, address: tuple[str, int]) -> None:
            send(protocol, bytes(message), address)

        monkeypatch.setattr(aioice.ice.StunProtocol, "send_data", send_data)
        monkeypatch.setattr(aioice.ice.StunProtocol, "send_stun", send_stun)


class Camera(VideoStreamTrack):
    """Thirty small moving pictures a second; remembers when it gave each away."""

    def __init__(self) -> None:
        super().__init__()
        blocks = np.random.default_rng(0).integers(0, 256, (HEIGHT_PX // 8, WIDTH_PX // 8, 3), np.uint8)
        picture = blocks.repeat(8, 0).repeat(8, 1)
        frames = [VideoFrame.from_ndarray(np.roll(picture, at * 3, axis=1), format="rgb24") for at in range(30)]
        self._pictures = [frame.reformat(format="yuv420p").to_ndarray() for frame in frames]
        self.given_s: list[float] = []

    async def recv(self) -> VideoFrame:
        pts, time_base = await self.next_timestamp()
        frame = VideoFrame.from_ndarray(self._pictures[len(self.given_s) % len(self._pictures)], format="yuv420p")
        frame.pts, frame.time_base = pts, time_base
        self.given_s.append(time.monotonic())
        return frame


@dataclass
class Call:
    """One side sends its camera to the other."""

    camera: Camera
    sending: RTCPeerConnection
    receiving: RTCPeerConnection
    track: MediaStreamTrack
    receiver: RTCRtpReceiver

    async def watch(self, seconds: float) -> list[float]:
        """When pictures came out of the other side's track, and the end: so that an open freeze counts too."""
        shown_s: list[float] = []
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self.track.recv(), left_s)
            except TimeoutError:
                break
            shown_s.append(time.monotonic())
        return [*shown_s, time.monotonic()]


def connections() -> tuple[RTCPeerConnection, RTCPeerConnection]:
    one, other = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
    return one, other


@asynccontextmanager
async def calling(
    codec: str = "VP8", announced: Callable[[RTCRtpReceiver], None] = lambda _: None
) -> AsyncIterator[Call]:
    """`announced` gets the receiver when the other side's track is announced, as a server's `on_track` would."""
    sending, receiving = connections()
    camera = Camera()
    transceiver = sending.addTransceiver(camera, direction="sendonly")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([each for each in codecs if each.name in (codec, "rtx")])
    tracks: asyncio.Queue[MediaStreamTrack] = asyncio.Queue()

    def on_track(track: MediaStreamTrack) -> None:
        announced(receiving.getReceivers()[0])
        tracks.put_nowait(track)

    receiving.on("track", on_track)
    try:
        await sending.setLocalDescription(await sending.createOffer())
        await receiving.setRemoteDescription(sending.localDescription)
        await receiving.setLocalDescription(await receiving.createAnswer())
        await sending.setRemoteDescription(receiving.localDescription)
        yield Call(camera, sending, receiving, await tracks.get(), receiving.getReceivers()[0])
    finally:
        await sending.close()
        await receiving.close()
