"""A thread that steps sessions: it serves its calls in turn. A server has one, or several that share loaded engines."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from engines import Rgb, Session, SessionState, StepResult
from streamer.errors import WorkerBusy
from streamer.mailbox import Closed, Latest

log = logging.getLogger(__name__)

MOST_ERRANDS = 64
IDLE_WAIT_S = 0.5  # every picture wakes the thread; this only bounds how long a lost wake-up could last
FAULT_LOG_EVERY_S = 5.0
LOAD_WINDOW_S = 5.0
LEAST_STEPS = 20  # measured pictures from which on the load says something
MOST_STEPS = 4_096  # 16 calls of 50 pictures a second for the whole window
MOST_LOAD = 0.95


class Picture(Protocol):
    """A picture as it came in, not yet converted: the worker asks for its pixels in its own thread."""

    @property
    def captured_s(self) -> float: ...

    def to_rgb(self) -> Rgb: ...


P = TypeVar("P", bound=Picture)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[P]):
    """What became of one picture. `call` is the id of the call it came from, and the only one it may go to."""

    call: str
    picture: P
    result: StepResult
    took_ms: float
    taken_s: float  # when the worker took the picture, monotonic seconds


@dataclass(slots=True, eq=False)
class Seat(Generic[P]):
    """One call's place at the worker: its mailbox, its session, and a state that no other call ever sees.

    `deliver` and `failed` run in the worker thread. A session may be shared by seats (then it is not closed with
    them), a state never is. From `Worker.serve` on both belong to the worker thread.
    """

    call: str
    session: Session
    mailbox: Latest[P]
    deliver: Callable[[Outcome[P]], None]
    failed: Callable[[Exception], None]
    shared: bool = False
    state: SessionState | None = None
    fault_logged_s: float | None = None

    def draw(self, picture: P) -> Outcome[P]:
        """Steps the session with one picture."""
        started_s = time.monotonic()
        if self.state is None:
            self.state = self.session.init()
        result = self.session.step(self.state, picture.to_rgb(), picture.captured_s)
        return Outcome(self.call, picture, result, (time.monotonic() - started_s) * 1e3, started_s)

    def use(self, session: Session) -> None:
        """Goes on with another session, from a fresh state. Only in the worker thread."""
        old, self.session, self.state = self.session, session, None
        if not self.shared:
            old.close()

    def end(self) -> None:
        """Frees the state and, where it is the seat's own, the session."""
        self.state = None
        if not self.shared:
            self.session.close()


class Load:
    """How much of the thread's time pictures take: what says whether one more call would fit. Any thread may ask."""

    def __init__(self, window_s: float = LOAD_WINDOW_S) -> None:
        self._window_s = window_s
        self._lock = threading.Lock()
        self._steps: deque[tuple[float, float]] = deque(maxlen=MOST_STEPS)  # when it ended, and how long it took

    def add(self, ended_s: float, took_s: float) -> None:
        with self._lock:
            self._steps.append((ended_s, took_s))

    def share(self, now_s: float) -> float:
        """0..1: of the latest seconds. 0 while too little was measured to say."""
        with self._lock:
            steps = [(ended_s, took_s) for ended_s, took_s in self._steps if ended_s > now_s - self._window_s]
        if len(steps) < LEAST_STEPS:
            return 0.0
        since_s = max(now_s - self._window_s, steps[0][0] - steps[0][1])
        return min(sum(took_s for _, took_s in steps) / max(now_s - since_s, 1e-3), 1.0)

    def refusal(self, calls: int, now_s: float) -> str | None:
        """Why one more call would not fit beside so many, in words; None where it would, or nothing is known yet."""
        share = self.share(now_s)
        needed = share * (calls + 1) / max(calls, 1)
        if calls == 0 or needed <= MOST_LOAD:
            return None
        going_on = "1 call takes" if calls == 1 else f"{calls} calls take"
        return (
            f"the server is busy: {going_on} {share:.0%} of the time there is for drawing, one more would make it "
            f"{needed:.0%}; try again later"
        )


class Worker(Generic[P]):
    """Serves the seats round robin: one picture of each call in turn, always its newest one."""

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._errands: queue.Queue[Callable[[], None]] = queue.Queue(MOST_ERRANDS)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.load = Load()
        self._seats: list[Seat[P]] = []  # touched by the worker thread only
        self._busy_since_s: float | None = None

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> bool:
        """Ends the thread after what it is at. Returns False where an engine kept it for longer than that."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def busy_s(self, now_s: float) -> float:
        """For how long the thread has been at one and the same thing: large when an engine is stuck."""
        since_s = self._busy_since_s
        return max(now_s - since_s, 0.0) if since_s is not None else 0.0

    def wake(self) -> None:
        """Says that a mailbox has something or is closed: pass it to every seat's mailbox as `notify`."""
        self._wake.set()

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Runs something in the worker thread between two pictures. Raises WorkerBusy when too much is waiting."""
        future: Future[T] = Future()

        def errand() -> None:
            if not future.set_running_or_notify_cancel():
                return
            if self._closing.is_set():
                future.set_exception(WorkerBusy("the server is shutting down"))
                return
            try:
                result = function()
            except Exception as error:  # noqa: BLE001  not swallowed: it is raised where the future is awaited
                future.set_exception(error)
            else:
                future.set_result(result)

        if self._closing.is_set():
            raise WorkerBusy("the server is shutting down")
        try:
            self._errands.put_nowait(errand)
        except queue.Full:
            raise WorkerBusy("the engine does not answer; try again in a moment") from None
        self._wake.set()
        return future

    def serve(self, seat: Seat[P]) -> None:
        """Serves the seat until its mailbox is closed; then its state is freed. Only in the worker thread."""
        self._seats.append(seat)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(IDLE_WAIT_S)
            self._wake.clear()
            while self._round() and not self._closing.is_set():
                pass
        for seat in self._seats:
            seat.end()
        self._seats.clear()
        self._run_errands()  # they learn that the server is ending

    def _round(self) -> bool:
        """Every errand, then at most one picture of every seat. Returns whether there was anything to do."""
        worked = self._run_errands()
        for seat in tuple(self._seats):
            try:
                picture = seat.mailbox.poll()
            except Closed:
                self._seats.remove(seat)
                seat.end()
                continue
            if picture is not None:
                self._serve(seat, picture)
                worked = True
        return worked

    def _run_errands(self) -> bool:
        worked = False
        while True:
            try:
                errand = self._errands.get_nowait()
            except queue.Empty:
                return worked
            self._busy_since_s = time.monotonic()
            errand()
            self._busy_since_s = None
            worked = True

    def _serve(self, seat: Seat[P], picture: P) -> None:
        self._busy_since_s = time.monotonic()
        try:
            seat.deliver(seat.draw(picture))
        except Exception as error:  # noqa: BLE001  the boundary: whatever an engine does, the other calls go on
            seat.state = None
            _log_fault(seat, error, self._busy_since_s)
            seat.failed(error)
        now_s = time.monotonic()
        self.load.add(now_s, now_s - self._busy_since_s)
        self._busy_since_s = None


def _log_fault(seat: Seat[P], error: Exception, now_s: float) -> None:
    """With the traceback, but not thirty times a second."""
    if seat.fault_logged_s is None or now_s - seat.fault_logged_s >= FAULT_LOG_EVERY_S:
        seat.fault_logged_s = now_s
        log.error("call %s: the engine failed; the standby picture is shown", seat.call[:6], exc_info=error)
