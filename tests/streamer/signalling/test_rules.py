"""The rules of RFC 9725 (WHIP) and draft-ietf-wish-whep (WHEP), one row each, against the real server."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp.test_utils import TestClient, TestServer
from aiortc import RTCSessionDescription

from streamer.app import create_app
from streamer.config import GuardSettings, ReachSettings, ServerConfig
from streamer.signalling.http import ROOM
from streamer.signalling.placement import Posted
from streamer.transport.ice_restart import transport_of
from tests.streamer.calls import Camera, Identities, Loader, Tone, negative, plain, served
from tests.streamer.signalling.descriptions import description, picture, sound
from tests.streamer.signalling.players import FRAGMENT, SDP, as_fragment, client, without_candidates

GREY = plain((90, 90, 90))
TOKEN = "a-token-of-some-length"
PAGE = "https://studio.example"


@dataclass(frozen=True)
class Row:
    """One request that needs no call before it, and what must be answered."""

    rule: str
    method: str
    path: str
    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    answered: Mapping[str, str] = field(default_factory=dict)  # header -> pattern; "": it must be missing


SENT = {"Content-Type": SDP}
AUTH = {"Authorization": f"Bearer {TOKEN}"}
ROWS = (
    Row("a body of another type is 415", "POST", "/whip/a", 415, "v=0", {"Content-Type": "text/plain", **AUTH}),
    Row("a body without a type is 415", "POST", "/whip/a", 415, "v=0", AUTH),
    Row("a malformed offer is 400", "POST", "/whip/a", 400, "hello", {**SENT, **AUTH}),
    Row("an empty offer is 400", "POST", "/whip/a", 400, "", {**SENT, **AUTH}),
    Row("an offer over 128 KiB is 413", "POST", "/whip/a", 413, "v=0\r\n" * 40_000, {**SENT, **AUTH}),
    Row("an offer that receives is 422", "POST", "/whip/a", 422, description(picture("recvonly")), {**SENT, **AUTH}),
    Row("an inactive offer is 422", "POST", "/whip/a", 422, description(picture("inactive")), {**SENT, **AUTH}),
    Row("two MediaStreams are 422", "POST", "/whip/a", 422,
        description(picture(msid="a x"), sound(msid="b y")), {**SENT, **AUTH}),
    Row("two pictures are 400", "POST", "/whip/a", 400,
        description(picture(), picture(mid="1")), {**SENT, **AUTH}),
    Row("AV1 alone is 400: it is neither read nor sent", "POST", "/whip/a", 400,
        description(picture(codec="AV1/90000")), {**SENT, **AUTH}),
    Row("media outside of the bundle are 400", "POST", "/whip/a", 400,
        description(picture()).replace("BUNDLE 0", "BUNDLE 9"), {**SENT, **AUTH}),
    Row("no token is 401 and says what is wanted", "POST", "/whip/a", 401, description(picture()), SENT,
        {"WWW-Authenticate": "Bearer"}),
    Row("a wrong token is 401", "POST", "/whip/a", 401, description(picture()), {**SENT, "Authorization": "Bearer x"}),
    Row("DELETE wants a token", "DELETE", "/whip/a/b", 401),
    Row("PATCH wants a token", "PATCH", "/whip/a/b", 401, "", {"Content-Type": FRAGMENT}),
    Row("GET of an endpoint is empty", "GET", "/whip/a", 204, headers=AUTH),
    Row("HEAD of an endpoint is empty", "HEAD", "/whip/a", 204, headers=AUTH),
    Row("PUT is 405", "PUT", "/whip/a", 405, headers=AUTH, answered={"Allow": ".*POST"}),
    Row("an unknown session is 404", "DELETE", "/whip/a/unknown", 404, headers=AUTH),
    Row("an unknown session's GET is 404", "GET", "/whip/a/unknown", 404, headers=AUTH),
    Row("PATCH of an unknown session is 404", "PATCH", "/whip/a/unknown", 404, FRAGMENT,
        {"Content-Type": FRAGMENT, **AUTH}),
    Row("a name that is none is 404", "POST", "/whip/a%20b", 404, "", {**SENT, **AUTH}),
    Row("an unknown choice is named", "POST", "/whip/a?identety=x", 400, description(picture()), {**SENT, **AUTH}),
    Row("OPTIONS tells what may be posted, without a token", "OPTIONS", "/whip/a", 200,
        headers={"Origin": PAGE, "Access-Control-Request-Method": "POST"},
        answered={"Accept-Post": "application/sdp", "Access-Control-Allow-Origin": PAGE, "Link": "",
                  "Access-Control-Allow-Methods": "POST", "Access-Control-Allow-Headers": "Authorization.*If-Match"}),
    Row("OPTIONS of a session tells what may be patched", "OPTIONS", "/whip/a/b", 200, headers={"Origin": PAGE},
        answered={"Accept-Patch": FRAGMENT, "Access-Control-Allow-Methods": "PATCH, DELETE"}),
    Row("a preflight of a stranger's page is refused", "OPTIONS", "/whip/a", 403,
        headers={"Origin": "https://evil.example"}, answered={"Access-Control-Allow-Origin": ""}),
    Row("a stranger's page is refused", "POST", "/whip/a", 403, description(picture()),
        {**SENT, **AUTH, "Origin": "https://evil.example"}, {"Access-Control-Allow-Origin": ""}),
    Row("errors are readable for a page of the list", "POST", "/whip/a", 400, "hello", {**SENT, **AUTH, "Origin": PAGE},
        {"Access-Control-Allow-Origin": PAGE, "Access-Control-Expose-Headers": "Location, ETag, Link"}),
    Row("a stream that nobody sends is 409", "POST", "/whep/a", 409, description(picture("recvonly")),
        {**SENT, **AUTH}, {"Retry-After": r"\d+"}),
    Row("a player that sends is 422", "POST", "/whep/a", 422, description(picture()), {**SENT, **AUTH}),
    Row("a player's body of another type is 415", "POST", "/whep/a", 415, "v=0", AUTH),
    Row("a player's malformed offer is 400", "POST", "/whep/a", 400, "hello", {**SENT, **AUTH}),
    Row("a player's OPTIONS", "OPTIONS", "/whep/a", 200, headers={"Origin": PAGE},
        answered={"Accept-Post": "application/sdp", "Link": ""}),
    Row("a player's session takes answers too", "OPTIONS", "/whep/a/b", 200, headers={"Origin": PAGE},
        answered={"Accept-Patch": f"{FRAGMENT}, application/sdp"}),
    Row("GET of a player's endpoint is empty", "GET", "/whep/a", 204, headers=AUTH),
    Row("no token, no player", "POST", "/whep/a", 401, description(picture("recvonly")), SENT),
    Row("an unknown viewer is 404", "DELETE", "/whep/a/unknown", 404, headers=AUTH),
    Row("ICE servers are for holders of a token", "GET", "/ice", 401),
)  # fmt: skip


async def test_rules_that_need_no_call() -> None:
    """All rows on one server, and which of them do not hold."""
    broken = []
    config = ServerConfig(token=TOKEN, origin=(PAGE,))
    async with served(config) as http:
        for row in ROWS:
            skip = ("Content-Type",) if "Content-Type" not in row.headers else ()
            response = await http.request(
                row.method, row.path, data=row.body.encode() or None, headers=row.headers, skip_auto_headers=skip
            )
            if response.status != row.status:
                broken.append(f"{row.rule}: {response.status}, not {row.status}: {await response.text()}")
            for name, pattern in row.answered.items():
                found = response.headers.get(name)
                if (found is not None) if pattern == "" else re.match(pattern, found or "") is None:
                    broken.append(f"{row.rule}: {name} is {found!r}")
    assert broken == []


async def test_a_stream_in_by_whip_and_out_by_whep() -> None:
    """The whole way with its headers, and the picture that comes out is the one that the engine drew."""
    async with served(ServerConfig(max_sessions=2)) as http, client(http) as sender, client(http) as viewer:
        offer = await sender.offer_to_send(Camera([plain((200, 40, 40))]), Tone())
        response = await sender.begin("/whip/garden?identity=bo&tone=mix", offer)
        assert response.content_type == SDP
        assert re.fullmatch(r"/whip/garden/[\w-]{20,}", sender.path), "the session's address cannot be guessed"
        assert re.fullmatch(r'"[^"]+"', sender.tag), "a strong entity tag"
        assert "Link" not in response.headers
        assert sender.answer.count("a=recvonly") == 2
        assert sender.answer.count("a=rtcp-mux-only") == 2
        assert "a=ice-options:trickle" in sender.answer
        assert "a=end-of-candidates" in sender.answer, "all of the server's candidates are in the answer"
        for kind in ("video", "audio"):
            assert f"m={kind} 0" not in sender.answer
        again = await sender.http.post("/whip/garden", data=offer, headers={"Content-Type": SDP})
        assert (again.status, again.headers["Retry-After"]) == (409, "5"), "somebody sends it already"
        assert (await http.get(sender.path)).status == 204

        await viewer.begin("/whep/garden", await viewer.offer_to_receive("video", "audio"))
        assert viewer.answer.count("a=sendonly") == 2
        assert re.fullmatch(r"/whep/garden/[\w-]{20,}", viewer.path)
        await viewer.until(lambda: len(viewer.pictures) > 30 and viewer.sounds > 20)
        drawn = [p for p in viewer.pictures if abs(p.mean((0, 1)) - (55, 215, 215)).max() < 12]
        assert len(drawn) > 15, "others see what is drawn"
        assert not any(abs(p.mean((0, 1)) - (200, 40, 40)).max() < 40 for p in viewer.pictures), "and never the camera"

        assert (await http.get(viewer.path.replace("garden", "other"))).status == 404
        assert (await http.delete(viewer.path)).status == 200
        await viewer.until(lambda: len(app_room(http).viewers) == 0)
        assert (await http.delete(viewer.path)).status == 404
        assert (await http.delete(sender.path, headers={"If-Match": '"ignored"'})).status == 200
        await sender.until(lambda: len(app_room(http).peers) == 0)
        assert app_room(http).streams == {}


def app_room(http: Any) -> Any:
    return http.server.app[ROOM]


async def test_the_end_of_a_stream_is_the_end_of_its_viewers() -> None:
    async with served() as http, client(http) as sender, client(http) as viewer:
        await sender.begin("/whip/a", await sender.offer_to_send(Camera([GREY])))
        await viewer.begin("/whep/a", await viewer.offer_to_receive("video", "audio"))
        await viewer.until(lambda: len(viewer.pictures) > 3)
        assert viewer.answer.count("a=sendonly") == 1, "a stream without sound has none"
        await http.delete(sender.path)
        await viewer.until(lambda: not app_room(http).viewers and viewer.connection.connectionState == "closed")
        await viewer.until(lambda: not app_room(http).peers)
        response = await http.post("/whip/b", data=str(sender.connection.localDescription.sdp), headers=SENT)
        assert response.status == 201, "and the place of the call is free again"


async def test_who_sends_gets_nothing_back_even_if_asked() -> None:
    async with served() as http, client(http) as sender:
        sender.connection.addTransceiver(Camera([GREY]), direction="sendrecv")
        offer = await sender.local(await sender.connection.createOffer())
        assert "a=sendrecv" in offer
        await sender.begin("/whip/a", offer)
        assert "a=recvonly" in sender.answer
        assert "a=sendrecv" not in sender.answer


async def test_trickle() -> None:
    """Candidates by PATCH: which of them are taken, and the conditions on them."""
    async with served() as http, client(http) as sender:
        whole = await sender.offer_to_send(Camera([GREY]))
        await sender.begin("/whip/a", without_candidates(whole))
        peer = app_room(http).peers[sender.path.rsplit("/", 1)[1]]
        late = as_fragment(whole)
        assert "a=candidate:" in late
        rows: tuple[tuple[str, str, str | None, str, int], ...] = (
            ("without If-Match", late, None, FRAGMENT, 428),
            ("for a session that is over", late, '"old"', FRAGMENT, 412),
            ("no entity tag", late, "old", FRAGMENT, 400),
            ("of another type", late, sender.tag, "application/json", 415),
            ("malformed", "hello", sender.tag, FRAGMENT, 400),
            ("too many", late + "".join(f"a=candidate:{n} 1 udp 1 192.0.2.1 {n} typ host\r\n" for n in range(1, 66)),
             sender.tag, FRAGMENT, 422),
            ("that cannot be used are left out",
             as_fragment(without_candidates(whole)) + "a=candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active\r\n"
             "a=candidate:2 1 udp 1 169.254.169.254 80 typ host\r\na=candidate:nonsense\r\n",
             sender.tag, FRAGMENT, 204),
        )  # fmt: skip
        for what, body, tag, media_type, status in rows:
            response = await sender.patch(body, tag, media_type)
            assert response.status == status, what
        assert peer.line.candidates == 0
        response = await sender.patch(late, sender.tag)
        assert response.status == 204
        assert await response.read() == b""
        assert "ETag" not in response.headers, "the ICE session is the same"
        known = {one.port for one in transport_of(peer._connection).getRemoteCandidates()}
        assert {int(line.split()[5]) for line in late.splitlines() if line.startswith("a=candidate:")} <= known
        await sender.until(lambda: sender.connection.connectionState == "connected")
        await sender.until(lambda: bool(peer.stats.pictures_in.values(time.monotonic())))


async def test_a_player_without_a_codec_of_ours_gets_an_offer_instead() -> None:
    async with served() as http, client(http) as sender, client(http) as viewer, client(http) as other:
        await sender.begin("/whip/a", await sender.offer_to_send(Camera([GREY])))
        unknown = description(picture("recvonly", codec="AV1/90000"))
        response = await viewer.post("/whep/a", unknown)
        assert response.status == 406
        assert response.content_type == SDP
        offer = await response.text()
        assert "a=sendonly" in offer
        assert "a=setup:actpass" in offer
        await viewer.connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        answer = await viewer.local(await viewer.connection.createAnswer())
        assert (await viewer.patch("hello", media_type=SDP)).status == 400
        response = await viewer.patch(answer, media_type=SDP)
        assert response.status == 204, await response.text()
        await viewer.until(lambda: len(viewer.pictures) > 3)
        assert (await viewer.patch(answer, media_type=SDP)).status == 409
        response = await other.post("/whep/a", description(picture("recvonly")).replace("a=mid:0", "a=mid:é"))
        assert response.status in (400, 406)


async def test_a_viewer_who_never_connects_is_sent_home() -> None:
    config = ServerConfig(guard=GuardSettings(handshake_s=1.5))
    async with served(config) as http, client(http) as sender, client(http) as viewer:
        await sender.begin("/whip/a", await sender.offer_to_send(Camera([GREY])))
        response = await viewer.post("/whep/a", await viewer.offer_to_receive("video"))
        assert response.status == 201
        await viewer.until(lambda: not app_room(http).viewers, 10.0)
        assert (await http.get(viewer.path)).status == 404


async def test_an_empty_post_asks_for_an_offer() -> None:
    """As players of the first drafts do."""
    async with served() as http, client(http) as sender, client(http) as viewer:
        await sender.begin("/whip/a", await sender.offer_to_send(Camera([GREY])))
        response = await viewer.post("/whep/a", "")
        assert response.status == 201
        await viewer.connection.setRemoteDescription(RTCSessionDescription(await response.text(), "offer"))
        answer = await viewer.local(await viewer.connection.createAnswer())
        assert (await viewer.patch(answer, media_type=SDP)).status == 204
        await viewer.until(lambda: len(viewer.pictures) > 3)


async def test_no_more_viewers_than_allowed() -> None:
    config = ServerConfig(reach=ReachSettings(max_viewers=1))
    async with served(config) as http, client(http) as sender, client(http) as one, client(http) as two:
        await sender.begin("/whip/a", await sender.offer_to_send(Camera([GREY])))
        await one.begin("/whep/a", await one.offer_to_receive("video"))
        response = await two.post("/whep/a", await two.offer_to_receive("video"))
        assert response.status == 503
        assert response.headers["Retry-After"]
        await http.delete(one.path)
        await one.until(lambda: not app_room(http).viewers)
        await two.begin("/whep/a", str(two.connection.localDescription.sdp))


async def test_a_full_server_sends_on_with_307_once() -> None:
    reach = ReachSettings(overflow=("https://two.example",))
    async with served(ServerConfig(reach=reach)) as http, client(http) as sender:
        await sender.begin("/whip/a", await sender.offer_to_send(Camera([GREY])))
        offer = str(sender.connection.localDescription.sdp)
        for path, there in (("/whip/b?tone=mix", "/whip/b?tone=mix&placed=1"), ("/whep/b", "/whep/b?placed=1")):
            response = await http.post(path, data=offer, headers=SENT, allow_redirects=False)
            assert response.status == 307
            assert response.headers["Location"] == f"https://two.example{there}"
        response = await http.post("/whip/b?placed=1", data=offer, headers=SENT, allow_redirects=False)
        assert response.status == 503, "who was sent here is not sent on"
        assert response.headers["Retry-After"]


async def test_a_hook_decides_where_an_offer_goes() -> None:
    """And an ordinary HTTP client that follows the redirection has its call."""
    asked: list[Posted] = []

    class Hook:
        async def place(self, posted: Posted) -> str | None:
            asked.append(posted)
            return str(http.make_url("")).rstrip("/")

    async with served() as http, client(http) as sender:
        front = create_app(ServerConfig(), Identities("ada"), Loader(negative), Hook())
        async with TestClient(TestServer(front, host="127.0.0.1")) as gateway:
            sender.http = gateway
            await sender.begin("/whip/a", await sender.offer_to_send(Camera([GREY])))
            assert asked == [Posted("in", "a", is_live_here=False, is_full=False)]
            assert "a" in app_room(http).streams
            await sender.until(lambda: sender.connection.connectionState == "connected")


async def test_links_carry_turn_credentials_in_the_answer() -> None:
    reach = ReachSettings(turn_server="turn:127.0.0.1:9?transport=udp", turn_secret="not asked here")
    async with served(ServerConfig(reach=reach)) as http:
        servers = (await (await http.get("/ice")).json())["iceServers"]
        assert [one["urls"] for one in servers] == ["turn:127.0.0.1:9?transport=udp"]
        assert re.fullmatch(r"\d{10}:[0-9a-f]{8}", servers[0]["username"])
