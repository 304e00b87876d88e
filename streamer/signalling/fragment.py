"""`application/trickle-ice-sdpfrag` (RFC 8840 section 9): candidates and credentials that come after the offer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamer.signalling.description import IceSide
from streamer.signalling.refusal import Refusal

MEDIA_TYPE = "application/trickle-ice-sdpfrag"
MOST_LINES = 400
MOST_LINE_CHARS = 1_000
_LINE = re.compile(r"[a-z]=[\x20-\x7e]*")
_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a fragment says. `ice` is None where it has no credentials: then it is about the session that there is."""

    ice: IceSide | None
    candidates: tuple[str, ...]  # `candidate:...`, each once, in order
    is_end: bool  # no more will come


def read_fragment(text: str) -> Fragment:
    """Reads it. Lines that mean nothing here are passed over: clients send whole descriptions too.

    Raises Refusal (400) for what is no fragment.
    """
    lines = [line for line in re.split("\r\n|\n|\r", text) if line]
    if len(lines) > MOST_LINES:
        raise Refusal(400, f"the fragment has {len(lines)} lines, {MOST_LINES} at most")
    for line in lines:
        if len(line) > MOST_LINE_CHARS or not _LINE.fullmatch(line):
            raise Refusal(400, "the fragment has a line that is none of a session description (SDP)")
    if not any(line.startswith(("a=candidate:", "a=end-of-candidates", "a=ice-ufrag:")) for line in lines):
        raise Refusal(400, "the fragment has neither candidates nor credentials")
    candidates = dict.fromkeys(_component_1(line[2:].strip()) for line in lines if line.startswith("a=candidate:"))
    return Fragment(_ice(lines), tuple(candidates), "a=end-of-candidates" in lines)


def _component_1(candidate: str) -> str:
    """@eyevinn/whip-web-client 1.1 counts components from 0; with rtcp-mux there is only the first one, 1."""
    words = candidate.split(" ", 2)
    return " ".join((words[0], "1", words[2])) if len(words) == 3 and words[1] == "0" else candidate


def _ice(lines: list[str]) -> IceSide | None:
    """The credentials: once for the session or once for each of its m-sections, then always the same."""
    ufrags = {line[12:].strip() for line in lines if line.startswith("a=ice-ufrag:")}
    passwords = {line[10:].strip() for line in lines if line.startswith("a=ice-pwd:")}
    if not ufrags and not passwords:
        return None
    if len(ufrags) != 1 or len(passwords) != 1:
        raise Refusal(400, "the fragment must have one ice-ufrag and one ice-pwd")
    ufrag, password = ufrags.pop(), passwords.pop()
    if not _UFRAG.fullmatch(ufrag) or not _PASSWORD.fullmatch(password):
        raise Refusal(400, "the fragment has ICE credentials that are none")
    return IceSide(ufrag, password)
