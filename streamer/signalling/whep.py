"""WHEP (draft-ietf-wish-whep-03 and -04): a player gets what is drawn of a stream that somebody sends.

POST /whep/NAME with an offer, answered with 201; where the offer has no codec that we have, with 406 and our own offer,
which PATCH answers within 30 s.
"""

from __future__ import annotations

from aiohttp import web

from streamer.signalling.description import check_viewer, read_wanted
from streamer.signalling.fragment import MEDIA_TYPE as FRAGMENT
from streamer.signalling.http import (
    GATE,
    ROOM,
    SDP,
    VIEWERS,
    change_ice,
    enter,
    place,
    text_of,
    who,
)
from streamer.signalling.placement import Posted
from streamer.signalling.refusal import Refusal
from streamer.signalling.sessions import Sessions, created
from streamer.viewer import Viewer


def routes() -> list[web.RouteDef]:
    return Sessions(
        "whep", begin=_begin, find=_viewer_of, change=_change, patches=f"{FRAGMENT}, {SDP}", ended="the viewer ended it"
    ).routes()


async def _begin(request: web.Request) -> web.Response:
    room, limits, stream = request.app[ROOM], request.app[VIEWERS], request.match_info["stream"]
    sdp = await text_of(request, SDP)
    full = limits.calls >= limits.most_calls
    await place(request, Posted("out", stream, stream in room.streams, full))
    asks = not sdp.strip()  # as players of the first drafts do, who want our offer
    offered = "" if asks else request.app[GATE].offer(sdp, who(request), needs_picture=False).sdp
    kinds = frozenset({"video", "audio"})
    if not asks:
        check_viewer(offered)
        wanted = read_wanted(offered)
        kinds = frozenset(kind for kind in kinds if wanted.of(kind))
    ticket = enter(request, limits)
    try:
        viewer, description = await room.watch(stream, offered, kinds, ended=lambda: limits.leave(ticket))
    except BaseException:
        limits.leave(ticket)
        raise
    path, status = f"/whep/{stream}/{viewer.name}", 201 if viewer.is_agreed or asks else 406
    return created(request, viewer, path, description, status)


async def _change(request: web.Request) -> web.Response:
    viewer = _viewer_of(request)
    if request.content_type != SDP:
        return await change_ice(request, viewer.line)
    if viewer.is_agreed:
        raise Refusal(409, "there is an answer already")
    answer = request.app[GATE].offer(await text_of(request, SDP), who(request), needs_picture=False)
    await viewer.accept(answer.sdp)
    return web.Response(status=204)


def _viewer_of(request: web.Request) -> Viewer:
    room, name = request.app[ROOM], request.match_info["session"]
    viewer = room.viewers.get(name)
    if viewer is None or room.streams.get(request.match_info["stream"]) is not viewer.source:
        raise web.HTTPNotFound(reason="there is no such viewer; the viewing may have ended")
    return viewer
