"""What WHIP and WHEP have in common: an endpoint that takes offers, and a session for each one that it took."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from streamer.peer import Peer
from streamer.signalling.fragment import MEDIA_TYPE as FRAGMENT
from streamer.signalling.http import ROOM, SDP, STREAM, preflight
from streamer.viewer import Viewer

METHODS = ("POST", "GET", "OPTIONS", "PATCH", "DELETE")  # the last two: clients look here for what sessions can do
SESSION_METHODS = ("PATCH", "DELETE", "GET", "OPTIONS")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Sessions:
    """The routes of one protocol.

    name     the first part of its addresses
    begin    answers POST of an offer, with `created`
    find     the session that a request names (`match_info["session"]`); raises HTTPNotFound
    change   answers PATCH
    patches  media types that PATCH takes
    ended    why a session ended that was deleted
    """

    name: str
    begin: Handler
    find: Callable[[web.Request], Peer | Viewer]
    change: Handler
    patches: str
    ended: str

    def routes(self) -> list[web.RouteDef]:
        endpoint = f"/{self.name}/{STREAM}"
        session = f"{endpoint}/{{session}}"
        return [
            web.post(endpoint, self.begin),
            web.get(endpoint, self._nothing),
            web.options(endpoint, self._endpoint_options),
            web.get(session, self._look),
            web.patch(session, self.change),
            web.delete(session, self._end),
            web.options(session, self._session_options),
        ]

    async def _nothing(self, request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _look(self, request: web.Request) -> web.Response:
        self.find(request)
        return web.Response(status=204)

    async def _end(self, request: web.Request) -> web.Response:
        self.find(request).hang_up(self.ended)
        return web.Response()

    async def _endpoint_options(self, request: web.Request) -> web.Response:
        return preflight(request, METHODS, {"Accept-Post": SDP})

    async def _session_options(self, request: web.Request) -> web.Response:
        return preflight(request, SESSION_METHODS, {"Accept-Patch": self.patches})


def created(request: web.Request, session: Peer | Viewer, path: str, description: str, status: int) -> web.Response:
    """The answer to an offer: our description, where the session is from now on, and the ICE servers."""
    headers = {"Location": path, "ETag": session.line.tag, "Accept-Patch": FRAGMENT}
    response = web.Response(status=status, text=description, content_type=SDP, headers=headers)
    for link in request.app[ROOM].ice_servers.links(time.time()):
        response.headers.add("Link", link)
    return response
