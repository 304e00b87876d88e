"""What a stranger may offer: a session description is measured before anything parses it.

aiortc's parser is quadratic in places (candidates, `a=ssrc`, `a=rtcp-fb:*` times codecs: 128 KiB of the last become
16 million objects), so that the counts are bounded here and not the length alone.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from engines import MediaError
from streamer.guards.addresses import AddressPolicy

MOST_BYTES = 128 * 1024
MOST_LINE_CHARS = 4_000
MOST_LINES = 2_000
MOST_CANDIDATES = 64  # aiortc's set-up time grows with their square
MOST_CANDIDATE_CHARS = 512
MOST_MEDIA = 3  # picture, sound, data channel
MOST_FORMATS = 128  # of one media section; browsers offer some fifty
MOST_OF = {
    "rtpmap": 256, "fmtp": 256, "rtcp-fb": 1_024, "ssrc": 192, "ssrc-group": 32, "extmap": 128, "fingerprint": 16,
    "group": 2, "mid": MOST_MEDIA, "msid": 16, "msid-semantic": 4, "rid": 16, "simulcast": 4, "ice-ufrag": 4,
    "ice-pwd": 4, "setup": 4, "sctpmap": 4, "sctp-port": 1, "max-message-size": 1,
}  # fmt: skip
MOST_FEEDBACK_FOR_ALL = 16  # a=rtcp-fb:* is repeated for every codec
CONTROL = re.compile(r"[^\t\r\n\x20-\x7e\x80-\U0010ffff]")
BREAKS = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # lines end there for Python's splitlines, not for SDP
ICE_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
ICE_PWD = re.compile(r"[A-Za-z0-9+/]{22,256}")
FINGERPRINT = re.compile(r"(sha-256|sha-384|sha-512) [0-9A-F]{2}(:[0-9A-F]{2}){31,63}", re.IGNORECASE)
SETUPS = frozenset({"actpass", "active", "passive"})
NUMBER = re.compile(r"[0-9]{1,10}")
CANDIDATE = "a=candidate:"


class OfferRefused(MediaError):
    """A session description that is not taken; `status` is the HTTP answer to it."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class CheckedOffer:
    """A session description that may be parsed, and how many of its addresses were taken out."""

    sdp: str
    dropped: int


def check_offer(sdp: str, needs_picture: bool = True) -> None:
    """Raises OfferRefused, in one line, unless this can be an offer of a call. `needs_picture`: with exactly one."""
    lines = _lines_of(sdp)
    media = [line for line in lines if line.startswith("m=")]
    if len(media) > MOST_MEDIA:
        raise OfferRefused(f"the offer has {len(media)} media sections, {MOST_MEDIA} at most")
    pictures = sum(line.startswith("m=video ") for line in media)
    if pictures > 1 or (needs_picture and not pictures):
        raise OfferRefused("the offer must have exactly one picture (m=video)")
    if sum(line.startswith("m=audio ") for line in media) > 1:
        raise OfferRefused("the offer has more than one sound (m=audio)")
    for line in media:
        _check_media(line)
    mids = [line.split(":", 1)[1].strip() for line in lines if line.startswith("a=mid:")]
    bundle = next((line.split()[1:] for line in lines if line.startswith("a=group:BUNDLE")), [])
    if not media or len(set(mids)) != len(media) or set(bundle) != set(mids):
        raise OfferRefused("the offer must send all its media over one connection (a=group:BUNDLE, a=mid)")
    _check_counts(lines)
    for line in lines:
        _check_value(line)


def filter_offer(sdp: str, policy: AddressPolicy) -> CheckedOffer:
    """The same description without addresses that may not be used. Call `check_offer` first."""
    kept: list[str] = []
    dropped = 0
    for line in sdp.splitlines():
        if line.startswith(CANDIDATE):
            if candidate_fault(line[2:], policy) is not None:
                dropped += 1
                continue
        elif line.startswith("c="):
            line = "c=IN IP4 0.0.0.0"  # ICE decides where media goes, and nothing else
        elif line.startswith("a=rtcp:"):
            line = "a=rtcp:9 IN IP4 0.0.0.0"
        kept.append(line)
    return CheckedOffer("\r\n".join(kept) + "\r\n", dropped)


