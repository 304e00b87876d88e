"""Being somewhere: publish, notice when it is lost, come back, leave. Knows neither Janus nor WHIP; draws nothing."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import aioice.ice
from aiortc.stats import RTCTransportStats

from engines import MediaError
from streamer.joining.errors import CannotJoin, Unreachable
from streamer.joining.outgoing import Outgoing
from streamer.signalling.ice import Ice
from streamer.viewer import Viewer

log = logging.getLogger(__name__)

CONNECT_S = 10.0
LOOK_S = 0.5
SILENT_S = 5.0  # without one packet of the other side's reports: something that was not said has ended
FIRST_WAIT_S, MOST_WAIT_S, WAIT_GROWS = 0.2, 3.0, 1.5


class Place(Protocol):
    """One stay in a room, or at an address. `over` gets the reason when the other side ends it."""

    over: asyncio.Future[str]
    removed: bool  # by a person: not to be tried again
    others: dict[object, str]

    @property
    def where(self) -> str: ...

    async def enter(self, viewer: Viewer) -> None:
        """Raises CannotJoin, and Unreachable where trying again may help."""

    async def leave(self) -> None:
        """Safe to call at any time, and twice."""


@runtime_checkable
class Renewable(Protocol):
    """A place that can go on from another address of this machine."""

    async def renew(self) -> bool: ...


@dataclass(slots=True)
class Stays:
    """What happened so far. Times are monotonic seconds."""

    entered: int = 0
    lost: list[str] = field(default_factory=list)  # why, the latest 20
    away_s: list[float] = field(default_factory=list)  # from the loss to the connection, the latest 20
    renewed: int = 0
    viewer: Viewer | None = None
    place: Place | None = None
    connected: asyncio.Event = field(default_factory=asyncio.Event)


class Attendance:
    """Keeps one participant in a room until told to go."""

    def __init__(
        self,
        make_place: Callable[[], Place],
        outgoing: Outgoing,
        ice: Ice,
        give_up_s: float,
        say: Callable[[str], None],
    ) -> None:
        """`say` gets one sentence for a person at every change."""
        self.stays = Stays()
        self._make, self._outgoing, self._ice = make_place, outgoing, ice
        self._give_up_s, self._say = give_up_s, say
        self._lost_s: float | None = None

    async def attend(self) -> None:
        """Until it is cancelled, which leaves cleanly. Raises CannotJoin where it cannot be, or is not wanted."""
        wait_s = FIRST_WAIT_S
        while True:
            try:
                why = await self._one_stay()
                wait_s = FIRST_WAIT_S
            except Unreachable as error:
                if self._lost_s is None:
                    raise
                why = str(error)
                if time.monotonic() - self._lost_s + wait_s > self._give_up_s:
                    raise CannotJoin(f"given up after {self._give_up_s:.0f} s: {why}") from error
            else:
                self.stays.lost = [*self.stays.lost[-19:], why]
                self._say(f"lost: {why}; coming back")
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * WAIT_GROWS, MOST_WAIT_S)

    async def _one_stay(self) -> str:
        """Enters, stays. Returns why it ended. Raises CannotJoin."""
        place = self._make()
        viewer = Viewer(secrets.token_hex(4), self._outgoing, self._ice, CONNECT_S)
        living: asyncio.Task[None] | None = None
        try:
            try:
                await place.enter(viewer)
            except MediaError as error:
                raise Unreachable(f"{place.where}: {error}") from error
            living = asyncio.create_task(viewer.live(), name="viewer")
            self.stays.viewer, self.stays.place = viewer, place
            why = await self._watch(place, viewer, living)
            if place.removed:
                raise CannotJoin(f"{place.where}: {why}")
            if viewer.stats.shown.total() == 0 and self.stays.entered == 0:
                raise Unreachable(f"{place.where}: {why}; is UDP let through? --ice-server names a TURN server")
            self._lost_s = self._lost_s or time.monotonic()
            return why
        finally:
            self.stays.viewer = self.stays.place = None
            self.stays.connected.clear()
            await asyncio.shield(_end(place, viewer, living))

    async def _watch(self, place: Place, viewer: Viewer, living: asyncio.Task[None]) -> str:
        """Returns why it is over."""
        heard_packets, heard_s = 0, time.monotonic()
        addresses = _addresses()
        ends: tuple[asyncio.Future[Any], ...] = (living, place.over)
        while True:
            done, _ = await asyncio.wait(ends, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if place.over in done:
                return place.over.result()
            if living in done:
                return viewer.ended_because or "the connection ended"
            now_s = time.monotonic()
            if not viewer.is_connected:
                heard_s = now_s
                continue
            if not self.stays.connected.is_set():
                self._entered(place, now_s)
            packets = await _packets_in(viewer)
            if packets != heard_packets:
                heard_packets, heard_s = packets, now_s
            if now_s - heard_s > SILENT_S:
                return f"nothing was heard of {place.where} for {SILENT_S:.0f} s"
            if addresses != (addresses := _addresses()) and isinstance(place, Renewable):
                self.stays.renewed += await place.renew()

    def _entered(self, place: Place, now_s: float) -> None:
        self.stays.entered += 1
        self.stays.connected.set()
        others = f", {len(place.others)} others show something" if place.others else ""
        if self._lost_s is not None:
            self.stays.away_s = [*self.stays.away_s[-19:], now_s - self._lost_s]
            self._say(f"back in {place.where} after {now_s - self._lost_s:.1f} s{others}")
        else:
            self._say(f"in {place.where}{others}")
        self._lost_s = None


async def _end(place: Place, viewer: Viewer, living: asyncio.Task[None] | None) -> None:
    """The goodbye first: the other side then tells everybody at once, instead of waiting for packets."""
    await place.leave()
    viewer.hang_up("left")
    await viewer.close()
    if living is not None:
        await asyncio.gather(living, return_exceptions=True)


async def _packets_in(viewer: Viewer) -> int:
    """How many packets the connection has brought: reports, since nothing else is received."""
    report = await viewer.transport_stats()
    return sum(one.packetsReceived for one in report.values() if isinstance(one, RTCTransportStats))


def _addresses() -> frozenset[str]:
    return frozenset(aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=False))
