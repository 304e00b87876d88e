"""Who may use the server: decided from a request's headers and address alone."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address, ip_network
from pathlib import Path

from engines import SettingError
from streamer.config import ServerConfig
from streamer.guards.addresses import is_inside

COOKIE = "vividstream_token"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
LEAST_SECRET_CHARS = 16
MOST_TOKEN_CHARS = 512
MOST_KEYS = 10_000
EXTENSIONS = ("chrome-extension://", "moz-extension://")  # what follows differs with each installation
PAGE = "page"  # the holder of the token in the page's address


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of itself."""

    method: str
    scheme: str
    host: str  # the Host header
    origin: str | None
    site: str | None  # Sec-Fetch-Site
    tokens: tuple[str, ...]  # from the address, the cookie or the Authorization header
    address: str = "127.0.0.1"  # the other end of the TCP connection
    forwarded_for: tuple[str, ...] = ()  # X-Forwarded-For, all of them, oldest first
    bearer: str = ""  # of the tokens the one from the Authorization header, which no browser adds by itself


@dataclass(frozen=True, slots=True)
class Key:
    """One secret that lets in: never kept itself, only its SHA-256."""

    holder: str
    digest: bytes
    calls: int | None = None  # at the same time; None: as many as the server takes

    @classmethod
    def of(cls, holder: str, secret: str, calls: int | None = None) -> Key:
        return cls(holder, sha256(secret.encode("utf-8", "surrogatepass")).digest(), calls)


def keys_of(config: ServerConfig) -> tuple[Key, ...]:
    """All secrets that let in; none: everybody who reaches the server. Raises SettingError for an unusable file."""
    keys: tuple[Key, ...] = () if config.token is None else (Key.of(PAGE, config.token),)
    if config.guard.token_file is not None:
        keys += read_keys(config.guard.token_file)
    return keys


def read_keys(path: Path) -> tuple[Key, ...]:
    """A file of `NAME SECRET [CALLS]` lines; SECRET may be `sha256:` and 64 hex digits. Raises SettingError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"the token file {path} cannot be read: {error}") from error
    keys = [_key(line.split(), number, path) for number, line in enumerate(lines, 1) if line.split("#")[0].strip()]
    if not keys or len(keys) > MOST_KEYS:
        raise SettingError(f"the token file {path} has {len(keys)} tokens; 1 to {MOST_KEYS} are needed")
    if len({key.holder for key in keys}) < len(keys):
        raise SettingError(f"the token file {path} names somebody twice")
    return tuple(keys)


def _key(words: Sequence[str], number: int, path: Path) -> Key:
    where = f"line {number} of the token file {path}"
    calls = int(words[2]) if len(words) == 3 and words[2].isdecimal() else None
    if len(words) not in (2, 3) or (len(words) == 3 and not calls):
        raise SettingError(f"{where} is not `NAME SECRET` or `NAME SECRET CALLS`")
    name, secret = words[:2]
    if secret.startswith("sha256:"):
        try:
            digest = bytes.fromhex(secret.removeprefix("sha256:"))
        except ValueError:
            digest = b""
        if len(digest) != 32:
            raise SettingError(f"{where}: sha256: is followed by 64 hex digits")
        return Key(name, digest, calls)
    if len(secret) < LEAST_SECRET_CHARS:
        raise SettingError(f"{where}: a secret has {LEAST_SECRET_CHARS} characters or more")
    return Key.of(name, secret, calls)


def holder_of(keys: Sequence[Key], tokens: Sequence[str]) -> tuple[Key, str] | None:
    """The key that one of the tokens is, and that token. Takes as long whichever it is."""
    found: tuple[Key, str] | None = None
    for token in tokens:
        if not 0 < len(token) <= MOST_TOKEN_CHARS:
            continue
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        for key in keys:
            if hmac.compare_digest(digest, key.digest) and found is None:
                found = key, token
    return found


def refusal(config: ServerConfig, claim: Claim, keys: Sequence[Key] | None = None) -> tuple[int, str] | None:
    """The HTTP status and the sentence with which the request is refused, or None where it may pass."""
    if config.is_loopback and not _host_is_ours(config, claim.host):
        # A foreign name that leads to 127.0.0.1 is how a web page reaches into this machine (DNS rebinding).
        return 403, f"this server does not answer to the name {claim.host[:80]!r}"
    keys = keys_of(config) if keys is None else keys
    tokens = claim.tokens
    if claim.method not in ("GET", "HEAD"):
        foreign = claim.origin is not None and allowed_origin(config, claim) is None
        if foreign and keys and (claim.origin or "").startswith(EXTENSIONS):
            # Whose requests show the token themselves: not the cookie, which others can have a browser send.
            foreign, tokens = False, (claim.bearer,)
        if foreign or (claim.origin is None and claim.site in ("cross-site", "same-site")):
            return 403, "another page may not use this server; its origin is not allowed"
    if claim.method == "OPTIONS":
        return None  # a browser's question whether it may ask carries no token
    if keys and holder_of(keys, tokens) is None:
        return 401, "the address lacks the token; open the address that the server printed when it started"
    return None


def allowed_origin(config: ServerConfig, claim: Claim) -> str | None:
    """The request's origin where it is this server's own or on the list, else None."""
    own = f"{claim.scheme}://{claim.host}"
    return claim.origin if claim.origin is not None and claim.origin in (own, *config.origin) else None


def address_of(config: ServerConfig, claim: Claim) -> str:
    """Who asks: the nearest address that is no reverse proxy of ours."""
    chain = (*claim.forwarded_for, claim.address)
    for address in reversed(chain):
        if not _is_proxy(config, address):
            return address
    return chain[0]


def is_from_inside(config: ServerConfig, claim: Claim) -> bool:
    """Whether nothing says that the request came from outside through a proxy that nobody told us of."""
    return is_inside(address_of(config, claim)) and (not claim.forwarded_for or bool(config.guard.proxies))


def _is_proxy(config: ServerConfig, address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in ip_network(network, strict=False) for network in config.guard.proxies)


def _host_is_ours(config: ServerConfig, host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    allowed_hosts = [origin.split("://", 1)[-1] for origin in config.origin]
    return name in LOOPBACK_NAMES or name == config.host or host in allowed_hosts
