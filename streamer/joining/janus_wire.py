"""How messages get to a Janus and back: over its WebSocket, or over HTTP with long polls. Nothing of rooms in here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from streamer.joining.errors import Unreachable

Message = dict[str, Any]

PROTOCOL = "janus-protocol"
ANSWERS_S = 8.0
HEARTBEAT_S = 6.0  # a dead host, which says nothing any more, is noticed after one and a half of it
POLL_S = 60.0  # a long poll: Janus answers after 30 s at the latest
MOST_MESSAGE_BYTES = 1 << 20
MOST_EVENTS = 10


class Wire(Protocol):
    """One way to one Janus. `heard` gets every message that comes; `lost` is set, with the reason, when it is over."""

    lost: asyncio.Future[str]

    async def open(self, heard: Callable[[Message], None]) -> None:
        """Raises Unreachable."""

    async def send(self, message: Message) -> None:
        """Raises Unreachable."""

    async def close(self) -> None:
        """Safe to call twice."""


def wire_to(url: str, http: aiohttp.ClientSession) -> Wire:
    """By the address's kind. ws, wss: WebSocket; http, https: long polls. Raises ValueError for other kinds."""
    parts = urlsplit(url)
    if parts.scheme in ("ws", "wss") and parts.netloc:
        return WebSocketWire(url, http)
    if parts.scheme in ("http", "https") and parts.netloc:
        path = parts.path.rstrip("/") or "/janus"
        return HttpWire(urlunsplit((parts.scheme, parts.netloc, path, "", "")), http)
    raise ValueError(f"{url[:80]} is no address of a Janus: it begins with ws://, wss://, http:// or https://")


class WebSocketWire:
    """One WebSocket."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._url, self._http = url, http
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None

    async def open(self, heard: Callable[[Message], None]) -> None:
        try:
            async with asyncio.timeout(ANSWERS_S):
                self._socket = await self._http.ws_connect(
                    self._url, protocols=[PROTOCOL], heartbeat=HEARTBEAT_S, max_msg_size=MOST_MESSAGE_BYTES
                )
        except aiohttp.WSServerHandshakeError as error:
            raise Unreachable(
                f"{self._url} does not speak Janus over WebSocket (HTTP {error.status}): is it the address of its "
                "WebSocket transport, port 8188 by default?"
            ) from error
        except aiohttp.InvalidURL as error:
            raise Unreachable(f"{self._url[:80]} is no address that can be reached") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise nobody_answers(self._url, error) from error
        if self._socket.protocol != PROTOCOL:
            await self._socket.close()
            raise Unreachable(f"{self._url} is a WebSocket, but not that of a Janus")
        self._reader = asyncio.create_task(self._read(self._socket, heard))

    async def send(self, message: Message) -> None:
        if self._socket is None or self._socket.closed:
            raise Unreachable("the way to the Janus is lost")
        try:
            await self._socket.send_json(message)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise Unreachable("the way to the Janus is lost") from error

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._socket is not None:
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._socket.close()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse, heard: Callable[[Message], None]) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            with suppress(ValueError):
                told = json.loads(message.data)
                if isinstance(told, dict):
                    heard(told)
        if not self.lost.done():
            self.lost.set_result("the Janus closed the connection, or does not answer any more")


class HttpWire:
    """Requests by POST, events by long polls."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._url, self._http = url, http
        self._heard: Callable[[Message], None] | None = None
        self._poller: asyncio.Task[None] | None = None

    async def open(self, heard: Callable[[Message], None]) -> None:
        self._heard = heard
        info = await self._fetch("GET", f"{self._url}/info", None, ANSWERS_S)
        if not isinstance(info, dict) or info.get("janus") != "server_info":
            raise Unreachable(f"{self._url} does not speak Janus: is it the address of its HTTP transport, /janus?")

    async def send(self, message: Message) -> None:
        path = "".join(f"/{message[key]}" for key in ("session_id", "handle_id") if key in message)
        answer = await self._fetch("POST", self._url + path, message, ANSWERS_S)
        assert self._heard is not None
        if not isinstance(answer, dict):
            raise Unreachable(f"{self._url} does not speak Janus: is it the address of its HTTP transport?")
        self._heard(answer)
        if message["janus"] == "create" and answer.get("janus") == "success":
            rights: dict[str, str] = {key: message[key] for key in ("apisecret", "token") if key in message}
            self._poller = asyncio.create_task(self._poll(str(dict(answer.get("data") or {}).get("id")), rights))

    async def close(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    async def _poll(self, session: str, rights: Mapping[str, str]) -> None:
        assert self._heard is not None
        query = {"maxev": str(MOST_EVENTS), **rights}
        try:
            while True:
                told = await self._fetch("GET", f"{self._url}/{session}", None, POLL_S, query)
                for event in told if isinstance(told, list) else [told]:
                    if isinstance(event, dict):
                        self._heard(event)
                    if not isinstance(event, dict) or event.get("janus") == "error":
                        raise Unreachable("the Janus has forgotten this session")
        except Unreachable as error:
            if not self.lost.done():
                self.lost.set_result(str(error))

    async def _fetch(
        self, method: str, url: str, body: Message | None, limit_s: float, query: Mapping[str, str] | None = None
    ) -> Any:
        try:
            async with (
                asyncio.timeout(limit_s),
                self._http.request(method, url, json=body, params=query) as response,
            ):
                return json.loads(await response.content.read(MOST_MESSAGE_BYTES))
        except ValueError as error:
            raise Unreachable(f"{self._url} does not speak Janus: is it the address of its HTTP transport?") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise nobody_answers(self._url, error) from error


def nobody_answers(url: str, error: Exception) -> Unreachable:
    """One sentence, with the remedy, for an address where nothing can be had."""
    if isinstance(error, TimeoutError):
        why = "no answer in time"
    elif isinstance(error, aiohttp.ClientConnectorError) and error.os_error.strerror:
        why = _without_address(error.os_error.strerror)
    else:
        why = " ".join(str(error).split())[:120] or type(error).__name__
    return Unreachable(f"nobody answers at {url} ({why}): is the address right, and does the server run?")


def _without_address(text: str) -> str:
    """asyncio writes the address into the words of the system: "Connect call failed ('127.0.0.1', 1)"."""
    return "nothing listens there" if text.startswith("Connect call failed") else text.lower()
