"""A source: one thread that opens, reads, waits and opens again, and leaves the newest picture in a mailbox."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Protocol

from engines import MediaError, SettingError
from streamer.capture.microphone import Microphone
from streamer.capture.picture import CapturedPicture, CapturedSound
from streamer.capture.wish import SourceFacts, Wish
from streamer.mailbox import Latest
from streamer.stats import Window

RETRY_S = (0.5, 1.0, 2.0, 3.0)  # how long it waits before it tries again; the last for ever
PAUSED = "paused"
SETTLED_S = 5.0  # live for so long, it begins with the shortest again

log = logging.getLogger(__name__)


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


class Medium(Protocol):
    """What a source reads: a camera, a file, an address. Used by one thread, opened and closed as often as needed."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def comes_back(self) -> bool:
        """Whether it is worth opening again after it was lost (a camera, a live stream), or is over then (a file)."""

    @property
    def damaged(self) -> int:
        """How many of its pictures could not be decoded."""

    def open(self, wish: Wish) -> SourceFacts:
        """Raises MediaError: one sentence with a remedy."""

    def read(self, stopping: Callable[[], bool]) -> Iterator[CapturedPicture | CapturedSound]:
        """Until it is lost (raises MediaError), is over (returns), or `stopping()` is true (returns within 1 s)."""

    def close(self) -> None:
        """Safe to call twice."""


