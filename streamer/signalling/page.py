"""The page's own session: JSON around the offer, the result back over the same connection, a data channel beside it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from aiohttp import web
from pydantic import Field

from engines import StrictModel
from streamer.peer import Peer
from streamer.room import Choice
from streamer.signalling.fragment import MEDIA_TYPE as FRAGMENT
from streamer.signalling.http import GATE, PLACEMENT, ROOM, change_ice, enter, json_of, who
from streamer.signalling.placement import Posted, page_there
from streamer.signalling.refusal import Refusal

ELSEWHERE = "/elsewhere"  # where a page goes that is refused and may go to another server


class Offer(StrictModel):
    """The body of POST /session. `stream`: a name by which WHEP players may watch the result too."""

    sdp: str
    choice: Choice = Choice()
    stream: str | None = Field(None, pattern=r"^[A-Za-z0-9_.~-]{1,64}$")


def routes() -> list[web.RouteDef]:
    return [
        web.get("/ice", _ice),
        web.get(ELSEWHERE, _elsewhere),
        web.post("/session", _begin),
        web.get("/session/{call}", _look),
        web.patch("/session/{call}", _change),
        web.delete("/session/{call}", _end),
    ]


async def _ice(request: web.Request) -> web.Response:
    """The ICE servers that the page's connection should ask."""
    return web.json_response({"iceServers": request.app[ROOM].ice_servers.for_page(time.time())})


async def _begin(request: web.Request) -> web.Response:
    gate = request.app[GATE]
    body = Offer.read(await json_of(request))
    offer = gate.offer(body.sdp, who(request))
    if await _other(request) is not None:
        headers = {"Retry-After": "5", "Link": f'<{ELSEWHERE}>; rel="alternate"'}
        raise Refusal(503, "this server is busy; another one may have room", headers)
    ticket = enter(request, gate.limits)
    try:
        peer, answer = await request.app[ROOM].enter(
            offer.sdp, body.choice, stream=body.stream, ended=lambda: gate.leave(ticket)
        )
    except BaseException:
        gate.leave(ticket)
        raise
    said = {"call": peer.call, "sdp": answer, "type": "answer", "tag": peer.line.tag, **_chosen(peer.numbers())}
    headers = {
        "Location": f"/session/{peer.call}",
        "ETag": peer.line.tag,
        "Accept-Patch": f"{FRAGMENT}, application/json",
    }
    return web.json_response(said, status=201, headers=headers)


async def _elsewhere(request: web.Request) -> web.Response:
    """Sends a person's browser to the page of the server that has room; back where that is this one, after all."""
    other = await _other(request)
    there = "/" if other is None else page_there(other, request.scheme, who(request).token)
    return web.Response(status=307, headers={"Location": there})


async def _other(request: web.Request) -> str | None:
    """Which server should take a call of the page; None: this one."""
    limits = request.app[GATE].limits
    return await request.app[PLACEMENT].place(Posted("page", "", False, limits.calls >= limits.most_calls))


async def _look(request: web.Request) -> web.Response:
    return web.json_response(_call_of(request).numbers())


async def _change(request: web.Request) -> web.Response:
    peer = _call_of(request)
    if request.content_type == FRAGMENT:
        return await change_ice(request, peer.line)
    changed = await request.app[ROOM].change(peer.call, Choice.read(await json_of(request)))
    return web.json_response(_chosen(changed.numbers()))


async def _end(request: web.Request) -> web.Response:
    """Ends a call. That it is not there (any more) is what was asked for."""
    peer = request.app[ROOM].peers.get(request.match_info["call"])
    if peer is not None:
        peer.hang_up("the person ended it")
    return web.Response(status=204)


def _call_of(request: web.Request) -> Peer:
    peer = request.app[ROOM].peers.get(request.match_info["call"])
    if peer is None:
        raise web.HTTPNotFound(reason="there is no such call; it may have ended")
    return peer


def _chosen(numbers: Mapping[str, object]) -> dict[str, object]:
    return {key: numbers[key] for key in ("engine", "why", "identity")}
