"""A source: one thread that opens, reads, waits and opens again, and leaves the newest picture in a mailbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from streamer.capture.picture import CapturedPicture, CapturedSound
from streamer.mailbox import Latest


class SourceState(Enum):
    """Where a source is."""

    LIVE = "live"  # pictures come
    WAITING = "waiting"  # not there, or paused: it is tried again, and the standby card stands in
    ENDED = "ended"  # a file that is over, or what can never be read; nothing comes any more


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """`why` is one sentence for a person, with the remedy where there is one; empty while live."""

    state: SourceState
    why: str
    since_s: float  # monotonic seconds


@dataclass(frozen=True, slots=True)
class Wish:
    """What the source should look like; it gives what comes nearest."""

    width_px: int = 1280
    height_px: int = 720
    fps: float = 30.0


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What an opened source gives."""

    width_px: int
    height_px: int
    fps: float  # 0 where it does not say
    format: str  # MJPG, YUYV, h264, ...
    has_sound: bool = False


class Medium(Protocol):
    """What a source reads: a camera, a file, an address. Used by one thread, opened and closed as often as needed."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def comes_back(self) -> bool:
        """Whether it is worth opening again after it was lost (a camera, an address), or is over (a file)."""

    def open(self, wish: Wish) -> SourceFacts:
        """Raises MediaError: one sentence with a remedy."""

    def read(self, stopping: Callable[[], bool]) -> Iterator[CapturedPicture | CapturedSound]:
        """Until it is lost (raises MediaError), is over (returns), or `stopping()` is true (returns within 1 s)."""

    def close(self) -> None:
        """Safe to call twice."""


class Source:
    """Reads a medium in a thread of its own. Status and counters may be read from any thread.

    source = open_source("0", Wish(1280, 720, 30))
    source.start(mailbox, sounds)     # pictures: newest wins; sounds: called in the source's thread, may be None
    source.pause() / source.resume()  # nobody watches: the device is closed (its light goes out)
    source.close()
    """

    def __init__(self, medium: Medium, wish: Wish | None = None) -> None:
        raise NotImplementedError

    @property
    def name(self) -> str:
        """What a person calls it."""
        raise NotImplementedError

    @property
    def status(self) -> SourceStatus:
        raise NotImplementedError

    @property
    def facts(self) -> SourceFacts | None:
        """Of what is open now, or was last; None before the first time."""
        raise NotImplementedError

    def start(
        self,
        pictures: Latest[CapturedPicture],
        sounds: Callable[[CapturedSound], None] | None = None,
        changed: Callable[[], None] | None = None,
    ) -> None:
        """Begins to read. `changed` is called (in the source's thread) after every change of `status`."""
        raise NotImplementedError

    def pause(self) -> None:
        """Closes the device until `resume`; a file stands still."""
        raise NotImplementedError

    def resume(self) -> None:
        raise NotImplementedError

    def close(self, timeout_s: float = 5.0) -> bool:
        """Ends the thread. False where the device kept it for longer."""
        raise NotImplementedError

    def numbers(self) -> dict[str, object]:
        """Counters: pictures, sounds, damaged, overtaken (dropped for a newer one), reconnects, fps, state, why."""
        raise NotImplementedError


def open_source(what: str, wish: Wish | None = None, loop: bool = False) -> Source:
    """A source by what a person writes: a camera's number ("0"), device (/dev/video0) or name ("HD Pro Webcam"), a
    video file, or an address (https, rtsp, rtmp, srt, udp). `loop`: a file starts again at its end.

    Nothing is opened yet. Raises MediaError where nothing of that kind can be meant: no such file, no such camera.
    """
    raise NotImplementedError
