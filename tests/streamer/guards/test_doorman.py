"""Open connections, at a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from streamer.guards import doorman as doorman_module
from streamer.guards.doorman import Doorman


@asynccontextmanager
async def house(most: int = 100) -> AsyncIterator[tuple[Doorman, int]]:
    doorman = Doorman(most)

    @web.middleware
    async def attend(request: web.Request, handler: doorman_module.Handler) -> web.StreamResponse:
        return await doorman.attend(request, handler)

    async def echo(request: web.Request) -> web.StreamResponse:
        return web.Response(text=await request.text())

    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return web.Response(text="done")

    app = web.Application(middlewares=[attend])
    app.add_routes([web.post("/", echo), web.get("/", slow)])
    async with TestServer(app, host="127.0.0.1") as server:
        assert server.runner is not None
        assert server.runner.server is not None
        doorman.watch(server.runner.server)
        sweeping = asyncio.create_task(doorman.keep_sweeping())
        try:
            assert server.port is not None
            yield doorman, server.port
        finally:
            sweeping.cancel()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_REQUEST_S", "IDLE_S", "BODY_S"):
        monkeypatch.setattr(doorman_module, name, 0.3)
    monkeypatch.setattr(doorman_module, "SWEEP_S", 0.05)


async def answer(port: int, said: bytes, and_then: bytes = b"", after_s: float = 0.0) -> bytes:
    """All that the server says, until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    await asyncio.sleep(after_s)
    writer.write(and_then)
    async with asyncio.timeout(5):
        try:
            heard = await reader.read()
        except ConnectionResetError:
            heard = b""
    writer.close()
    return heard


async def test_who_says_nothing_or_half_a_request_is_cut() -> None:
    async with house() as (doorman, port):
        assert await answer(port, b"") == b""
        assert await answer(port, b"GET / HTTP/1.1\r\nHost: x\r\n") == b""
        assert doorman.refused["idle"] == 2
        assert doorman.connections == 0


async def test_a_body_that_does_not_come_is_an_answer_of_its_own() -> None:
    async with house() as (doorman, port):
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\n"
        assert (await answer(port, head + b"12345")).startswith(b"HTTP/1.1 408")
        assert doorman.refused["body"] == 1
        assert (await answer(port, head + b"12345", b"67890", 0.1)).endswith(b"1234567890")


async def test_a_slow_answer_is_waited_for_and_then_the_connection_ends_idle() -> None:
    async with house() as (doorman, port):
        heard = await answer(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert heard.endswith(b"done")
        assert doorman.refused["idle"] == 1


async def test_one_too_many_is_cut_at_once_and_room_comes_back() -> None:
    async with house(most=8) as (doorman, port):
        kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        await asyncio.sleep(0.05)
        assert doorman.connections == 8
        assert await answer(port, b"") == b""
        assert doorman.refused["all"] == 1
        for _, writer in kept:
            writer.close()
        async with asyncio.timeout(5):
            while doorman.connections:  # noqa: ASYNC110  it is the server's doing
                await asyncio.sleep(0.02)


def test_one_address_gets_a_quarter() -> None:
    class Transport(asyncio.Transport):
        def __init__(self, host: str) -> None:
            super().__init__({"peername": (host, 1)})
            self.cut = False

        def abort(self) -> None:
            self.cut = True

    doorman = Doorman(40)
    ours = [Transport("9.9.9.9") for _ in range(11)]
    for number, transport in enumerate(ours):
        doorman.came(number, transport, 0.0)
    assert [transport.cut for transport in ours] == [False] * 10 + [True]
    doorman.went(0)
    again, other = Transport("9.9.9.9"), Transport("8.8.8.8")
    doorman.came("again", again, 0.0)
    doorman.came("other", other, 0.0)
    assert not again.cut
    assert not other.cut
    doorman.sweep(0.1)
    assert not again.cut
    doorman.sweep(0.4)
    assert again.cut
