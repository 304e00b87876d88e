"""Entity tags of ICE sessions: which PATCH may change one (RFC 9725 section 4.3, RFC 9110 section 13.1.1)."""

from __future__ import annotations

import re
import secrets

from streamer.signalling.refusal import Refusal

ANY = "*"
MOST_TAGS = 16
_LIST = re.compile(r'\s*(?:W/)?"[\x21\x23-\x7e]*"\s*(?:,\s*(?:W/)?"[\x21\x23-\x7e]*"\s*)*')
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')


def new_tag() -> str:
    """A strong entity tag, its quotes included, that was never given before."""
    return f'"{secrets.token_hex(8)}"'


def check_condition(if_match: str | None, tag: str, restarts: bool) -> None:
    """Passes a PATCH that may go on; raises Refusal (428, 412, 400) for the others.

    if_match  the header's value, None where it is missing
    tag       of the ICE session that there is now
    restarts  the request brings other ICE credentials: it begins a new ICE session whatever the old one is
    """
    if if_match is None:
        raise Refusal(428, "the request must say which ICE session it is about (If-Match)")
    if if_match.strip() == ANY:
        return
    if not _LIST.fullmatch(if_match):
        raise Refusal(400, "If-Match must be * or a list of entity tags in quotes")
    # Strong comparison: a weak tag equals nothing.
    if tag not in _TAG.findall(if_match)[:MOST_TAGS]:
        what = "restart" if restarts else "candidates"
        raise Refusal(412, f"these {what} are for an ICE session that is over")
