"""Real aiortc connections over a bad line: what holds with our receiver, and what stock aiortc does in its place."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from statistics import median

import pytest
from aiortc import RTCRtpReceiver
from aiortc.mediastreams import MediaStreamError
from av.video.frame import VideoFrame

from streamer.loop_lag import LoopLag
from streamer.transport import pin
from streamer.transport.receiver import PictureReceiver
from streamer.transport.source_filter import round_trip_of, strangers_of
from streamer.transport.types import CodedPicture
from tests.streamer.transport.calls import Call, Line, calling

MEDIA_PT, RTX_PT = 97, 98


class Pictures:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[CodedPicture] = []
        self.ends = 0
        self.came = asyncio.Event()

    def coded(self, picture: CodedPicture) -> None:
        self.got.append(picture)
        self.came.set()

    def ended(self) -> None:
        self.ends += 1

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.got) < count:
                self.came.clear()
                await self.came.wait()


@pytest.fixture(autouse=True)
def stock() -> Iterator[None]:
    """Whatever another test has installed."""
    with pin.stock():
        yield


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    """To be installed after `ours`, where that is used."""
    line = Line()
    line.install(monkeypatch)
    return line


@pytest.fixture
def ours(stock: None) -> Iterator[None]:
    with pin.installed():
        yield


def ours_of(call: Call) -> PictureReceiver:
    assert isinstance(call.receiver, PictureReceiver)
    return call.receiver


class LosesTwice:
    """One packet in the middle of a picture, and its first retransmission."""

    def __init__(self) -> None:
        self.media = self.resent = self.lost = 0

    def __call__(self, data: bytes) -> bool:
        payload_type = data[1] & 0x7F
        is_media, is_resent = payload_type == MEDIA_PT, payload_type == RTX_PT
        self.media += is_media
        self.resent += is_resent
        loses = (is_media and self.media == 25) or (is_resent and self.resent == 1)
        self.lost += loses
        return loses


async def read_all(call: Call) -> None:
    while True:
        await call.track.recv()


async def longest_gap_s(line: Line, seconds: float) -> tuple[float, float]:
    """(the longest time without a picture, the median age of the pictures) of a call that loses one packet twice."""
    line.drop = drop = LosesTwice()
    async with calling() as call:
        first = await call.track.recv()
        assert isinstance(first, VideoFrame)
        ages_s: list[float] = []
        shown_s = [time.monotonic()]
        end_s = shown_s[0] + seconds
        while time.monotonic() < end_s:
            try:
                frame = await asyncio.wait_for(call.track.recv(), end_s - time.monotonic())
            except TimeoutError:
                break
            assert isinstance(frame, VideoFrame)
            shown_s.append(time.monotonic())
            number = round((frame.pts or 0) / 3000)
            if number < len(call.camera.given_s):
                ages_s.append(shown_s[-1] - call.camera.given_s[number])
        shown_s.append(time.monotonic())
        assert drop.lost == 2
        return max(after - before for before, after in pairwise(shown_s)), median(ages_s[:20])


async def test_one_packet_lost_twice(line: Line) -> None:
    line.delay_s = 0.01
    stock_gap_s, stock_age_s = await longest_gap_s(line, 1.7)
    assert stock_gap_s > 0.8  # frozen until 512 packets are there
    with pin.installed():
        gap_s, age_s = await longest_gap_s(line, 1.7)
    assert gap_s < 0.4
    assert age_s < stock_age_s - 0.02  # a picture is 33 ms long


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_a_sink_gets_whole_pictures_with_their_times(line: Line, codec: str) -> None:
    line.loss, line.delay_s = 0.02, 0.03
    sink = Pictures()
    threads = threading.active_count()
    lag = LoopLag()
    async with calling(codec, lambda receiver: attach(receiver, sink)) as call:
        watching = asyncio.create_task(lag.watch())
        await sink.wait_for(30)
        watching.cancel()
        assert not [thread for thread in threading.enumerate() if thread.name == "video-decoder"]
        receiver = ours_of(call)
        # An ICE check takes 60 ms here, and so does the answer to a request for a lost packet.
        # On a busy machine each of the two ways may wait for the event loop besides.
        late_s = 2e-3 * max(lag.window.values(time.monotonic()), default=0.0)
        assert 0.055 < receiver.round_trip.rtt_s < 0.12 + late_s
        assert receiver.round_trip is round_trip_of(receiver.transport)
        assert receiver.counters.pictures == len(sink.got)
        assert receiver.counters.packets > 30
    assert sink.ends == 1
    assert threading.active_count() <= threads + 2  # the executor's
    assert sink.got[0].is_key
    assert {picture.codec for picture in sink.got} == {codec}
    for before, after in pairwise(sink.got):
        assert after.rtp_timestamp > before.rtp_timestamp
        assert after.first_packet_s <= after.last_packet_s
        assert after.is_key or after.rtp_timestamp - before.rtp_timestamp < 2 * 3000 + 1500


def attach(receiver: RTCRtpReceiver, sink: Pictures) -> None:
    assert isinstance(receiver, PictureReceiver)
    receiver.attach(sink)


@pytest.mark.usefixtures("ours")
async def test_key_frames_are_asked_for_no_more_than_every_300_ms(line: Line) -> None:
    sink = Pictures()
    async with calling(announced=lambda receiver: attach(receiver, sink)) as call:
        await sink.wait_for(2)
        receiver = ours_of(call)
        before, since_s = receiver.counters, time.monotonic()
        for _ in range(70):
            receiver.request_key("a test")
            await asyncio.sleep(0.01)
        after, took_s = receiver.counters, time.monotonic() - since_s
    assert 2 <= after.plis - before.plis <= took_s / 0.3 + 2.5  # 0.7 s where nothing else runs
    assert 2 <= after.key_pictures - before.key_pictures <= after.plis - before.plis


@pytest.mark.usefixtures("ours")
async def test_pictures_are_back_within_a_second_after_an_outage(line: Line) -> None:
    line.delay_s = 0.04
    sink = Pictures()
    async with calling(announced=lambda receiver: attach(receiver, sink)):
        await sink.wait_for(10)
        line.dead = True
        await asyncio.sleep(0.7)
        came = len(sink.got)
        line.dead = False
        over_s = time.monotonic()
        await sink.wait_for(came + 5)
        later = [picture for picture in sink.got[came:] if picture.last_packet_s > over_s]
    assert later[0].is_key
    assert later[4].last_packet_s - over_s < 1.0


@pytest.mark.usefixtures("ours")
async def test_a_track_that_nobody_reads_does_not_grow(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """aiortc's own queue has no bound: it decodes and keeps every picture."""
    monkeypatch.setattr("streamer.transport.receiver.BACKLOG", 5)
    async with calling() as call:
        receiver = ours_of(call)
        await asyncio.sleep(1.0)
        assert receiver.counters.pictures > 15
        # As many as may wait for the decoder, and as many as may wait behind it.
        assert call.track._queue.qsize() <= 10  # type: ignore[attr-defined]
        for _ in range(12):  # and pictures go on where somebody reads again
            await asyncio.wait_for(call.track.recv(), 5)


@pytest.mark.usefixtures("ours")
async def test_the_track_ends_with_the_other_side(line: Line) -> None:
    async with calling() as call:
        await call.track.recv()
        await call.sending.close()
        with pytest.raises(MediaStreamError):
            await asyncio.wait_for(read_all(call), 5)
    assert strangers_of(call.receiver.transport) == 0
