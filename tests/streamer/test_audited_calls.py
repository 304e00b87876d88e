"""Calls and the audit log: who was worn and for how long is on disk, and what cannot be written is not begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.audit.log import audit_log
from tests.streamer.calls import Camera, Loader, calling, negative, plain, served


@pytest.fixture(autouse=True)
def own_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVIDSTREAM_RECORDS", str(tmp_path))


def events() -> list[tuple[object, dict[str, object]]]:
    lines = [(line["event"], line["facts"]) for line in audit_log().read()]
    return [(event, facts) for event, facts in lines if isinstance(facts, dict) and "call" in facts]


async def test_begin_change_and_end_of_a_call_are_written() -> None:
    async with served() as client, calling(client) as caller:
        await caller.start(Camera([plain((9, 9, 9))]), identity="ada")
        await caller.pictures(3)
        await client.patch(f"/session/{caller.call}", json={"identity": "bo"})
        await client.delete(f"/session/{caller.call}")
        await caller.until(lambda: len(events()) >= 3)
    (begun, first), (worn, second), (ended, last) = events()
    assert (begun, worn, ended) == ("session begun", "identity worn", "session ended")
    assert (first["identity"], second["identity"]) == ("ada", "bo")
    assert len(str(first["consent_sha256"])) == 64
    assert first["call"] == second["call"] == last["call"]
    assert int(str(last["frames_drawn"])) > 0
    assert caller.call not in audit_log().path.read_text(encoding="utf-8"), "a call's address is a secret"


async def test_a_call_that_cannot_be_recorded_is_not_begun(tmp_path: Path) -> None:
    loader = Loader(negative)
    async with served(loader=loader) as client, calling(client) as caller:
        await caller.start(Camera([plain((9, 9, 9))]), identity="ada")
        await client.delete(f"/session/{caller.call}")
        await caller.until(lambda: len(events()) >= 2)
        audit_log().path.write_bytes(b"")
        async with calling(client) as second:
            with pytest.raises(AssertionError, match="cut off"):
                await second.start(Camera([plain((9, 9, 9))]), identity="ada")
        assert loader.made[-1].closed == 1
