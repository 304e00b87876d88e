"""A live picture without a call: source -> worker's seat with a session -> sinks. Fails closed at the sinks.

Threads: the source's (reads, decodes), the worker's (fits, draws), the output's (sinks, standby card). Between them
mailboxes of one slot. What reaches a sink is what a session made, while it is young, or the standby card.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engines import (
    EngineFault,
    Identity,
    IdentityError,
    IdentityStore,
    Rgb,
    Session,
    SettingError,
    Status,
    SwapSettings,
    engine_names,
    load,
    nearest,
    standby_card,
)
from streamer.audit.chain import Fact
from streamer.audit.log import record
from streamer.camera.outlet import Outlet
from streamer.camera.sink import PixelFormat, Sink
from streamer.capture.picture import CapturedPicture, CapturedSound
from streamer.capture.source import Source, SourceState, SourceStatus
from streamer.consents import ConsentWatch, taken_off
from streamer.errors import AuditFault, SinkError
from streamer.mailbox import Closed, Latest
from streamer.pacing import HOLD_S, Curtain, SoundDelay, Verdict
from streamer.stats import LATELY_S, Quantiles, Window
from streamer.worker import Outcome, Seat, Worker

RAW = "passthrough"  # shows the real face: only where it was begun with it
CLOCK_HZ = 90_000  # of the numbers by which the curtain tells what is later
LOOK_S = 0.25  # how often it is looked at who watches
IDLE_S = 2.0  # nobody has watched for so long: the source is closed
IDLE_CARD_S = 1.0  # how often the card is written for nobody, so that who comes gets a picture at once
ENDED_CARD_S = 0.7  # for how long the card is shown after the last picture of a file
CARD_TEXT = "One moment, please"
UNSIZED_PX = (640, 480)  # of the card, while no picture has said how large it is

log = logging.getLogger(__name__)


class Loader(Protocol):
    """What builds a session: `engines.load`."""

    def __call__(self, settings: SwapSettings, identity: Identity | None = None) -> Session: ...


@dataclass(frozen=True, slots=True)
class LivePlan:
    """What is to be drawn, and how large.

    identity     name in the store; None draws nobody: only `passthrough` takes that
    size_px      width and height of what sinks get; None: as the source comes, with even sides
    command      for the audit log
    draw_always  draw also while nobody watches
    patient      a source that is not there yet is waited for
    """

    swap: SwapSettings
    identity: str | None = None
    identities_dir: Path | None = None
    size_px: tuple[int, int] | None = (1280, 720)
    fps: float = 30.0
    pixel_format: PixelFormat | None = None
    command: str = "camera"
    hold_s: float = HOLD_S
    draw_always: bool = False
    patient: bool = False


@dataclass(frozen=True, slots=True)
class Showing:
    """What the sinks show now."""

    status: Status | None  # of the last picture; None: the standby card
    why: str  # one sentence where it is the card
    source: SourceStatus
    engine: str
    identity: str | None
    readers: int | None  # of all sinks together; None where one cannot say
    age: Quantiles  # capture to written, ms


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the worker made, on its way to the sinks."""

    rgb_HW3: Rgb
    status: Status
    captured_s: float


