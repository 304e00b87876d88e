"""A stranger's datagrams during the handshake end a stock connection, and not ours."""

from __future__ import annotations

import asyncio
import re
import socket
import struct

import pytest
from aioice.candidate import Candidate
from aioice.ice import CandidatePair, Connection
from aiortc import RTCPeerConnection

from streamer.transport import pin
from streamer.transport.source_filter import FilteredStunProtocol, strangers_of
from tests.streamer.transport.calls import Line, connections

FATAL_ALERT = bytes([21]) + b"\xfe\xfd" + bytes(8) + struct.pack("!H", 2) + b"\x02\x28"
JUNK = (
    b"",  # aiortc reads the first byte of it
    b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(12) + b"\x80\x2a\x00\x04" + bytes(4),  # STUN, an attribute too short
    b"\x80" + bytes(40),
    b"\x40\x00\x00\x04" + bytes(4),
    bytes([22]) + b"\xfe\xfd" + bytes(8) + b"\x00\x04" + b"\xff" * 4,
)


def addresses_of(*sides: RTCPeerConnection) -> set[tuple[str, int]]:
    text = "".join(side.localDescription.sdp for side in sides)
    found = re.findall(r"candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", text)
    return {(host, int(port)) for host, port in found}


async def connected_under(datagrams: tuple[bytes, ...]) -> tuple[bool, int]:
    """(whether both sides connect while a stranger sends these without pause, how many were dropped)"""
    one, other = connections()
    one.createDataChannel("x")
    await one.setLocalDescription(await one.createOffer())
    await other.setRemoteDescription(one.localDescription)
    await other.setLocalDescription(await other.createAnswer())
    targets = addresses_of(one, other)

    async def spray() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            while True:
                for target in targets:
                    for datagram in datagrams * 3:
                        stranger.sendto(datagram, target)
                await asyncio.sleep(0.004)

    spraying = asyncio.create_task(spray())
    try:
        await one.setRemoteDescription(other.localDescription)
        is_up = await settled(one, other)
        await asyncio.sleep(0.2)  # it must stay
        is_up = is_up and one.connectionState == other.connectionState == "connected"
        assert one.sctp is not None
        return is_up, strangers_of(one.sctp.transport)
    finally:
        spraying.cancel()
        await one.close()
        await other.close()


async def settled(one: RTCPeerConnection, other: RTCPeerConnection) -> bool:
    async with asyncio.timeout(20):
        while "failed" not in (one.connectionState, other.connectionState):
            if one.connectionState == other.connectionState == "connected":
                return True
            await asyncio.sleep(0.02)
    return False


async def test_an_alert_of_a_stranger_ends_a_stock_connection_and_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    Line().install(monkeypatch)
    with pin.stock():
        is_up, _ = await connected_under((FATAL_ALERT,))
    assert not is_up
    with pin.installed():
        for datagrams in ((FATAL_ALERT,), JUNK):
            is_up, dropped = await connected_under(datagrams)
            assert is_up
            assert dropped > 10


@pytest.mark.parametrize(
    "datagram", [b"\x00junk", b"\x03" + bytes(30), b"\x80" + bytes(20), b"\x16\xfe\xfd", b"\xff", b""]
)
async def test_what_is_no_stun_message_reaches_nobody_before_a_check(datagram: bytes) -> None:
    connection = Connection(ice_controlling=False)
    protocol = FilteredStunProtocol(connection)
    protocol.local_candidate = candidate(("127.0.0.1", 1000))
    stranger = ("127.0.0.1", 2000)
    protocol.datagram_received(datagram, stranger)
    assert connection._queue.empty()
    assert protocol.strangers == 1
    pair = CandidatePair(protocol, candidate(stranger))
    pair.state = CandidatePair.State.SUCCEEDED
    connection._check_list.append(pair)
    protocol.datagram_received(b"\x80" + bytes(20), stranger)
    assert connection._queue.qsize() == 1
    protocol.datagram_received(b"\x80" + bytes(20), ("127.0.0.1", 2001))
    assert connection._queue.qsize() == 1


def candidate(address: tuple[str, int]) -> Candidate:
    host, port = address
    made = Candidate("1", 1, "udp", 1, host, port, "host")
    made._network_host = host
    return made
