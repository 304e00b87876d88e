"""Sessions on one accelerator: one graph, many memories, one thread at the device at a time.

Callers' threads ask for a frame and wait for it. What is asked for is computed by turns (engines.turns), the frames of
several sessions in one run where the graph has several rows. A row is one person's own: their memories lie in it, no
other frame is ever computed with them, and an empty row computes on zeros.

A GPU has an owner, a thread that alone touches it: CUDA graphs and what compilers keep belong to threads. On a CPU
whoever waits computes, and no frame waits until another thread wakes up.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineBusy, EngineFault, VividError
from engines.graph import Clock
from engines.runtimes.base import Array, Runtime, State
from engines.turns import MOST_WAIT_S, Budget, Place, Turns

MOST_ERRANDS = 64
MEASURED_RUNS = 64  # the latest ones, whose median is what a run takes
MOST_SLEEP_S = 0.1  # without looking whether something changed
NUMPY = {"float32": np.float32, "float16": np.float16, "int64": np.int64}
CLOCKS: tuple[Clock, ...] = ("window", "recent")


class Graphs(Protocol):
    """What lives on the device, opened in the owner's thread: the graph of a frame, and whatever else there is."""

    @property
    def step(self) -> Runtime: ...

    def close(self) -> None: ...


T = TypeVar("T")
G = TypeVar("G", bound=Graphs)


@dataclass(frozen=True, slots=True)
class SharingStatistics:
    """Counters since the engine was opened. frame_ms: median of the latest runs; together: mean frames of one run."""

    sessions: int
    places: int
    runs: int
    frames: int
    faults: int
    most_waited_ms: float
    frame_ms: float
    together: float


@dataclass(slots=True, eq=False)
class _Question:
    """One frame that is asked for."""

    inputs: Mapping[str, Array]
    slots: Mapping[Clock, int]
    since_s: float
    answered: threading.Event = field(default_factory=threading.Event)
    outputs: dict[str, Array] = field(default_factory=dict)
    fault: Exception | None = None


@dataclass(slots=True)
class _Group:
    """B rows that are computed together, and the inputs of all of them."""

    state: State
    staged: dict[str, Array]
    free: list[int]
    filled: set[int] = field(default_factory=set)


