"""A server that answers nonsense: each answer ends in one sentence, never in a traceback or a wait for ever."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engines import MediaError
from streamer.joining import janus_wire
from streamer.joining.errors import CannotJoin
from streamer.joining.janus import JanusRoom
from streamer.joining.outgoing import Outgoing
from streamer.joining.settings import JanusSettings
from tests.streamer.joining.janus_room import transport, unseen

__all__ = ["transport"]  # a fixture

NONSENSE: list[Any] = [
    [],
    {},
    {"janus": "success"},
    {"janus": "success", "data": []},
    {"janus": "success", "data": {"id": "x"}},
    {"janus": "error"},
    {"janus": "error", "error": {"code": "x", "reason": []}},
    {"janus": "event", "plugindata": [], "data": {"id": 1}},
    {"janus": "event", "plugindata": {"data": {"publishers": 7, "leaving": {}}}, "data": {"id": 1}},
    {"janus": "success", "data": {"id": 1}, "plugindata": {"data": {"error_code": {}}}},
    {"janus": "success", "data": {"id": 1}, "jsep": {"sdp": "v=0\r\nm=nonsense"}},
]


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("nonsense", NONSENSE, ids=[json.dumps(one)[:60] for one in NONSENSE])
@pytest.mark.parametrize("kind", ["ws", "http"])
async def test_nonsense_is_refused_in_a_sentence(nonsense: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janus_wire, "ANSWERS_S", 0.1)
    monkeypatch.setattr("streamer.joining.janus.ANSWERS_S", 0.1)

    async def socket(request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse(protocols=["janus-protocol"])
        await answer.prepare(request)
        async for message in answer:
            asked = message.json()
            told = {**nonsense, "transaction": asked["transaction"]} if isinstance(nonsense, dict) else nonsense
            await answer.send_json({"janus": "event", "plugindata": {"data": {"talking": 1, "kicked": []}}})
            await answer.send_json(told)
        return answer

    async def post(request: web.Request) -> web.Response:
        asked = await request.json()
        told = {**nonsense, "transaction": asked["transaction"]} if isinstance(nonsense, dict) else nonsense
        return web.json_response(told)

    async def look(request: web.Request) -> web.Response:
        if request.path.endswith("/info"):
            return web.json_response({"janus": "server_info"})
        await asyncio.sleep(0.05)
        return web.json_response([nonsense, 7])

    app = web.Application()
    app.router.add_get("/", socket)
    app.router.add_post("/janus{path:.*}", post)
    app.router.add_get("/janus{path:.*}", look)
    outgoing = Outgoing("test")
    async with TestServer(app, host="127.0.0.1") as server, unseen(outgoing) as (viewer, http):
        url = f"ws://127.0.0.1:{server.port}/" if kind == "ws" else f"http://127.0.0.1:{server.port}/janus"
        place = JanusRoom(url, 1, "Ada", JanusSettings(), http)
        try:
            async with asyncio.timeout(20):
                with pytest.raises((CannotJoin, MediaError)) as caught:
                    await place.enter(viewer)
            assert "\n" not in str(caught.value)
        finally:
            await place.leave()
