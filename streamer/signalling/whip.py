"""WHIP (RFC 9725): an encoder, OBS or a page sends a stream in; viewers get what is drawn by WHEP.

POST /whip/NAME with an offer; `?identity=ada&tone=mix&engine=proxy&faces=one` chooses as the page does.
"""

from __future__ import annotations

import time

from aiohttp import web

from streamer.peer import Peer
from streamer.room import Choice
from streamer.signalling.description import check_sender
from streamer.signalling.fragment import MEDIA_TYPE as FRAGMENT
from streamer.signalling.http import GATE, ROOM, SDP, STREAM, change_ice, enter, place, preflight, text_of, who
from streamer.signalling.placement import PLACED, Posted

METHODS = ("POST", "GET", "OPTIONS", "PATCH", "DELETE")  # the last two: clients look here for what sessions can do
SESSION_METHODS = ("PATCH", "DELETE", "GET", "OPTIONS")
OWN_QUERY = ("token", PLACED)


def routes() -> list[web.RouteDef]:
    endpoint, session = f"/whip/{STREAM}", f"/whip/{STREAM}/{{call}}"
    return [
        web.post(endpoint, _begin),
        web.get(endpoint, _nothing),
        web.options(endpoint, _endpoint_options),
        web.get(session, _look),
        web.patch(session, _change),
        web.delete(session, _end),
        web.options(session, _session_options),
    ]


async def _begin(request: web.Request) -> web.Response:
    room, gate, stream = request.app[ROOM], request.app[GATE], request.match_info["stream"]
    sdp = await text_of(request, SDP)
    full = gate.limits.calls >= gate.limits.most_calls
    await place(request, Posted("in", stream, stream in room.streams, full))
    choice = Choice.read({key: value for key, value in request.query.items() if key not in OWN_QUERY})
    offer = gate.offer(sdp, who(request))
    check_sender(offer.sdp)
    ticket = enter(request, gate.limits)
    try:
        peer, answer = await room.enter(
            offer.sdp, choice, stream=stream, both_ways=False, ended=lambda: gate.leave(ticket)
        )
    except BaseException:
        gate.leave(ticket)
        raise
    response = web.Response(
        status=201,
        text=answer,
        content_type=SDP,
        headers={"Location": f"/whip/{stream}/{peer.call}", "ETag": peer.line.tag, "Accept-Patch": FRAGMENT},
    )
    for link in room.ice_servers.links(time.time()):
        response.headers.add("Link", link)
    return response


async def _nothing(request: web.Request) -> web.Response:
    return web.Response(status=204)


async def _look(request: web.Request) -> web.Response:
    _call_of(request)
    return web.Response(status=204)


async def _change(request: web.Request) -> web.Response:
    return await change_ice(request, _call_of(request).line)


async def _end(request: web.Request) -> web.Response:
    _call_of(request).hang_up("the sender ended it")
    return web.Response()


async def _endpoint_options(request: web.Request) -> web.Response:
    return preflight(request, METHODS, {"Accept-Post": SDP})


async def _session_options(request: web.Request) -> web.Response:
    return preflight(request, SESSION_METHODS, {"Accept-Patch": FRAGMENT})


def _call_of(request: web.Request) -> Peer:
    room, call = request.app[ROOM], request.match_info["call"]
    peer = room.peers.get(call)
    if peer is None or room.streams.get(request.match_info["stream"]) is not peer:
        raise web.HTTPNotFound(reason="there is no such call; it may have ended")
    return peer
