"""Publishing by WHIP to this program's own server: in, a new ICE session in the middle, out; and ways to be refused."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from engines import SettingError
from streamer.app import ROOM
from streamer.config import ServerConfig
from streamer.joining.errors import CannotJoin, Unreachable
from streamer.joining.outgoing import Outgoing
from streamer.joining.stay import Attendance
from streamer.joining.whip import WhipPlace
from streamer.transport.ice_restart import transport_of
from tests.streamer.calls import served
from tests.streamer.joining.janus_room import ICE, showing, unseen

TOKEN = "sixteen characters at least"


def address(http: TestClient[Any, Any], path: str) -> str:
    return str(http.make_url(path))


def attendance(url: str, token: str | None, outgoing: Outgoing, http: aiohttp.ClientSession) -> Attendance:
    return Attendance(lambda: WhipPlace(url, token, http), outgoing, ICE, 30.0, lambda _: None)


async def until(what: Any, timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not what():  # noqa: ASYNC110  anything can be asked
            await asyncio.sleep(0.02)


async def test_our_own_server_gets_it_over_two_ice_sessions_and_is_left() -> None:
    async with served(ServerConfig(token=TOKEN)) as server, aiohttp.ClientSession() as http:
        room = server.server.app[ROOM]  # type: ignore[attr-defined]
        async with showing() as outgoing:
            stays = attendance(address(server, "/whip/garden"), TOKEN, outgoing, http)
            task = asyncio.create_task(stays.attend())
            try:
                await until(lambda: stays.stays.connected.is_set() and "garden" in room.streams)
                peer = room.streams["garden"]
                await until(lambda: peer.stats.pictures_in.rate_per_s(asyncio.get_running_loop().time()) > 5)
                assert peer.has_sound
                place, viewer = stays.stays.place, stays.stays.viewer
                assert isinstance(place, WhipPlace)
                assert viewer is not None
                before = transport_of(viewer._connection)._connection
                assert await place.renew(), "another ICE session, asked for by us"
                assert transport_of(viewer._connection)._connection is not before
                came = peer._mailbox.received
                await until(lambda: peer._mailbox.received > came + 10)
                assert (stays.stays.entered, place.restarts) == (1, 1), "and the connection went on"
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await until(lambda: not room.peers)
            assert peer.ended_because == "the sender ended it"


async def test_every_refusal_is_one_sentence_with_a_remedy() -> None:
    async with served(ServerConfig(token=TOKEN)) as server, showing() as outgoing, aiohttp.ClientSession() as http:

        async def refused(path: str, token: str | None, kind: type[CannotJoin]) -> str:
            async with unseen(outgoing) as (viewer, _):
                place = WhipPlace(path, token, http)
                with pytest.raises(CannotJoin) as caught:
                    await place.enter(viewer)
                await place.leave()
                assert type(caught.value) is kind
                return str(caught.value)

        url = address(server, "/whip/garden")
        assert "a right --token or --token-file is needed" in await refused(url, None, CannotJoin)
        assert "a right --token or --token-file is needed" in await refused(url, "wrong", CannotJoin)
        assert "is no address for WHIP" in await refused(address(server, "/nothing"), TOKEN, CannotJoin)
        assert "nobody answers at http://127.0.0.1:9" in await refused("http://127.0.0.1:9/whip/a", None, Unreachable)
        async with unseen(outgoing) as (viewer, _):
            holder = WhipPlace(url, TOKEN, http)
            await holder.enter(viewer)
            assert "has no room now, try again later" in await refused(url, TOKEN, Unreachable)
            await holder.leave()
    with pytest.raises(SettingError, match="is no address for WHIP"):
        WhipPlace("example.org/whip", None, http)


@pytest.mark.parametrize(
    ("status", "headers", "body", "sentence"),
    [
        (201, {}, "v=0\r\n", "answers, but not as WHIP"),
        (201, {"Location": "/x"}, "<html>", "answers, but not as WHIP"),
        (200, {}, "hello", "answered HTTP 200: hello"),
        (307, {"Location": "/whip"}, "", "sends us from one server to the next without end"),
        (201, {"Location": "/x"}, "v=0\r\nm=nonsense\r\n", "cannot be used"),
    ],
)
async def test_what_is_no_whip_is_said(status: int, headers: dict[str, str], body: str, sentence: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, text=body)

    app = web.Application()
    app.router.add_post("/whip", answer)
    async with TestServer(app, host="127.0.0.1") as server, showing() as outgoing, unseen(outgoing) as (viewer, http):
        place = WhipPlace(str(server.make_url("/whip?token=secret")), None, http)
        with pytest.raises(CannotJoin, match=sentence) as caught:
            await place.enter(viewer)
        assert "secret" not in str(caught.value)
