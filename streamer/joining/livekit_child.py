"""The side of LiveKit's library: a program of its own, run by an interpreter that has the package `livekit`.

It knows nothing of vividstream and imports nothing of it: the package wants another protobuf than the face tracker.
Standard input: messages, each `kind (1 byte), length (4 bytes, big-endian), body`:
    H  JSON: url, token, width, height, fps, has_sound        first
    V  8 bytes microseconds (when captured), then I420         a picture that may be seen
    S  s16, stereo, 48 kHz, 20 ms                              sound whose time has come
    E  nothing                                                 leave; the end of the input does the same
Standard output: lines of JSON: {"state": "ready" | "connected" | "reconnecting" | "refused" | "ended", "why": ...} and
once a second {"state": "numbers", ...}. Nothing is received: no track is subscribed to.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from typing import Any, BinaryIO

from livekit import rtc

SOUND_RATE_HZ, CHANNELS = 48_000, 2
SOUND_QUEUE_MS = 100  # small: sound comes when its time has come
MOST_WAITING = 4  # messages that were read and not yet handed on
CONNECT_S, LEAVE_S = 8.0, 3.0
LONGEST_BODY = 1 << 24


def tell(state: str, **more: Any) -> None:
    sys.stdout.write(json.dumps({"state": state, **more}) + "\n")
    sys.stdout.flush()


def read_message(source: BinaryIO) -> tuple[bytes, bytes] | None:
    """None at the end, however it ended."""
    head = source.read(5)
    if len(head) < 5:
        return None
    kind, length = struct.unpack("!cI", head)
    if length > LONGEST_BODY:
        return None
    body = source.read(length)
    return (kind, body) if len(body) == length else None


class Participant:
    """The tracks of one participant, and what was put into them."""

    def __init__(self, width: int, height: int, has_sound: bool) -> None:
        self.video_source = rtc.VideoSource(width, height)
        self.video = rtc.LocalVideoTrack.create_video_track("camera", self.video_source)
        self.sound_source = rtc.AudioSource(SOUND_RATE_HZ, CHANNELS, SOUND_QUEUE_MS) if has_sound else None
        self.sound = (
            None
            if self.sound_source is None
            else rtc.LocalAudioTrack.create_audio_track("microphone", self.sound_source)
        )
        self.counts = {"pictures": 0, "sounds": 0, "refused": 0}
        self._size = (width, height)

    def picture(self, body: bytes) -> None:
        (captured_us,) = struct.unpack_from("!Q", body)
        width, height = self._size
        if len(body) - 8 != width * height * 3 // 2:
            self.counts["refused"] += 1
            return
        frame = rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, body[8:])
        self.video_source.capture_frame(frame, timestamp_us=captured_us)
        self.counts["pictures"] += 1

    async def heard(self, body: bytes) -> None:
        if self.sound_source is None:
            return
        samples = len(body) // (2 * CHANNELS)
        await self.sound_source.capture_frame(rtc.AudioFrame(body, SOUND_RATE_HZ, CHANNELS, samples))
        self.counts["sounds"] += 1

    async def publish(self, room: rtc.Room) -> None:
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=False)
        await room.local_participant.publish_track(self.video, options)
        if self.sound is not None:
            options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False)
            await room.local_participant.publish_track(self.sound, options)


async def connect(told: dict[str, Any], over: asyncio.Event) -> rtc.Room | None:
    """Into the room; None, and it is told why, where it does not let us in."""
    room = rtc.Room()
    room.on("reconnecting", lambda: tell("reconnecting"))
    room.on("reconnected", lambda: tell("connected", others=len(room.remote_participants)))

    def ended(reason: int) -> None:
        tell("ended", why=rtc.DisconnectReason.Name(reason))
        over.set()

    room.on("disconnected", ended)
    try:
        options = rtc.RoomOptions(auto_subscribe=False, connect_timeout=CONNECT_S)
        await room.connect(told["url"], told["token"], options)
    except rtc.ConnectError as error:
        tell("refused", why=error.message)
        return None
    tell("connected", room=room.name, others=len(room.remote_participants))
    return room


async def run(source: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    first = await loop.run_in_executor(None, read_message, source)
    if first is None or first[0] != b"H":
        return
    told = json.loads(first[1])
    over = asyncio.Event()
    participant = Participant(told["width"], told["height"], told["has_sound"])
    tell("ready", version=rtc.__version__)
    room = await connect(told, over)
    if room is None:
        return
    try:
        await participant.publish(room)
        await feed(participant, source, over)
    finally:
        async with asyncio.timeout(LEAVE_S):
            await room.disconnect()


async def feed(participant: Participant, source: BinaryIO, over: asyncio.Event) -> None:
    """Hands on what comes, until the end of the input or of the stay."""
    loop = asyncio.get_running_loop()
    ends = asyncio.create_task(over.wait())
    told_s = time.monotonic()
    try:
        while not over.is_set():
            reading = loop.run_in_executor(None, read_message, source)
            both: tuple[asyncio.Future[Any], ...] = (reading, ends)
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return
            message = reading.result()
            if message is None or message[0] == b"E":
                return
            if message[0] == b"V":
                participant.picture(message[1])
            elif message[0] == b"S":
                await participant.heard(message[1])
            if time.monotonic() - told_s >= 1.0:
                told_s = time.monotonic()
                tell("numbers", **participant.counts)
    finally:
        ends.cancel()


if __name__ == "__main__":
    asyncio.run(run(sys.stdin.buffer))
    sys.stdout.flush()
    # A thread may still wait for input that never comes, and the library's own threads for nothing.
    import os

    os._exit(0)