class Live:
    """One live picture. Made, started and closed by one thread; everything else from any thread.

        live = Live(open_source("0"), [sink], LivePlan(settings, "ada"))
        live.start()                # raises UnknownEngine, EngineUnavailable, IdentityError, SinkError, MediaError
        live.swap_identity("bo")    # from the next picture on; raises IdentityError, and the one before stays
        live.wait(1.0)              # True once it is over: the source ended, or `close`
        live.close()

    From the moment the sinks are open they show the standby card, while the engine is loaded too.
    """

    def __init__(
        self,
        source: Source,
        sinks: Sequence[Sink],
        plan: LivePlan,
        loader: Loader = load,
        sounds: Callable[[CapturedSound], None] | None = None,
    ) -> None:
        """`sounds` gets the source's sound in the source's thread; delay it by `sound_delay_s`."""
        self._source, self._plan, self._load, self._sounds = source, plan, loader, sounds
        self._outlets = [Outlet(sink, plan.fps, plan.pixel_format) for sink in sinks]
        self._store = IdentityStore(plan.identities_dir)
        self._worker: Worker[CapturedPicture] = Worker()
        self._pictures: Latest[CapturedPicture] = Latest(self._worker.wake)
        self._drawn: Latest[Drawn] = Latest()
        self._curtain = Curtain(plan.hold_s)
        self._seat: Seat[CapturedPicture] | None = None
        self._output = threading.Thread(target=self._show, name="output", daemon=True)
        self._over, self._closing = threading.Event(), threading.Event()
        self._changing = threading.Lock()  # held by whoever changes identity or engine
        self._settings, self._engine, self._why = plan.swap, "", ""
        self._identity: str | None = plan.identity
        self._size_px = plan.size_px or UNSIZED_PX
        self._hidden = self._idle = self._working = False
        self._watched_s = self._began_s = time.monotonic()
        self._readers: int | None = None
        self._status: Status | None = None
        self._fault = ""
        self._shown: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._faults = 0
        self._measured = threading.RLock()  # around what is measured: written and asked for by several threads
        self._ages, self._lately, self._steps = Window(), Window(LATELY_S), Window()
        self._delay = SoundDelay()
        self._consent = ConsentWatch(self._store.load, self._worn_now, self._take_off)

    def start(self) -> None:
        """Checks identity and engine, opens sinks and source, shows the card, loads the engine. Raises VividError."""
        try:
            identity = self._checked_identity(self._plan.identity)
            self._open_sinks()
            now_s = time.monotonic()
            self._curtain.begin(now_s - self._plan.hold_s)
            self._output.start()
            fit_px = self._size_px if self._plan.size_px else None
            self._source.start(self._pictures, self._sounds, self._changed, self._plan.patient, fit_px)
            self._worker.start()
            self._working = True
            session = self._worker.call(lambda: self._build(self._plan.swap, identity)).result()
            self._begin(session)
        except BaseException:
            self.close()
            raise

    def swap_identity(self, name: str) -> None:
        """Another identity from the next picture on, whole. Raises IdentityError; then the one before stays."""
        with self._changing:
            identity = self._known(name)
            seat = self._seated()
            record("identity worn", command=self._plan.command, **_worn(identity))
            seat.session.set_identity(identity)
            self._identity = identity.name

    def swap_engine(self, name: str) -> None:
        """Another engine: loaded and warmed beside the one that draws, then exchanged between two pictures.

        `passthrough` shows the real face and is refused unless the plan began with it. Raises SettingError,
        EngineUnavailable; then the one before stays.
        """
        allowed = ("auto", *(one for one in engine_names() if one != RAW or self._plan.swap.engine == RAW))
        if name not in allowed:
            raise SettingError(f'engine "{name[:40]}" is not to be had here; {nearest(name, allowed)}')
        with self._changing:
            seat = self._seated()
            settings = SwapSettings.read({**self._settings.model_dump(), "engine": name})
            session = self._build(settings, seat.session.identity)
            if session.identity is None and session.engine != RAW:
                session.close()
                raise IdentityError("whose face? choose an identity first")
            try:
                record("session begun", **self._facts(session))
                self._worker.call(lambda: seat.use(session)).result()
            except BaseException:
                session.close()
                raise
            self._settings, self._engine, self._why = settings, session.engine, session.why

    def pause(self, paused: bool) -> None:
        """The panic key: from now on the standby card, whatever is drawn; the source is closed."""
        self._hidden = paused
        if paused:
            self._source.pause()
        elif not self._idle:
            self._source.resume()

    @property
    def paused(self) -> bool:
        return self._hidden

    @property
    def is_card(self) -> bool:
        """For sinks, while they are written to: this is the standby card."""
        return self._status is None

    @property
    def identities(self) -> tuple[str, ...]:
        """The names that `swap_identity` takes."""
        return tuple(self._store.names())

    @property
    def showing(self) -> Showing:
        status = self._status
        return Showing(
            status=status,
            why="" if status is not None else self._why_card(),
            source=self._source.status,
            engine=self._engine,
            identity=self._identity,
            readers=self._readers,
            age=self._age(),
        )

    def sound_delay_s(self) -> float:
        """For how long sound has to wait now to be in step with the picture (capture to sink, p50)."""
        now_s = time.monotonic()
        with self._measured:
            age = self._lately.quantiles(now_s)
            return self._delay.follow(age.p50_ms / 1e3 if age.count else None, now_s)

    def numbers(self) -> dict[str, object]:
        """Everything that is counted, as JSON: source, drawn, card, dropped, ages, sinks, readers."""
        now_s, showing = time.monotonic(), self.showing
        with self._measured:
            fps, step = self._ages.rate_per_s(now_s), self._steps.quantiles(now_s)
        dropped = dict(self._dropped) | {"newer_came": self._pictures.dropped, "replaced": self._drawn.dropped}
        return {
            "showing": showing.status.value if showing.status is not None else "card",
            "why_card": showing.why,
            "engine": self._engine,
            "why": self._why,
            "identity": self._identity,
            "readers": self._readers,
            "idle": self._idle,
            "paused": self._hidden,
            "width_px": self._size_px[0],
            "height_px": self._size_px[1],
            "shown": dict(self._shown),
            "fps": round(fps, 2),
            "age_ms": showing.age.as_json(),
            "step_ms": step.as_json(),
            "delay_ms": round(self.sound_delay_s() * 1e3),
            "dropped": dropped,
            "faults": self._faults,
            "stuck_ms": round(self._worker.busy_s(now_s) * 1e3),
            "source": self._source.numbers(),
            "sinks": [
                {"name": one.sink.name, "format": one.shape.pixel_format if one.shape else None,
                 "written": one.written, "lost": one.lost, "losses": one.losses}
                for one in self._outlets
            ],
        }  # fmt: skip

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until it is over. Returns whether it is."""
        return self._over.wait(timeout_s)

    def close(self) -> None:
        """Ends all threads, closes source, session and sinks. Safe to call twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._consent.close()
        self._source.close()
        self._pictures.close()
        self._drawn.close()
        if self._working and not self._worker.close():
            log.error("the engine did not end; its memory is freed with the process")
        if self._output.is_alive():
            self._output.join(timeout=2.0)
        for outlet in self._outlets:
            outlet.sink.close()
        self._over.set()
        if self._engine:
            self._record_end()

    def _age(self) -> Quantiles:
        with self._measured:
            return self._ages.quantiles(time.monotonic())

    def _checked_identity(self, name: str | None) -> Identity | None:
        """Raises IdentityError, UnknownEngine."""
        if self._plan.swap.engine not in (*engine_names(), "auto"):
            raise SettingError(
                f'unknown engine "{self._plan.swap.engine}"; {nearest(self._plan.swap.engine, engine_names())}'
            )
        if name is not None:
            return self._known(name)
        if self._plan.swap.engine != RAW:
            raise IdentityError("whose face? choose one with --identity; `vividstream identities` lists them")
        return None

    def _known(self, name: str) -> Identity:
        """Names from outside never reach the store's file system unless the store itself listed them."""
        names = self.identities
        if name not in names:
            raise IdentityError(f'unknown identity "{name[:40]}"; {nearest(name, names)}')
        return self._store.load(name)

    def _seated(self) -> Seat[CapturedPicture]:
        if self._seat is None or self._closing.is_set():
            raise SettingError("it is not drawing yet, or not any more")
        return self._seat

    def _open_sinks(self) -> None:
        """The first one says how large the picture is; the others have to agree."""
        for number, outlet in enumerate(self._outlets):
            outlet.open(*self._size_px)
            assert outlet.shape is not None
            agreed_px = outlet.shape.width_px, outlet.shape.height_px
            if number == 0 and self._plan.size_px:
                self._size_px = agreed_px
            elif self._plan.size_px and agreed_px != self._size_px:
                raise SinkError(
                    f"{outlet.sink.name} is held to {agreed_px[0]}x{agreed_px[1]} by its readers; close them"
                )

    def _build(self, settings: SwapSettings, identity: Identity | None) -> Session:
        session = self._load(settings, identity)
        try:
            session.warm_up(self._size_px[1], self._size_px[0])
        except BaseException:
            session.close()
            raise
        return session

    def _begin(self, session: Session) -> None:
        """Recorded first: what nobody could account for is not drawn."""
        try:
            record("session begun", **self._facts(session))
            if not session.settings.label:
                record("label off", command=self._plan.command, reason=session.settings.label_off_reason)
        except BaseException:
            session.close()
            raise
        seat = Seat(self._plan.command, session, self._pictures, self._deliver, self._failed)
        self._worker.call(lambda: self._worker.serve(seat)).result()
        self._seat, self._engine, self._why = seat, session.engine, session.why
        self._consent.start()

    def _worn_now(self) -> Identity | None:
        return self._seat.session.identity if self._seat is not None else None

    def _take_off(self, worn: Identity, why: str) -> None:
        """Its consent ended: nobody is drawn until another is chosen. In the thread that watches consents."""
        assert self._seat is not None
        self._seat.session.set_identity(None)
        self._identity, self._why = None, why
        taken_off(worn, why, command=self._plan.command)

    def _facts(self, session: Session) -> dict[str, Fact]:
        label = session.settings.label
        return {"command": self._plan.command, "engine": session.engine, "label": label, **_worn(session.identity)}

    def _record_end(self) -> None:
        why = self._source.status.why or "closed"
        seconds = round(time.monotonic() - self._began_s, 1)
        try:
            record(
                "session ended", command=self._plan.command, why=why[:200], seconds=seconds,
                frames_drawn=self._shown[Status.DRAWN.value],
            )  # fmt: skip
        except AuditFault as error:  # it is over: all that is left is to say so
            log.error("%s", error)

    def _deliver(self, outcome: Outcome[CapturedPicture]) -> None:
        """In the worker thread."""
        self._fault = ""
        with self._measured:
            self._steps.add(time.monotonic(), outcome.took_ms)
        self._drawn.put(Drawn(outcome.result.rgb_HW3, outcome.result.status, outcome.picture.captured_s))

    def _failed(self, error: Exception) -> None:
        """In the worker thread. Nothing is delivered, so the card falls."""
        self._faults += 1
        self._fault = str(error) if isinstance(error, EngineFault) else "the engine failed"

    def _changed(self) -> None:
        """The source is in another state."""
        if self._source.status.state is SourceState.ENDED and not self._closing.is_set():
            threading.Timer(self._plan.hold_s + ENDED_CARD_S, self._over.set).start()

    def _show(self) -> None:
        """The output thread: the newest picture while it is young, else the card."""
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
            if drawn is not None and not self._hidden:
                self._write_drawn(drawn, now_s)
            if self._curtain.wait_s(now_s) <= 0:
                self._write_card(now_s)

    def _write_drawn(self, drawn: Drawn, now_s: float) -> None:
        verdict = self._curtain.judge(drawn.status, drawn.captured_s, int(drawn.captured_s * CLOCK_HZ), now_s)
        if verdict is not Verdict.SEND:
            self._dropped[verdict.value] += 1
            return
        if self._plan.size_px is None:
            self._size_px = drawn.rgb_HW3.shape[1], drawn.rgb_HW3.shape[0]
        self._status = drawn.status  # before it is written: a sink may ask `is_card`
        self._write(drawn.rgb_HW3, drawn.captured_s, now_s)
        self._shown[drawn.status.value] += 1
        age_ms = (time.monotonic() - drawn.captured_s) * 1e3
        with self._measured:
            self._ages.add(now_s, age_ms)
            self._lately.add(now_s, age_ms)

    def _write_card(self, now_s: float) -> None:
        self._curtain.card(int((now_s - self._curtain.hold_s) * CLOCK_HZ), now_s)
        if self._idle:
            self._curtain.begin(now_s + IDLE_CARD_S - self._curtain.hold_s)
        self._status = None
        self._write(standby_card(self._size_px[1], self._size_px[0], CARD_TEXT), now_s, now_s)
        self._shown["card"] += 1

    def _write(self, rgb_HW3: Rgb, captured_s: float, now_s: float) -> None:
        for outlet in self._outlets:
            outlet.write(rgb_HW3, captured_s, now_s)

    def _look_who_watches(self, now_s: float) -> None:
        """Nobody for some seconds: the source is closed and nothing drawn; somebody: it is opened again."""
        counts = [outlet.sink.readers() if outlet.shape else 0 for outlet in self._outlets]
        known = [count for count in counts if count is not None]
        self._readers = sum(known) if len(known) == len(counts) else None
        if self._plan.draw_always or self._readers is None or self._readers > 0:
            self._watched_s = now_s
        idle = now_s - self._watched_s > IDLE_S
        if idle == self._idle or not self._engine:
            return
        self._idle = idle
        log.info("nobody watches: the source is closed" if idle else "somebody watches")
        if idle:
            self._source.pause()
            return
        self._curtain.begin(now_s - self._curtain.hold_s)  # who comes gets the card at once
        if not self._hidden:
            self._source.resume()

    def _why_card(self) -> str:
        """Why there is no picture, for a person."""
        if self._hidden:
            return "paused by you"
        if self._idle:
            return "nobody watches"
        if not self._engine:
            return "the engine is being loaded"
        source = self._source.status
        if source.state is not SourceState.LIVE:
            return source.why
        return self._fault or "no picture was drawn in time: the engine is too slow or stuck, or no picture came"


def _worn(identity: Identity | None) -> dict[str, Fact]:
    if identity is None:
        return {"identity": None}
    return {"identity": identity.name, "consent_sha256": identity.manifest.consent_sha256}
