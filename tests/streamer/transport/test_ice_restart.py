"""A new ICE session beneath a call that goes on, with both ends real. Stock aiortc has nothing of the kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiortc import RTCPeerConnection
from aiortc.sdp import candidate_from_sdp

from streamer.signalling.fragment import read_fragment
from streamer.signalling.http import ROOM
from streamer.transport.ice_restart import IceRestart, add_candidate, transport_of
from tests.streamer.calls import Camera, plain, served
from tests.streamer.signalling.players import Client, client

GREY = plain((90, 90, 90))
HEAD = "m=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"


@asynccontextmanager
async def established() -> AsyncIterator[tuple[Client, Any]]:
    """A WHIP call that is connected, and the server's end of it."""
    async with served() as http, client(http) as sender:
        await sender.begin("/whip/a", await sender.offer_to_send(Camera([GREY])))
        await sender.until(lambda: sender.connection.connectionState == "connected")
        peer = http.server.app[ROOM].peers[sender.path.rsplit("/", 1)[1]]  # type: ignore[attr-defined]
        yield sender, peer


def pair_of(connection: RTCPeerConnection) -> tuple[Any, ...]:
    """Local and remote port that media take."""
    nominated = transport_of(connection)._connection._nominated
    return tuple((pair.local_candidate.port, pair.remote_addr[1]) for pair in nominated.values())


def credentials(ufrag: str, password: str) -> str:
    return f"{HEAD}a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n"


def packets(peer: Any) -> int:
    """Media packets that the server has received."""
    return int(peer._connection.getTransceivers()[0].receiver.counters.packets)


async def more_packets(peer: Any, timeout_s: float = 15.0) -> None:
    """Waits for some more packets of media than have come until now. Fails the test when they do not come."""
    count = packets(peer)
    async with asyncio.timeout(timeout_s):
        while packets(peer) <= count + 5:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_new_session_takes_over_and_no_packet_stream_ends() -> None:
    async with established() as (sender, peer):
        before, tag = pair_of(sender.connection), sender.tag
        restart = IceRestart(sender.connection)
        response = await sender.patch(credentials(*restart.credentials), "*")
        assert response.status == 200
        new_tag = response.headers["ETag"]
        assert new_tag != tag
        ours = read_fragment(await response.text())
        assert ours.ice is not None
        assert ours.is_end
        await restart.begin(ours.ice.ufrag, ours.ice.password)
        for one in ours.candidates:
            await add_candidate(sender.connection, candidate_from_sdp(one.split(":", 1)[1]))
        await add_candidate(sender.connection, None)
        assert restart.finished is not None
        assert await restart.finished
        assert await asyncio.wait_for(peer.line._restart.finished, 5)
        after = pair_of(sender.connection)
        assert after != before
        assert tuple(reversed(after[0])) == pair_of(peer._connection)[0]
        await more_packets(peer)  # pictures come in by the new session
        assert sender.connection.connectionState == "connected"
        late = credentials(*restart.credentials) + "a=end-of-candidates\r\n"
        assert (await sender.patch(late, tag)).status == 412, "the old session is over"
        assert (await sender.patch(late, new_tag)).status == 204
        # The old sockets are closed: what comes by them is nobody's.
        assert len(transport_of(peer._connection)._connection._protocols) > 0


@pytest.mark.parametrize("ending", ["given up", "a second one", "the call ends"])
async def test_a_new_session_that_comes_to_nothing_leaves_the_old_one(ending: str) -> None:
    async with established() as (sender, peer):
        transport = transport_of(peer._connection)
        old = transport._connection
        nobody = credentials("nobody00", "0123456789012345678901")
        assert (await sender.patch(nobody, "*")).status == 200
        assert transport._connection is not old
        first = peer.line._restart
        if ending == "given up":
            await first.give_up()
            assert transport._connection is old
        elif ending == "a second one":
            assert (await sender.patch(nobody.replace("nobody00", "nobody01"), "*")).status == 200
            assert first.finished.done()
        if ending != "the call ends":
            await more_packets(peer)  # media go on by the old session


async def test_a_connection_that_was_never_there_is_told_so() -> None:
    async with served() as http, client(http) as sender:
        offer = await sender.offer_to_send(Camera([GREY]))
        response = await sender.post("/whip/a", offer)
        assert response.status == 201
        refused = await sender.patch(credentials("abcdefgh", "0123456789012345678901"), "*")
        assert refused.status == 422
        assert "established" in (await refused.json())["error"]
        assert (await http.get(sender.path)).status == 204, "and the call that there is goes on"
