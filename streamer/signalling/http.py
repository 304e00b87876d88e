"""What the routes of all protocols share: who asks, bodies, conditions, refusals."""

from __future__ import annotations

import json
import time

from aiohttp import web

from engines import MediaError
from streamer.config import ServerConfig
from streamer.guards.access import COOKIE, Claim
from streamer.guards.gate import Admitted, Gate
from streamer.guards.limits import Limits, Refused, Ticket
from streamer.guards.sdp import MOST_CANDIDATES, candidate_fault
from streamer.room import Room
from streamer.signalling.conditions import check_condition
from streamer.signalling.fragment import MEDIA_TYPE as FRAGMENT
from streamer.signalling.fragment import Fragment, read_fragment
from streamer.signalling.negotiation import Line
from streamer.signalling.placement import PLACED, Placement, Posted
from streamer.signalling.refusal import Refusal

CONFIG = web.AppKey("config", ServerConfig)
ROOM = web.AppKey("room", Room)
GATE = web.AppKey("gate", Gate)
VIEWERS = web.AppKey("viewers", Limits)  # how many viewers there may be, and how many of one address
PLACEMENT: web.AppKey[Placement] = web.AppKey("placement")
ADMITTED = web.RequestKey("admitted", Admitted)

SDP = "application/sdp"
STREAM = r"{stream:[A-Za-z0-9_.~-]{1,64}}"


def claim_of(request: web.Request) -> Claim:
    """What the request says of itself."""
    bearer = request.headers.get("Authorization", "")
    shown = bearer[7:].strip() if bearer[:7].lower() == "bearer " else ""
    tokens = (request.query.get("token", ""), request.cookies.get(COOKIE, ""), shown)
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", []))
    return Claim(
        request.method,
        request.scheme,
        request.host,
        request.headers.get("Origin"),
        request.headers.get("Sec-Fetch-Site"),
        tokens,
        request.remote or "",
        tuple(part.strip() for part in forwarded.split(",") if part.strip()),
        shown,
    )


def who(request: web.Request) -> Admitted:
    """Who asks, as the guard found."""
    return request[ADMITTED]


def enter(request: web.Request, limits: Limits) -> Ticket:
    """A place for one more. Raises Refusal where there is none."""
    asking = who(request)
    calls = None if asking.key is None else asking.key.calls
    ticket = limits.enter(asking.address, asking.holder, calls, time.monotonic())
    if isinstance(ticket, Refused):
        raise Refusal(ticket.status, ticket.sentence, ticket.headers)
    return ticket


async def text_of(request: web.Request, media_type: str) -> str:
    """The body. Raises Refusal (415, 400) for another type, or what is no text."""
    if request.content_type != media_type:
        raise Refusal(415, f"the body must be {media_type}", {"Accept-Post": media_type})
    try:
        return await request.text()
    except (UnicodeDecodeError, LookupError):
        raise Refusal(400, "the body is no text") from None


async def json_of(request: web.Request) -> object:
    """The body. Only as application/json: a foreign page's form cannot send that unasked."""
    text = await text_of(request, "application/json")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise MediaError("the body is no JSON") from None


async def place(request: web.Request, posted: Posted) -> None:
    """Raises Refusal (307) where another server should take the offer; it is not sent on from there."""
    if PLACED in request.query:
        return
    other = await request.app[PLACEMENT].place(posted)
    if other is not None:
        query = request.rel_url.update_query({PLACED: "1"})
        raise Refusal(307, f"go to {other}", {"Location": f"{other.rstrip('/')}{query}"})


async def change_ice(request: web.Request, line: Line) -> web.Response:
    """PATCH with a fragment: candidates that come later (204), or a new ICE session (200)."""
    fragment = read_fragment(await text_of(request, FRAGMENT))
    restarts = fragment.ice is not None and fragment.ice != line.remote
    # Clients of WHIP's first drafts (@eyevinn/whip-web-client 1.1) say it in ETag.
    check_condition(request.headers.get("If-Match", request.headers.get("ETag")), line.tag, restarts)
    candidates = _usable(request, fragment, 0 if restarts else line.candidates)
    if fragment.ice is None or not restarts:
        await line.trickle(candidates, fragment.is_end)
        return web.Response(status=204)
    answer = await line.restart(fragment.ice, candidates, fragment.is_end)
    return web.Response(text=answer, content_type=FRAGMENT, headers={"ETag": line.tag})


def _usable(request: web.Request, fragment: Fragment, before: int) -> tuple[str, ...]:
    """The candidates that may be used: the others are left out without a word (RFC 9725 section 4.3.2)."""
    if before + len(fragment.candidates) > MOST_CANDIDATES:
        raise Refusal(422, f"the call has too many addresses (a=candidate): {MOST_CANDIDATES} at most")
    policy = request.app[GATE].policy_for(who(request))
    return tuple(one for one in fragment.candidates if candidate_fault(one, policy) is None)


def preflight(request: web.Request, methods: tuple[str, ...], accepts: dict[str, str]) -> web.Response:
    """The answer to OPTIONS: what may be done here, and whether a page of that origin may. No ICE servers."""
    headers = request.app[GATE].preflight(claim_of(request), methods)
    return web.Response(headers={"Allow": ", ".join(methods), **accepts, **headers})
