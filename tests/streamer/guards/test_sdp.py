"""The gate of session descriptions: what a browser sends passes, what costs a parser too much does not."""

from __future__ import annotations

import time

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.guards.addresses import AddressPolicy
from streamer.guards.sdp import MOST_BYTES, MOST_CANDIDATES, OfferRefused, candidate_fault, check_offer, filter_offer

VIDEO = (
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 10.9.8.7\r\na=mid:0\r\na=rtpmap:96 VP8/90000\r\n"
)
PRINT = ":".join(["AB"] * 32)
# As Chromium writes it, shortened to one line of each kind.
CHROMIUM = VIDEO + (
    "a=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:4ZcD\r\na=ice-pwd:2/1muCWoOi3uLifh0NuRHlUi\r\na=ice-options:trickle\r\n"
    f"a=fingerprint:sha-256 {PRINT}\r\na=setup:actpass\r\na=extmap:14 urn:ietf:params:rtp-hdrext:toffset\r\n"
    "a=extmap-allow-mixed\r\na=msid-semantic: WMS stream\r\na=rtcp-fb:96 nack pli\r\na=ssrc:1 cname:x\r\n"
    "a=candidate:1 1 udp 2113937151 9.9.9.9 51234 typ srflx raddr 192.168.1.2 rport 51234 generation 0\r\n"
    "a=candidate:2 1 udp 2113937151 192.168.1.2 51234 typ host generation 0 network-cost 999\r\n"
    "a=candidate:3 1 udp 2113937151 b0f3b0f3-1111-4222-8333-444455556666.local 51234 typ host\r\n"
    "a=candidate:4 1 tcp 1518280447 192.168.1.2 9 typ host tcptype active\r\n"
    "a=candidate:5 2 udp 2113937150 9.9.9.9 51235 typ srflx raddr 0.0.0.0 rport 0\r\na=end-of-candidates\r\n"
)


def test_what_a_browser_offers_passes_and_loses_the_addresses_that_it_may_not_name() -> None:
    check_offer(CHROMIUM)
    strict = filter_offer(CHROMIUM, AddressPolicy())
    assert strict.dropped == 4
    assert [line.split()[4] for line in strict.sdp.splitlines() if line.startswith("a=candidate")] == ["9.9.9.9"]
    assert "10.9.8.7" not in strict.sdp
    assert strict.sdp.endswith("a=end-of-candidates\r\n")
    assert filter_offer(CHROMIUM, AddressPolicy(lan=True)).dropped == 2


async def test_aiortcs_own_offer_passes_unchanged_but_for_the_addresses_that_count_for_nothing() -> None:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        connection.addTransceiver("video")
        connection.addTransceiver("audio")
        connection.createDataChannel("numbers")
        await connection.setLocalDescription(await connection.createOffer())
        sdp = str(connection.localDescription.sdp)
    finally:
        await connection.close()
    check_offer(sdp)
    kept = filter_offer(sdp, AddressPolicy(lan=True, loopback=True))
    assert kept.dropped == 0
    rest = [(old, new) for old, new in zip(sdp.splitlines(), kept.sdp.splitlines(), strict=True) if old != new]
    assert all(old.startswith(("c=", "a=rtcp:")) for old, _ in rest)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("a=candidate:1 1 udp 1 9.9.9.9 5000 typ host\r\n" * (MOST_CANDIDATES + 1), "65 addresses"),
        ("a=ssrc:1 cname:x\r\n" * 193, "193 lines a=ssrc"),
        ("a=rtpmap:96 VP8/90000\r\n" * 256, "257 lines a=rtpmap"),
        ("a=rtcp-fb:* nack\r\n" * 17, "a=rtcp-fb:*"),
        ("a=extmap:1 urn:x\r\n" * 129, "a=extmap"),
        ("a=extmap:256 urn:x\r\n", "cannot be used"),
        ("a=extmap:\r\n", "cannot be used"),
        ("a=ice-ufrag:abc\r\n", "cannot be used"),
        ("a=ice-pwd:short\r\n", "cannot be used"),
        ("a=fingerprint:md5 AB:CD\r\n", "cannot be used"),
        ("a=fingerprint:sha-1 " + ":".join(["AB"] * 20) + "\r\n", "cannot be used"),
        ("a=setup:holdconn\r\n", "cannot be used"),
        ("a=sctp-port:70000\r\n", "cannot be used"),
        ("a=rtpmap:300 VP8/90000\r\n", "cannot be used"),
        ("a=x\r\n" * 2_000, "lines, 2000 at most"),
        ("a=x:\x00\r\n", "characters"),
        ("s=one\x0ba=candidate:1 1 udp 1 127.0.0.1 5000 typ host\r\n", "characters"),
        ("s=one\u2028m=video 9 x 96\r\n", "characters"),
        ("a=x:\u2028\r\n", "characters"),
        ("m=audio 9 UDP/TLS/RTP/SAVPF " + " ".join(["0"] * 129) + "\r\na=mid:1\r\n", "media section"),
        ("m=audio 9 UDP/TLS/RTP/SAVPF 200\r\na=mid:1\r\n", "payload type"),
    ],
)
def test_what_costs_a_parser_too_much_is_said_in_one_line(more: str, sentence: str) -> None:
    with pytest.raises(OfferRefused) as caught:
        check_offer(VIDEO.replace("BUNDLE 0", "BUNDLE 0 1") + more if "a=mid:1" in more else VIDEO + more)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.status == 400


