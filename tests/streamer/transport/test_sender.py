"""Real aiortc connections: what our sender puts on the wire, and what stock aiortc does in its place."""

from __future__ import annotations

import asyncio
import itertools
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import quantiles

import pytest
from aiortc import RTCRtpSender, VideoStreamTrack
from aiortc.rtp import (
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    HeaderExtensions,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    RtpPacket,
    unpack_header_extensions,
)
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from streamer.transport import extensions, pin
from streamer.transport.sender import PictureSender
from streamer.transport.types import EncodedPicture, PictureTimes
from tests.streamer.transport.calls import Call, Camera, Line, calling

MEDIA_PT, RTX_PT = 97, 98


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    line = Line()
    line.install(monkeypatch)
    return line


@pytest.fixture
def ours() -> Iterator[None]:
    with pin.installed():
        yield


def ours_of(call: Call) -> PictureSender:
    (sender,) = call.sending.getSenders()
    assert isinstance(sender, PictureSender)
    return sender


@dataclass
class Wire:
    """What a sender hands to its transport, before it is encrypted."""

    packets: list[tuple[float, bytes]] = field(default_factory=list)

    def tap(self, sender: RTCRtpSender) -> None:
        transport = sender.transport
        send = transport._send_rtp

        async def note_and_send(data: bytes) -> None:
            self.packets.append((time.monotonic(), data))
            await send(data)

        transport._send_rtp = note_and_send  # type: ignore[method-assign]

    def media(self, payload_type: int = MEDIA_PT) -> list[tuple[float, RtpPacket]]:
        return [(at_s, RtpPacket.parse(data)) for at_s, data in self.packets if data[1] & 0x7F == payload_type]

    def keys(self) -> list[float]:
        """When VP8 key frames began to leave."""
        return [at_s for at_s, packet in self.media() if packet.payload[0] & 0x10 and not packet.payload[4] & 1]


class TimedCamera(Camera):
    """A camera that knows when each picture was where."""

    def __init__(self) -> None:
        super().__init__()
        self.went: list[EncodedPicture] = []

    def times_of(self, frame: VideoFrame) -> PictureTimes:
        return PictureTimes(self.given_s[-1] - 0.5, self.given_s[-1])

    def sent(self, picture: EncodedPicture) -> None:
        self.went.append(picture)


class Coded(VideoStreamTrack):
    """Pictures of 40 kB that are coded already."""

    async def recv(self) -> Packet[Stream]:  # type: ignore[override]
        pts, time_base = await self.next_timestamp()
        packet = Packet(bytes(40_000))
        packet.pts, packet.time_base = pts, time_base
        return packet


async def test_packets_carry_what_was_agreed_and_the_track_learns_what_left(line: Line, ours: None) -> None:
    async with calling() as call:
        sender, wire, camera = ours_of(call), Wire(), TimedCamera()
        sender.replaceTrack(camera)
        wire.tap(sender)
        await call.watch(1.0)
        uris = {e.id: e.uri for e in call.sending.getTransceivers()[0]._headerExtensions}
        first = next(data for _, data in wire.packets if data[1] & 0x7F == MEDIA_PT)
        profile, words = struct.unpack_from("!HH", first, 12)
        found = {uris[number]: value for number, value in unpack_header_extensions(profile, first[16 : 16 + 4 * words])}
        assert set(found) == {
            extensions.MID, extensions.ABS_SEND_TIME, extensions.TRANSPORT_SEQUENCE, extensions.ABS_CAPTURE_TIME,
            extensions.PLAYOUT_DELAY,
        }  # fmt: skip
        captured_unix_s = extensions.read_capture_time(found[extensions.ABS_CAPTURE_TIME])
        assert captured_unix_s is not None
        captured_s = captured_unix_s - time.time() + time.monotonic()
        assert abs(captured_s - (camera.given_s[0] - 0.5)) < 0.1
        assert extensions.read_playout_delay(found[extensions.PLAYOUT_DELAY]) == (0, 500)
        assert len(camera.went) > 20
        times = camera.went[5].times
        assert times.encoded_s is not None
        assert times.sent_s is not None
        assert times.last_packet_s <= times.encoded_s <= times.sent_s < times.encoded_s + 0.1
        sent_timestamps = {packet.timestamp for _, packet in wire.media()}
        assert {(sender.rtp_origin + picture.rtp_timestamp) % (1 << 32) for picture in camera.went} <= sent_timestamps
        assert sender.numbers.has_feedback
        assert sender.counters.pictures >= len(camera.went)


