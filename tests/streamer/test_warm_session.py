"""What the server warms up is what its first call gets: an engine is not opened, proved and warmed twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.signalling.http import ROOM
from tests.streamer.calls import Camera, Loader, calling, gone, negative, plain, served


@pytest.fixture(autouse=True)
def own_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVIDSTREAM_RECORDS", str(tmp_path))


async def test_the_first_call_draws_with_the_session_that_was_warmed_up() -> None:
    loader = Loader(negative)
    async with served(loader=loader) as client:
        await client.server.app[ROOM].warm_up()  # type: ignore[attr-defined]
        assert [one.closed for one in loader.made] == [0]
        async with calling(client) as first:
            await first.start(Camera([plain((9, 9, 9))]), identity="bo")
            await first.pictures(2)
            assert len(loader.made) == 1
            worn = loader.made[0].identity
            assert worn is not None
            assert worn.name == "bo", "warmed up with somebody else's face"
            await client.delete(f"/session/{first.call}")
            await gone(client, first.call)
        async with calling(client) as second:
            await second.start(Camera([plain((9, 9, 9))]), identity="ada")
            assert len(loader.made) == 2, "a session of a call that is over is not worn again"
    assert [one.closed for one in loader.made] == [1, 1]


async def test_a_call_of_other_settings_gets_its_own_and_frees_what_was_kept() -> None:
    loader = Loader(negative)
    async with served(loader=loader) as client, calling(client) as caller:
        await client.server.app[ROOM].warm_up()  # type: ignore[attr-defined]
        await caller.start(Camera([plain((9, 9, 9))]), identity="ada", tone="driver")
        assert [one.closed for one in loader.made] == [1, 0]
        assert loader.made[1].settings.tone == "driver"


async def test_a_server_without_any_call_frees_what_it_warmed_up() -> None:
    loader = Loader(negative)
    async with served(loader=loader) as client:
        await client.server.app[ROOM].warm_up()  # type: ignore[attr-defined]
    assert [one.closed for one in loader.made] == [1]
