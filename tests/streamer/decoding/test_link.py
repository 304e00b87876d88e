"""Decoders in processes of their own: real ones, and what becomes of the call when they die, hang or lie."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext

from streamer.decoding import link, parent
from streamer.decoding.backlog import MOST_WAIT_S
from streamer.decoding.decoder import PictureDecoder, Refused
from streamer.decoding.parent import Child, Nursery
from streamer.decoding.picture import Slots
from streamer.decoding.wire import CODECS, HELLO, JOB_BYTES, SLOTS, Answer, Job, Kind
from streamer.transport.types import CodedPicture, VideoCodec
from tests.streamer.decoding.coded import STEP, Call, bomb, coded, fresh


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    nursery.start()
    yield nursery
    asyncio.run(nursery.close())


def test_nothing_of_the_server_is_open_or_known_in_the_nursery(nursery: Nursery) -> None:
    process = nursery._process
    assert process is not None
    environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    assert b"PYTEST" not in environment
    assert b"HOME" not in environment


@pytest.mark.parametrize("codec", ["VP8", "H264"])
@pytest.mark.parametrize(("height_px", "width_px"), [(120, 160), (90, 162)], ids=["whole", "copied"])
async def test_pictures_come_out_as_a_decoder_here_makes_them(
    nursery: Nursery, codec: VideoCodec, height_px: int, width_px: int
) -> None:
    """Every pixel, in order, with the clock and times that went in. 90 rows go another way than 120."""
    pictures = coded(codec, 5, height_px, width_px)
    here = av.CodecContext.create({"VP8": "vp8", "H264": "h264"}[codec], "r")
    assert isinstance(here, VideoCodecContext)
    here.options = {"flags": "low_delay"}
    call = Call(nursery, keep=True)
    await call.feed(pictures)
    assert call.pts == [number * STEP for number in range(5)]
    for came, sent in zip(call.pictures, pictures):
        expected = here.decode(av.Packet(sent.payload))[0]
        assert (came.frame.height, came.frame.width) == (height_px, width_px)
        assert np.array_equal(came.frame.to_ndarray(), expected.to_ndarray())
        assert came.times.decoded_s is not None
        assert came.times.first_packet_s <= came.times.last_packet_s < came.times.decoded_s
    assert call.wanted == []
    await call.link.close()


async def test_odd_sizes_lose_their_last_column_and_row(nursery: Nursery) -> None:
    call = Call(nursery, keep=True)
    await call.feed(coded("VP8", 1, 91, 163))
    assert (call.pictures[0].frame.height, call.pictures[0].frame.width) == (90, 162)
    await call.link.close()


async def test_a_decode_bomb_is_refused_and_costs_nothing(nursery: Nursery) -> None:
    """4 kB that make libvpx, and so aiortc, take 883 MB."""
    call = Call(nursery)
    await call.feed([bomb()])
    before = call.pid()
    assert peak_kb(before) < 100_000
    assert call.link.counters().refused == 1
    assert call.wanted == ["a picture could not be decoded"]
    await call.feed(coded("VP8", 2))
    assert (len(call.pts), call.pid()) == (2, before), "the same process goes on"
    await call.link.close()


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_more_pixels_than_a_camera_has_are_refused(codec: VideoCodec) -> None:
    """By the decoder's own limit, whatever the process's memory would allow."""
    decoder, number = PictureDecoder(), CODECS.index(codec)
    with pytest.raises(Refused):
        decoder.decode(number, coded(codec, 1, 1200, 2000)[0].payload, 1)
    assert len(decoder.decode(number, coded(codec, 1, 1080, 1920)[0].payload, 2)) == 1


async def test_many_that_begin_at_once_all_begin(nursery: Nursery) -> None:
    """The kernel refuses a descriptor on its way to a user who may have none open: handles go before that."""
    calls = [Call(nursery) for _ in range(24)]
    for call in calls:
        call.link.start()
    pictures = coded("VP8", 2)
    await asyncio.gather(*(call.feed(pictures) for call in calls))
    assert [(len(call.pts), call.link.counters().restarts) for call in calls] == [(2, 0)] * 24
    await asyncio.gather(*(call.link.close() for call in calls))


async def test_noise_asks_for_a_key_frame_and_harms_nothing(nursery: Nursery) -> None:
    call = Call(nursery)
    good, noise = coded("H264", 3), np.random.default_rng(1)
    await call.feed(good[:2])
    for size in (1, 3, 400, 60_000):
        junk = noise.bytes(size)
        await call.feed([CodedPicture("H264", b"\0\0\0\1" + junk, 0, False, 0.0, 0.0)])
    await call.feed(coded("H264", 2))
    assert call.failures == []
    assert len(call.pts) >= 4
    await call.link.close()


async def test_a_decoder_that_dies_is_replaced_and_its_neighbour_does_not_notice(nursery: Nursery) -> None:
    call, neighbour = Call(nursery), Call(nursery)
    pictures = coded("VP8", 6)
    await call.feed(pictures[:3])
    await neighbour.feed(pictures[:3])
    theirs = neighbour.pid()
    os.kill(call.pid(), signal.SIGKILL)
    await call.until(lambda: call.link.counters().restarts == 1)
    assert call.wanted[-1] == "the decoder was replaced"
    await call.feed(pictures[3:])
    counters = call.link.counters()
    assert (len(call.pts), counters.dropped_for_key, counters.refused) == (3, 3, 0), "without a key frame none is tried"
    await call.feed(pictures[:2])
    await neighbour.feed(pictures[3:])
    assert (len(call.pts), len(neighbour.pts)) == (5, 6)
    assert neighbour.pid() == theirs
    assert call.failures == neighbour.failures == neighbour.wanted == []
    await call.link.close()
    await neighbour.link.close()


async def test_a_decoder_that_hangs_drops_to_the_next_key_frame_and_is_replaced(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "STUCK_S", 0.5)
    call = Call(nursery)
    pictures = coded("VP8", 30)
    await call.feed(pictures[:2])
    os.kill(call.pid(), signal.SIGSTOP)
    for picture in pictures[2:]:
        call.link.coded(fresh(picture))
        await asyncio.sleep(1.5 * MOST_WAIT_S / len(pictures))
    waiting = len(call.link._backlog)
    assert call.link.counters().dropped_behind > 0
    assert waiting == 0, "what cannot be shown any more does not wait"
    await call.until(lambda: call.link.counters().restarts == 1)
    await call.feed(coded("VP8", 3))
    assert len(call.pts) == 5
    await call.link.close()


async def test_a_storm_of_sizes_ends_the_decoder_and_at_last_the_call(nursery: Nursery) -> None:
    call = Call(nursery)
    keys = [coded("VP8", 1, 64 + 2 * number, 64)[0] for number in range(12)]
    while not call.failures:
        await call.feed(keys)
    assert call.failures == ["the camera's pictures cannot be decoded"]
    assert call.link.counters().restarts == 6
    before = call.link.counters()
    call.link.coded(fresh(keys[0]))
    assert call.link.counters() == before, "after that nothing is taken"
    await call.link.close()


async def test_pictures_that_are_kept_stop_no_more_than_new_pictures(nursery: Nursery) -> None:
    call = Call(nursery, keep=True)
    pictures = coded("VP8", SLOTS + 6)
    await call.feed(pictures[: SLOTS + 3])
    assert (len(call.pts), call.link.counters().dropped_no_slot) == (SLOTS, 3)
    kept = call.pictures[0].frame.to_ndarray()
    call.pictures.clear()
    await call.feed(pictures[SLOTS + 3 :])
    assert len(call.pts) == SLOTS + 3, "decoding went on, so that it can go on without a key frame"
    assert call.wanted == []
    assert kept.any()
    await call.link.close()


async def test_a_picture_outlives_its_call(nursery: Nursery) -> None:
    call = Call(nursery, keep=True)
    await call.feed(coded("VP8", 1))
    before = call.pictures[0].frame.to_ndarray()
    await call.link.close()
    del call.link
    gc.collect()
    assert np.array_equal(call.pictures[0].frame.to_ndarray(), before)


async def test_a_nursery_that_dies_is_replaced_with_all_its_decoders() -> None:
    nursery = Nursery()
    call = Call(nursery)
    pictures = coded("VP8", 2)
    await call.feed(pictures)
    process = nursery._process
    assert process is not None
    process.kill()
    await call.until(lambda: call.link.counters().restarts == 1)
    await call.feed(pictures)
    assert (len(call.pts), nursery.starts) == (4, 2)
    await call.link.close()
    await nursery.close()


async def test_calls_that_end_leave_nothing(nursery: Nursery) -> None:
    """Whenever they end: before the process is there, in the middle, with a picture in somebody's hands."""
    pictures = coded("VP8", 2)

    async def one(fed: int) -> None:
        call = Call(nursery, keep=True)
        if fed < 0:
            call.link.start()
        await call.feed(pictures[: max(fed, 0)])
        await call.link.close()
        await call.link.close()

    await one(2)
    await asyncio.sleep(0.2)
    gc.collect()
    before = (len(os.listdir("/proc/self/fd")), decoders(nursery))
    for number in range(24):
        await one(number % 4 - 1)
    gc.collect()  # the pictures that Call keeps
    async with asyncio.timeout(5):
        while (len(os.listdir("/proc/self/fd")), decoders(nursery)) != before:  # noqa: ASYNC110  the kernel's state
            await asyncio.sleep(0.02)
    assert len(asyncio.all_tasks()) == 1


