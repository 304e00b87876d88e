"""ICE servers: which ones this server asks itself, which ones it tells its callers, with credentials that expire.

TURN credentials are those of coturn's `use-auth-secret` (draft-uberti-behave-turn-rest-00): the server makes them up
from a secret that it shares with the TURN server, and nobody has to keep a list of users.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from aiortc import RTCConfiguration, RTCIceServer, RTCIceTransportPolicy

from streamer.config import ServerConfig


@dataclass(frozen=True, slots=True)
class Ice:
    """How one connection reaches the other side."""

    configuration: RTCConfiguration
    announce: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a TURN server takes until the time in the name."""

    username: str
    password: str


def turn_credentials(secret: str, user: str, expires_unix_s: int) -> Credentials:
    """`user` says whose they are in the TURN server's log; it must not tell a person."""
    username = f"{expires_unix_s}:{user}"
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return Credentials(username, base64.b64encode(digest).decode())


class IceServers:
    """The ICE servers of one server's settings. `now_unix_s` is wall-clock time: the TURN server compares it."""

    def __init__(self, config: ServerConfig) -> None:
        self._ice_server = config.ice_server
        self._reach = config.reach

    def for_us(self, now_unix_s: float) -> Ice:
        """For a connection of this server's own. Always a configuration: without one aiortc asks a third party."""
        servers = [
            RTCIceServer(
                urls=str(one["urls"]),
                username=str(one["username"]) if "username" in one else None,
                credential=str(one["credential"]) if "credential" in one else None,
            )
            for one in self.for_page(now_unix_s)
        ]
        policy = RTCIceTransportPolicy.RELAY if self._reach.relay_only else RTCIceTransportPolicy.ALL
        return Ice(RTCConfiguration(iceServers=servers, iceTransportPolicy=policy), self._reach.announce)

    def for_page(self, now_unix_s: float) -> list[dict[str, str]]:
        """As a browser's RTCPeerConnection takes them."""
        reach, found = self._reach, []
        if self._ice_server is not None:
            found.append({"urls": self._ice_server})
        if reach.turn_server is not None and reach.turn_secret is not None:
            expires_unix_s = int(now_unix_s) + reach.turn_seconds
            made = turn_credentials(reach.turn_secret, secrets.token_hex(4), expires_unix_s)
            found.append({"urls": reach.turn_server, "username": made.username, "credential": made.password})
        return found

    def links(self, now_unix_s: float) -> list[str]:
        """Values of `Link` headers, one for each server (RFC 9725 section 4.6)."""
        links = []
        for one in self.for_page(now_unix_s):
            link = f'<{one["urls"]}>; rel="ice-server"'
            if "username" in one:
                link += f'; username="{one["username"]}"; credential="{one["credential"]}"; credential-type="password"'
            links.append(link)
        return links
