"""Open connections are bounded, and end when nothing comes over them: aiohttp lets each wait for an hour."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from streamer.guards.addresses import network_of

HANDSHAKE_S = 5.0  # of TLS: asyncio by itself waits for 60
FIRST_REQUEST_S = 10.0  # from the connection to a whole request's head
IDLE_S = 75.0  # between two requests
BODY_S = 10.0  # from a request's head to the end of its body
SWEEP_S = 1.0
SHARE_OF_ONE = 4  # one address may have a quarter of all

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_TAKE_THEIR_BODY: set[Handler] = set()


def takes_its_body(handler: Handler) -> Handler:
    """Of a handler whose request may be large: it reads the body itself, bit by bit, and sees to it that it comes."""
    _TAKE_THEIR_BODY.add(handler)
    return handler


class Entrance(web.TCPSite):
    """aiohttp's, with a bound to TLS handshakes: a connection is known to the doorman only after its own."""

    async def start(self) -> None:
        await web.BaseSite.start(self)
        server, secured = self._runner.server, self._ssl_context
        assert server is not None
        self._server = await asyncio.get_running_loop().create_server(
            server,
            self._host,
            self._port,
            ssl=secured,
            ssl_handshake_timeout=None if secured is None else HANDSHAKE_S,
            backlog=self._backlog,
        )


@dataclass(slots=True)
class _Visitor:
    transport: asyncio.Transport
    network: str
    due_s: float
    requests: int = 0  # that are being answered


class Doorman:
    """Knows every open connection of one server. On the event loop only."""

    def __init__(self, most: int) -> None:
        self.refused: Counter[str] = Counter()
        self._most = most
        self._visitors: dict[object, _Visitor] = {}
        self._of_network: Counter[str] = Counter()

    @property
    def connections(self) -> int:
        return len(self._visitors)

    def watch(self, server: web.Server) -> None:
        """Has the server tell of each connection that is made and lost."""
        made, lost = server.connection_made, server.connection_lost

        def connection_made(handler: web.RequestHandler, transport: asyncio.Transport) -> None:
            made(handler, transport)
            self.came(handler, transport, time.monotonic())

        def connection_lost(handler: web.RequestHandler, exc: BaseException | None = None) -> None:
            self.went(handler)
            lost(handler, exc)

        server.connection_made = connection_made  # type: ignore[method-assign]  # aiohttp has no other place for it
        server.connection_lost = connection_lost  # type: ignore[method-assign]

    def came(self, handler: object, transport: asyncio.Transport, now_s: float) -> None:
        """A connection was made; it is cut at once where there are too many."""
        peer = transport.get_extra_info("peername")
        network = network_of(str(peer[0])) if isinstance(peer, tuple) else "?"
        alone = network.startswith("127.") or network in ("::/64", "?")
        if len(self._visitors) >= self._most:
            self.refused["all"] += 1
            transport.abort()
        elif not alone and self._of_network[network] >= self._most // SHARE_OF_ONE:
            self.refused["address"] += 1
            transport.abort()
        else:
            self._visitors[handler] = _Visitor(transport, network, now_s + FIRST_REQUEST_S)
            self._of_network[network] += 1

    def went(self, handler: object) -> None:
        """A connection was lost."""
        visitor = self._visitors.pop(handler, None)
        if visitor is not None:
            self._of_network[visitor.network] -= 1
            if not self._of_network[visitor.network]:
                del self._of_network[visitor.network]

    def sweep(self, now_s: float) -> None:
        """Cuts the connections over which nothing came for too long."""
        for visitor in list(self._visitors.values()):
            if not visitor.requests and now_s >= visitor.due_s:
                self.refused["idle"] += 1
                visitor.transport.abort()

    async def keep_sweeping(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep(time.monotonic())

    async def attend(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Middleware: its connection is not idle while a request is answered, and the body must come soon."""
        visitor = self._visitors.get(request.protocol)
        if visitor is not None:
            visitor.requests += 1
        try:
            if request.can_read_body and request.match_info.handler not in _TAKE_THEIR_BODY:
                try:
                    async with asyncio.timeout(BODY_S):
                        await request.read()
                except TimeoutError:
                    self.refused["body"] += 1
                    raise web.HTTPRequestTimeout(reason="the request's body did not come in time") from None
            return await handler(request)
        finally:
            if visitor is not None:
                visitor.requests -= 1
                visitor.due_s = time.monotonic() + IDLE_S