class SharedGraph(Generic[G]):
    """The graph, its owner thread and its rows. Every method may be called from any thread."""

    def __init__(
        self,
        open_graphs: Callable[[], G],
        budget: Budget | None = None,
        most_wait_s: float = MOST_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
        owner: bool = True,
    ) -> None:
        """Opens the graphs; raises what `open_graphs` raises. owner: everything is done in a thread of its own."""
        self._budget = budget or Budget()
        self._clock = clock
        self._changed = threading.Condition()
        self._turns = Turns(most_wait_s)
        self._questions: dict[Place, _Question] = {}
        self._errands: deque[Callable[[], None]] = deque()
        self._groups: list[_Group] = []
        self._latest: deque[tuple[float, int]] = deque(maxlen=MEASURED_RUNS)
        self._sessions = self._places = self._runs = self._frames = self._faults = 0
        self._most_waited_s = 0.0
        self._closed = False
        self._broken: str | None = None
        self._led = False  # somebody is at the device
        self._errands_wait = 0
        self._thread: threading.Thread | None = None
        if owner:
            self._thread = threading.Thread(target=self._serve, name="accelerator", daemon=True)
            self._thread.start()
        try:
            self.graphs: G = self._do(open_graphs)
        except BaseException:
            self._end()
            raise

    @property
    def rows(self) -> int:
        """B, frames that one run can serve."""
        return self.graphs.step.spec.inputs[0].shape[0]

    @property
    def idle(self) -> bool:
        """Whether no session is in."""
        with self._changed:
            return self._sessions == 0

    def enter(self) -> None:
        """One more session. Raises EngineBusy, in words, where the measured time of the others leaves no room."""
        with self._changed:
            frame_ms, together = self._frame_ms(), float(min(self._sessions + 1, self.rows))
            if self._sessions > 1 and len(self._latest) == MEASURED_RUNS:
                together = min(self._together() * (self._sessions + 1) / self._sessions, together)
            refusal = self._budget.refusal(self._sessions, frame_ms, together)
            if refusal:
                raise EngineBusy(refusal)
            self._sessions += 1

    def leave(self) -> None:
        """A session ends."""
        with self._changed:
            self._sessions -= 1

    def place(self) -> Place:
        """A row that nobody has, with nothing remembered. Raises EngineFault where the device fails."""
        return self._do(self._take_row)

    def give_up(self, place: Place) -> None:
        """Frees the row. Never waits, so that a finaliser may call it."""
        with self._changed:
            if self._closed:
                return
            self._turns.forget(place)
            self._groups[place.group].free.append(place.row)
            self._places -= 1

    def forget(self, place: Place) -> None:
        """Clears what the row remembers: the next frame is as the first."""
        self._do(lambda: self.graphs.step.reset(self._groups[place.group].state, (place.row,)))

    def run(self, place: Place, inputs: Mapping[str, Array], slots: Mapping[Clock, int]) -> dict[str, Array]:
        """One frame. Waits for it.

        inputs  as the graph's specification, each [1, ...]
        slots   where this frame's slices are written, per clock (engines.window); -1 keeps the memories as they are

        Returns the outputs, [1, ...], owned by the caller. Raises EngineFault; what the row remembered is then cleared.
        """
        question = _Question(inputs, slots, self._clock())
        with self._changed:
            self._check_open()
            self._turns.ask(place, threading.get_ident(), question.since_s)
            self._questions[place] = question
            self._changed.notify_all()
        if self._thread is None:
            self._lead(question)
        else:
            question.answered.wait()
        if question.fault is not None:
            raise question.fault
        return question.outputs

    def call(self, function: Callable[[G], T]) -> T:
        """Runs something in the owner's thread between two frames, such as the identity graph. Waits for it."""
        return self._do(lambda: function(self.graphs))

    def statistics(self) -> SharingStatistics:
        with self._changed:
            return SharingStatistics(
                sessions=self._sessions,
                places=self._places,
                runs=self._runs,
                frames=self._frames,
                faults=self._faults,
                most_waited_ms=1e3 * self._most_waited_s,
                frame_ms=self._frame_ms(),
                together=self._together(),
            )

    def close(self) -> None:
        """Ends the thread and frees the device. Whoever still waits gets an EngineFault."""
        if self._closed:
            return
        if self._broken is None:
            self._do(self.graphs.close)
        self._end()

    def _end(self) -> None:
        with self._changed:
            self._closed = True
            left = [] if self._thread is not None else list(self._questions.values())
            self._changed.notify_all()
        for question in left:
            _answer(question, None, EngineFault("the engine was closed"))
        if self._thread is not None:
            self._thread.join()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineFault("the engine was closed")
        if self._broken is not None:
            raise EngineFault(self._broken)

    def _frame_ms(self) -> float:
        return 1e3 * median(took_s for took_s, _ in self._latest) if self._latest else 0.0

    def _together(self) -> float:
        return sum(frames for _, frames in self._latest) / len(self._latest) if self._latest else 1.0

    def _do(self, function: Callable[[], T]) -> T:
        """Runs an errand where the device is used, between two frames, and hands back what it returns or raises."""
        if self._thread is None:
            return self._do_here(function)
        if threading.current_thread() is self._thread:
            return function()
        done, results, faults = threading.Event(), list[T](), list[Exception]()

        def errand() -> None:
            try:
                results.append(function())
            except Exception as error:  # noqa: BLE001  not swallowed: it is raised where the errand came from
                faults.append(error)
            done.set()

        with self._changed:
            self._check_open()
            if len(self._errands) >= MOST_ERRANDS:
                raise EngineFault("the accelerator does not answer")
            self._errands.append(errand)
            self._changed.notify_all()
        done.wait()
        if faults:
            raise faults[0]
        return results[0]

    def _do_here(self, function: Callable[[], T]) -> T:
        with self._changed:
            self._errands_wait += 1
            self._changed.wait_for(lambda: not self._led)
            self._errands_wait -= 1
            self._check_open()
            self._led = True
        try:
            return function()
        finally:
            self._hand_over()

    def _hand_over(self) -> None:
        with self._changed:
            self._led = False
            self._changed.notify_all()

    def _lead(self, question: _Question) -> None:
        """Computes what waits longest, whosever it is, until this question is answered by this thread or another."""
        while not question.answered.is_set():
            with self._changed:
                if self._led or self._errands_wait or self._closed:
                    self._changed.wait(MOST_SLEEP_S)
                    continue
                together, wait_s = self._turns.next(self._clock())
                if not together:
                    if not question.answered.is_set():
                        self._changed.wait(min(wait_s, MOST_SLEEP_S))
                    continue
                questions = {place: self._questions.pop(place) for place in together}
                self._led = True
            try:
                self._compute(questions)
            finally:
                self._hand_over()

    def _take_row(self) -> Place:
        with self._changed:
            open_groups = [number for number, group in enumerate(self._groups) if group.free]
        step = self.graphs.step
        if not open_groups:
            staged = {one.name: np.zeros(one.shape, NUMPY[one.dtype]) for one in step.spec.inputs}
            self._groups.append(_Group(step.init(), staged, list(range(self.rows))[::-1]))
            open_groups = [len(self._groups) - 1]
        with self._changed:
            group = self._groups[open_groups[0]]
            row = group.free.pop()
            self._places += 1
        step.reset(group.state, (row,))
        return Place(open_groups[0], row)

    def _serve(self) -> None:
        while True:
            errand, together = None, tuple[Place, ...]()
            with self._changed:
                while errand is None and not together and not self._closed:
                    if self._errands:
                        errand = self._errands.popleft()
                        break
                    together, wait_s = self._turns.next(self._clock())
                    if not together:
                        self._changed.wait(None if wait_s == float("inf") else wait_s)
                questions = {place: self._questions.pop(place) for place in together}
                left = [*self._questions.values()] if self._closed else []
            if errand is not None:
                errand()
            elif together:
                self._compute(questions)
            else:
                for question in left:
                    _answer(question, None, EngineFault("the engine was closed"))
                return

    def _compute(self, questions: Mapping[Place, _Question]) -> None:
        """Answers every question. A fault in a common run says not whose it is: then each is computed alone."""
        group = self._groups[next(iter(questions)).group]
        now_s = self._clock()
        waited_s = max(now_s - question.since_s for question in questions.values())
        try:
            outputs = self._run(group, {place.row: question for place, question in questions.items()})
        except Exception as error:  # noqa: BLE001  the boundary: whatever a runtime raises, the other sessions go on
            if len(questions) > 1:
                for place, question in questions.items():
                    self._compute({place: question})
                return
            ((place, question),) = questions.items()
            self._fail(place, question, error)
            return
        with self._changed:
            self._runs, self._frames = self._runs + 1, self._frames + len(questions)
            self._most_waited_s = max(self._most_waited_s, waited_s)
            self._latest.append((self._clock() - now_s, len(questions)))
        for place, question in questions.items():
            own = {name: array[place.row : place.row + 1] for name, array in outputs.items()}
            _answer(question, own if self.rows == 1 else {name: array.copy() for name, array in own.items()}, None)

    def _run(self, group: _Group, questions: Mapping[int, _Question]) -> dict[str, Array]:
        if self.rows == 1:
            (question,) = questions.values()
            return self.graphs.step.run(group.state, question.inputs, _slots(1, questions))
        left, group.filled = group.filled - questions.keys(), set(questions)
        for name, staged in group.staged.items():
            for row in left:
                staged[row] = 0
            for row, question in questions.items():
                staged[row] = question.inputs[name][0]
        return self.graphs.step.run(group.state, group.staged, _slots(self.rows, questions))

    def _fail(self, place: Place, question: _Question, error: Exception) -> None:
        words = " ".join(str(error).split())
        told = error if isinstance(error, VividError) else EngineFault(f"{type(error).__name__}: {words}")
        with self._changed:
            self._faults += 1
        try:
            self.graphs.step.reset(self._groups[place.group].state, (place.row,))
        except Exception as lost:  # noqa: BLE001  a device that cannot even forget is gone for every session
            self._broken = f"the accelerator is lost ({' '.join(str(lost).split())}); the program must be started again"
        _answer(question, None, told)


def _slots(rows: int, questions: Mapping[int, _Question]) -> dict[Clock, NDArray[np.int64]]:
    """Where each row is written; -1 for a row without a frame."""
    slots = {clock: np.full(rows, -1, np.int64) for clock in CLOCKS}
    for row, question in questions.items():
        for clock, slot in question.slots.items():
            slots[clock][row] = slot
    return slots


def _answer(question: _Question, outputs: dict[str, Array] | None, fault: Exception | None) -> None:
    question.outputs, question.fault = outputs or {}, fault
    question.answered.set()
