"""Video files, played at their own pace, and addresses of streams, read as fast as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame

from engines import MediaError
from streamer.capture.picture import CapturedPicture, CapturedSound
from streamer.capture.sound import SoundCutter
from streamer.capture.wish import SourceFacts, Wish
from streamer.colour import Colour
from streamer.errors import no_file
from streamer.media import Turn

SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp", "tcp")
OPEN_TIMEOUT_S, READ_TIMEOUT_S = 8.0, 5.0
LOOK_S = 0.2  # how soon a film that waits for its next picture sees that it is to stop
LATE_S = 1.0  # a film that is further behind than this does not catch up, it goes on from now
LIVE_OPTIONS = {"flags": "low_delay", "rtsp_transport": "tcp", "rw_timeout": "5000000"}


class FilmMedium:
    """`Medium` of a file or an address. What has an end is played in real time; a stream is read as it comes."""

    def __init__(self, what: str, loop: bool = False) -> None:
        self._what = what
        self._is_address = is_address(what)
        self._loop = loop
        self._container: InputContainer | None = None
        self._has_end = not self._is_address
        self._number = 0
        self.damaged = 0

    @property
    def name(self) -> str:
        return self._what.split("?")[0] if self._is_address else Path(self._what).name

    @property
    def comes_back(self) -> bool:
        return self._is_address and not self._has_end

    def open(self, wish: Wish) -> SourceFacts:
        options = LIVE_OPTIONS if self._is_address else {}
        timeout = (OPEN_TIMEOUT_S, READ_TIMEOUT_S) if self._is_address else None
        try:
            self._container = av.open(self._what, "r", options=options, timeout=timeout, metadata_errors="replace")
        except (FFmpegError, OSError, ValueError) as error:
            raise MediaError(self._cannot_open(error)) from error
        videos = self._container.streams.video
        if not videos:
            self.close()
            raise MediaError(f"{self.name}: there are no pictures in it; take a file or address with video")
        video = videos[0]
        video.thread_type = "AUTO" if self._has_end else "SLICE"  # frame threads hold live pictures back
        self._has_end = not self._is_address or bool(self._container.duration and self._container.duration > 0)
        rate = float(video.average_rate or video.guessed_rate or 0)
        return SourceFacts(
            video.width, video.height, rate, video.codec_context.name, bool(self._container.streams.audio)
        )

    def read(self, stopping: Callable[[], bool]) -> Iterator[CapturedPicture | CapturedSound]:
        while not stopping():
            shown = self._number
            yield from self._once(stopping)
            if not self._loop or not self._has_end or stopping():
                return
            if self._number == shown:
                raise MediaError(f"{self.name}: no picture in it can be decoded; take another file")
            self._rewind()

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = None

    def _rewind(self) -> None:
        self.close()
        self.open(Wish())

    def _once(self, stopping: Callable[[], bool]) -> Iterator[CapturedPicture | CapturedSound]:
        """From where it is to the end, each at its time."""
        assert self._container is not None
        began_s: float | None = None
        cutter = SoundCutter()
        turn: Turn | None = None
        for frame in self._frames():
            if stopping():
                return
            at_s = frame.time or 0.0
            now_s = time.monotonic()
            if not self._has_end:
                captured_s = now_s
            else:
                if began_s is None or now_s - (began_s + at_s) > LATE_S:
                    began_s = now_s - at_s
                captured_s = began_s + at_s
            if isinstance(frame, VideoFrame):
                if self._has_end and not _wait_until(captured_s, stopping):
                    return
                turn = Turn.of(frame) if turn is None else turn
                self._number += 1
                yield CapturedPicture(frame, captured_s, self._number, Colour.of(frame), turn)
            else:
                yield from cutter.cut(frame, captured_s)

    def _frames(self) -> Iterator[VideoFrame | AudioFrame]:
        """Decoded, in the order of the file. Raises MediaError where it is lost."""
        assert self._container is not None
        streams: list[Any] = [self._container.streams.video[0], *self._container.streams.audio[:1]]
        try:
            for packet in self._container.demux(*streams):
                try:
                    frames = packet.decode()
                except FFmpegError:
                    self.damaged += 1
                    continue
                for frame in frames:
                    if isinstance(frame, VideoFrame | AudioFrame):
                        yield frame
        except (FFmpegError, OSError) as error:
            if not self._has_end:
                raise MediaError(f"{self.name} was lost ({error.strerror}); it is tried again") from error
            self.damaged += 1

    def _cannot_open(self, error: BaseException) -> str:
        why = getattr(error, "strerror", None) or str(error)
        if self._is_address:
            return f"{self.name} cannot be reached: {why}; is the address right, and does the other side send?"
        path = Path(self._what)
        wrong = no_file(path, "a video file", pipes=True)
        return f"{path}: {wrong or 'cannot be read: it is no video, or was cut off before its index was written'}"


def is_address(what: str) -> bool:
    """Whether it is an address of a kind that can be read."""
    scheme, found, _ = what.partition("://")
    return bool(found) and scheme.lower() in SCHEMES


def _wait_until(at_s: float, stopping: Callable[[], bool]) -> bool:
    """False where it is to stop before."""
    while not stopping():
        left_s = at_s - time.monotonic()
        if left_s <= 0:
            return True
        time.sleep(min(left_s, LOOK_S))
    return False
