"""Session descriptions for tests: as browsers write them, one thing changed at a time."""

from __future__ import annotations

HEAD = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {mids}\r\n"
FINGERPRINT = "sha-256 " + ":".join(["AB"] * 32)


def section(kind: str, mid: str, direction: str, payload: str, codec: str, msid: str = "", port: str = "9") -> str:
    """One m-section with credentials."""
    lines = [
        f"m={kind} {port} UDP/TLS/RTP/SAVPF {payload}", "c=IN IP4 0.0.0.0", "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789012345678901", f"a=fingerprint:{FINGERPRINT}", "a=setup:actpass", f"a=mid:{mid}",
        f"a={direction}", *([f"a=msid:{msid}"] if msid else []), "a=rtcp-mux", f"a=rtpmap:{payload} {codec}",
    ]  # fmt: skip
    return "".join(f"{line}\r\n" for line in lines)


def description(*sections: str) -> str:
    """A whole description of these sections, in one bundle."""
    mids = [line[6:] for text in sections for line in text.splitlines() if line.startswith("a=mid:")]
    return HEAD.format(mids=" ".join(mids)) + "".join(sections)


def picture(direction: str = "sendonly", mid: str = "0", codec: str = "VP8/90000", **more: str) -> str:
    return section("video", mid, direction, "96", codec, **more)


def sound(direction: str = "sendonly", mid: str = "1", **more: str) -> str:
    return section("audio", mid, direction, "111", "opus/48000/2", **more)
