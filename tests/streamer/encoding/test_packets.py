"""Pictures cut into packets: aiortc, which knows nothing of us, must be able to put them together again."""

from __future__ import annotations

import pytest
from aiortc.codecs import depayload
from aiortc.codecs.vpx import VpxPayloadDescriptor
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.encoding.packets import MOST_BYTES, PICTURE_IDS, Packetiser, nal_units
from streamer.transport.types import EncodedUnit, VideoCodec

START = b"\0\0\0\1"


def put_together(codec: VideoCodec, payloads: tuple[bytes, ...]) -> bytes:
    parameters = RTCRtpCodecParameters(mimeType=f"video/{codec}", clockRate=90_000, payloadType=97)
    return b"".join(depayload(parameters, payload) for payload in payloads)


def nal(kind: int, body: bytes) -> bytes:
    """A unit with nothing in it that looks like a start code."""
    return bytes([0x60 | kind]) + body.replace(b"\0", b"\1") + b"\x80"


def some_bytes(count: int) -> bytes:
    return bytes(number * 7 % 251 for number in range(count))


@given(st.integers(1, 6_000).map(some_bytes), st.integers(60, MOST_BYTES))
@example(some_bytes(5_000), 1_000)
def test_vp8_comes_together_again(frame: bytes, most_bytes: int) -> None:
    payloads = Packetiser(most_bytes).payloads(EncodedUnit("VP8", frame, True))
    assert put_together("VP8", payloads) == frame
    assert max(map(len, payloads)) <= most_bytes
    starts = [VpxPayloadDescriptor.parse(payload)[0].partition_start for payload in payloads]
    assert starts == [1] + [0] * (len(payloads) - 1)


def test_vp8_pictures_are_numbered_and_the_number_wraps() -> None:
    packetiser = Packetiser(picture_id=PICTURE_IDS - 2)
    numbers = [
        VpxPayloadDescriptor.parse(packetiser.payloads(EncodedUnit("VP8", b"x", False))[0])[0].picture_id
        for _ in range(3)
    ]
    assert numbers == [PICTURE_IDS - 1, 0, 1]
    assert packetiser.picture_id == 1


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3_000).map(some_bytes)), min_size=1, max_size=8),
    st.integers(60, 1_200),
)
@example([(7, b"a"), (1, some_bytes(196)), (1, some_bytes(197)), (1, some_bytes(198)), (5, some_bytes(900))], 200)
def test_h264_comes_together_again(parts: list[tuple[int, bytes]], most_bytes: int) -> None:
    units = [nal(kind, body) for kind, body in parts]
    access_unit = b"".join((START if index % 2 else START[1:]) + unit for index, unit in enumerate(units))
    assert list(nal_units(access_unit)) == units
    payloads = Packetiser(most_bytes).payloads(EncodedUnit("H264", access_unit, True))
    assert list(nal_units(put_together("H264", payloads))) == units
    assert max(map(len, payloads)) <= most_bytes


def test_small_h264_units_share_a_packet() -> None:
    units = [nal(7, b"sequence"), nal(8, b"picture"), nal(5, b"slice" * 20)]
    payloads = Packetiser().payloads(EncodedUnit("H264", b"".join(START + unit for unit in units), True))
    assert len(payloads) == 1


def test_pieces_are_of_about_the_same_length() -> None:
    payloads = Packetiser(1_000).payloads(EncodedUnit("VP8", bytes(2_010), False))
    assert [len(payload) for payload in payloads] == [674, 674, 674]


def test_what_is_not_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="AV1"):
        Packetiser().payloads(EncodedUnit("AV1", b"x", True))
