"""One participant, from the source to the room and out again: `vividstream join`."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import click
from aiortc import RTCConfiguration, RTCIceServer

from engines import SettingError
from streamer.capture.source import Source, open_source
from streamer.capture.wish import Wish
from streamer.config import is_loopback
from streamer.control import default_path, serve_control
from streamer.joining.outgoing import Outgoing
from streamer.joining.settings import JoinConfig, JoinSettings
from streamer.joining.stay import Attendance, Place
from streamer.live import Live, LivePlan
from streamer.signalling.ice import Ice
from streamer.transport import pin

log = logging.getLogger(__name__)

T = TypeVar("T")
NUMBERS_EVERY_S = 1.0
SOCKET = "join.sock"
SOUND_OF_SOURCE, NO_SOUND = "source", "none"

Maker = Callable[[aiohttp.ClientSession], Place]


def run_join(config: JoinConfig, url: str, make: Maker) -> None:
    """Until the time is over, the source ends, or a signal comes. Raises VividError: one sentence."""
    pin.install(encoding=config.encoding, loopback=is_here(url))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_join(config, make))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where there is one: it takes a third less time for each packet."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def is_here(url: str) -> bool:
    """Whether the address is this very machine's."""
    return is_loopback(urlsplit(url).hostname or "")


def ice_of(settings: JoinSettings) -> Ice:
    """Always a configuration: without one aiortc asks a third party."""
    servers = []
    if settings.ice_server is not None:
        one = RTCIceServer(settings.ice_server, username=settings.ice_username, credential=settings.ice_password)
        servers.append(one)
    return Ice(RTCConfiguration(iceServers=servers))


async def _join(config: JoinConfig, make: Maker) -> None:
    settings = config.join
    outgoing = Outgoing("join", has_sound=settings.sound != NO_SOUND)
    with interruptible() as interrupted:
        async with (
            aiohttp.ClientSession() as http,
            _checked(make, http),
            drawing(config, outgoing, interrupted) as live,
        ):
            attendance = Attendance(lambda: make(http), outgoing, ice_of(settings), settings.give_up_seconds, say)
            stays = attendance.stays
            tasks = [
                asyncio.create_task(attendance.attend(), name="attendance"),
                asyncio.create_task(until_over(live, settings.for_seconds, lambda: stays.entered > 0), name="end"),
                asyncio.create_task(interrupted.wait(), name="interrupted"),
                asyncio.create_task(begin_when_in(live, stays.connected), name="begin"),
            ]
            if settings.numbers is not None:
                tasks.append(asyncio.create_task(_report(settings.numbers, live, attendance), name="numbers"))
            await first_of(tasks)
            say("left")


@asynccontextmanager
async def _checked(make: Maker, http: aiohttp.ClientSession) -> AsyncIterator[None]:
    """An address that cannot be one is said before an engine is loaded. Raises SettingError."""
    make(http)
    yield


