"""What the sinks of a live picture show: the newest drawn picture while it is young, else the standby card.

A thread of its own, so that a stuck engine or source cannot keep the card from falling.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engines import Rgb, Status, standby_card
from streamer.camera.outlet import Outlet
from streamer.camera.sink import PixelFormat, Sink
from streamer.errors import SinkError
from streamer.mailbox import Closed, Latest
from streamer.pacing import Curtain, SoundDelay, Verdict
from streamer.stats import LATELY_S, Quantiles, Window

CLOCK_HZ = 90_000  # of the numbers by which the curtain tells what is later
LOOK_S = 0.25  # how often it is looked at who watches
IDLE_S = 2.0  # nobody has watched for so long: the source is closed
IDLE_CARD_S = 1.0  # how often the card is written for nobody, so that who comes gets a picture at once
CARD_TEXT = "One moment, please"
UNSIZED_PX = (640, 480)  # of the card, while no picture has said how large it is

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the worker made, on its way to the sinks."""

    rgb_HW3: Rgb
    status: Status
    captured_s: float


class Stage:
    """Made, opened and ended by one thread; `put` comes from the worker's, the rest from any.

    size_px      width and height of what is shown now
    hidden       the standby card, whatever is drawn
    idle         nobody watches
    may_idle     set once pictures are drawn: before, the source stays open though nobody watches
    status       of the last picture; None: the standby card
    readers      of all sinks together; None where one cannot say
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        size_px: tuple[int, int] | None,
        fps: float,
        pixel_format: PixelFormat | None,
        hold_s: float,
        draw_always: bool,
        watched: Callable[[bool], None],
    ) -> None:
        """`size_px` None: as the pictures come. `watched` hears in this thread when somebody watches or nobody does."""
        self.size_px = size_px or UNSIZED_PX
        self.hidden = self.idle = self.may_idle = False
        self.status: Status | None = None
        self.readers: int | None = None
        self.shown: Counter[str] = Counter()
        self._is_sized = size_px is not None
        self._draw_always, self._watched = draw_always, watched
        self._outlets = [Outlet(sink, fps, pixel_format) for sink in sinks]
        self._drawn: Latest[Drawn] = Latest()
        self._curtain = Curtain(hold_s)
        self._thread = threading.Thread(target=self._show, name="output", daemon=True)
        self._closing = threading.Event()
        self._watched_s = time.monotonic()
        self._dropped: Counter[str] = Counter()
        self._measured = threading.RLock()  # around what is measured: written and asked for by several threads
        self._ages, self._lately, self._steps = Window(), Window(LATELY_S), Window()
        self._delay = SoundDelay()

    def open(self) -> None:
        """Opens the sinks and shows the card. Raises SinkError."""
        self._open_sinks()
        now_s = time.monotonic()
        self._curtain.begin(now_s - self._curtain.hold_s)
        self._thread.start()

    def put(self, drawn: Drawn, took_ms: float) -> None:
        """The next picture, and how long it was drawn. The newest wins."""
        with self._measured:
            self._steps.add(time.monotonic(), took_ms)
        self._drawn.put(drawn)

    def age(self) -> Quantiles:
        """Capture to written, milliseconds."""
        with self._measured:
            return self._ages.quantiles(time.monotonic())

    def sound_delay_s(self) -> float:
        """For how long sound has to wait now to be in step with the picture (capture to sink, p50)."""
        now_s = time.monotonic()
        with self._measured:
            age = self._lately.quantiles(now_s)
            return self._delay.follow(age.p50_ms / 1e3 if age.count else None, now_s)

    def numbers(self) -> dict[str, object]:
        """What is counted here, as JSON, but for `dropped`, which others count too."""
        now_s = time.monotonic()
        with self._measured:
            fps, step = self._ages.rate_per_s(now_s), self._steps.quantiles(now_s)
        return {
            "readers": self.readers,
            "idle": self.idle,
            "paused": self.hidden,
            "width_px": self.size_px[0],
            "height_px": self.size_px[1],
            "shown": dict(self.shown),
            "fps": round(fps, 2),
            "age_ms": self.age().as_json(),
            "step_ms": step.as_json(),
            "delay_ms": round(self.sound_delay_s() * 1e3),
            "sinks": [
                {"name": one.sink.name, "format": one.shape.pixel_format if one.shape else None,
                 "written": one.written, "lost": one.lost, "losses": one.losses}
                for one in self._outlets
            ],
        }  # fmt: skip

    @property
    def dropped(self) -> dict[str, int]:
        """Pictures that were drawn and not shown, by why."""
        return dict(self._dropped) | {"replaced": self._drawn.dropped}

    def stop(self) -> None:
        """Nothing more is shown. Safe to call twice."""
        self._closing.set()
        self._drawn.close()

    def end(self) -> None:
        """Waits for its thread and closes the sinks."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)
        for outlet in self._outlets:
            outlet.sink.close()

    def _open_sinks(self) -> None:
        """The first one says how large the picture is; the others have to agree."""
        for number, outlet in enumerate(self._outlets):
            outlet.open(*self.size_px)
            assert outlet.shape is not None
            agreed_px = outlet.shape.width_px, outlet.shape.height_px
            if number == 0 and self._is_sized:
                self.size_px = agreed_px
            elif self._is_sized and agreed_px != self.size_px:
                raise SinkError(
                    f"{outlet.sink.name} is held to {agreed_px[0]}x{agreed_px[1]} by its readers; close them"
                )

    def _show(self) -> None:
        """The newest picture while it is young, else the card."""
        looked_s = -LOOK_S
        while not self._closing.is_set():
            now_s = time.monotonic()
            if now_s - looked_s >= LOOK_S:
                looked_s = now_s
                self._look_who_watches(now_s)
            try:
                drawn = self._drawn.take(min(self._curtain.wait_s(now_s), LOOK_S))
            except Closed:
                return
            now_s = time.monotonic()
            if drawn is not None and not self.hidden:
                self._write_drawn(drawn, now_s)
            if self._curtain.wait_s(now_s) <= 0:
                self._write_card(now_s)

    def _write_drawn(self, drawn: Drawn, now_s: float) -> None:
        verdict = self._curtain.judge(drawn.status, drawn.captured_s, int(drawn.captured_s * CLOCK_HZ), now_s)
        if verdict is not Verdict.SEND:
            self._dropped[verdict.value] += 1
            return
        if not self._is_sized:
            self.size_px = drawn.rgb_HW3.shape[1], drawn.rgb_HW3.shape[0]
        self.status = drawn.status  # before it is written: a sink may ask whether it is the card
        self._write(drawn.rgb_HW3, drawn.captured_s, now_s)
        self.shown[drawn.status.value] += 1
        age_ms = (time.monotonic() - drawn.captured_s) * 1e3
        with self._measured:
            self._ages.add(now_s, age_ms)
            self._lately.add(now_s, age_ms)

    def _write_card(self, now_s: float) -> None:
        self._curtain.card(int((now_s - self._curtain.hold_s) * CLOCK_HZ), now_s)
        if self.idle:
            self._curtain.begin(now_s + IDLE_CARD_S - self._curtain.hold_s)
        self.status = None
        self._write(standby_card(self.size_px[1], self.size_px[0], CARD_TEXT), now_s, now_s)
        self.shown["card"] += 1

    def _write(self, rgb_HW3: Rgb, captured_s: float, now_s: float) -> None:
        for outlet in self._outlets:
            outlet.write(rgb_HW3, captured_s, now_s)

    def _look_who_watches(self, now_s: float) -> None:
        """Nobody for some seconds: idle; somebody: no more."""
        counts = [outlet.sink.readers() if outlet.shape else 0 for outlet in self._outlets]
        known = [count for count in counts if count is not None]
        self.readers = sum(known) if len(known) == len(counts) else None
        if self._draw_always or self.readers is None or self.readers > 0:
            self._watched_s = now_s
        idle = now_s - self._watched_s > IDLE_S
        if idle == self.idle or not self.may_idle:
            return
        self.idle = idle
        log.info("nobody watches: the source is closed" if idle else "somebody watches")
        if not idle:
            self._curtain.begin(now_s - self._curtain.hold_s)  # who comes gets the card at once
        self._watched(not idle)