def test_too_long_is_413_counted_in_bytes() -> None:
    for sdp in ("v=0\r\n" + "a" * MOST_BYTES, "v=0\r\ns=" + "\N{SNOWMAN}" * (MOST_BYTES // 3)):
        with pytest.raises(OfferRefused) as caught:
            check_offer(sdp)
        assert caught.value.status == 413


def test_the_worst_that_passes_and_the_worst_that_does_not_take_milliseconds() -> None:
    for filling in (
        "a=x\r\n",
        "a=candidate:1 1 udp 1 9.9.9.9 5000 typ host\r\n",
        "a=rtcp-fb:* nack\r\n",
        "m=video 9 x 96\r\n",
    ):
        sdp = VIDEO + filling * ((MOST_BYTES - len(VIDEO)) // len(filling))
        begun_s = time.process_time()
        with pytest.raises(OfferRefused):
            check_offer(sdp)
        assert time.process_time() - begun_s < 0.1


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("candidate:1 1 udp 1 9.9.9.9 5000 typ host", None),
        ("a=candidate:1 1 UDP 1 9.9.9.9 5000 typ relay raddr 1.1.1.1 rport 1", None),
        ("candidate:1 1 udp 1 9.9.9.9 5000", "form"),
        ("candidate:1 1 udp one 9.9.9.9 5000 typ host", "form"),
        ("candidate:1 1 udp 1 9.9.9.9 99999999999999 typ host", "form"),
        ("candidate:1 2 udp 1 9.9.9.9 5000 typ host", "form"),
        ("candidate:1 1 udp 1 9.9.9.9 5000 typ what", "form"),
        ("candidate:1 1 udp 1 9.9.9.9 5000 typ srflx raddr 1.1.1.1 rport x", "form"),
        ("candidate:1 1 udp 1 9.9.9.9 5000 typ host generation -1", "form"),
        ("candidate:1 1 udp 1 9.9.9.9 5000 typ host " + "x " * 300, "form"),
        ("candidate:1 1 udp 1 127.0.0.1 5000 typ host", "loopback"),
        ("", "form"),
    ],
)
def test_single_candidates(line: str, fault: str | None) -> None:
    assert candidate_fault(line, AddressPolicy()) == fault


@given(st.text(max_size=400), st.booleans())
@settings(max_examples=100)
def test_any_text_is_checked_and_filtered_without_any_other_error(text: str, begun: bool) -> None:
    sdp = VIDEO + text if begun else text
    said = ""
    try:
        check_offer(sdp)
        filter_offer(sdp, AddressPolicy())
    except OfferRefused as refused:
        said = str(refused)
    assert len(said) < 250
    assert "\n" not in said
