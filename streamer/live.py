"""A live picture without a call: source -> worker's seat with a session -> sinks. Fails closed at the sinks.

Threads: the source's (reads, decodes), the worker's (fits, draws), the output's (sinks, standby card). Between them
mailboxes of one slot. What reaches a sink is what a session made, while it is young, or the standby card.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engines import (
    EngineFault,
    Identity,
    IdentityError,
    IdentityStore,
    Session,
    SettingError,
    Status,
    SwapSettings,
    engine_names,
    load,
    nearest,
)
from streamer.audit.chain import Fact
from streamer.audit.log import record
from streamer.camera.sink import PixelFormat, Sink
from streamer.capture.picture import CapturedPicture, CapturedSound
from streamer.capture.source import Source, SourceState, SourceStatus
from streamer.consents import ConsentWatch, taken_off
from streamer.errors import AuditFault
from streamer.mailbox import Latest
from streamer.pacing import HOLD_S
from streamer.stage import Drawn, Stage
from streamer.stats import Quantiles
from streamer.worker import Outcome, Seat, Worker

RAW = "passthrough"  # shows the real face: only where it was begun with it
ENDED_CARD_S = 0.7  # for how long the card is shown after the last picture of a file

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
        self._stage = Stage(
            sinks, plan.size_px, plan.fps, plan.pixel_format, plan.hold_s, plan.draw_always, self._watched
        )
        self._store = IdentityStore(plan.identities_dir)
        self._worker: Worker[CapturedPicture] = Worker()
        self._pictures: Latest[CapturedPicture] = Latest(self._worker.wake)
        self._seat: Seat[CapturedPicture] | None = None
        self._over, self._closing = threading.Event(), threading.Event()
        self._changing = threading.Lock()  # held by whoever changes identity or engine
        self._settings, self._engine, self._why = plan.swap, "", ""
        self._identity: str | None = plan.identity
        self._working = False
        self._began_s = time.monotonic()
        self._fault = ""
        self._faults = 0
        self._consent = ConsentWatch(self._store.load, self._worn_now, self._take_off)

    def start(self) -> None:
        """Checks identity and engine, opens sinks and source, shows the card, loads the engine. Raises VividError."""
        try:
            identity = self._checked_identity(self._plan.identity)
            self._stage.open()
            fit_px = self._stage.size_px if self._plan.size_px else None
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
        self._stage.hidden = paused
        if paused:
            self._source.pause()
        elif not self._stage.idle:
            self._source.resume()

    @property
    def paused(self) -> bool:
        return self._stage.hidden

    @property
    def is_card(self) -> bool:
        """For sinks, while they are written to: this is the standby card."""
        return self._stage.status is None

    @property
    def identities(self) -> tuple[str, ...]:
        """The names that `swap_identity` takes."""
        return tuple(self._store.names())

    @property
    def showing(self) -> Showing:
        status = self._stage.status
        return Showing(
            status=status,
            why="" if status is not None else self._why_card(),
            source=self._source.status,
            engine=self._engine,
            identity=self._identity,
            readers=self._stage.readers,
            age=self._stage.age(),
        )

    def sound_delay_s(self) -> float:
        """For how long sound has to wait now to be in step with the picture (capture to sink, p50)."""
        return self._stage.sound_delay_s()

    def numbers(self) -> dict[str, object]:
        """Everything that is counted, as JSON: source, drawn, card, dropped, ages, sinks, readers."""
        showing = self.showing
        return {
            **self._stage.numbers(),
            "showing": showing.status.value if showing.status is not None else "card",
            "why_card": showing.why,
            "engine": self._engine,
            "why": self._why,
            "identity": self._identity,
            "dropped": self._stage.dropped | {"newer_came": self._pictures.dropped},
            "faults": self._faults,
            "stuck_ms": round(self._worker.busy_s(time.monotonic()) * 1e3),
            "source": self._source.numbers(),
        }

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
        self._stage.stop()
        if self._working and not self._worker.close():
            log.error("the engine did not end; its memory is freed with the process")
        self._stage.end()
        self._over.set()
        if self._engine:
            self._record_end()

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

    def _build(self, settings: SwapSettings, identity: Identity | None) -> Session:
        session = self._load(settings, identity)
        try:
            session.warm_up(self._stage.size_px[1], self._stage.size_px[0])
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
        self._stage.may_idle = True
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
                frames_drawn=self._stage.shown[Status.DRAWN.value],
            )  # fmt: skip
        except AuditFault as error:  # it is over: all that is left is to say so
            log.error("%s", error)

    def _deliver(self, outcome: Outcome[CapturedPicture]) -> None:
        """In the worker thread."""
        self._fault = ""
        drawn = Drawn(outcome.result.rgb_HW3, outcome.result.status, outcome.picture.captured_s)
        self._stage.put(drawn, outcome.took_ms)

    def _failed(self, error: Exception) -> None:
        """In the worker thread. Nothing is delivered, so the card falls."""
        self._faults += 1
        self._fault = str(error) if isinstance(error, EngineFault) else "the engine failed"

    def _changed(self) -> None:
        """The source is in another state."""
        if self._source.status.state is SourceState.ENDED and not self._closing.is_set():
            threading.Timer(self._plan.hold_s + ENDED_CARD_S, self._over.set).start()

    def _watched(self, watched: bool) -> None:
        """In the stage's thread: without anybody who watches the source is closed and nothing is drawn."""
        if not watched:
            self._source.pause()
        elif not self._stage.hidden:
            self._source.resume()

    def _why_card(self) -> str:
        """Why there is no picture, for a person."""
        if self._stage.hidden:
            return "paused by you"
        if self._stage.idle:
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
