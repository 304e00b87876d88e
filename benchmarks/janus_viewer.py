"""Somebody else in a Janus room: a subscriber made of stock aiortc, who notes packets and can show what came."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp
import av
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.codecs import depayload
from av.video.codeccontext import VideoCodecContext

from benchmarks.packet_caller import DECODERS, Back, PacketTap, Sound, SoundTap
from engines.types import Rgb

PLUGIN = "janus.plugin.videoroom"
ASK_AGAIN_S = 0.1
NEAREST_S = 0.45


@dataclass
class Watched:
    """What came of one publisher over one connection."""

    pictures: PacketTap | None = None
    sounds: SoundTap | None = None

    def backs(self) -> list[Back]:
        """Every whole picture, with its flash; decoded now."""
        return [] if self.pictures is None else self.pictures.read_all()

    def sounds_back(self) -> list[Sound]:
        return [] if self.sounds is None else self.sounds.back

    def rgbs(self, every: int = 1) -> list[Rgb]:
        """The pictures as they are seen, uint8 [H, W, 3]; every so many of them."""
        tap = self.pictures
        if tap is None or tap.codec is None:
            return []
        context = cast(VideoCodecContext, VideoCodecContext.create(DECODERS[tap.codec.name], "r"))
        context.thread_count = 1
        found: list[Rgb] = []
        came = list(tap.arrivals.values())  # more may come meanwhile, in another thread
        for number, arrival in enumerate(one for one in came if one.whole):
            first = next(iter(arrival.packets))
            ordered = sorted(arrival.packets.items(), key=lambda item: (item[0] - first + 32_768) % 65_536)
            payload = b"".join(depayload(tap.codec, packet.payload) for _, packet in ordered)
            with suppress(av.FFmpegError):
                for frame in context.decode(av.Packet(payload)):
                    if number % every == 0:
                        found.append(np.ascontiguousarray(frame.to_ndarray(format="rgb24"), np.uint8))
        return found


@dataclass
class RoomViewer:
    """Watches the first publisher that comes, and the next one after a loss, until it is cancelled."""

    url: str
    room: int
    pin: str | None = None
    watched: list[Watched] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)  # participants, as the room says
    _answers: dict[str, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _number: int = 0

    async def run(self) -> None:
        """Connects again after every loss. Ends when it is cancelled."""
        while True:
            with suppress(aiohttp.ClientError, OSError, _Lost):
                await self._once()
            await asyncio.sleep(ASK_AGAIN_S)

    async def until_pictures(self, count: int, timeout_s: float = 30.0) -> float:
        """Waits for so many whole pictures over the newest connection. Returns when the last of them had come."""
        async with asyncio.timeout(timeout_s):
            while True:
                tap = self.watched[-1].pictures if self.watched else None
                whole = [one for one in tap.arrivals.values() if one.whole] if tap is not None else []
                if len(whole) >= count:
                    return whole[count - 1].last_s
                await asyncio.sleep(0.01)

    async def _once(self) -> None:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(self.url, protocols=["janus-protocol"]) as socket,
        ):
            self._socket = socket
            reader = asyncio.create_task(self._read(socket))
            try:
                session = (await self._ask({"janus": "create"}))["data"]["id"]
                attach = {"janus": "attach", "session_id": session, "plugin": PLUGIN}
                handle = (await self._ask(attach))["data"]["id"]
                ids = {"session_id": session, "handle_id": handle}
                feed = await self._publisher(ids)
                body = {"request": "join", "ptype": "subscriber", "room": self.room, "streams": [{"feed": feed}]}
                offered = await self._ask({"janus": "message", **ids, "body": body | self._right()})
                if "jsep" not in offered:
                    raise _Lost
                await self._answer(connection, offered["jsep"]["sdp"], ids)
                await reader
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
                for answer in self._answers.values():
                    answer.cancel()
                await connection.close()

    async def _publisher(self, ids: dict[str, int]) -> int:
        while True:
            body = {"request": "listparticipants", "room": self.room}
            answer = await self._ask({"janus": "message", **ids, "body": body})
            self.seen = answer.get("plugindata", {}).get("data", {}).get("participants", [])
            publishers = [one for one in self.seen if one.get("publisher")]
            if publishers:
                return int(publishers[0]["id"])
            await asyncio.sleep(ASK_AGAIN_S)

    async def _answer(self, connection: RTCPeerConnection, sdp: str, ids: dict[str, int]) -> None:
        watched = Watched()
        self.watched.append(watched)

        @connection.on("track")
        def came(track: MediaStreamTrack) -> None:
            receiver = next(one.receiver for one in connection.getTransceivers() if one.receiver.track is track)
            if track.kind == "video":
                watched.pictures = PacketTap(receiver)
            else:
                watched.sounds = SoundTap(receiver)

        await connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        jsep = {"type": "answer", "sdp": connection.localDescription.sdp, "trickle": False}
        await self._ask({"janus": "message", **ids, "body": {"request": "start"}, "jsep": jsep})

    def _right(self) -> dict[str, str]:
        return {} if self.pin is None else {"pin": self.pin}

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        name = str(self._number)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[name] = answer
        try:
            await self._socket.send_json(message | {"transaction": name})
            async with asyncio.timeout(5):
                return await answer
        except (TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not answer.cancelled():
                raise
            raise _Lost from error
        finally:
            self._answers.pop(name, None)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            told = message.json()
            answer = self._answers.get(str(told.get("transaction")))
            if answer is not None and told["janus"] != "ack" and not answer.done():
                answer.set_result(told)
            if told["janus"] == "hangup" or told.get("plugindata", {}).get("data", {}).get("leaving"):
                break
        for answer in self._answers.values():
            answer.cancel()


class _Lost(Exception):
    """The room, or the one who is watched, is gone."""


def skews(backs: Sequence[Back], beeps_s: Sequence[float], since_s: float, fps: float) -> list[float]:
    """How much later each beep came than the pictures of the same moment, seconds; from `since_s` on.

    Every picture says by its number how long after a beep it was taken, so it need not be the first of a flash.
    """
    numbered = [(back.last_s, back.number / fps % 1.0) for back in backs if back.number is not None]
    found = []
    for beep_s in beeps_s:
        near = [came_s - into_s for came_s, into_s in numbered if abs(came_s - into_s - beep_s) < NEAREST_S]
        near = [came_s for came_s in near if came_s >= since_s]
        if near:
            found.append(beep_s - float(np.median(near)))
    return found
