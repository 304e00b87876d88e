"""Which server of several a call goes to: decided once, when the offer is posted, and said with status 307.

Signalling can be sent anywhere, media cannot: from the answer on a call stays where it is. A page cannot follow with
its offer, since it may talk to its own server only: it goes there itself, and the person starts again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import urlencode

PLACED = "placed"  # in the query of an address that a server has redirected to: it is not redirected again


@dataclass(frozen=True, slots=True)
class Posted:
    """What is known of an offer before it is read."""

    way: Literal["in", "out", "page"]  # page: a call of the page's own, in and out
    stream: str
    is_live_here: bool  # the stream is being sent to this server
    is_full: bool  # this server takes no more calls (in, page) or viewers (out) now


class Placement(Protocol):
    """Decides where an offer goes. Give one to `create_app`; it may ask a registry, so it is awaited."""

    async def place(self, posted: Posted) -> str | None:
        """The address (`https://host:port`) of the server that should take it; None: this one."""


class Overflow:
    """Takes calls while there is room, and sends the next ones to other servers in turn.

    Viewers go to the others when the stream is not here: it may be there. They are told so by them, if not.
    """

    def __init__(self, others: tuple[str, ...]) -> None:
        self._others = others
        self._next = 0

    async def place(self, posted: Posted) -> str | None:
        stays = not posted.is_full if posted.way != "out" else posted.is_live_here
        if stays or not self._others:
            return None
        other = self._others[self._next % len(self._others)]
        self._next += 1
        return other


def page_there(other: str, scheme: str, token: str | None) -> str:
    """The address of another server's page. The token goes along only by no less safe a way than it came."""
    safe = token is not None and (other.startswith("https://") or scheme == "http")
    return f"{other.rstrip('/')}/?{urlencode({**({'token': token} if safe else {}), PLACED: '1'})}"
