"""UDP ports of calls from a fixed range, for a firewall's sake. aioice takes whatever the system gives."""

from __future__ import annotations

import asyncio
from typing import Any

import aioice.ice

from streamer.transport.changes import Changes

ANY_PORT = 0


class Ports:
    """Takes the ports of a range in turn, so that one that was just given back is used again last."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self._next = first

    def in_turn(self) -> list[int]:
        """All of them, from the next one on."""
        ports = [*range(self._next, self.last + 1), *range(self.first, self._next)]
        self._next = self.first if self._next == self.last else self._next + 1
        return ports


class _Loop:
    """The event loop as aioice sees it: UDP sockets that may have any port get one of the range."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ports: Ports) -> None:
        self._loop = loop
        self._ports = ports

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_datagram_endpoint(self, factory: Any, local_addr: Any = None, **more: Any) -> Any:
        if local_addr is None or local_addr[1] != ANY_PORT:
            return await self._loop.create_datagram_endpoint(factory, local_addr=local_addr, **more)
        taken: OSError | None = None
        for port in self._ports.in_turn():
            try:
                return await self._loop.create_datagram_endpoint(factory, local_addr=(local_addr[0], port), **more)
            except OSError as error:
                taken = error
        raise OSError(f"all UDP ports from {self._ports.first} to {self._ports.last} are taken") from taken


class _Asyncio:
    """The module `asyncio` as aioice.ice sees it."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def get_running_loop(self) -> Any:
        return _Loop(asyncio.get_running_loop(), self._ports)


def install(changes: Changes, first_last: tuple[int, int] | None) -> None:
    """Calls use the ports of this range, both ends of it included; None: any."""
    if first_last is not None:
        changes.replace(aioice.ice, "asyncio", _Asyncio(Ports(*first_last)))
