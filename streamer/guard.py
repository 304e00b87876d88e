"""Who may use the server: decided from a request's headers alone."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from streamer.config import ServerConfig

COOKIE = "vividstream_token"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of itself."""

    method: str
    scheme: str
    host: str  # the Host header
    origin: str | None
    site: str | None  # Sec-Fetch-Site
    tokens: tuple[str, ...]  # from the address, the cookie or the Authorization header


def refusal(config: ServerConfig, claim: Claim) -> tuple[int, str] | None:
    """The HTTP status and the sentence with which the request is refused, or None where it may pass."""
    own = f"{claim.scheme}://{claim.host}"
    if config.is_loopback and not _host_is_ours(config, claim.host):
        # A foreign name that leads to 127.0.0.1 is how a web page reaches into this machine (DNS rebinding).
        return 403, f"this server does not answer to the name {claim.host[:80]!r}"
    if claim.method not in ("GET", "HEAD"):
        foreign = claim.origin is not None and claim.origin not in (own, config.origin)
        if foreign or (claim.origin is None and claim.site in ("cross-site", "same-site")):
            return 403, "another page may not use this server; its origin is not allowed"
    if config.token is not None and not any(_same(token, config.token) for token in claim.tokens):
        return 401, "the address lacks the token; open the address that the server printed when it started"
    return None


def _host_is_ours(config: ServerConfig, host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    allowed_host = config.origin.split("://", 1)[-1] if config.origin else None
    return name in LOOPBACK_NAMES or name == config.host or host == allowed_host


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
