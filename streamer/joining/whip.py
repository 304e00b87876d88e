"""Publishing by WHIP (RFC 9725): to this program's own server, or to any other that takes it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from engines import MediaError, SettingError
from streamer.joining.errors import CannotJoin, Unreachable
from streamer.joining.janus_wire import nobody_answers
from streamer.signalling.fragment import MEDIA_TYPE as FRAGMENT
from streamer.signalling.refusal import Refusal
from streamer.viewer import Viewer

log = logging.getLogger(__name__)

SDP = "application/sdp"
ANSWERS_S = 15.0  # an engine may have to be loaded for the answer
LEAVE_S = 2.0
MOST_ANSWER_BYTES = 1 << 18


class WhipPlace:
    """One stay at one address: make it, `enter`, wait for `over`, `leave`. Another stay is another object."""

    def __init__(self, url: str, token: str | None, http: aiohttp.ClientSession) -> None:
        """Raises SettingError for what is no address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise SettingError(f"{url[:80]} is no address for WHIP: it begins with http:// or https://")
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.removed = False
        self.others: dict[object, str] = {}
        self.restarts = 0  # of the ICE session
        self._url, self._http = url, http
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: URL | None = None
        self._tag = ""
        self._viewer: Viewer | None = None

    @property
    def where(self) -> str:
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"  # a token may stand in the query

    async def enter(self, viewer: Viewer) -> None:
        """Publishes. Raises CannotJoin, and Unreachable where trying again may help."""
        self._viewer = viewer
        offer = await viewer.offer()
        status, headers, body, url = await self._send("POST", URL(self._url), offer, SDP)
        if status != 201:
            raise self._refusal(status, body)
        if "Location" not in headers or not body.startswith("v=0"):
            raise CannotJoin(f"{self.where} answers, but not as WHIP: is it the address for publishing?")
        self._session = url.join(URL(headers["Location"]))
        self._tag = headers.get("ETag", "*")
        try:
            await viewer.accept(body)
        except MediaError as error:
            raise CannotJoin(f"{self.where}: {error}") from error

    async def renew(self) -> bool:
        """Another ICE session beneath the same connection, after this machine's address changed.

        Returns False where the other side does not do that, or it came to nothing.
        """
        if self._viewer is None or self._session is None:
            return False
        try:
            renewed = await self._viewer.line.renew(self._exchange)
        except (CannotJoin, MediaError, Refusal) as error:
            log.info("%s: no new ICE session: %s", self.where, error)
            return False
        self.restarts += renewed
        return renewed

    async def leave(self) -> None:
        """Ends it there (DELETE). Safe to call at any time, and twice."""
        session, self._session = self._session, None
        if session is None:
            return
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._send("DELETE", session, None, None)
        except (CannotJoin, TimeoutError):
            log.info("%s was left without a goodbye", self.where)

    async def _exchange(self, fragment: str) -> str:
        assert self._session is not None
        status, headers, body, _ = await self._send("PATCH", self._session, fragment, FRAGMENT, {"If-Match": "*"})
        if status != 200:
            raise self._refusal(status, body)
        self._tag = headers.get("ETag", self._tag)
        return body

    async def _send(
        self, method: str, url: URL, body: str | None, kind: str | None, more: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], str, URL]:
        headers = {**self._headers, **(more or {})}
        if kind is not None:
            headers["Content-Type"] = kind
        try:
            async with (
                asyncio.timeout(ANSWERS_S),
                self._http.request(method, url, data=body, headers=headers, max_redirects=3) as response,
            ):
                text = (await response.content.read(MOST_ANSWER_BYTES)).decode("utf-8", "replace")
                return response.status, response.headers, text, response.url
        except aiohttp.TooManyRedirects as error:
            raise Unreachable(f"{self.where} sends us from one server to the next without end") from error
        except aiohttp.InvalidURL as error:
            raise CannotJoin(f"{self.where} is no address that can be reached") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise nobody_answers(self.where, error) from error

    def _refusal(self, status: int, body: str) -> CannotJoin:
        said = _sentence(body)
        if status in (401, 403):
            return CannotJoin(f"{self.where} does not let us in: a right --token or --token-file is needed ({said})")
        if status in (404, 405, 415):
            return CannotJoin(f"{self.where} is no address for WHIP (HTTP {status}): ask who runs it ({said})")
        if status in (400, 406, 422):
            return CannotJoin(f"{self.where} does not take what is offered: {said}")
        if status in (409, 429, 503):
            return Unreachable(f"{self.where} has no room now, try again later: {said}")
        return Unreachable(f"{self.where} answered HTTP {status}: {said}")


def _sentence(body: str) -> str:
    """What a server says in its own words: JSON as ours, or text."""
    try:
        told = json.loads(body)
        text = str(told.get("error", told)) if isinstance(told, dict) else body
    except ValueError:
        text = body
    return " ".join(text.split())[:160] or "no reason given"