def peak_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def decoders(nursery: Nursery) -> int:
    """How many processes the nursery has now."""
    process = nursery._process
    assert process is not None
    return len(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split())


def test_decoders_that_are_held_less_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    nursery = Nursery()
    for how in (3, 2, 1, 3):
        nursery.note_held(how)
    assert [record.getMessage() for record in caplog.records] == [
        "decoders are held less than they should be: without a filter over system calls"
    ]


async def test_where_there_are_no_such_processes_the_same_goes_on_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "has_processes", lambda: False)
    nursery = Nursery()
    nursery.start()
    call, neighbour = Call(nursery), Call(nursery)
    await call.feed([bomb(), *coded("VP8", 3)])
    await neighbour.feed(coded("H264", 3))
    assert (len(call.pts), len(neighbour.pts), call.link.counters().refused) == (3, 3, 1)
    await call.link.close()
    await neighbour.link.close()
    await nursery.close()
    async with asyncio.timeout(5):
        while any(thread.name == "decoder" for thread in threading.enumerate()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Liar(Nursery):
    """Gives out links to processes that only sleep: the test answers for them."""

    def __init__(self) -> None:
        super().__init__()
        self.theirs: list[socket.socket] = []
        self.sleepers: list[subprocess.Popen[bytes]] = []

    def fork(self) -> Child:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        sleeper = subprocess.Popen(["sleep", "60"])
        handle = os.pidfd_open(sleeper.pid)
        socket.send_fds(theirs, [HELLO], [handle])
        os.close(handle)
        self.theirs.append(theirs)
        self.sleepers.append(sleeper)
        return Child(ours, Slots())

    async def close(self) -> None:
        for theirs, sleeper in zip(self.theirs, self.sleepers):
            theirs.close()
            sleeper.kill()
            sleeper.wait()


@pytest.mark.parametrize(
    "lie",
    [
        b"\xff" * 20,
        Answer(Kind.DONE, 77).pack(),
        Answer(Kind.PICTURE, 1, 0, 160, 120).pack() + Answer(Kind.PICTURE, 1, 0, 160, 120).pack(),
        Answer(Kind.DONE, 1).pack() + Answer(Kind.DONE, 1).pack(),
    ],
    ids=["noise", "not asked", "a slot twice", "done twice"],
)
async def test_a_decoder_that_lies_is_ended(lie: bytes) -> None:
    liar = Liar()
    call = Call(liar, keep=True)
    call.link.coded(fresh(coded("VP8", 1)[0]))
    theirs = liar.theirs[0]
    async with asyncio.timeout(5):
        job = Job.unpack(await asyncio.get_running_loop().sock_recv(theirs, JOB_BYTES))
    assert job.number == 1
    theirs.send(lie)
    await call.until(lambda: call.link.counters().restarts == 1, link.STUCK_S / 2)
    await call.link.close()
    assert liar.sleepers[0].poll() is not None, "it was killed"
    await liar.close()
