"""A real Janus for tests, and one participant in it without camera and engine."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp
import numpy as np
import pytest
from aiortc import RTCConfiguration
from av.audio.frame import AudioFrame

from benchmarks.janus_server import JanusServer, find_janus, janus
from engines import Rgb
from streamer.capture.picture import SOUND_RATE_HZ, SOUND_SAMPLES, SOUND_TIME_BASE, CapturedSound
from streamer.joining.outgoing import Outgoing
from streamer.signalling.ice import Ice
from streamer.transport import pin
from streamer.viewer import Viewer
from tests.conftest import lacking

ICE = Ice(RTCConfiguration(iceServers=[]))
HEIGHT_PX, WIDTH_PX, FPS = 120, 160, 20


@pytest.fixture
def server() -> Iterator[JanusServer]:
    """A Janus of the test's own."""
    if find_janus() is None:
        lacking("janus")
    with janus() as one:
        yield one


@pytest.fixture
def transport() -> Iterator[None]:
    """This program's own sender in place of aiortc's."""
    with pin.installed(loopback=True):
        yield


def grey(level: int) -> Rgb:
    """One picture of one brightness."""
    return np.full((HEIGHT_PX, WIDTH_PX, 3), level, np.uint8)


def tone(number: int, captured_s: float) -> CapturedSound:
    """20 ms of 500 Hz."""
    times_s = (np.arange(SOUND_SAMPLES) + number * SOUND_SAMPLES) / SOUND_RATE_HZ
    wave = (8_000 * np.sin(2 * np.pi * 500 * times_s)).astype(np.int16)
    frame = AudioFrame.from_ndarray(np.repeat(wave, 2)[None, :], format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE_HZ, number * SOUND_SAMPLES, SOUND_TIME_BASE
    return CapturedSound(frame, captured_s)


async def show(outgoing: Outgoing, level: int = 200) -> None:
    """As a source and an engine would: pictures and sound, until it is cancelled."""
    begun_s, sounds, pictures = time.monotonic(), 0, 0
    while True:
        now_s = time.monotonic()
        while begun_s + sounds * SOUND_SAMPLES / SOUND_RATE_HZ <= now_s:
            await asyncio.to_thread(outgoing.hear, tone(sounds, begun_s + sounds * SOUND_SAMPLES / SOUND_RATE_HZ))
            sounds += 1
        if begun_s + pictures / FPS <= now_s:
            await asyncio.to_thread(outgoing.write, grey(level), now_s)
            pictures += 1
        await asyncio.sleep(0.01)


@asynccontextmanager
async def showing(level: int = 200) -> AsyncIterator[Outgoing]:
    """Something to show, that goes on for the whole of the test."""
    outgoing = Outgoing("test")
    task = asyncio.create_task(show(outgoing, level))
    try:
        yield outgoing
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def unseen(outgoing: Outgoing) -> AsyncIterator[tuple[Viewer, aiohttp.ClientSession]]:
    """A connection that nothing was agreed on yet, and the way to speak to servers."""
    viewer = Viewer(secrets.token_hex(4), outgoing, ICE)
    try:
        async with aiohttp.ClientSession() as http:
            yield viewer, http
    finally:
        await viewer.close()
