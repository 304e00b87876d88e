"""In a room of a real Janus: seen and heard by others, back after a restart, out again; and every way to be refused."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import numpy as np
import pytest

from benchmarks.janus_server import PIN, PRIVATE_ROOM, ROOM, SMALL_ROOM, JanusServer, free_port, janus
from benchmarks.janus_viewer import RoomViewer
from benchmarks.packet_caller import BEEP_EVERY
from engines import SettingError
from streamer.joining.errors import CannotJoin, Unreachable
from streamer.joining.janus import JanusRoom
from streamer.joining.outgoing import Outgoing
from streamer.joining.settings import JanusSettings
from streamer.joining.stay import Attendance
from streamer.viewer import Viewer
from tests.streamer.joining.janus_room import ICE, server, showing, transport, unseen

__all__ = ["server", "transport"]  # fixtures

BACK_S = 5.0


def attendance(url: str, outgoing: Outgoing, http: aiohttp.ClientSession, said: list[str]) -> Attendance:
    def make() -> JanusRoom:
        return JanusRoom(url, ROOM, "Ada", JanusSettings(), http)

    return Attendance(make, outgoing, ICE, 60.0, said.append)


async def connected(viewer: Viewer) -> None:
    """And a little longer: the room counts those whose media have come."""
    async with asyncio.timeout(10):
        while viewer.numbers()["fps_out"] == 0.0:  # noqa: ASYNC110  another part's state
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("kind", ["ws", pytest.param("http", marks=pytest.mark.long)])
async def test_others_see_and_hear_it_and_it_comes_back_after_a_restart(server: JanusServer, kind: str) -> None:
    said: list[str] = []
    url = server.ws_url if kind == "ws" else server.http_url
    async with showing(level=200) as outgoing, aiohttp.ClientSession() as http:
        stays = attendance(url, outgoing, http, said)
        viewer = RoomViewer(server.ws_url, ROOM)
        tasks = [asyncio.create_task(stays.attend()), asyncio.create_task(viewer.run())]
        try:
            await viewer.until_pictures(10)
            assert [one["display"] for one in viewer.seen] == ["Ada"]
            await asyncio.sleep(1.0)
            first = viewer.watched[-1]
            levels = [float(np.median(rgb)) for rgb in first.rgbs()]  # a busy machine shows the card now and then
            assert max(levels) == pytest.approx(200, abs=8)
            assert all(level < 60 or level > 190 for level in levels), levels
            assert len(first.sounds_back()) > BEEP_EVERY / 4
            assert stays.stays.viewer is not None
            assert stays.stays.viewer.numbers()["fps_out"] != 0.0

            server.kill()
            killed_s, before = time.monotonic(), len(viewer.watched)
            server.start(wait=False)
            async with asyncio.timeout(20):
                while len(viewer.watched) == before:  # noqa: ASYNC110  another program's state
                    await asyncio.sleep(0.02)
            assert await viewer.until_pictures(3) - killed_s < BACK_S
            async with asyncio.timeout(5):
                await stays.stays.connected.wait()
            assert (stays.stays.entered, len(stays.stays.lost)) == (2, 1)

            tasks[0].cancel()
            await asyncio.gather(tasks[0], return_exceptions=True)
            assert "Destroying session" in server.log, "it left with a goodbye"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    assert said[0].startswith(f"in room {ROOM} at {url}")
    assert said[1].startswith("lost: ")
    assert said[2].startswith(f"back in room {ROOM} at {url} after ")


@pytest.mark.usefixtures("transport")
async def test_every_refusal_is_one_sentence_with_a_remedy(server: JanusServer) -> None:
    cases: list[tuple[str, int, JanusSettings, str, bool]] = [
        (server.ws_url, 99, JanusSettings(), "there is no room 99 at {}: ask", True),
        (server.ws_url, PRIVATE_ROOM, JanusSettings(), "wants a pin: --pin", False),
        (server.ws_url, PRIVATE_ROOM, JanusSettings(pin="wrong"), "wrong pin for room 4321", False),
        (server.http_url, PRIVATE_ROOM, JanusSettings(pin="wrong"), "wrong pin for room 4321", False),
        (server.ws_url, SMALL_ROOM, JanusSettings(), "is full: wait until somebody leaves", True),
        (f"ws://127.0.0.1:{free_port()}", ROOM, JanusSettings(), "nobody answers at ws://127.0.0.1", True),
        (f"http://127.0.0.1:{free_port()}/janus", ROOM, JanusSettings(), "nobody answers at http://127.0.0.1", True),
        (f"http://127.0.0.1:{server.ws_port}/janus", ROOM, JanusSettings(), "http://127.0.0.1", True),
        (f"ws://127.0.0.1:{server.http_port}", ROOM, JanusSettings(), "does not speak Janus over WebSocket", True),
    ]
    async with showing() as outgoing, unseen(outgoing) as (first, http):
        holder = JanusRoom(server.ws_url, SMALL_ROOM, "first", JanusSettings(), http)
        await holder.enter(first)
        await connected(first)
        for url, room, settings, sentence, may_pass in cases:
            async with unseen(outgoing) as (viewer, _):
                place = JanusRoom(url, room, "Ada", settings, http)
                with pytest.raises(CannotJoin) as caught:
                    await place.enter(viewer)
                await place.leave()
            assert sentence.format(url) in str(caught.value)
            assert "\n" not in str(caught.value)
            assert isinstance(caught.value, Unreachable) == may_pass, sentence
        async with unseen(outgoing) as (viewer, _):
            place = JanusRoom(server.ws_url, PRIVATE_ROOM, "Ada", JanusSettings(pin=PIN), http)
            await place.enter(viewer)
            await place.leave()
        await holder.leave()
        with pytest.raises(SettingError, match="is no address of a Janus"):
            JanusRoom("127.0.0.1:8188", ROOM, "Ada", JanusSettings(), http)


@pytest.mark.usefixtures("transport", "server")
async def test_a_janus_with_a_secret_lets_in_only_who_knows_it() -> None:
    with janus(secret="open sesame") as guarded:
        async with showing() as outgoing, unseen(outgoing) as (viewer, http):
            place = JanusRoom(guarded.ws_url, ROOM, "Ada", JanusSettings(), http)
            with pytest.raises(CannotJoin, match="wants a secret or a token: --api-secret"):
                await place.enter(viewer)
            await place.leave()
            place = JanusRoom(guarded.http_url, ROOM, "Ada", JanusSettings(api_secret="open sesame"), http)
            await place.enter(viewer)
            await place.leave()


@pytest.mark.usefixtures("transport")
async def test_who_is_removed_does_not_come_back(server: JanusServer) -> None:
    said: list[str] = []
    async with showing() as outgoing, aiohttp.ClientSession() as http:
        stays = attendance(server.ws_url, outgoing, http, said)
        task = asyncio.create_task(stays.attend())
        async with asyncio.timeout(15):
            await stays.stays.connected.wait()
        assert isinstance(stays.stays.place, JanusRoom)
        place = stays.stays.place
        async with http.ws_connect(server.ws_url, protocols=["janus-protocol"]) as socket:

            async def ask(message: dict[str, object]) -> dict[str, object]:
                await socket.send_json(message | {"transaction": "x"})
                answer: dict[str, object] = await socket.receive_json()
                return answer

            session = (await ask({"janus": "create"}))["data"]["id"]  # type: ignore[index]
            attach = {"janus": "attach", "session_id": session, "plugin": "janus.plugin.videoroom"}
            handle = (await ask(attach))["data"]["id"]  # type: ignore[index]
            body = {"request": "destroy", "room": ROOM}
            await ask({"janus": "message", "session_id": session, "handle_id": handle, "body": body})
        with pytest.raises(CannotJoin, match="the room was closed"):
            async with asyncio.timeout(10):
                await task
        assert place.removed
