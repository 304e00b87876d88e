"""The changes to aiortc and aioice do what they say, and are noticed when their target moves."""

from __future__ import annotations

from types import ModuleType

import aioice.ice
import pytest
from aiortc.codecs import h264, vpx
from aiortc.codecs.vpx import Vp8Encoder

from streamer import patches
from tests.streamer.calls import Camera, calling, plain, served


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts everything back after the test."""
    for codec in (vpx, h264):
        for name in patches.BITRATES_BPS:
            monkeypatch.setattr(codec, name, getattr(codec, name))
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)


@pytest.mark.usefixtures("restored")
def test_encoders_start_with_more_bits() -> None:
    patches.apply(loopback=False)
    encoder = Vp8Encoder()
    assert encoder.target_bitrate == 1_200_000
    encoder.target_bitrate = 100_000_000
    assert encoder.target_bitrate == 3_000_000


@pytest.mark.usefixtures("restored")
async def test_a_call_works_on_a_machine_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: [])
    patches.apply(loopback=True)
    async with served() as client, calling(client) as caller:
        answer = await caller.start(Camera([plain((9, 9, 9))]))
        addresses = {line.split()[4] for line in answer["sdp"].splitlines() if line.startswith("a=candidate")}
        assert addresses == {"127.0.0.1"}
        await caller.pictures(5)


def test_loopback_is_named_once_and_only_where_it_is_wanted() -> None:
    assert patches.with_loopback(lambda v4, v6: ["10.0.0.1"])(True, True) == ["127.0.0.1", "10.0.0.1"]
    assert patches.with_loopback(lambda v4, v6: ["127.0.0.1"])(True, True) == ["127.0.0.1"]
    assert patches.with_loopback(lambda v4, v6: ["::2"])(False, True) == ["::2"]


def test_a_target_that_is_gone_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "vpx", ModuleType("vpx"))
    with pytest.raises(AttributeError, match="DEFAULT_BITRATE any more"):
        patches.apply(loopback=False)
