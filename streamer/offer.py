"""What a stranger may offer: a session description is measured before anything parses it."""

from __future__ import annotations

from engines import MediaError

MOST_OFFER_CHARS = 100_000
MOST_LINE_CHARS = 4_000
MOST_CANDIDATES = 64  # aiortc's set-up time grows with their square
MOST_MEDIA = 3  # picture, sound, data channel


def check_offer(sdp: str) -> None:
    """Raises MediaError, in one line, unless this can be an offer of a call with a picture."""
    if len(sdp) > MOST_OFFER_CHARS:
        raise MediaError(f"the offer is too long: {len(sdp)} characters, {MOST_OFFER_CHARS} at most")
    lines = sdp.splitlines()
    if not lines or lines[0].strip() != "v=0":
        raise MediaError('the offer is no session description (SDP): it does not begin with "v=0"')
    if any(len(line) > MOST_LINE_CHARS for line in lines):
        raise MediaError(f"the offer has a line of over {MOST_LINE_CHARS} characters")
    wrong = next((line for line in lines if line and line[1:2] != "="), None)
    if wrong is not None:
        raise MediaError(f'the offer is no session description (SDP): "{_shown(wrong)}" is no line of one')
    media = [line for line in lines if line.startswith("m=")]
    if len(media) > MOST_MEDIA:
        raise MediaError(f"the offer has {len(media)} media sections, {MOST_MEDIA} at most")
    if sum(line.startswith("m=video ") for line in media) != 1:
        raise MediaError("the offer must have exactly one picture (m=video)")
    if sum(line.startswith("m=audio ") for line in media) > 1:
        raise MediaError("the offer has more than one sound (m=audio)")
    mids = [line.split(":", 1)[1].strip() for line in lines if line.startswith("a=mid:")]
    bundle = next((line.split()[1:] for line in lines if line.startswith("a=group:BUNDLE")), [])
    if len(set(mids)) != len(media) or set(bundle) != set(mids):
        raise MediaError("the offer must send all its media over one connection (a=group:BUNDLE, a=mid)")
    candidates = sum(line.startswith("a=candidate:") for line in lines)
    if candidates > MOST_CANDIDATES:
        raise MediaError(f"the offer has {candidates} addresses (a=candidate), {MOST_CANDIDATES} at most")


def _shown(text: str) -> str:
    """Foreign text, short and harmless enough to be repeated in an error."""
    short = text[:40] + ("…" if len(text) > 40 else "")
    return "".join(char if char.isprintable() else "�" for char in short)
