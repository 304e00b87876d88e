"""The one place that every request and every session description passes."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from streamer.config import ServerConfig
from streamer.guards import access
from streamer.guards.access import Claim, Key
from streamer.guards.addresses import AddressPolicy, is_inside
from streamer.guards.limits import Limits, Refused, Ticket
from streamer.guards.sdp import CheckedOffer, check_offer, filter_offer

log = logging.getLogger(__name__)

EXPOSED = "Location, ETag, Link, Accept-Post, Accept-Patch, Retry-After"
ASKED = "Authorization, Content-Type, If-Match"
PREFLIGHT_S = 600


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who asks: their address, who holds the token that they showed, and that token."""

    address: str
    key: Key | None
    token: str | None
    inside: bool  # this machine or its own network, as far as can be told

    @property
    def holder(self) -> str | None:
        return None if self.key is None else self.key.holder


def address_policy(config: ServerConfig) -> AddressPolicy:
    """What calls may name as their addresses on this server."""
    behind_proxy = bool(config.guard.proxies)
    lan = config.guard.lan
    open_to_lan = lan == "yes" or (lan == "auto" and is_inside(config.host) and not behind_proxy)
    return AddressPolicy(lan=open_to_lan, loopback=open_to_lan and config.is_loopback)


class Gate:
    """All guards of one server before a call begins. On the event loop only; nothing here waits."""

    def __init__(self, config: ServerConfig) -> None:
        """Raises SettingError for a token file that cannot be used."""
        self.policy = address_policy(config)
        self.limits = Limits(config.guard, config.max_sessions)
        self._config = config
        self._keys = access.keys_of(config)
        self._told_of_proxy = False

    def admit(self, claim: Claim, now_s: float) -> Admitted | Refused:
        """Who asks, or the answer with which they are turned away. The first thing of every request."""
        address = access.address_of(self._config, claim)
        if (refused := self.limits.request(address, now_s)) is not None:
            return refused
        answer = access.refusal(self._config, claim, self._keys)
        if answer is not None:
            status, sentence = answer
            if status == 401 and any(claim.tokens):
                self.limits.wrong_token(address, now_s)
            return self.limits.refuse(Refused(status, sentence, None, "token" if status == 401 else "origin"))
        found = access.holder_of(self._keys, claim.tokens)
        key, token = found if found is not None else (None, None)
        return Admitted(address, key, token, self._is_inside(claim))

    def cors(self, claim: Claim) -> dict[str, str]:
        """Headers of every answer to a request of a page on the list; none where the origin is not on it."""
        origin = access.allowed_origin(self._config, claim)
        if origin is None:
            return {"Vary": "Origin"} if self._config.origin else {}
        return {"Vary": "Origin", "Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": EXPOSED}

    def preflight(self, claim: Claim, methods: tuple[str, ...]) -> dict[str, str]:
        """Headers of the answer to OPTIONS. They tell nobody more than that the list has their origin."""
        headers = self.cors(claim)
        if "Access-Control-Allow-Origin" in headers:
            headers["Access-Control-Allow-Methods"] = ", ".join(methods)
            headers["Access-Control-Allow-Headers"] = ASKED
            headers["Access-Control-Max-Age"] = str(PREFLIGHT_S)
        return headers

    def enter(self, who: Admitted, now_s: float) -> Ticket | Refused:
        """A place for one more call; `leave` gives it back."""
        return self.limits.enter(who.address, who.holder, None if who.key is None else who.key.calls, now_s)

    def leave(self, ticket: Ticket) -> None:
        self.limits.leave(ticket)

    def offer(self, sdp: str, who: Admitted | None = None, needs_picture: bool = True) -> CheckedOffer:
        """The offer as it may be parsed. Raises OfferRefused."""
        check_offer(sdp, needs_picture)
        checked = filter_offer(sdp, self.policy_for(who))
        if checked.dropped:
            log.info("an offer named %d addresses that this server does not call", checked.dropped)
        return checked

    def policy_for(self, who: Admitted | None) -> AddressPolicy:
        """What this caller may name. Who comes from outside does not get to name what is inside."""
        return self.policy if who is None or who.inside or self._config.guard.lan == "yes" else AddressPolicy()

    def _is_inside(self, claim: Claim) -> bool:
        if claim.forwarded_for and not self._config.guard.proxies and not self._told_of_proxy:
            self._told_of_proxy = True
            log.warning("requests come through a proxy; with --proxies its callers are told apart (docs/security.md)")
        return access.is_from_inside(self._config, claim)