def candidate_fault(line: str, policy: AddressPolicy) -> str | None:
    """Why the candidate (`candidate:1 1 udp 1 192.0.2.1 5000 typ host`) may not be used, or None where it may be."""
    words = line.partition("candidate:")[2].split()
    if len(line) > MOST_CANDIDATE_CHARS or len(words) < 8 or words[6] != "typ":
        return "form"
    if any(NUMBER.fullmatch(words[at]) is None for at in (1, 3, 5)) or words[1] != "1":
        return "form"
    if words[7] not in ("host", "srflx", "prflx", "relay"):
        return "form"
    extras = zip(words[8::2], words[9::2])
    if any(name in ("rport", "generation") and NUMBER.fullmatch(value) is None for name, value in extras):
        return "form"
    return policy.candidate(words[4], int(words[5]), words[2])


def _lines_of(sdp: str) -> list[str]:
    if len(sdp) > MOST_BYTES or len(sdp.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise OfferRefused(f"the offer is too long: {MOST_BYTES // 1024} KiB at most", 413)
    lines = sdp.splitlines()
    if not lines or lines[0].strip() != "v=0":
        raise OfferRefused('the offer is no session description (SDP): it does not begin with "v=0"')
    if any(len(line) > MOST_LINE_CHARS for line in lines):
        raise OfferRefused(f"the offer has a line of over {MOST_LINE_CHARS} characters")
    wrong = next((line for line in lines if line and line[1:2] != "="), None)
    if wrong is not None:
        raise OfferRefused(f'the offer is no session description (SDP): "{shown(wrong)}" is no line of one')
    if CONTROL.search(sdp) or BREAKS.search(sdp):
        raise OfferRefused("the offer has characters that no session description (SDP) has")
    if len(lines) > MOST_LINES:
        raise OfferRefused(f"the offer has {len(lines)} lines, {MOST_LINES} at most")
    return lines


def _check_media(line: str) -> None:
    words = line.split()
    if len(words) < 4 or len(words) - 3 > MOST_FORMATS or NUMBER.fullmatch(words[1]) is None:
        raise OfferRefused(f'the offer has a media section that cannot be used: "{shown(line)}"')
    if words[0] in ("m=video", "m=audio") and not all(_is_number(word, 0, 127) for word in words[3:]):
        raise OfferRefused(f'the offer has a payload type that is none: "{shown(line)}"')


def _check_counts(lines: list[str]) -> None:
    names = Counter(line[2:].partition(":")[0] for line in lines if line.startswith("a="))
    if names["candidate"] > MOST_CANDIDATES:
        raise OfferRefused(f"the offer has {names['candidate']} addresses (a=candidate), {MOST_CANDIDATES} at most")
    for name, most in MOST_OF.items():
        if names[name] > most:
            raise OfferRefused(f"the offer has {names[name]} lines a={name}, {most} at most")
    if sum(line.startswith("a=rtcp-fb:*") for line in lines) > MOST_FEEDBACK_FOR_ALL:
        raise OfferRefused(f"the offer has over {MOST_FEEDBACK_FOR_ALL} lines a=rtcp-fb:*")


def _check_value(line: str) -> None:
    name, _, value = line[2:].partition(":")
    value = value.strip()
    wrong = line.startswith("a=") and (
        (name == "ice-ufrag" and ICE_UFRAG.fullmatch(value) is None)
        or (name == "ice-pwd" and ICE_PWD.fullmatch(value) is None)
        or (name == "fingerprint" and FINGERPRINT.fullmatch(value) is None)
        or (name == "setup" and value not in SETUPS)
        or (name == "extmap" and not _is_number(value.split()[0].split("/")[0] if value else "", 1, 255))
        or (name == "sctp-port" and not _is_number(value, 1, 65_535))
        or (name == "max-message-size" and not _is_number(value, 0, 2**31))
        or (name in ("rtpmap", "fmtp") and not _is_number(value.partition(" ")[0], 0, 127))
    )
    if wrong:
        raise OfferRefused(f'the offer has a line that cannot be used: "{shown(line)}"')


def _is_number(text: str, least: int, most: int) -> bool:
    return NUMBER.fullmatch(text) is not None and least <= int(text) <= most


def shown(text: str) -> str:
    """Foreign text, short and harmless enough to be repeated in an error."""
    short = text[:40] + ("…" if len(text) > 40 else "")
    return "".join(char if char.isprintable() else "�" for char in short)