async def first_of(tasks: list[asyncio.Task[None]]) -> None:
    """Waits for the first of them to end, then ends the others. Raises what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def say(sentence: str) -> None:
    """To the person who waits before the terminal."""
    click.echo(f"vividstream join: {sentence}", err=True)


class Signals:
    """SIGINT and SIGTERM as something that can be waited for."""

    def __init__(self) -> None:
        self.number = 0
        self._came = asyncio.Event()

    def came(self, number: int) -> None:
        self.number = number
        self._came.set()

    async def wait(self) -> None:
        await self._came.wait()


@contextmanager
def interruptible() -> Iterator[Signals]:
    """Signals end it cleanly; Ctrl-C is still Ctrl-C for who called (KeyboardInterrupt at the end)."""
    signals, loop = Signals(), asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    if sys.platform != "win32":
        for number in numbers:
            loop.add_signal_handler(number, signals.came, number)
    try:
        yield signals
    finally:
        if sys.platform != "win32":
            for number in numbers:
                loop.remove_signal_handler(number)
    if signals.number == signal.SIGINT:
        raise KeyboardInterrupt


@asynccontextmanager
async def drawing(config: JoinConfig, outgoing: Outgoing, signals: Signals) -> AsyncIterator[Live]:
    """Source and engine, started; ended after it. Raises VividError where one of them is not to be had."""
    settings = config.join
    plan = LivePlan(
        config.swap, settings.identity, settings.identities_dir, settings.size_px, settings.fps,
        command="join", draw_always=True, patient=settings.wait,
    )  # fmt: skip
    sounds = outgoing.hear if outgoing.has_sound else None
    source = open_join_source(settings)
    if is_file(settings):
        source.pause()  # until somebody sees it (`begin_when_in`)
    live = Live(source, [outgoing], plan, sounds=sounds)
    outgoing.is_card = lambda: live.is_card
    hand = ThreadPoolExecutor(1, thread_name_prefix="live")  # one thread makes, starts and closes it
    loop = asyncio.get_running_loop()
    try:
        await loop.run_in_executor(hand, live.start)
        with controlled(settings.control, live, lambda: loop.call_soon_threadsafe(signals.came, 0)):
            yield live
    finally:
        await asyncio.shield(loop.run_in_executor(hand, live.close))
        hand.shutdown(wait=False)


def is_file(settings: JoinSettings) -> bool:
    """Whether the source has a beginning that nobody should miss."""
    return Path(settings.source).is_file()


async def begin_when_in(live: Live, connected: asyncio.Event) -> None:
    """A file stands still until the participant is in the room. Never ends by itself."""
    await connected.wait()
    live.pause(False)
    await asyncio.Event().wait()


def open_join_source(settings: JoinSettings) -> Source:
    """Nothing is opened yet. Raises SettingError where its sound, or the file of figures, cannot be."""
    if settings.numbers is not None and str(settings.numbers) != "-":
        appended(settings.numbers).close()
    microphone = None if settings.sound in (SOUND_OF_SOURCE, NO_SOUND) else settings.sound
    return open_source(settings.source, Wish(*settings.size_px, settings.fps), settings.loop, microphone)


@contextmanager
def controlled(path: Path | None, live: Live, stop: Callable[[], object]) -> Iterator[None]:
    """Takes commands while it lasts. A place that was not asked for may be taken: then there are none."""
    with ExitStack() as stack:
        try:
            say(f"commands: {stack.enter_context(serve_control(path or default_path(SOCKET), live, stop))}")
        except SettingError as error:
            if path is not None:
                raise
            say(f"takes no commands: {error}")
        yield


async def until_over(live: Live, for_s: float | None, is_in: Callable[[], bool]) -> None:
    """The source has ended, or it was long enough: counted from being in the room."""
    loop = asyncio.get_running_loop()
    until_s: float | None = None
    while True:
        if until_s is None and for_s is not None and is_in():
            until_s = time.monotonic() + for_s
        left_s = 0.25 if until_s is None else min(until_s - time.monotonic(), 0.25)
        if left_s <= 0:
            return
        if await loop.run_in_executor(None, live.wait, left_s):
            say(f"the source has ended: {live.showing.source.why}".removesuffix(": "))
            return


async def _report(path: Path, live: Live, attendance: Attendance) -> None:
    with opened(path) as out:
        while True:
            await asyncio.sleep(NUMBERS_EVERY_S)
            print(json.dumps(numbers_of(live, attendance)), file=out, flush=True)


@contextmanager
def opened(path: Path) -> Iterator[IO[str]]:
    if str(path) == "-":
        yield sys.stdout
    else:
        with appended(path) as out:
            yield out


def appended(path: Path) -> IO[str]:
    """The file of figures. Raises SettingError where it cannot be written."""
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise SettingError(f"--numbers {path}: cannot be written ({error.strerror}); name another file") from error


def numbers_of(live: Live, attendance: Attendance) -> dict[str, Any]:
    """The participant in numbers."""
    stays, viewer = attendance.stays, attendance.stays.viewer
    sending = {} if viewer is None else viewer.numbers()
    return {
        "time_s": round(time.monotonic(), 3),
        "connected": stays.connected.is_set(),
        "entered": stays.entered,
        "lost": len(stays.lost),
        "away_s": [round(one, 3) for one in stays.away_s],
        "renewed": stays.renewed,
        "others": 0 if stays.place is None else len(stays.place.others),
        "sound_delay_s": None if viewer is None else viewer.sound_delay_s,
        "sending": sending,
        "live": live.numbers(),
    }
