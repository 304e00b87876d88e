"""A room of LiveKit: by its own library, in a process and an environment of their own (decision 030)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs
from aiortc.mediastreams import VIDEO_TIME_BASE
from av.video.frame import VideoFrame

from engines import EngineUnavailable, Rgb, SettingError
from streamer.capture.picture import CapturedSound
from streamer.joining.errors import CannotJoin, Unreachable
from streamer.joining.outgoing import Outgoing
from streamer.joining.run import begin_when_in, drawing, first_of, interruptible, loop_factory, opened, say, until_over
from streamer.joining.settings import JoinConfig, LivekitSettings
from streamer.mailbox import Closed, Latest
from streamer.pacing import SoundDelay
from streamer.stats import Window
from streamer.tracks import to_frame
from streamer.transport.types import RTP_CLOCK_HZ

log = logging.getLogger(__name__)

LIBRARY = "livekit==1.2.1"
CHILD = Path(__file__).with_name("livekit_child.py")
MOST_SOUNDS = 50  # 1 s
LEAVE_S = 5.0
FIRST_WAIT_S, MOST_WAIT_S = 0.5, 5.0
TICK_S = 0.005
REMOVED = ("DUPLICATE_IDENTITY", "PARTICIPANT_REMOVED", "ROOM_DELETED", "USER_REJECTED")


def run_livekit(config: JoinConfig, own: LivekitSettings, url: str, token: str) -> None:
    """Until the time is over, the source ends, or a signal comes. Raises VividError: one sentence."""
    if urlsplit(url).scheme not in ("ws", "wss", "http", "https") or not urlsplit(url).netloc:
        raise SettingError(f"{url[:80]} is no address of a LiveKit server: it begins with wss:// or ws://")
    check_token(token, time.time())
    python = find_python(own.python)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_join(config, python, url, token))


def environment() -> Path:
    """The folder of the environment that is looked for when none is named."""
    return Path(platformdirs.user_data_dir("vividstream", appauthor=False)) / "livekit"


def find_python(named: Path | None) -> Path:
    """The interpreter that has LiveKit's library. Raises EngineUnavailable with the commands that make one."""
    folder = environment()
    python = named or folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.is_file():
        raise EngineUnavailable(
            f"LiveKit's library is not here: python3 -m venv {folder} && {folder}/bin/pip install {LIBRARY}"
            if named is None
            else f"{named} is no interpreter: --python names the python of an environment with {LIBRARY}"
        )
    return python


def check_token(token: str, now_unix_s: float) -> None:
    """Says what a server would refuse, before anything is started. Who signed it only the server can tell.

    Raises CannotJoin.
    """
    parts = token.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        if len(parts) != 3 or not isinstance(claims, dict):
            raise ValueError
        ends_s, begins_s = float(claims.get("exp", now_unix_s + 1)), float(claims.get("nbf", 0))
        grant = claims.get("video") or {}
        joins, publishes = bool(grant.get("roomJoin")), grant.get("canPublish") is not False
    except (ValueError, IndexError, binascii.Error, AttributeError, TypeError) as error:
        raise CannotJoin("that is no token of LiveKit: three parts with dots between, made for one room") from error
    if ends_s <= now_unix_s:
        raise CannotJoin(f"the token ended {_ago(now_unix_s - ends_s)} ago: ask for a new one")
    if begins_s > now_unix_s + 60:
        raise CannotJoin(f"the token begins in {_ago(begins_s - now_unix_s)}: wait, or set this machine's clock")
    if not joins:
        raise CannotJoin("the token lets nobody into a room (roomJoin): ask for one that does")
    if not publishes:
        raise CannotJoin("the token lets one watch only (canPublish): ask for one that lets you show a picture")


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else "hours"


