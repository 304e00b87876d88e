"""A graphics card's encoder: used where a session really opens, refused with the reason where none does."""

from __future__ import annotations

import logging
import re

import pytest

from streamer.config import ServerConfig
from streamer.doctor import system
from streamer.doctor.settings import DoctorSettings
from streamer.encoding import choose, libav
from streamer.encoding.h264 import H264Encoder
from streamer.encoding.native import NotUsable
from streamer.encoding.settings import EncodingSettings
from streamer.errors import EncoderUnavailable
from streamer.signalling.http import ROOM
from tests.streamer.calls import Camera, calling, plain, served
from tests.streamer.encoding.moving import decode, pictures

AUTO, NVENC, NO = (EncodingSettings.read({"hardware_encoder": how}) for how in ("auto", "nvenc", "no"))


@pytest.fixture
def without_card() -> str:
    """Why no session opens here."""
    why = libav.refusal(libav.NVENC)
    if why is None:
        pytest.skip("a graphics card codes here")
    return why


def test_why_no_session_opens_is_said_by_the_log_and_by_the_doctor(
    without_card: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert without_card
    assert "\n" not in without_card
    assert without_card != "Operation not permitted", "that says nothing to anybody"
    with caplog.at_level(logging.INFO):
        choose.probe_card(NO)
        assert caplog.text == ""
        choose.probe_card(AUTO)
    assert f"h264_nvenc does not open here: {without_card}" in caplog.text
    (found,) = system.codecs(DoctorSettings())
    assert without_card in found.says
    assert found.facts["nvenc"] is False


async def test_a_server_that_was_told_to_use_a_card_does_not_start_without(without_card: str) -> None:
    async with served(ServerConfig(encoding=NVENC)) as client:
        with pytest.raises(EncoderUnavailable, match=re.escape(without_card)):
            await client.server.app[ROOM].warm_up()  # type: ignore[attr-defined]


async def test_a_card_that_has_no_session_left_gives_way_in_the_middle_of_a_call(
    without_card: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It opened when the server was started, so H.264 is asked for; for this call it does not."""
    monkeypatch.setattr(libav, "refusal", lambda recipe: None)
    async with served(ServerConfig(encoding=AUTO)) as client, calling(client) as caller:
        answer = await caller.start(Camera([plain((200, 40, 40))]))
        (media,) = (line for line in answer["sdp"].splitlines() if line.startswith("m=video"))
        assert f"a=rtpmap:{media.split()[3]} H264/90000" in answer["sdp"]
        await caller.pictures(5)
        await caller.until(lambda: bool(caller.reports))
        assert caller.reports[-1]["numbers"]["line"]["encoder"] == "x264 superfast"
    assert "h264_nvenc gives way to x264 superfast in the middle of a call" in caplog.text


def test_what_comes_after_an_encoder_that_cannot() -> None:
    error = NotUsable("no session is left")
    card = libav.LibavEncoder(libav.NVENC, 1_000_000)
    own = choose.instead(card, error, AUTO, 1_000_000)
    assert isinstance(own, H264Encoder)
    wrapped = choose.instead(own, error, AUTO, 1_000_000)
    assert wrapped.name == "libx264"
    with pytest.raises(NotUsable, match="no session is left"):
        choose.instead(wrapped, error, AUTO, 1_000_000)


def test_a_card_codes_each_picture_at_once_and_follows_the_rate() -> None:
    why = libav.refusal(libav.NVENC)
    if why is not None:
        pytest.skip(f"no session of {libav.NVENC.encoder} opens here: {why}")
    encoder = choose.make_encoder("H264", NVENC, 2_000_000)
    assert encoder.name == libav.NVENC.encoder
    units = []
    for index, frame in enumerate(pictures(640, 480, 120)):
        if index == 60:
            encoder.set_rate(500_000)
        units.append(encoder.encode(frame, force_key=index == 30))
    encoder.close()
    assert all(units)
    coded = [unit for unit in units if unit is not None]
    assert [index for index, unit in enumerate(coded) if unit.is_key] == [0, 30]
    assert len(decode(coded)) == 120
    assert sum(len(unit.payload) for unit in coded[90:]) < 0.6 * sum(len(unit.payload) for unit in coded[31:60])
