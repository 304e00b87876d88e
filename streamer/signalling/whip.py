"""WHIP (RFC 9725): an encoder, OBS or a page sends a stream in; viewers get what is drawn by WHEP.

POST /whip/NAME with an offer; `?identity=ada&tone=mix&engine=proxy&faces=one` chooses as the page does.
"""

from __future__ import annotations

from aiohttp import web

from streamer.peer import Peer
from streamer.room import Choice
from streamer.signalling.description import check_sender
from streamer.signalling.fragment import MEDIA_TYPE as FRAGMENT
from streamer.signalling.http import GATE, ROOM, SDP, change_ice, enter, place, text_of, who
from streamer.signalling.placement import PLACED, Posted
from streamer.signalling.sessions import Sessions, created

OWN_QUERY = ("token", PLACED)


def routes() -> list[web.RouteDef]:
    return Sessions(
        "whip", begin=_begin, find=_call_of, change=_change, patches=FRAGMENT, ended="the sender ended it"
    ).routes()


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
    return created(request, peer, f"/whip/{stream}/{peer.call}", answer, 201)


async def _change(request: web.Request) -> web.Response:
    return await change_ice(request, _call_of(request).line)


def _call_of(request: web.Request) -> Peer:
    room, call = request.app[ROOM], request.match_info["session"]
    peer = room.peers.get(call)
    if peer is None or room.streams.get(request.match_info["stream"]) is not peer:
        raise web.HTTPNotFound(reason="there is no such call; it may have ended")
    return peer