async def _join(config: JoinConfig, python: Path, url: str, token: str) -> None:
    outgoing = Outgoing("join", has_sound=config.join.sound != "none")
    bridge = Bridge(outgoing.has_sound)
    outgoing.tee(bridge.see, bridge.hear)
    with interruptible() as interrupted:
        async with drawing(config, outgoing, interrupted) as live:
            stays = LivekitStays(bridge, python, url, token, config, say)
            tasks = [
                asyncio.create_task(stays.attend(), name="attendance"),
                asyncio.create_task(until_over(live, config.join.for_seconds, lambda: stays.entered > 0), name="end"),
                asyncio.create_task(interrupted.wait(), name="interrupted"),
                asyncio.create_task(begin_when_in(live, stays.connected), name="begin"),
            ]
            if config.join.numbers is not None:
                tasks.append(asyncio.create_task(_report(config.join.numbers, stays), name="numbers"))
            await first_of(tasks)
            say("left")


async def _report(path: Path, stays: LivekitStays) -> None:
    with opened(path) as out:
        while True:
            await asyncio.sleep(1.0)
            out.write(json.dumps(stays.numbers()) + "\n")
            out.flush()


class Bridge:
    """Between the threads that draw and hear, and the loop that writes to the child: pictures by one slot, the newest
    wins; sounds in order, bounded, each held back until the picture of its moment is written."""

    def __init__(self, has_sound: bool) -> None:
        self.has_sound = has_sound
        self.age = Window(2.0)
        self.sounds_dropped = 0
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._pictures: Latest[tuple[VideoFrame, float, bool]] = Latest(self._wake)
        self._sounds: deque[CapturedSound] = deque()
        self._delay = SoundDelay()

    def see(self, rgb_HW3: Rgb, captured_s: float, is_card: bool) -> None:
        """In the output's thread."""
        frame = to_frame(rgb_HW3, round(captured_s * RTP_CLOCK_HZ), VIDEO_TIME_BASE)
        self._pictures.put((frame, captured_s, is_card))

    def hear(self, sound: CapturedSound) -> None:
        """In the source's thread."""
        if len(self._sounds) >= MOST_SOUNDS:
            self._sounds.popleft()
            self.sounds_dropped += 1
        self._sounds.append(sound)

    async def next(self) -> bytes:
        """The next message for the child."""
        while True:
            self._changed.clear()
            now_s = time.monotonic()
            age = self.age.quantiles(now_s)
            delay_s = self._delay.follow(age.p50_ms / 1e3 if age.count else None, now_s)
            if self._sounds and self._sounds[0].captured_s + delay_s <= now_s:
                return message(b"S", self._sounds.popleft().frame.to_ndarray().tobytes())
            try:
                picture = self._pictures.poll()
            except Closed:
                picture = None
            if picture is not None:
                frame, captured_s, is_card = picture
                if not is_card:
                    self.age.add(now_s, (now_s - captured_s) * 1e3)
                return message(b"V", struct.pack("!Q", round(captured_s * 1e6)) + i420(frame))
            wait_s = TICK_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)


