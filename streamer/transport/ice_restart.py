"""A new ICE session beneath a connection that goes on: for a caller whose network has changed.

aiortc cannot do it. Here a second aioice connection is made, with credentials and sockets of its own, and handed the
queue that DTLS reads from; when it has found a pair, what is sent goes its way and the old one is closed. DTLS, SRTP
and everything above notice nothing. While that is going on, and when it fails, the old one stays in use.
"""

from __future__ import annotations

import asyncio
import logging

from aioice.ice import Connection
from aiortc import RTCIceCandidate, RTCIceTransport, RTCPeerConnection
from aiortc.rtcicetransport import candidate_from_aioice
from aiortc.sdp import candidate_to_sdp

log = logging.getLogger(__name__)

CONNECT_S = 30.0
MONITOR = "_RTCIceTransport__monitor_task"  # waits for the end of the ICE connection


class IceRestart:
    """One new ICE session of one connection. `begin`, then `finished` ends by itself; `give_up` ends it before."""

    def __init__(self, connection: RTCPeerConnection) -> None:
        self._transport = transport_of(connection)
        self._old: Connection = self._transport._connection
        self._new = like(self._old)
        self.finished: asyncio.Task[bool] | None = None

    @property
    def credentials(self) -> tuple[str, str]:
        """Our user name fragment and password."""
        return self._new.local_username, self._new.local_password

    @property
    def candidates(self) -> tuple[str, ...]:
        """Ours, as `candidate:...`, after `begin`."""
        return tuple(f"candidate:{candidate_to_sdp(candidate_from_aioice(one))}" for one in self._new.local_candidates)

    async def gather(self) -> None:
        """Finds our candidates without the other side's credentials: for whoever asks for the new session himself."""
        if self._transport.state != "completed":
            raise ConnectionError("only a connection that was established can get a new ICE session")
        await self._new.gather_candidates()

    async def begin(self, ufrag: str, password: str) -> None:
        """Gathers our candidates and starts to look for a pair; the other side's candidates are added to the transport
        as always from now on. Raises ConnectionError where the connection is over.
        """
        await self.gather()
        self._new.remote_username, self._new.remote_password = ufrag, password
        self._new._queue = self._old._queue
        self._use(self._new)
        self.finished = asyncio.create_task(self._finish())

    async def give_up(self) -> None:
        """The old session stays. Nothing happens where the new one is in use already."""
        if self.finished is not None and not self.finished.done():
            self.finished.cancel()
            await asyncio.gather(self.finished, return_exceptions=True)

    async def _finish(self) -> bool:
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._new.connect()
        except (ConnectionError, TimeoutError, asyncio.CancelledError) as error:
            log.info("the new ICE session came to nothing: %s", type(error).__name__)
            await self._stay()
            if isinstance(error, asyncio.CancelledError):
                raise
            return False
        await self._move()
        return True

    async def _move(self) -> None:
        transport = self._transport
        transport._recv, transport._send = self._new.recv, self._new.send
        # The end of the old session is not the end of the connection any more: that of the new one is.
        getattr(transport, MONITOR).cancel()
        setattr(transport, MONITOR, asyncio.ensure_future(transport._monitor()))
        self._old._queue = asyncio.Queue()
        await self._old.close()

    async def _stay(self) -> None:
        if self._transport._connection is self._new:
            self._use(self._old)
        self._new._queue = asyncio.Queue()
        await self._new.close()
        if self._transport.state == "closed":  # it was closed in the meantime, and closed only the new one
            await self._old.close()

    def _use(self, connection: Connection) -> None:
        """Candidates that come, and the end of the transport, are this connection's from now on."""
        self._transport._connection = self._transport.iceGatherer._connection = connection
        self._transport.iceGatherer._remote_candidates_end = connection._remote_candidates_end


def transport_of(connection: RTCPeerConnection) -> RTCIceTransport:
    """The ICE transport that all media of the bundle share. Raises ConnectionError where there is none."""
    for transceiver in connection.getTransceivers():
        transport: RTCIceTransport = transceiver.receiver.transport.transport
        return transport
    if connection.sctp is not None:
        shared: RTCIceTransport = connection.sctp.transport.transport
        return shared
    raise ConnectionError("the connection has no media")


def like(old: Connection) -> Connection:
    """A fresh ICE connection with the same settings, in the same role."""
    new = Connection(
        ice_controlling=old.ice_controlling,
        stun_server=old.stun_server,
        turn_server=old.turn_server,
        turn_username=old.turn_username,
        turn_password=old.turn_password,
        turn_ssl=old.turn_ssl,
        turn_transport=old.turn_transport,
        use_ipv4=old._use_ipv4,
        use_ipv6=old._use_ipv6,
        transport_policy=old._transport_policy,
    )
    new.remote_is_lite = old.remote_is_lite
    return new


async def add_candidate(connection: RTCPeerConnection, candidate: RTCIceCandidate | None) -> None:
    """A candidate of the other side, None for the end of them, for the ICE session that is being agreed on."""
    await transport_of(connection).addRemoteCandidate(candidate)
