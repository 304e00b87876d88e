"""What is decided from text alone: descriptions, fragments, entity tags, credentials, placement."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import SettingError
from streamer.config import ReachSettings, ServerConfig
from streamer.signalling.conditions import check_condition, new_tag
from streamer.signalling.description import (
    IceSide,
    candidates_of,
    check_sender,
    check_viewer,
    complete,
    echo_profiles,
    fragment,
    ice_of,
    prefer,
    read_wanted,
)
from streamer.signalling.fragment import Fragment, read_fragment
from streamer.signalling.ice import IceServers, turn_credentials
from streamer.signalling.placement import Overflow, Posted
from streamer.signalling.refusal import Refusal
from tests.streamer.signalling.descriptions import description, picture, sound

UFRAG, PASSWORD = "abcd", "0123456789012345678901"
FRAG = f"a=ice-ufrag:{UFRAG}\r\na=ice-pwd:{PASSWORD}\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
CANDIDATE = "candidate:1 1 udp 2130706431 192.0.2.7 5000 typ host"


def status(function: Any, *arguments: Any) -> int | None:
    """The HTTP status of the refusal, None where it passes."""
    try:
        function(*arguments)
    except Refusal as refused:
        return refused.status if "\n" not in str(refused) else -1
    return None


@pytest.mark.parametrize(
    ("sdp", "as_sender", "as_viewer"),
    [
        (description(picture()), None, 422),
        (description(picture(), sound()), None, 422),
        (description(picture("sendrecv"), sound("sendrecv")), None, None),
        (description(picture("recvonly")), 422, None),
        (description(picture("inactive")), 422, 422),
        (description(sound()), 422, 422),
        (description(sound("recvonly")), 422, None),
        (description(picture(), picture(mid="1")), 422, 422),
        (description(picture(), sound(), sound(mid="2")), 422, 422),
        (description(picture(msid="a x"), sound(msid="a y")), None, 422),
        (description(picture(msid="a x"), sound(msid="b y")), 422, 422),
        (description(picture(msid="- x"), sound(msid="- y")), None, 422),
        (description(picture(), picture(mid="1", port="0")), None, 422),
        (description("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n"), 422, 422),
        ("v=0\r\n", 400, 400),
        ("v=0\r\nm=\r\n", 422, 422),
    ],
)
def test_what_may_be_offered(sdp: str, as_sender: int | None, as_viewer: int | None) -> None:
    assert (status(check_sender, sdp), status(check_viewer, sdp)) == (as_sender, as_viewer)


def test_bundle_only_sections_with_port_0_are_wanted() -> None:
    sdp = description(sound("recvonly"), picture("recvonly", "2", port="0") + "a=bundle-only\r\n")
    assert [section.kind for section in read_wanted(sdp).of("video")] == ["video"]


def test_a_direction_of_the_session_holds_for_its_sections() -> None:
    sdp = description(picture().replace("a=sendonly\r\n", "")).replace("t=0 0\r\n", "t=0 0\r\na=recvonly\r\n")
    assert read_wanted(sdp).sections[0].direction == "recvonly"


def test_credentials_and_candidates_are_found() -> None:
    sdp = description(sound(mid="s") + f"a={CANDIDATE}\r\n", picture(mid="p") + f"a={CANDIDATE}\r\n")
    assert ice_of(sdp) == IceSide(UFRAG, PASSWORD)
    assert candidates_of(sdp) == (CANDIDATE,)
    assert status(ice_of, "v=0\r\n") == 400


def test_an_answer_is_completed() -> None:
    hosts = "".join(f"a={CANDIDATE.replace('192.0.2.7', host)}\r\n" for host in ("192.0.2.7", "127.0.0.1", "::1"))
    relay = "a=candidate:9 1 udp 9 198.51.100.1 3478 typ relay raddr 0.0.0.0 rport 0\r\n"
    text = complete(description(picture("recvonly") + hosts + relay, sound("recvonly")), announce="203.0.113.9")
    lines = text.split("\r\n")
    assert lines.count("a=rtcp-mux-only") == 2
    assert lines.index("a=ice-options:trickle") < lines.index("m=video 9 UDP/TLS/RTP/SAVPF 96")
    assert [line for line in lines if "203.0.113.9" in line] == [
        "a=candidate:1a 1 udp 2130706431 203.0.113.9 5000 typ host"
    ], "neither loopback, nor another kind of address, nor the relay is at the address outside"
    assert f"a={CANDIDATE}" in lines
    assert read_wanted(text).sections == read_wanted(description(picture("recvonly"), sound("recvonly"))).sections


def test_h264_profiles_are_answered_in_the_words_of_the_offer() -> None:
    offer = "a=fmtp:96 packetization-mode=1;profile-level-id=42c01e;level-asymmetry-allowed=1\r\na=fmtp:97 apt=96\r\n"
    answer = "a=fmtp:96 level-asymmetry-allowed=1;profile-level-id=42e01f\r\na=fmtp:98 profile-level-id=42001f\r\n"
    assert echo_profiles(answer, offer) == answer.replace("42e01f", "42c01e")
    assert echo_profiles(answer, "") == answer


def test_a_codec_can_be_put_first() -> None:
    """Its payload types, and its names with them; nothing else moves."""
    sound = "m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\na=rtpmap:111 opus/48000/2\r\n"
    vp8 = "a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:45 AV1/90000\r\n"
    names = ("a=rtpmap:102 H264/90000\r\n", "a=rtpmap:39 h264/90000\r\n")
    offer = "v=0\r\n{}m=video 9 UDP/TLS/RTP/SAVPF {}\r\na=mid:1\r\n{}a=fmtp:102 packetization-mode=1\r\n{}"
    before = offer.format(sound, "96 97 45 102 39", vp8 + names[0], names[1])
    assert prefer(before, "H264") == offer.format(sound, "102 39 96 97 45", names[0] + names[1] + vp8, "")
    assert prefer(before, "VP9") == before


def test_the_answer_to_a_restart_names_the_bundles_first_section_only() -> None:
    text = fragment(description(picture(), sound()), IceSide("wxyz", PASSWORD), (CANDIDATE,))
    assert read_fragment(text) == Fragment(IceSide("wxyz", PASSWORD), (CANDIDATE,), True)
    assert "a=group:BUNDLE 0 1" in text
    assert text.count("m=") == 1
    assert text.count("a=mid:0") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FRAG + f"a={CANDIDATE}\r\n", Fragment(IceSide(UFRAG, PASSWORD), (CANDIDATE,), False)),
        (FRAG + f"a={CANDIDATE}\na={CANDIDATE}\na=end-of-candidates\n",
         Fragment(IceSide(UFRAG, PASSWORD), (CANDIDATE,), True)),
        (f"a={CANDIDATE}", Fragment(None, (CANDIDATE,), False)),
        ("a=end-of-candidates", Fragment(None, (), True)),
        (FRAG + "a=ice-options:trickle ice2\r\na=something:new\r\n", Fragment(IceSide(UFRAG, PASSWORD), (), False)),
        (FRAG + FRAG, Fragment(IceSide(UFRAG, PASSWORD), (), False)),
        ("", 400),
        ("hello", 400),
        ("a=mid:0\r\n", 400),
        ("v=0\r\ns= \r\n" + FRAG, Fragment(IceSide(UFRAG, PASSWORD), (), False)),
        (f"a={CANDIDATE.replace(' 1 udp', ' 0 udp')}", Fragment(None, (CANDIDATE,), False)),
        ("hello\r\n" + FRAG, 400),
        (FRAG + "a=x\x00y\r\n", 400),
        (FRAG + "a=" + "x" * 1_000, 400),
        (FRAG + "a=x\r\n" * 400, 400),
        ("a=ice-ufrag:abcd\r\n", 400),
        ("a=ice-pwd:0123456789012345678901\r\na=end-of-candidates", 400),
        (FRAG.replace("abcd", "ab"), 400),
        (FRAG.replace("abcd", "ab:cd"), 400),
        (FRAG + "a=ice-ufrag:other\r\n", 400),
    ],
)  # fmt: skip
def test_fragments(text: str, expected: Fragment | int) -> None:
    if isinstance(expected, int):
        assert status(read_fragment, text) == expected
    else:
        assert read_fragment(text) == expected


@given(st.text(max_size=400) | st.lists(st.sampled_from(FRAG.split("\r\n")) | st.text(max_size=40)).map("\n".join))
def test_no_text_is_more_than_a_bad_request(text: str) -> None:
    assert status(read_fragment, text) in (None, 400)
    assert status(check_sender, text) in (None, 400, 422)
    assert status(check_viewer, text) in (None, 400, 422)


@pytest.mark.parametrize(
    ("header", "restarts", "expected"),
    [
        ('"now"', False, None),
        ('"now"', True, None),
        ("*", True, None),
        (" * ", False, None),
        ('"old", "now"', False, None),
        (None, False, 428),
        (None, True, 428),
        ('"old"', False, 412),
        ('W/"now"', False, 412),
        ("now", False, 400),
        ("", False, 400),
        ('"now", *', False, 400),
    ],
)
def test_conditions(header: str | None, restarts: bool, expected: int | None) -> None:
    assert status(check_condition, header, '"now"', restarts) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"overflow": ("two.example",)},
        {"announce": "here"},
        {"turn_server": "turn:relay.example:3478"},
        {"turn_secret": "long enough"},
        {"relay_only": True},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        ReachSettings.read(wrong)


def test_tags_are_never_the_same() -> None:
    assert len({new_tag() for _ in range(100)}) == 100
    assert all(tag.startswith('"') and tag.endswith('"') for tag in (new_tag(),))


def test_turn_credentials_are_those_that_coturn_makes() -> None:
    """The rule of `use-auth-secret`, by hand."""
    made = turn_credentials("north", "ab12", 1_800_000_000)
    assert made.username == "1800000000:ab12"
    digest = hmac.new(b"north", b"1800000000:ab12", hashlib.sha1).digest()
    assert made.password == base64.b64encode(digest).decode()


def test_links_name_every_server_and_expire() -> None:
    reach = ReachSettings(
        turn_server="turn:relay.example:3478?transport=udp", turn_secret="long enough", turn_seconds=60
    )
    servers = IceServers(ServerConfig(ice_server="stun:stun.example:3478", reach=reach))
    stun, turn = servers.links(1_000.0)
    assert stun == '<stun:stun.example:3478>; rel="ice-server"'
    assert turn.startswith('<turn:relay.example:3478?transport=udp>; rel="ice-server"; username="1060:')
    assert turn.endswith('; credential-type="password"')
    assert servers.links(1_000.0)[1] != turn, "nobody shares credentials with anybody"
    assert servers.for_us(1_000.0).configuration.iceServers[1].username.startswith("1060:")  # type: ignore[index, union-attr]
    assert IceServers(ServerConfig()).links(0.0) == []


@pytest.mark.parametrize(
    ("posted", "expected"),
    [
        (Posted("in", "a", False, False), [None, None]),
        (Posted("in", "a", False, True), ["https://b", "https://c", "https://b"]),
        (Posted("page", "", False, False), [None]),
        (Posted("page", "", False, True), ["https://b"]),
        (Posted("out", "a", True, True), [None]),
        (Posted("out", "a", False, False), ["https://b", "https://c"]),
    ],
)
async def test_overflow(posted: Posted, expected: list[str | None]) -> None:
    overflow = Overflow(("https://b", "https://c"))
    assert [await overflow.place(posted) for _ in expected] == expected
    assert await Overflow(()).place(posted) is None