class LivekitStays:
    """Keeps one child in the room, and starts another one when it ends."""

    def __init__(
        self, bridge: Bridge, python: Path, url: str, token: str, config: JoinConfig, say: Callable[[str], None]
    ) -> None:
        self.entered = 0
        self.connected = asyncio.Event()
        self.lost: list[str] = []
        self.state = ""
        self.told: dict[str, Any] = {}
        self._bridge, self._python, self._url, self._token, self._config = bridge, python, url, token, config
        self._say = say

    def numbers(self) -> dict[str, Any]:
        """The participant in numbers."""
        age = self._bridge.age.quantiles(time.monotonic()).as_json()
        return {
            "time_s": round(time.monotonic(), 3), "connected": self.state == "connected", "entered": self.entered,
            "lost": len(self.lost), "age_ms": age, "sounds_dropped": self._bridge.sounds_dropped, "library": self.told,
        }  # fmt: skip

    async def attend(self) -> None:
        """Until it is cancelled, which leaves cleanly. Raises CannotJoin where it cannot be, or is not wanted."""
        wait_s, lost_s = FIRST_WAIT_S, None
        while True:
            before = self.entered
            try:
                why = await self._one_stay()
            except Unreachable as error:
                if not self.entered:
                    raise
                why = str(error)
            now_s = time.monotonic()
            if self.entered > before:
                wait_s, lost_s = FIRST_WAIT_S, now_s
                self._say(f"lost: {why}; coming back")
            if lost_s is not None and now_s - lost_s > self._config.join.give_up_seconds:
                raise CannotJoin(f"given up after {self._config.join.give_up_seconds:.0f} s: {why}")
            self.lost = [*self.lost[-19:], why]
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, MOST_WAIT_S)

    async def _one_stay(self) -> str:
        """Returns why it ended. Raises CannotJoin."""
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            str(self._python), "-I", str(CHILD), stdin=pipe, stdout=pipe, stderr=pipe, limit=1 << 20
        )
        assert child.stdin is not None
        try:
            join = self._config.join
            width_px, height_px = join.size_px
            hello = {
                "url": self._url, "token": self._token, "width": width_px, "height": height_px, "fps": join.fps,
                "has_sound": self._bridge.has_sound,
            }  # fmt: skip
            child.stdin.write(message(b"H", json.dumps(hello).encode()))
            feeding = asyncio.create_task(self._feed(child.stdin))
            try:
                return await self._listen(child)
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
        finally:
            self.state = ""
            await asyncio.shield(_end(child))

    async def _feed(self, pipe: asyncio.StreamWriter) -> None:
        try:
            while True:
                pipe.write(await self._bridge.next())
                await pipe.drain()
        except (BrokenPipeError, ConnectionError):
            return  # the child's end tells more

    async def _listen(self, child: asyncio.subprocess.Process) -> str:
        """What the child says, until it ends. Raises CannotJoin."""
        assert child.stdout is not None
        assert child.stderr is not None
        errors = asyncio.create_task(_tail(child.stderr))
        async for line in child.stdout:
            told = json.loads(line)
            if told["state"] == "numbers":
                self.told = told
                continue
            self.state = told["state"]
            if self.state == "connected":
                self.entered += 1
                self.connected.set()
                self._say(f"in room {told.get('room', '')} at {self._url}, {told['others']} others")
            elif self.state == "refused":
                raise refusal(self._url, str(told["why"]))
            elif self.state == "ended":
                if told["why"] in REMOVED:
                    raise CannotJoin(f"{self._url}: removed from the room ({told['why'].lower().replace('_', ' ')})")
                return str(told["why"]).lower().replace("_", " ")
        await child.wait()
        said = await errors
        if "No module named" in said:
            raise EngineUnavailable(f"{self._python} has no LiveKit library: {self._python} -m pip install {LIBRARY}")
        log.info("LiveKit's process ended with %s: %s", child.returncode, said)
        return f"LiveKit's library ended ({child.returncode})"


def refusal(url: str, why: str) -> CannotJoin:
    """What the library says of a connection that came to nothing, as one sentence with a remedy."""
    text = " ".join(why.split())[:200]
    low = text.lower()
    if "401" in low or "unauthorized" in low or "invalid token" in low or "403" in low:
        return CannotJoin(f"{url} does not let us in: the token was made for another server or room, or has ended")
    if "404" in low:
        return CannotJoin(f"{url} is no LiveKit server, or the room is not there ({text})")
    return Unreachable(f"nobody answers at {url} as LiveKit does: is the address right, and the server up? ({text})")


def message(kind: bytes, body: bytes) -> bytes:
    """One message for the child."""
    return struct.pack("!cI", kind, len(body)) + body


def i420(frame: VideoFrame) -> bytes:
    """The picture's planes without gaps, Y, U, V."""
    return frame.to_ndarray().tobytes()


async def _tail(stream: asyncio.StreamReader) -> str:
    """The last lines."""
    lines: deque[str] = deque(maxlen=20)
    async for line in stream:
        lines.append(line.decode("utf-8", "replace").rstrip())
    return " | ".join(lines)


async def _end(child: asyncio.subprocess.Process) -> None:
    """Lets the child leave the room; ends it where it does not."""
    if child.returncode is not None:
        return
    assert child.stdin is not None
    try:
        child.stdin.write(message(b"E", b""))
        child.stdin.close()
    except (BrokenPipeError, ConnectionError):
        pass
    try:
        async with asyncio.timeout(LEAVE_S):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