async def test_the_rate_falls_where_the_link_is_slow_and_pictures_stay_young(line: Line, ours: None) -> None:
    """150 kbit/s with half a second of queue; the sender begins with nearly twice as much."""
    async with calling() as call:
        sender = ours_of(call)
        free_s = 0.0

        async def slow(data: bytes) -> None:
            nonlocal free_s
            loop = asyncio.get_running_loop()
            if free_s - loop.time() > 0.5:
                return
            free_s = max(free_s, loop.time()) + len(data) * 8 / 150_000
            loop.call_at(free_s, lambda: asyncio.ensure_future(late(data)))

        async def late(data: bytes) -> None:
            with suppress(ConnectionError):
                await send(data)

        ice = sender.transport.transport
        send, ice._send = ice._send, slow
        await call.watch(3.0)
        assert sender.numbers.target_bps < 180_000
        assert sender.counters.key_pictures <= 3
        queued_s = []
        for _ in range(20):
            await call.watch(0.05)
            queued_s.append(max(free_s - asyncio.get_running_loop().time(), 0.0))
        assert quantiles(queued_s, n=20)[-1] < 0.3
        ice._send = send


async def test_many_requests_make_few_key_frames(line: Line, ours: None) -> None:
    async with calling() as call:
        sender, wire = ours_of(call), Wire()
        wire.tap(sender)
        await call.watch(0.6)
        before = len(wire.keys())
        for _ in range(60):
            await sender._handle_rtcp_packet(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=1, media_ssrc=sender._ssrc))
            await call.watch(0.01)
        keys_s = wire.keys()[before:]
        assert 1 <= len(keys_s) <= 4
        assert min((after - one for one, after in itertools.pairwise(keys_s)), default=1.0) > 0.29
        assert sender.counters.key_requests == 60


@pytest.mark.parametrize("stock", [True, False])
async def test_a_packet_that_is_asked_for_late_is_sent_again(line: Line, stock: bool) -> None:
    """After 300 newer ones: stock aiortc has forgotten it."""
    with pin.stock() if stock else pin.installed():
        async with calling() as call:
            (sender,) = call.sending.getSenders()
            wire = Wire()
            wire.tap(sender)
            sender.replaceTrack(Coded())
            for _ in range(100):
                await asyncio.sleep(0.05)
                if len(wire.media()) >= 300:
                    break
            packets = wire.media()
            wanted = packets[max(len(packets) - 200, 0)][1].sequence_number
            nack = RtcpRtpfbPacket(RTCP_RTPFB_NACK, 1, sender._ssrc, lost=[wanted, wanted])
            await sender._handle_rtcp_packet(nack)
            await asyncio.sleep(0.05)
            again = [struct.unpack_from("!H", packet.payload)[0] for _, packet in wire.media(RTX_PT)]
            assert again == ([] if stock else [wanted])


async def test_when_a_call_ends_no_thread_and_no_task_is_left(line: Line, ours: None) -> None:
    async with calling() as call:
        await call.watch(0.5)
        assert any(thread.name.startswith("encoder") for thread in threading.enumerate())
    await asyncio.sleep(0.1)
    assert not any(thread.name.startswith("encoder") for thread in threading.enumerate())
    assert len(asyncio.all_tasks()) == 1


def test_stock_aiortc_knows_none_of_the_extensions() -> None:
    assert not any("capture" in name or "playout" in name for name in vars(HeaderExtensions()))
