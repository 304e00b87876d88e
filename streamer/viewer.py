"""One viewer of a call: a connection that only sends what the call shows. Its end frees all of it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from aiortc import InvalidStateError, RTCPeerConnection
from aiortc.stats import RTCStatsReport

from streamer.audience import Audience
from streamer.outlet import add_video
from streamer.peer import CARD_HEIGHT_PX, CARD_WIDTH_PX
from streamer.signalling.ice import Ice
from streamer.signalling.negotiation import Line
from streamer.stats import CallStats
from streamer.tracks import DelayedSound, SwappedVideo, standby_frame
from streamer.transport.sender import PictureSender

log = logging.getLogger(__name__)

COUNTER_OFFER_S = 30.0  # for which a counter-offer may be answered


class Shown(Protocol):
    """What is shown: a call of this server, or what this program takes to somebody else's room."""

    call: str
    has_sound: bool
    audience: Audience


class Viewer:
    """Make it on the event loop, `answer` an offer or make one and `accept` its answer, then await `live` in a task."""

    def __init__(self, name: str, source: Shown, ice: Ice, connect_s: float = 10.0) -> None:
        """`connect_s`: from an agreement to the connection; then the viewing is over."""
        self.name = name
        self.source = source
        self.stats = CallStats()
        self.ended_because = ""
        self.is_agreed = False
        self._connection = RTCPeerConnection(ice.configuration)
        self.line = Line(self._connection, f"viewer {name[:6]}", ice.announce)
        self._video: SwappedVideo | None = None
        self._sound: DelayedSound | None = None
        self._sender: PictureSender | None = None
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._closing: asyncio.Future[None] | None = None
        self._connect_s = connect_s
        self._due_s = time.monotonic() + connect_s
        self._connection.on("connectionstatechange", self._on_state)

    async def answer(self, sdp: str, kinds: frozenset[str]) -> str:
        """Takes the offer of a player that wants these kinds. Returns the answer. Raises MediaError."""
        await self._send(kinds)
        answer = await self.line.answer(sdp)
        self._agreed()
        return answer

    async def offer(self) -> str:
        """Our own offer, for a player whose offer cannot be answered. It can be accepted for 30 s."""
        await self._send(frozenset({"video", "audio"}))
        offer = await self.line.offer()
        self._due_s = time.monotonic() + COUNTER_OFFER_S
        return offer

    async def accept(self, sdp: str) -> None:
        """Takes the player's answer to our offer. Raises MediaError."""
        await self.line.accept(sdp)
        self._agreed()

    async def live(self) -> None:
        """The viewing, until it ends: hung up, lost, never connected, the call over, or this task cancelled."""
        try:
            while not self._over.is_set():
                left_s = None if self.is_connected else self._due_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    self.hang_up("it did not connect in time")
                    break
                self._changed.clear()
                try:
                    async with asyncio.timeout(left_s):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            await self.close()
            log.info("viewer %s ended: %s", self.name[:6], self.ended_because or "the server ended it")

    @property
    def is_connected(self) -> bool:
        """Whether what is shown gets through."""
        return self._connection.connectionState == "connected"

    @property
    def sound_delay_s(self) -> float | None:
        """For how long sound is held back now; None where there is none."""
        return None if self._sound is None else self._sound.delay_s

    async def transport_stats(self) -> RTCStatsReport:
        """What its transport has counted."""
        return await self._connection.getStats()

    def hang_up(self, why: str) -> None:
        """Ends the viewing soon; `live` returns then."""
        self.ended_because = self.ended_because or why
        self._over.set()
        self._changed.set()

    async def close(self) -> None:
        """Frees everything. Safe to call twice, and in the middle of a negotiation that failed."""
        self._over.set()
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._free())
        # Shielded: a cancelled `close` of aiortc's leaves its connection half open for ever.
        await asyncio.shield(self._closing)

    def numbers(self) -> dict[str, object]:
        """The viewing in numbers, for /metrics."""
        if self._video is not None:
            self.stats.dropped["replaced"] = self._video.replaced
        if self._sound is not None:
            self.stats.dropped["sound"] = self._sound.dropped
        return self.stats.as_json(time.monotonic())

    async def _send(self, kinds: frozenset[str]) -> None:
        """Sets up what is sent of the kinds that the call has."""
        if "video" in kinds:
            card = await asyncio.to_thread(standby_frame, CARD_HEIGHT_PX, CARD_WIDTH_PX)
            self._video = SwappedVideo(self.source.call, self.stats, card)
            self._sender = add_video(self._connection, self._video, send_only=True)
            self.source.audience.watch(self._video)
        if "audio" in kinds and self.source.has_sound:
            self._sound = DelayedSound(self.stats)
            self._connection.addTransceiver(self._sound, direction="sendonly")
            self.source.audience.listen(self._sound)

    def _agreed(self) -> None:
        self.is_agreed = True
        self._due_s = time.monotonic() + self._connect_s
        self._changed.set()

    def _on_state(self) -> None:
        state = self._connection.connectionState
        log.info("viewer %s: %s", self.name[:6], state)
        self._changed.set()
        if state in ("failed", "closed"):
            self.hang_up("the connection was lost" if state == "failed" else "the other side hung up")

    async def _free(self) -> None:
        outputs = [output for output in (self._video, self._sound) if output is not None]
        self.source.audience.leave(*outputs)
        for output in outputs:
            output.stop()
        await self.line.close()
        try:
            await self._connection.close()
        except (AttributeError, InvalidStateError) as error:  # aiortc 1.16, of a connection that is half negotiated
            log.info("viewer %s: its connection did not close cleanly", self.name[:6], exc_info=error)