class Source:
    """Reads a medium in a thread of its own. Status and counters may be read from any thread.

        source = open_source("0", Wish(1280, 720, 30))
        source.start(mailbox, sounds)     # raises MediaError where it cannot be opened now
        source.pause() / source.resume()  # nobody watches: the device is closed (its light goes out)
        source.close()

    Pictures go into the mailbox, where the newest wins. `sounds` is called in the source's thread.
    """

    def __init__(self, medium: Medium, wish: Wish | None = None, microphone: Microphone | None = None) -> None:
        self._medium, self._microphone = medium, microphone
        self._wish = wish or Wish()
        self._changing = threading.Condition()
        self._closing = self._paused = False
        self._status = SourceStatus(SourceState.WAITING, "not started yet", time.monotonic())
        self._facts: SourceFacts | None = None
        self._arrivals = Window()
        self._pictures = self._sounds = self._openings = 0
        self._mailbox: Latest[CapturedPicture] | None = None
        self._hear: Callable[[CapturedSound], None] | None = None
        self._tell: Callable[[], None] | None = None
        self._fit_px: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self._medium.name

    @property
    def status(self) -> SourceStatus:
        return self._status

    @property
    def facts(self) -> SourceFacts | None:
        """Of what is open now, or was last; None before the first time."""
        return self._facts

    def start(
        self,
        pictures: Latest[CapturedPicture],
        sounds: Callable[[CapturedSound], None] | None = None,
        changed: Callable[[], None] | None = None,
        patient: bool = False,
        fit_px: tuple[int, int] | None = None,
    ) -> None:
        """Opens it and begins to read. Raises MediaError where it cannot be opened now; `patient`: then it waits.

        `fit_px`: width and height into which every picture is fitted (`CapturedPicture.size_px`).
        `changed` is called after every change of `status`, from the second on in the source's thread.
        """
        self._mailbox, self._hear, self._tell, self._fit_px = pictures, sounds, changed, fit_px
        try:
            self._open()
        except MediaError as error:
            if not patient:
                raise
            self._become(SourceState.WAITING, str(error))
        if self._microphone is not None:
            self._microphone.start(self._heard)
        self._thread.start()

    def pause(self) -> None:
        """Closes the device until `resume`; a file stands still."""
        with self._changing:
            self._paused = True
            self._changing.notify_all()

    def resume(self) -> None:
        with self._changing:
            self._paused = False
            self._changing.notify_all()

    def close(self, timeout_s: float = 5.0) -> bool:
        """Ends the thread. False where the device kept it for longer."""
        with self._changing:
            self._closing = True
            self._changing.notify_all()
        if self._microphone is not None:
            self._microphone.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        elif self._thread.ident is None:
            self._medium.close()
        return not self._thread.is_alive()

    def numbers(self) -> dict[str, object]:
        """Everything that is counted, as JSON."""
        status, facts = self._status, self._facts
        with self._changing:
            fps = self._arrivals.rate_per_s(time.monotonic())
        return {
            "name": self.name,
            "state": status.state.value,
            "why": status.why,
            "width_px": facts.width_px if facts else None,
            "height_px": facts.height_px if facts else None,
            "format": facts.format if facts else None,
            "promised_fps": round(facts.fps, 2) if facts else None,
            "fps": round(fps, 2),
            "pictures": self._pictures,
            "sounds": self._sounds,
            "damaged": self._medium.damaged,
            "overtaken": self._mailbox.dropped if self._mailbox else 0,
            "openings": self._openings,
        }

    def _open(self) -> None:
        self._facts = self._medium.open(self._wish)
        self._openings += 1
        facts = self._facts
        log.info("source %s: %s %dx%d at %.1f", self.name, facts.format, facts.width_px, facts.height_px, facts.fps)
        self._become(SourceState.LIVE, "")

    def _run(self) -> None:
        """The thread: reads while it can, waits and opens again while that makes sense."""
        tries = 0
        try:
            while not self._closing:
                status = self._status
                if status.state is SourceState.ENDED:
                    return
                if status.state is SourceState.LIVE:
                    self._read()
                    tries = 0 if time.monotonic() - status.since_s > SETTLED_S else tries
                elif not self._wait(RETRY_S[min(tries, len(RETRY_S) - 1)]):
                    tries += 1
                    with suppress(MediaError):
                        self._try_again()
        except Exception as error:  # the boundary: a source that fails in an unknown way is over, the card stands in
            log.exception("source %s failed", self.name)
            self._become(SourceState.ENDED, f"{self.name} failed: {error}")
        finally:
            self._medium.close()

    def _try_again(self) -> None:
        """Raises MediaError where it is not there yet."""
        try:
            self._open()
        except MediaError as error:
            self._become(SourceState.WAITING, str(error))
            raise

    def _wait(self, timeout_s: float) -> bool:
        """Before it is tried again, and while it is paused. Returns whether it is to end."""
        with self._changing:
            self._changing.wait_for(lambda: self._closing, timeout_s)
            self._changing.wait_for(lambda: self._closing or not self._paused)
            return self._closing

    def _read(self) -> None:
        """Until it is over, lost, paused or to be closed; then the status says so."""
        try:
            for item in self._medium.read(self._stopping):
                self._take(item)
                if self._paused and not self._medium.comes_back:
                    self._stand_still()
        except MediaError as error:
            self._medium.close()
            self._become(SourceState.WAITING if self._medium.comes_back else SourceState.ENDED, str(error))
            return
        self._medium.close()
        if self._closing:
            self._become(SourceState.ENDED, "closed")
        elif self._medium.comes_back:
            self._become(
                SourceState.WAITING, "nobody watches" if self._paused else f"{self.name} ended; it is tried again"
            )
        else:
            self._become(SourceState.ENDED, f"{self.name} is over")

    def _stopping(self) -> bool:
        return self._closing or (self._paused and self._medium.comes_back)

    def _stand_still(self) -> None:
        self._become(SourceState.WAITING, PAUSED)
        with self._changing:
            self._changing.wait_for(lambda: self._closing or not self._paused)
        self._become(SourceState.LIVE, "")

    def _take(self, item: CapturedPicture | CapturedSound) -> None:
        assert self._mailbox is not None
        if isinstance(item, CapturedPicture):
            self._pictures += 1
            with self._changing:
                self._arrivals.add(time.monotonic(), 0.0)
            self._mailbox.put(item if self._fit_px is None else replace(item, size_px=self._fit_px))
            return
        self._heard(item)

    def _heard(self, sound: CapturedSound) -> None:
        """In the source's thread, or in the microphone's."""
        self._sounds += 1
        if self._hear is not None:
            self._hear(sound)

    def _become(self, state: SourceState, why: str) -> None:
        if (state, why) == (self._status.state, self._status.why):
            return
        self._status = SourceStatus(state, why, time.monotonic())
        if state is SourceState.WAITING and why != PAUSED:
            log.warning("source waits: %s", why)
        if self._tell is not None:
            self._tell()


def open_source(what: str, wish: Wish | None = None, loop: bool = False, microphone: str | None = None) -> Source:
    """A source by what a person writes: a camera's number ("0"), device (/dev/video0) or name ("HD Pro Webcam"), a
    video file, or an address (https, rtsp, rtmp, srt, udp). `loop`: a file starts again at its end.

    Nothing is opened yet; `Source.start` does, and says what is wrong. What is neither a number, a device, a file that
    is there, nor an address, is taken for a camera's name unless it looks like a file's. `microphone`: ALSA's name of
    the one that is heard beside a camera ("default"); a file and a stream bring their own sound, and to ask for another
    there raises SettingError.
    """
    from streamer.capture.camera import CameraMedium
    from streamer.capture.film import FilmMedium, is_address

    path = Path(what)
    is_camera = what.isdigit() or what.startswith("/dev/")
    looks_like_file = path.exists() or path.suffix != "" or "/" in what
    if is_address(what) or (looks_like_file and not is_camera):
        if microphone is not None:
            raise SettingError(
                f'the microphone "{microphone}" is heard beside a camera only, and {what.split("?")[0]} is a file or a '
                "stream; its own sound: --sound source, no sound: --sound none"
            )
        return Source(FilmMedium(what, loop), wish)
    return Source(CameraMedium(what), wish, Microphone(microphone) if microphone else None)
