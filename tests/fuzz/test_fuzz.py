"""Changed messages against the server's own objects, in a call that goes on: it serves, does not grow, is never away.

Each suite has a short form that always runs and a long one (`-m long`); over a million inputs in all. Inputs that a
socket, a key or a rate would stop go in behind these, straight to what parses. An input may end the call that it
belongs to, never the server: then the next call takes its place.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from struct import pack
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from aiortc.sdp import SessionDescription, candidate_from_sdp
from google_crc32c import value as crc32c

from engines import MediaError
from streamer.config import ServerConfig
from streamer.guards.addresses import AddressPolicy
from streamer.guards.sdp import candidate_fault, check_offer, filter_offer
from streamer.signalling.fragment import read_fragment
from streamer.signalling.http import ROOM
from streamer.signalling.refusal import Refusal
from streamer.transport import hardening
from tests.attacks.attacker import Attacker
from tests.attacks.server import family, rss_mb
from tests.attacks.target import MOST_GROWTH_MB, MOST_LAG_MS
from tests.fuzz.corpus import Corpus
from tests.fuzz.mutate import Mutator
from tests.streamer.calls import Camera, plain, served

SEED = 7
SHORT = 400  # of each suite, always
LONG = {
    "sdp": 150_000, "sdpfrag": 150_000, "candidate": 200_000, "rtp": 150_000, "rtcp": 150_000, "sctp": 150_000,
    "datagram": 150_000,
}  # fmt: skip
TURN_S = 0.02
LOCAL = AddressPolicy(lan=True, loopback=True)

Client = TestClient[Any, Any]


def test_the_long_forms_have_a_million_inputs() -> None:
    assert sum(LONG.values()) >= 1_000_000


def total_mb() -> float:
    gc.collect()
    return sum(rss_mb(pid) for pid in family(os.getpid()))


class Fuzzed:
    """A server in this process with one call, and the server's side of that call."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.corpus = Corpus()
        self.calls = 0
        self.slowest_ms, self.slowest = 0.0, b""
        self._caller: Attacker | None = None

    async def call(self) -> Any:
        """The server's end of a call that works; a new one where the last has ended."""
        room = self.client.server.app[ROOM]  # type: ignore[attr-defined]
        if self._caller is not None:
            self._caller.received.clear()
            self._caller.reports.clear()
            peer = room.peers.get(self._caller.call)
            if peer is not None and peer._connection.connectionState == "connected":
                return peer
            await self.end()
        self._caller = caller = Attacker(self.client)
        answer = await caller.start(Camera([plain((40, 200, 40))]))
        caller.answer_sdp = answer["sdp"]
        self.corpus.sdp += [answer["sdp"], str(caller._connection.localDescription.sdp)] if not self.calls else []
        await caller.connected()
        self.calls += 1
        return room.peers[caller.call]

    async def learn(self) -> None:
        """Takes the corpus from the first call."""
        await self.call()
        assert self._caller is not None
        await self.corpus.listen(self._caller._connection, 1.0)
        self.corpus.add_rare_ones(self._caller.payload_type("VP8"))
        assert min(len(self.corpus.rtp), len(self.corpus.rtcp), len(self.corpus.sctp)) >= 3

    async def end(self) -> None:
        if self._caller is not None:
            await self.client.delete(f"/session/{self._caller.call}")
            await self._caller.close()
            self._caller = None

    async def serves(self) -> None:
        await self.end()
        await self.call()
        assert self._caller is not None
        await self._caller.pictures(3)
        await self.end()

    async def feed(self, count: int, make: Callable[[], bytes], take: Callable[[Any, bytes], Awaitable[None]]) -> None:
        """Sends `count` inputs to the server's end, and remembers the slowest."""
        peer, turn_s = await self.call(), time.monotonic()
        for _ in range(count):
            data = make()
            begun_s = time.thread_time()
            await take(peer, data)
            took_ms = (time.thread_time() - begun_s) * 1e3
            if took_ms > self.slowest_ms:
                self.slowest_ms, self.slowest = took_ms, data
            if time.monotonic() - turn_s > TURN_S:
                await asyncio.sleep(0)
                peer, turn_s = await self.call(), time.monotonic()


@asynccontextmanager
async def fuzzed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fuzzed]:
    for name in ("RTCP_UNITS_PER_S", "RTCP_UNITS_AT_ONCE", "DATAGRAMS_PER_S", "DATAGRAMS_AT_ONCE"):
        monkeypatch.setattr(hardening, name, 1e12)
    async with served(ServerConfig(max_sessions=4)) as client:
        under = Fuzzed(client)
        try:
            await under.learn()
            yield under
            await under.serves()
        finally:
            await under.end()


