"""What an offer wants and what is added to an answer: session descriptions as text, looked at line by line.

Bounds are kept elsewhere (streamer/guards): what comes here was let through. Media are parsed by aiortc alone; here
only what aiortc does not say or does not add.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address

from streamer.signalling.refusal import Refusal

_PROFILE = re.compile(r"^a=fmtp:(\d+) (?:[^\r\n]*;)?\s*profile-level-id=([0-9a-fA-F]{6})", re.MULTILINE)
_NAME = re.compile(r"a=rtpmap:(\d+) ([^/\s]+)/")
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")


@dataclass(frozen=True, slots=True)
class IceSide:
    """One side's credentials of an ICE session."""

    ufrag: str
    password: str


@dataclass(frozen=True, slots=True)
class Section:
    """One m-section. `stream`: the MediaStream's id that its msid names, None where there is none."""

    kind: str
    mid: str
    direction: str
    stream: str | None
    is_rejected: bool  # port 0 without bundle-only


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a description asks for, as far as WHIP and WHEP have rules for it."""

    sections: tuple[Section, ...]

    def of(self, kind: str) -> tuple[Section, ...]:
        return tuple(section for section in self.sections if section.kind == kind and not section.is_rejected)


def read_wanted(sdp: str) -> Wanted:
    """The m-sections of a description. Raises Refusal (400) where it has none."""
    heads, *parts = _parts(sdp)
    if not parts:
        raise Refusal(400, "the session description has no media")
    default = _direction(heads) or "sendrecv"
    return Wanted(tuple(_section(lines, default) for lines in parts))


def check_sender(sdp: str) -> None:
    """Raises Refusal (422) unless this is what a WHIP client may offer: one picture, at most one sound, being sent."""
    _check(read_wanted(sdp), {"sendonly", "sendrecv"}, "sent")


def check_viewer(sdp: str) -> None:
    """Raises Refusal (422) unless this is what a WHEP player may offer: a picture, a sound or both to receive."""
    _check(read_wanted(sdp), {"recvonly", "sendrecv"}, "received", picture=False)


def _check(wanted: Wanted, directions: set[str], verb: str, picture: bool = True) -> None:
    counts = Counter(section.kind for section in wanted.sections if not section.is_rejected)
    for kind, word in (("video", "picture"), ("audio", "sound")):
        if counts[kind] > 1:
            raise Refusal(422, f"only one {word} (m={kind}) can be {verb}, not {counts[kind]}")
    media = [section for kind in ("video", "audio") for section in wanted.of(kind)]
    for section in media:
        if section.direction not in directions:
            raise Refusal(422, f"the {section.kind} is {section.direction}: media must be {verb} here")
    if picture and not wanted.of("video"):
        raise Refusal(422, "there must be a picture (m=video)")
    if not media:
        raise Refusal(422, "there must be a picture or a sound")
    if len({section.stream for section in media if section.stream is not None}) > 1:
        raise Refusal(422, "all media must belong to one MediaStream (a=msid)")


def ice_of(sdp: str) -> IceSide:
    """The credentials of the transport that all media share. Raises Refusal (400) where they are missing."""
    ufrag = password = ""
    for line in sdp.splitlines():
        if line.startswith("a=ice-ufrag:") and not ufrag:
            ufrag = line.split(":", 1)[1].strip()
        elif line.startswith("a=ice-pwd:") and not password:
            password = line.split(":", 1)[1].strip()
    if not ufrag or not password:
        raise Refusal(400, "the session description has no ICE credentials")
    return IceSide(ufrag, password)


def candidates_of(sdp: str) -> tuple[str, ...]:
    """The candidates of the transport that all media share, each as `candidate:...`, once."""
    found = (line[2:].strip() for line in sdp.splitlines() if line.startswith("a=candidate:"))
    return tuple(dict.fromkeys(found))


def complete(sdp: str, announce: str | None = None) -> str:
    """What aiortc's description lacks: trickle, rtcp-mux-only, the address by which others see this machine.

    announce  this machine's address outside of a 1:1 NAT that keeps ports: each host address is offered there too
    """
    head, *parts = _parts(sdp)
    lines = [*head, "a=ice-options:trickle"]
    for part in parts:
        for line in part:
            lines.append(line)
            if line == "a=rtcp-mux":
                lines.append("a=rtcp-mux-only")
            elif announce is not None and line.startswith("a=candidate:"):
                lines += _announced(line, announce)
    return "\r\n".join(lines) + "\r\n"


def prefer(offer: str, codec: str) -> str:
    """The offer with this codec before the others of each picture: the answer takes the first.

    aiortc goes by the order of the names (rtpmap), others by that of the payload types.
    """
    lines: list[str] = []
    for part in _parts(offer):
        names = {line: found for line in part if (found := _NAME.match(line))}
        own = [line for line, found in names.items() if found[2].upper() == codec]
        if part and part[0].startswith("m=video") and own:
            words, numbers = part[0].split(), {names[line][1] for line in own}
            at = part.index(next(iter(names)))
            part = [
                " ".join([*words[:3], *sorted(words[3:], key=lambda number: number not in numbers)]),
                *part[1:at], *own, *(line for line in part[at:] if line not in own),
            ]  # fmt: skip
        lines += part
    return "\r\n".join(lines) + "\r\n"


def echo_profiles(answer: str, offer: str) -> str:
    """The answer with H.264 profiles in the words of the offer.

    A profile has several numbers (42c0.., 42e0..: constrained baseline). aiortc answers with its own, but both sides
    must say the same (RFC 6184 section 8.2.2).
    """
    offered = {found[1]: found[2] for found in _PROFILE.finditer(offer)}
    return _PROFILE.sub(lambda found: found[0][:-6] + offered.get(found[1], found[2]), answer)


def _announced(line: str, announce: str) -> list[str]:
    """The host candidate once more, at the address outside; nothing for what cannot be reached there."""
    words = line.split()
    if len(words) < 8 or words[7] != "host" or words[4] == announce:
        return []
    address, outside = ip_address(words[4]), ip_address(announce)
    if address.is_loopback or address.version != outside.version:
        return []
    foundation = words[0].split(":", 1)[1]
    return [" ".join([f"a=candidate:{foundation}a", *words[1:4], announce, *words[5:]])]


def fragment(answer: str, ice: IceSide, candidates: tuple[str, ...], announce: str | None = None) -> str:
    """`application/trickle-ice-sdpfrag` with a new ICE session of ours, for media that were agreed on in `answer`."""
    offered = [f"a={candidate}" for candidate in candidates]
    outside = [line for one in offered for line in _announced(one, announce)] if announce is not None else []
    head, *parts = _parts(answer)
    bundle = next((line for line in head if line.startswith("a=group:BUNDLE")), None)
    first = parts[0]
    media = next(line for line in first if line.startswith("m="))
    mid = next(line for line in first if line.startswith("a=mid:"))
    lines = [
        "a=ice-options:trickle",
        *([bundle] if bundle else []),
        media,
        mid,
        f"a=ice-ufrag:{ice.ufrag}",
        f"a=ice-pwd:{ice.password}",
        *offered,
        *outside,
        "a=end-of-candidates",
    ]
    return "\r\n".join(lines) + "\r\n"


def _parts(sdp: str) -> list[list[str]]:
    """The lines of the session, then those of each m-section."""
    parts: list[list[str]] = [[]]
    for line in sdp.splitlines():
        if line.startswith("m="):
            parts.append([])
        if line:
            parts[-1].append(line)
    return parts


def _section(lines: list[str], default: str) -> Section:
    words = lines[0][2:].split()
    kind, port = words[0] if words else "", words[1] if len(words) > 1 else ""
    mid = next((line[6:].strip() for line in lines if line.startswith("a=mid:")), "")
    msid = next((line[7:].split() for line in lines if line.startswith("a=msid:")), [])
    stream = msid[0] if msid and msid[0] != "-" else None
    rejected = port == "0" and "a=bundle-only" not in lines
    return Section(kind, mid, _direction(lines) or default, stream, rejected)


def _direction(lines: list[str]) -> str | None:
    return next((line[2:] for line in lines if line.startswith("a=") and line[2:] in DIRECTIONS), None)
