"""The routes: what they answer, and in which words they refuse."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines import MediaError, SwapSettings
from streamer.app import run_server
from streamer.config import ServerConfig
from streamer.errors import CannotListen
from streamer.guards.access import Claim, refusal
from streamer.guards.sdp import MOST_BYTES, MOST_CANDIDATES, check_offer
from streamer.signalling.http import ROOM
from tests.streamer.calls import Camera, Loader, calling, gone, negative, plain, served

VIDEO = (
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n"
)


async def refused(client: Any, body: object, **more: Any) -> tuple[int, str]:
    response = await client.post("/session", json=body, **more)
    return response.status, (await response.json())["error"]


@pytest.mark.parametrize(
    ("sdp", "sentence"),
    [
        ("", "no session description"),
        ("hello", "no session description"),
        ("v=0\r\nthis is nothing\r\n", '"this is nothing" is no line of one'),
        ("v=0\r\ns=-\r\n", "exactly one picture"),
        (VIDEO + VIDEO.replace("v=0\r\n", ""), "exactly one picture"),
        (VIDEO + "m=audio 9 x 0\r\n" * 2, "more than one sound"),
        (VIDEO + "m=application 9 x y\r\n" * 3, "4 media sections"),
        (VIDEO.replace("BUNDLE 0", "BUNDLE 1"), "over one connection"),
        (VIDEO.replace("a=mid:0\r\n", ""), "over one connection"),
        (VIDEO + "a=candidate:1 1 udp 1 127.0.0.1 1 typ host\r\n" * (MOST_CANDIDATES + 1), "65 addresses"),
        (VIDEO + "a=" + "x" * 5_000, "line of over"),
        ("v=0\r\n" + "a=x\r\n" * MOST_BYTES, "too long"),
        ("v=0\r\n\x1b]0;evil\x07\r\n", "�]0;evil�"),
    ],
)
def test_what_is_no_offer_is_said_in_one_line(sdp: str, sentence: str) -> None:
    with pytest.raises(MediaError) as caught:
        check_offer(sdp)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_an_offer_that_is_no_sdp_gets_400_and_leaves_nothing_behind() -> None:
    loader = Loader(negative)
    async with served(loader=loader) as client:
        for sdp in ("hello", VIDEO, VIDEO + "a=fingerprint:sha-256 00\r\n", VIDEO.replace("96", "ninety-six")):
            status, sentence = await refused(client, {"sdp": sdp})
            assert status == 400
            assert sentence
            assert "\n" not in sentence
        assert loader.made == [], "no engine is loaded for a stranger's nonsense"
        async with calling(client) as caller:
            await caller.start(Camera([plain((9, 9, 9))]))
            await caller.pictures(3)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ([], "valid dictionary"),
        ({}, 'setting "sdp": Field required'),
        ({"sdp": 5}, 'setting "sdp": Input should be a valid string'),
        ({"sdp": VIDEO, "sdb": 1}, 'unknown setting "sdb"; did you mean "sdp"?'),
        ({"sdp": VIDEO, "choice": {"engine": "proxi"}}, 'unknown engine "proxi"; did you mean "proxy"?'),
        ({"sdp": VIDEO, "choice": {"engine": "passthrough"}}, 'unknown engine "passthrough"'),
        ({"sdp": VIDEO, "choice": {"tone": "green"}}, 'setting "choice.tone"'),
    ],
)
async def test_bad_bodies_name_what_is_wrong(body: object, sentence: str) -> None:
    async with served() as client:
        status, said = await refused(client, body)
        assert status == 400
        assert sentence in said


async def test_an_unknown_identity_names_the_nearest() -> None:
    async with served() as client, calling(client) as caller:
        sdp = await caller.offer(Camera([plain((9, 9, 9))]))
        for name, nearest in (("adda", 'did you mean "ada"?'), ("../../etc/passwd", "valid: ada, bo")):
            status, said = await refused(client, {"sdp": sdp, "choice": {"identity": name}})
            assert status == 400
            assert said == f'unknown identity "{name}"; {nearest}'
        response = await client.get("/identities/..%2F..%2Fetc%2Fpasswd/portrait")
        assert response.status == 404


async def test_no_json_too_much_and_wrong_paths() -> None:
    async with served() as client:
        response = await client.post("/session", data="{", headers={"Content-Type": "application/json"})
        assert (response.status, await response.json()) == (400, {"error": "the body is no JSON"})
        response = await client.post("/session", data="a=b", headers={"Content-Type": "text/plain"})
        assert response.status == 415
        response = await client.post("/session", json={"sdp": "x" * 200_000})
        assert response.status == 413
        assert "128 KiB" in (await response.json())["error"]
        assert (await client.get("/nothing")).status == 404
        assert (await client.put("/session")).status == 405
        assert (await client.get("/static/..%2Fapp.py")).status == 404
        assert (await client.patch("/session/unknown", json={})).status == 404


@given(st.text(max_size=300), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_gets_past_the_gate_but_as_an_error_in_one_line(text: str, begun: bool) -> None:
    said = ""
    try:
        check_offer(VIDEO + text if begun else text)
    except MediaError as error:
        said = str(error)
    assert len(said) < 200
    assert "\n" not in said


async def test_lines_that_aiortc_cannot_bear_are_400(caplog: pytest.LogCaptureFixture) -> None:
    """A real offer with each of its lines spoiled in turn: 400 or a call, never an internal error."""
    async with served(ServerConfig(max_sessions=16)) as client, calling(client) as caller:
        lines = (await caller.offer(Camera([plain((9, 9, 9))]))).splitlines()
        outcomes = set()
        for number, line in enumerate(lines):
            spoiled = [*lines[:number], line[:2] + "\u2603 999999999999999999999", *lines[number + 1 :]]
            response = await client.post("/session", json={"sdp": "\r\n".join(spoiled) + "\r\n"})
            outcomes.add(response.status)
            answer = await response.json()
            if response.status == 201:
                await client.delete(f"/session/{answer['call']}")
        assert 400 in outcomes
        assert outcomes <= {201, 400}


async def test_when_all_calls_are_taken_the_next_is_told_so() -> None:
    async with served() as client:
        async with calling(client) as first:
            await first.start(Camera([plain((9, 9, 9))]))
            async with calling(client) as second:
                sdp = await second.offer(Camera([plain((9, 9, 9))]))
                response = await client.post("/session", json={"sdp": sdp})
                assert response.status == 503
                assert response.headers["Retry-After"]
                sentence = (await response.json())["error"]
                assert sentence == "the server is busy: 1 call is going on already, try again later"
            await client.delete(f"/session/{first.call}")
            await gone(client, first.call)
        async with calling(client) as third:
            await third.start(Camera([plain((9, 9, 9))]))


async def test_the_page_is_served_whole_and_may_load_nothing_foreign() -> None:
    async with served() as client:
        page = await client.get("/")
        text = await page.text()
        assert page.status == 200
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "unsafe" not in page.headers["Content-Security-Policy"]
        assert "http://" not in text
        assert "https://" not in text
        for name in ("app.js", "call.js", "ages.js", "style.css", "icon.svg"):
            part = await client.get(f"/static/{name}")
            assert part.status == 200
            assert part.headers["X-Content-Type-Options"] == "nosniff"
            assert "https://" not in await part.text()


async def test_identities_portraits_and_engines() -> None:
    async with served(ServerConfig(identity="bo")) as client:
        assert await (await client.get("/identities")).json() == {"identities": ["ada", "bo"], "chosen": "bo"}
        portrait = await client.get("/identities/bo/portrait")
        assert (await portrait.read()).startswith(b"\x89PNG")
        engines = await (await client.get("/engines")).json()
        assert engines == {"engines": ["auto", "proxy", "tiny"], "chosen": "auto", "tone": "identity", "label": True}
    raw = ServerConfig(swap=SwapSettings(engine="passthrough"))
    async with served(raw) as client:
        assert "passthrough" in (await (await client.get("/engines")).json())["engines"]


async def test_health_and_metrics() -> None:
    async with served() as client, calling(client) as caller:
        assert (await client.get("/healthz")).status == 503
        await client.server.app[ROOM].warm_up()  # type: ignore[attr-defined]
        assert (await client.get("/healthz")).status == 200
        await caller.start(Camera([plain((200, 40, 40))]))
        await caller.until(lambda: len(caller.reports) >= 2)
        text = await (await client.get("/metrics")).text()
    assert caller.call not in text, "the secret id of a call must not be readable in the metrics"
    for line in (
        "vividstream_calls 1",
        'vividstream_engine_info{call="1",engine="stub",why="for tests"} 1',
        'vividstream_fps{call="1",way="out"}',
        'vividstream_picture_age_ms{call="1",quantile="0.95"}',
        'vividstream_dropped_total{call="1",reason="newer_came"}',
        'vividstream_shown_total{call="1",what="drawn"}',
    ):
        assert line in text


def claim(**what: Any) -> Claim:
    usual: dict[str, Any] = {
        "method": "GET", "scheme": "http", "host": "127.0.0.1:8080", "origin": None, "site": None, "tokens": (),
    }  # fmt: skip
    return Claim(**{**usual, **what})


TOKEN = "a-token-of-some-length"


@pytest.mark.parametrize(
    ("config", "what", "status"),
    [
        (ServerConfig(), claim(), None),
        (ServerConfig(), claim(host="localhost"), None),
        (ServerConfig(), claim(host="[::1]:8080"), None),
        (ServerConfig(), claim(host="evil.example:8080"), 403),
        (ServerConfig(), claim(host="127.0.0.1.evil.example"), 403),
        (ServerConfig(), claim(method="POST"), None),
        (ServerConfig(), claim(method="POST", origin="http://127.0.0.1:8080"), None),
        (ServerConfig(), claim(method="POST", origin="http://127.0.0.1:9999"), 403),
        (ServerConfig(), claim(method="DELETE", origin="https://evil.example"), 403),
        (ServerConfig(), claim(method="POST", origin="null"), 403),
        (ServerConfig(), claim(method="POST", site="cross-site"), 403),
        (ServerConfig(origin=("https://my.example",)), claim(method="POST", origin="https://my.example"), None),
        (ServerConfig(origin=("https://my.example",)), claim(host="my.example"), None),
        (ServerConfig(token=TOKEN), claim(), 401),
        (ServerConfig(token=TOKEN), claim(tokens=("", "wrong", "")), 401),
        (ServerConfig(token=TOKEN), claim(tokens=("", TOKEN, "")), None),
        (ServerConfig(host="0.0.0.0", token=TOKEN), claim(host="anything", tokens=(TOKEN,)), None),
        (ServerConfig(host="0.0.0.0").resolve(), claim(host="anything"), 401),
    ],
)
def test_who_may_use_the_server(config: ServerConfig, what: Claim, status: int | None) -> None:
    answer = refusal(config, what)
    assert (answer and answer[0]) == status


async def test_the_token_in_the_address_lets_in_and_becomes_a_cookie() -> None:
    async with served(ServerConfig(token=TOKEN)) as client:
        for path in ("/", "/identities", "/metrics", "/static/app.js", "/healthz"):
            assert (await client.get(path)).status == 401
        page = await client.get(f"/?token={TOKEN}")
        assert page.status == 200
        cookie = page.cookies["vividstream_token"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Strict"
        assert (await client.get("/identities", cookies={"vividstream_token": TOKEN})).status == 200
        assert (await client.get("/identities", headers={"Authorization": f"Bearer {TOKEN}"})).status == 200


async def test_a_foreign_page_is_refused_by_the_real_server() -> None:
    async with served() as client:
        status, sentence = await refused(client, {"sdp": VIDEO}, headers={"Origin": "https://evil.example"})
        assert status == 403
        assert "origin" in sentence
        assert (await client.get("/", headers={"Host": "evil.example"})).status == 403


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=rf"127\.0\.0\.1 port {port} is in use; .* --port"):
            run_server(ServerConfig(port=port))


def test_switching_the_label_off_is_written_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(CannotListen):
        run_server(ServerConfig(host="192.0.2.77", swap=SwapSettings(label=False)))
    assert "label" in caplog.text
    assert "switched off" in caplog.text


def test_an_address_that_is_not_ours_is_one_clear_line() -> None:
    with pytest.raises(CannotListen, match=r"cannot listen on 192\.0\.2\.77 port"):
        run_server(ServerConfig(host="192.0.2.77", port=0))