def take_sdp(data: bytes) -> None:
    """What a description goes through before aiortc builds anything; a parser of aiortc's may raise, in bounds."""
    text = data.decode("utf-8", "surrogatepass")
    try:
        check_offer(text)
    except MediaError:
        return
    kept = filter_offer(text, AddressPolicy())
    try:
        SessionDescription.parse(kept.sdp)
    except (AssertionError, AttributeError, KeyError, StopIteration, ValueError, TypeError, IndexError):
        return


def take_fragment(data: bytes) -> None:
    try:
        fragment = read_fragment(data.decode("utf-8", "surrogatepass"))
    except Refusal:
        return
    for line in fragment.candidates:
        take_candidate(line.encode("utf-8", "surrogatepass"))


def take_candidate(data: bytes) -> None:
    line = data.decode("utf-8", "surrogatepass")
    for policy in (AddressPolicy(), LOCAL):
        if candidate_fault(line, policy) is None:
            parsed = candidate_from_sdp(line.partition("candidate:")[2])
            assert policy.candidate(parsed.ip, parsed.port, parsed.protocol) is None


async def take_rtp(peer: Any, data: bytes) -> None:
    await transport_of(peer)._handle_rtp_data(data, arrival_time_ms=int(time.monotonic() * 1e3))


async def take_rtcp(peer: Any, data: bytes) -> None:
    await transport_of(peer)._handle_rtcp_data(data)


async def take_sctp(peer: Any, data: bytes) -> None:
    """With the right tag and check sum mostly, so that it gets in."""
    sctp = peer._connection.sctp
    if len(data) >= 12 and data[-1] % 8:
        tag = 0 if len(data) > 12 and data[12] == 1 else sctp._local_verification_tag
        data = data[:4] + pack("!L", tag) + bytes(4) + data[12:]
        data = data[:8] + pack("<L", crc32c(data)) + data[12:]
    await sctp._handle_data(data)


async def take_datagram(peer: Any, data: bytes) -> None:
    protocol = transport_of(peer).transport._connection._protocols[0]
    protocol.datagram_received(data, ("127.0.0.1", 1 + len(data)))


def transport_of(peer: Any) -> Any:
    return peer._connection.getTransceivers()[0].receiver.transport


def suites_of(corpus: Corpus) -> dict[str, tuple[Callable[[], bytes], Callable[[Any, bytes], Awaitable[None]]]]:
    """For each suite what makes an input and what takes it."""
    mutator = Mutator(SEED)

    def text(take: Callable[[bytes], None]) -> Callable[[Any, bytes], Awaitable[None]]:
        async def taken(peer: Any, data: bytes) -> None:
            take(data)

        return taken

    def coded(line: str) -> bytes:
        return line.encode("utf-8", "surrogatepass")

    return {
        "sdp": (lambda: coded(mutator.text(corpus.sdp)), text(take_sdp)),
        "sdpfrag": (lambda: coded(mutator.text(corpus.fragments)), text(take_fragment)),
        "candidate": (lambda: coded(mutator.line(corpus.candidates)), text(take_candidate)),
        "rtp": (lambda: mutator.packet(corpus.rtp), take_rtp),
        "rtcp": (lambda: mutator.packet(corpus.rtcp), take_rtcp),
        "sctp": (lambda: mutator.packet(corpus.sctp), take_sctp),
        "datagram": (lambda: mutator.packet(corpus.datagrams), take_datagram),
    }


async def test_changed_messages_of_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fuzzed(monkeypatch) as under:
        before_mb = total_mb()
        for make, take in suites_of(under.corpus).values():
            await under.feed(SHORT, make, take)
        assert total_mb() - before_mb < MOST_GROWTH_MB
        assert under.slowest_ms < MOST_LAG_MS, under.slowest.hex()


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("suite", list(LONG))
async def test_changed_messages_by_the_hundred_thousand(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = LONG[suite]
    async with fuzzed(monkeypatch) as under:
        make, take = suites_of(under.corpus)[suite]
        await under.feed(1_000, make, take)  # first, so that what is loaded once is no growth
        before_mb, begun_s = total_mb(), time.monotonic()
        await under.feed(count, make, take)
        took_s = time.monotonic() - begun_s
        await under.serves()
        grown_mb = total_mb() - before_mb
        said = (
            f"{suite}: {count} inputs, {under.calls} calls, {grown_mb:.1f} MB more, slowest {under.slowest_ms:.1f} ms"
        )
        sys.stdout.write(f"{said}, {took_s:.0f} s\n")
        assert grown_mb < MOST_GROWTH_MB
        assert under.slowest_ms < MOST_LAG_MS, under.slowest.hex()
