"""Calls keep to a range of UDP ports. Stock aioice does not."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from pydantic import ValidationError

from streamer.config import ReachSettings
from streamer.transport import pin
from streamer.transport.ice_restart import transport_of
from streamer.transport.ports import Ports


def a_free_range(count: int) -> tuple[int, int]:
    """Some neighbouring ports that were free a moment ago."""
    for first in range(40_000, 60_000, count):
        taken = []
        try:
            for port in range(first, first + count):
                taken.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                taken[-1].bind(("127.0.0.1", port))
            return first, first + count - 1
        except OSError:
            continue
        finally:
            for one in taken:
                one.close()
    raise AssertionError("no free ports")


async def ports_of_two_calls() -> list[list[int]]:
    """The ports of loopback candidates of two connections at the same time."""
    connections = [RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2)]
    try:
        for connection in connections:
            connection.createDataChannel("x")
            await connection.setLocalDescription(await connection.createOffer())
        found = [transport_of(connection).iceGatherer.getLocalCandidates() for connection in connections]
        return [[one.port for one in candidates if one.ip == "127.0.0.1"] for candidates in found]
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))


async def test_calls_use_ports_of_the_range_and_no_others() -> None:
    first, last = a_free_range(40)
    with pin.installed(loopback=True, udp_ports=(first, last)):
        found = await ports_of_two_calls()
    assert all(len(ports) == 1 for ports in found)
    assert all(first <= port <= last for ports in found for port in ports)
    assert found[0] != found[1]
    with pin.installed(loopback=True):
        assert not all(first <= port <= last for ports in await ports_of_two_calls() for port in ports)


async def test_a_range_that_is_used_up_gives_a_call_without_an_address_and_no_fault() -> None:
    first, last = a_free_range(1)
    with pin.installed(loopback=True, udp_ports=(first, last)):
        found = await ports_of_two_calls()
    assert sorted(found) == [[], [first]]


def test_ports_are_taken_in_turn() -> None:
    ports = Ports(5, 7)
    assert [ports.in_turn() for _ in range(4)] == [[5, 6, 7], [6, 7, 5], [7, 5, 6], [5, 6, 7]]


@pytest.mark.parametrize("text", ["1-2-3", "x", "70000-70001", "6000-5000", "80-90", ""])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        ReachSettings(udp_ports=text)


def test_a_range_is_read() -> None:
    assert ReachSettings(udp_ports="50000-50099").ports == (50_000, 50_099)
    assert ReachSettings().ports is None
