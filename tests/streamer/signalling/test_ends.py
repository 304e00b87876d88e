"""The end of a stream: it is over for everybody at once, whatever is still to be written or agreed on."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from streamer import viewer as viewing
from streamer.audit.log import LOCK_FILE, audit_log
from streamer.config import ServerConfig
from streamer.signalling.http import ROOM
from streamer.tracks import standby_frame
from tests.streamer.calls import Camera, plain, served
from tests.streamer.signalling.players import SDP, client


@contextmanager
def busy_log() -> Iterator[None]:
    """Another program writes to the audit log: nobody else can meanwhile."""
    import fcntl

    with (audit_log().folder / LOCK_FILE).open("a+b") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@pytest.mark.skipif(sys.platform == "win32", reason="locks the log as POSIX does")
async def test_a_stream_is_over_before_that_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is free and its viewers are sent home, however long the audit log takes."""
    monkeypatch.setenv("VIVIDSTREAM_RECORDS", str(tmp_path))
    async with served(ServerConfig(max_sessions=2)) as http, client(http) as sender, client(http) as viewer:
        room = http.server.app[ROOM]  # type: ignore[attr-defined]
        await sender.begin("/whip/a", await sender.offer_to_send(Camera([plain((90, 90, 90))])))
        wanted = await viewer.offer_to_receive("video")
        await viewer.begin("/whep/a", wanted)
        with busy_log():
            await http.delete(sender.path)
            await sender.until(lambda: not room.peers)
            assert room.streams == {}
            assert (await viewer.post("/whep/a", wanted)).status == 409
            await viewer.until(lambda: not room.viewers)
            assert len(audit_log().path.read_text(encoding="utf-8").splitlines()) == 2, "log begun, session begun"
        await sender.until(lambda: "session ended" in audit_log().path.read_text(encoding="utf-8"))
        again = await http.post("/whip/a", data=sender.connection.localDescription.sdp, headers={"Content-Type": SDP})
        assert again.status == 201


async def test_who_asks_for_a_stream_while_it_ends_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A viewer that nobody would send home any more is not taken."""
    asked, over = threading.Event(), threading.Event()

    def slow_card(height_px: int, width_px: int) -> Any:
        asked.set()
        over.wait(20)
        return standby_frame(height_px, width_px)

    async with served() as http, client(http) as sender, client(http) as viewer:
        room = http.server.app[ROOM]  # type: ignore[attr-defined]
        await sender.begin("/whip/a", await sender.offer_to_send(Camera([plain((90, 90, 90))])))
        monkeypatch.setattr(viewing, "standby_frame", slow_card)
        posted = asyncio.create_task(viewer.post("/whep/a", await viewer.offer_to_receive("video")))
        try:
            await asyncio.to_thread(asked.wait, 20)
            await http.delete(sender.path)
            await sender.until(lambda: not room.peers)
        finally:
            over.set()
        response = await posted
        assert (response.status, response.headers["Retry-After"]) == (409, "5")
        assert room.viewers == {}
