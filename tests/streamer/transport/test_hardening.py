"""The wraps around aiortc and aioice, each by itself; together and from outside: tests/attacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aioice.ice
import pylibsrtp
import pytest
from aioice import stun
from aioice.candidate import Candidate
from aioice.ice import Connection, StunProtocol

from streamer.guards.addresses import AddressPolicy
from streamer.transport import hardening, pin
from streamer.transport.source_filter import FilteredStunProtocol

LOCAL = AddressPolicy(lan=True, loopback=True)


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    pin.uninstall()
    hardening.refused.clear()
    pin.install(policy=LOCAL, loopback=True)
    yield
    pin.install(policy=LOCAL)
    pin.uninstall()


@pytest.fixture
async def ice(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connection]:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    connection = Connection(ice_controlling=True)
    await connection.gather_candidates()
    connection.remote_username, connection.remote_password = "them1", "x" * 22
    yield connection
    await connection.close()


def candidate(host: str, port: int = 50_000) -> Candidate:
    return Candidate("f", 1, "udp", 1, host, port, "host")


def check(**attributes: Any) -> stun.Message:
    return stun.Message(stun.Method.BINDING, stun.Class.REQUEST, attributes=attributes)


def test_every_wrap_is_put_back() -> None:
    wrapped = [getattr(owner, name) for owner, name in hardening.PATCHED]
    assert all(one.vividstream for one in wrapped)
    pin.install(policy=LOCAL)
    again = [getattr(owner, name) for owner, name in hardening.PATCHED]
    assert all(one.vividstream for one in again)
    pin.uninstall()
    assert not any(hasattr(getattr(owner, name), "vividstream") for owner, name in hardening.PATCHED)


async def test_the_policy_holds_for_named_addresses_and_for_what_names_turn_out_to_mean(ice: Connection) -> None:
    pin.install(policy=AddressPolicy(lan=True))
    await ice.add_remote_candidate(candidate("127.0.0.1"))
    ice._add_remote_candidate(candidate("a1b2.local"), "169.254.169.254")
    await ice.add_remote_candidate(candidate("192.168.0.9"))
    assert [one.host for one in ice.remote_candidates] == ["192.168.0.9"]
    assert hardening.refused == {"candidate_loopback": 1, "candidate_metadata": 1}


async def test_candidates_and_callers_do_not_pile_up(ice: Connection) -> None:
    for number in range(100):
        await ice.add_remote_candidate(candidate(f"127.0.1.{number}"))
    assert len(ice.remote_candidates) == hardening.MOST_CANDIDATES
    for number in range(100):
        ice.check_incoming(check(PRIORITY=1), ("127.0.2.1", 10_000 + number), ice._protocols[0])
    assert len(ice._remote_candidates) == hardening.MOST_CANDIDATES_IN_ALL
    assert hardening.refused == {"candidate_count": 36, "check_count": 68}


async def test_a_check_without_priority_is_no_error(ice: Connection) -> None:
    ice.check_incoming(check(), ("127.0.0.1", 50_000), ice._protocols[0])
    assert not ice._check_list
    assert hardening.refused == {"check_form": 1}


async def test_where_no_candidate_was_let_in_the_end_is_no_end(ice: Connection) -> None:
    await ice.add_remote_candidate(None)
    assert not ice._remote_candidates_end
    await ice.add_remote_candidate(candidate("127.0.0.1"))
    await ice.add_remote_candidate(None)
    assert ice._remote_candidates_end


async def test_who_proved_the_password_may_send_though_our_own_check_was_called_off(ice: Connection) -> None:
    """The controlling side takes its last success, the other the last nomination: their pairs may differ."""
    protocol = ice._protocols[0]
    assert isinstance(protocol, FilteredStunProtocol)
    source, record = ("127.0.0.1", 50_000), bytes([22]) + bytes(20)
    protocol.datagram_received(record, source)
    assert (ice._queue.qsize(), protocol.strangers) == (0, 1)
    ice.check_incoming(check(PRIORITY=1), source, protocol)
    protocol.datagram_received(record, source)
    assert (ice._queue.qsize(), protocol.strangers) == (1, 1)


async def test_datagrams_wait_in_bounds(ice: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (0, 1_501):
        ice.data_received(bytes(size), 1)
    for _ in range(2_000):
        ice.data_received(b"\x80" * 20, 1)
    assert ice._queue.qsize() == hardening.MOST_WAITING_DATAGRAMS
    assert hardening.refused == {"datagram_size": 2, "datagram_queue": 2_000 - 1_024}
    monkeypatch.setattr(hardening, "DATAGRAMS_AT_ONCE", 10.0)
    other = Connection(ice_controlling=False)
    for _ in range(30):
        other.data_received(b"\x80" * 20, 1)
    assert other._queue.qsize() == 10
    await other.close()


async def test_what_raises_in_the_middle_of_a_datagram_is_counted(ice: Connection) -> None:
    short = b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(12) + b"\x00\x24\x00\x02ab\x00\x00"
    StunProtocol.datagram_received(ice._protocols[0], short, ("127.0.0.1", 9))
    assert hardening.refused == {"datagram_fault": 1}


def test_streams_are_counted_when_they_are_authentic() -> None:
    class Session:
        def unprotect(self, packet: bytes) -> bytes:
            if packet[0] == 0xFF:
                raise pylibsrtp.Error("not authentic")
            return packet

        unprotect_rtcp = unprotect

    session = hardening.BoundedSession(Session())  # type: ignore[arg-type]  # of it, two methods are used
    for ssrc in range(100):
        with pytest.raises(pylibsrtp.Error, match="authentic"):
            session.unprotect(b"\xff" * 8 + ssrc.to_bytes(4, "big"))
    for ssrc in range(hardening.MOST_STREAMS):
        session.unprotect(bytes(8) + ssrc.to_bytes(4, "big"))
    with pytest.raises(pylibsrtp.Error, match="too many"):
        session.unprotect(bytes(8) + (999).to_bytes(4, "big"))
    with pytest.raises(pylibsrtp.Error, match="too many"):
        session.unprotect_rtcp(bytes(4) + (999).to_bytes(4, "big"))
    session.unprotect_rtcp(bytes(4) + (5).to_bytes(4, "big"))
    assert hardening.refused == {"streams": 2}


async def test_one_calls_packets_let_the_others_have_a_turn() -> None:
    class Transport:
        pass

    async def slow(self: object, data: bytes) -> None:
        await asyncio.sleep(0)
        end = asyncio.get_running_loop().time() + 0.003
        while asyncio.get_running_loop().time() < end:
            pass

    async def fails(self: object, data: bytes) -> None:
        raise IndexError("no such byte")

    transport, turns = Transport(), 0
    take = hardening._contained(slow)

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    waiting = asyncio.create_task(other())
    for _ in range(10):
        await take(transport, b"x")
    waiting.cancel()
    assert turns >= 15, "ten of the handler's own, and one after every second packet"
    await hardening._contained(fails)(transport, b"x")
    assert hardening.refused["packet_fault"] == 1


async def test_reports_that_fail_do_not_keep_a_connection_from_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Receiver:
        def __init__(self) -> None:
            self.runs = 0
            self._RTCRtpReceiver__rtcp_exited = asyncio.Event()

    async def fails(self: Receiver) -> None:
        self.runs += 1
        raise ValueError("256 reports")

    monkeypatch.setattr(hardening, "REPORTS_AGAIN_S", 0.01)
    receiver = Receiver()
    running = asyncio.create_task(hardening._run_rtcp(fails)(receiver))
    await asyncio.sleep(0.1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert receiver.runs > 1
    assert receiver._RTCRtpReceiver__rtcp_exited.is_set()
