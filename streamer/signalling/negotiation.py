"""The agreement on one connection: offer and answer, candidates that come later, another ICE session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import OperationError
from aiortc.sdp import candidate_from_sdp

from engines import MediaError
from streamer.signalling.conditions import new_tag
from streamer.signalling.description import IceSide, complete, echo_profiles, fragment, ice_of
from streamer.signalling.fragment import read_fragment
from streamer.signalling.refusal import Refusal
from streamer.transport.ice_restart import IceRestart, add_candidate

log = logging.getLogger(__name__)

NEGOTIATE_S = 10.0
CANDIDATES_S = 3.0  # looking names up takes a second

T = TypeVar("T")


class Line:
    """One connection's signalling, in the order in which HTTP brings it. `name` is for the log: not the whole secret.

    Raises MediaError, in one line, for text that cannot be used.
    """

    def __init__(self, connection: RTCPeerConnection, name: str, announce: str | None = None) -> None:
        self.tag = new_tag()  # of the ICE session
        self.remote = IceSide("", "")
        self.candidates = 0  # that came later than the offer
        self._connection = connection
        self._restart: IceRestart | None = None
        self._name = name
        self._announce = announce

    @property
    def local_sdp(self) -> str:
        """Our description, as the other side got it."""
        return complete(str(self._connection.localDescription.sdp), self._announce)

    async def answer(self, sdp: str) -> str:
        """Takes an offer. Returns the answer, all our candidates in it."""

        async def negotiate() -> None:
            await self._connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
            await self._connection.setLocalDescription(await self._connection.createAnswer())

        await self._tried(negotiate(), "offer")
        self.remote = ice_of(sdp)
        return echo_profiles(self.local_sdp, sdp)

    async def offer(self) -> str:
        """Our own offer, all our candidates in it. Then `accept`."""

        async def negotiate() -> None:
            await self._connection.setLocalDescription(await self._connection.createOffer())

        await self._tried(negotiate(), "offer")
        return self.local_sdp

    async def accept(self, sdp: str) -> None:
        """Takes the answer to our offer."""
        await self._tried(self._connection.setRemoteDescription(RTCSessionDescription(sdp, "answer")), "answer")
        self.remote = ice_of(sdp)

    async def trickle(self, candidates: Sequence[str], end: bool) -> None:
        """Candidates (`candidate:...`) that came later, and whether they were the last ones.

        One that cannot be used (TCP, a name that nobody knows) is left out, as RFC 9725 section 4.3.2 wants it.
        """
        self.candidates += len(candidates)
        coming = []
        for text in candidates:
            try:
                candidate = candidate_from_sdp(text.split(":", 1)[1])
            except (AssertionError, IndexError, ValueError):
                continue
            coming.append(add_candidate(self._connection, candidate))
        await self._tried(asyncio.gather(*coming), "list of candidates", CANDIDATES_S)
        if end:
            await add_candidate(self._connection, None)

    async def restart(self, ice: IceSide, candidates: Sequence[str], end: bool) -> str:
        """Another ICE session beneath the same connection. Returns the fragment with ours."""
        if self._restart is not None:
            await self._restart.give_up()
        restart = IceRestart(self._connection)
        try:
            await self._tried(restart.begin(ice.ufrag, ice.password), "new ICE session")
        except MediaError as error:  # the session that there is goes on, as RFC 9725 section 4.3.3 wants it
            raise Refusal(422, str(error)) from error
        self._restart = restart
        self.remote, self.tag, self.candidates = ice, new_tag(), 0
        await self.trickle(candidates, end)
        return fragment(self.local_sdp, IceSide(*restart.credentials), restart.candidates, self._announce)

    async def renew(self, exchange: Callable[[str], Awaitable[str]]) -> bool:
        """Another ICE session that we ask for: our fragment goes out and theirs comes back by `exchange`.

        Returns whether it came to a pair; else the session that there is goes on. Raises MediaError, or what
        `exchange` raises.
        """
        if self._restart is not None:
            await self._restart.give_up()
        restart = self._restart = IceRestart(self._connection)
        await self._tried(restart.gather(), "new ICE session")
        ours = IceSide(*restart.credentials)
        theirs = read_fragment(await exchange(fragment(self.local_sdp, ours, restart.candidates, self._announce)))
        if theirs.ice is None:
            raise MediaError("the other side gave no new ICE session")
        await self._tried(restart.begin(theirs.ice.ufrag, theirs.ice.password), "new ICE session")
        self.remote = theirs.ice
        await self.trickle(theirs.candidates, end=True)
        assert restart.finished is not None
        return await restart.finished

    async def close(self) -> None:
        """Ends what is going on here; the connection itself is not closed."""
        if self._restart is not None:
            await self._restart.give_up()

    async def _tried(self, coming: Awaitable[T], what: str, limit_s: float = NEGOTIATE_S) -> T:
        """The boundary to a stranger's text: aiortc raises anything on it."""
        try:
            async with asyncio.timeout(limit_s):
                return await coming
        except TimeoutError:
            raise MediaError(f"the {what} could not be answered in time") from None
        except Exception as error:
            log.info("%s: the %s was refused", self._name, what, exc_info=error)
            raise MediaError(f"the {what} cannot be used: {_one_line(error)}") from error


def is_no_common_codec(error: MediaError) -> bool:
    """Whether the other side's offer was refused since it has no codec that we have."""
    return isinstance(error.__cause__, OperationError)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
