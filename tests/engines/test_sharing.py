"""One graph, many sessions: what each gets is what it would get alone, whatever the others do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.errors import EngineBusy, EngineFault
from engines.graph import Clock, GraphSpec, Memory, TensorSpec
from engines.runtimes.base import Array, State
from engines.runtimes.checks import check_finite, check_inputs, check_slots, finite_rows
from engines.sharing import SharedGraph
from engines.turns import MOST_WAIT_S, Budget, Place
from engines.window import Window

WIDTH, WINDOW = 4, Window(4, 1)


@dataclass
class Kept:
    """A ring of the latest frames, [B, slots, WIDTH]."""

    ring: NDArray[np.float32]

    @property
    def size_bytes(self) -> int:
        return self.ring.nbytes


@dataclass
class Sums:
    """A runtime in NumPy: y = 2 x + the ring weighted by slot. Rows do not meet, as in every graph of this project."""

    rows: int
    takes_s: float = 0.0
    name: str = "sums"
    device: str = "cpu"
    seen: list[NDArray[np.float32]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    lost: bool = False
    at_once: int = 0
    most_at_once: int = 0
    closed: bool = False
    spec: GraphSpec = field(init=False)

    def __post_init__(self) -> None:
        frame = (self.rows, WIDTH)
        kept = TensorSpec("past", (self.rows, WINDOW.slots, WIDTH))
        memory = Memory(kept, TensorSpec("new", frame), 1, "window")
        self.spec = GraphSpec("sums", (TensorSpec("x", frame),), (TensorSpec("y", frame),), (memory,))

    @property
    def step(self) -> Sums:
        return self

    def init(self) -> State:
        return Kept(np.zeros((self.rows, WINDOW.slots, WIDTH), np.float32))

    def reset(self, state: State, rows: tuple[int, ...] | None = None) -> None:
        assert isinstance(state, Kept)
        if self.lost:
            raise RuntimeError("no device")
        state.ring[list(rows) if rows is not None else slice(None)] = 0

    def run(
        self, state: State, inputs: Mapping[str, Array], slots: Mapping[Clock, NDArray[np.int64]]
    ) -> dict[str, Array]:
        assert isinstance(state, Kept)
        check_inputs(self.spec, inputs)
        check_slots(self.spec, slots)
        self.threads.add(threading.get_ident())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self._run(state, inputs, slots)
        finally:
            self.at_once -= 1

    def _run(
        self, state: Kept, inputs: Mapping[str, Array], slots: Mapping[Clock, NDArray[np.int64]]
    ) -> dict[str, Array]:
        self.seen.append(inputs["x"].copy())
        if self.lost:
            raise RuntimeError("no device")
        time.sleep(self.takes_s)
        weights = np.arange(1, WINDOW.slots + 1, dtype=np.float32)[:, None]
        y = 2 * inputs["x"] + (weights * state.ring).sum(axis=1)
        check_finite(self.spec, finite_rows([y], self.rows))
        for row, slot in enumerate(slots["window"].tolist()):
            if slot >= 0:
                state.ring[row, slot] = inputs["x"][row]
        return {"y": y}

    def close(self) -> None:
        self.closed = True


@dataclass
class Caller:
    """One session: frames of its own numbers, and what a graph of its own makes of them."""

    graph: SharedGraph[Sums]
    number: int
    place: Place
    frame: int = 0
    alone: Sums = field(default_factory=lambda: Sums(1))

    def __post_init__(self) -> None:
        self.state = self.alone.init()
        self.random = np.random.default_rng(self.number)

    def x(self) -> NDArray[np.float32]:
        return (self.random.normal(size=(1, WIDTH)) + 1000 * self.number).astype(np.float32)

    def step(self) -> None:
        """One frame; it must be what it is alone, to the bit."""
        x, slot = self.x(), WINDOW.slot_of(self.frame)
        y = self.graph.run(self.place, {"x": x}, {"window": slot})["y"]
        slots: dict[Clock, NDArray[np.int64]] = {"window": np.array([slot])}
        np.testing.assert_array_equal(y, self.alone.run(self.state, {"x": x}, slots)["y"])
        self.frame += 1

    def fresh(self) -> None:
        """What a session does after a fault."""
        self.alone.reset(self.state)
        self.frame = 0


@contextmanager
def shared(
    rows: int, takes_s: float = 0.0, budget: Budget | None = None, owner: bool = True
) -> Iterator[SharedGraph[Sums]]:
    with closing(SharedGraph(lambda: Sums(rows, takes_s), budget, owner=owner)) as graph:
        yield graph


def callers(graph: SharedGraph[Sums], count: int) -> list[Caller]:
    return [Caller(graph, number, graph.place()) for number in range(count)]


def together(jobs: list[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(len(jobs)) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()


@pytest.mark.parametrize("owner", [True, False], ids=["owned", "whoever waits"])
@pytest.mark.parametrize(("rows", "count"), [(1, 3), (2, 2), (2, 5), (4, 4)])
def test_outputs_are_those_of_sessions_alone_over_thousands_of_frames(rows: int, count: int, owner: bool) -> None:
    with shared(rows, owner=owner) as graph:

        def live(caller: Caller) -> None:
            for _ in range(1000):
                caller.step()

        together([lambda caller=one: live(caller) for one in callers(graph, count)])  # type: ignore[misc]
        counted = graph.statistics()
        assert counted.frames == 1000 * count
        assert counted.runs <= counted.frames
        assert counted.faults == 0
        if owner:
            assert len(graph.graphs.threads) == 1
            assert threading.get_ident() not in graph.graphs.threads
        assert graph.graphs.most_at_once == 1


@pytest.mark.parametrize("owner", [True, False], ids=["owned", "whoever waits"])
def test_one_thread_that_steps_all_sessions_in_turn_gets_the_same(owner: bool) -> None:
    """As the server's worker does; and it never waits for a neighbour that cannot come."""
    with shared(2, owner=owner) as graph:
        everybody = callers(graph, 4)
        for _ in range(800):
            for one in everybody:
                one.step()
        assert graph.statistics().together == 1


@pytest.mark.parametrize("owner", [True, False], ids=["owned", "whoever waits"])
def test_sessions_that_ask_at_once_are_computed_at_once(owner: bool) -> None:
    with shared(4, takes_s=0.004, owner=owner) as graph:
        barrier = threading.Barrier(4)

        def live(caller: Caller) -> None:
            for _ in range(30):
                barrier.wait()
                caller.step()

        together([lambda caller=one: live(caller) for one in callers(graph, 4)])  # type: ignore[misc]
        assert graph.statistics().together > 1.8


@pytest.mark.alone
@pytest.mark.parametrize("owner", [True, False], ids=["owned", "whoever waits"])
def test_the_deadline_is_honoured(owner: bool) -> None:
    """A neighbour with a steady rhythm stops; nobody waits for it longer than promised."""
    with shared(2, owner=owner) as graph:
        first, second = callers(graph, 2)
        for _ in range(20):
            together([first.step, second.step])
            time.sleep(0.01)
        waits = []
        for _ in range(20):
            since_s = time.monotonic()
            first.step()
            waits.append(time.monotonic() - since_s)
            time.sleep(0.01)
        assert np.median(waits) < MOST_WAIT_S + 0.02


@pytest.mark.parametrize("owner", [True, False], ids=["owned", "whoever waits"])
def test_an_empty_row_computes_on_zeros_and_remembers_nothing(owner: bool) -> None:
    with shared(3, owner=owner) as graph:
        first, second, third = callers(graph, 3)
        together([first.step, second.step, third.step])
        for _ in range(3):
            second.step()
        x = graph.graphs.seen[-1]
        assert x[second.place.row].any()
        assert not x[[first.place.row, third.place.row]].any()
        first.step()
        third.step()


@pytest.mark.parametrize("owner", [True, False], ids=["owned", "whoever waits"])
def test_a_row_that_is_given_up_and_taken_again_is_a_fresh_one(owner: bool) -> None:
    with shared(2, owner=owner) as graph:
        first, second = callers(graph, 2)
        for _ in range(5):
            first.step()
            second.step()
        graph.give_up(first.place)
        third = Caller(graph, 7, graph.place())
        assert third.place == first.place
        for _ in range(5):
            third.step()
            second.step()
        graph.forget(second.place)
        second.fresh()
        for _ in range(5):
            third.step()
            second.step()
        assert graph.statistics().places == 2


@pytest.mark.parametrize("owner", [True, False], ids=["owned", "whoever waits"])
def test_a_fault_of_one_session_does_not_hurt_the_others(owner: bool) -> None:
    with shared(3, owner=owner) as graph:
        good, bad, other = callers(graph, 3)
        for frame in range(200):

            def spoil() -> None:
                if frame % 10 != 3:  # noqa: B023
                    bad.step()
                    return
                with pytest.raises(EngineFault, match="no numbers"):
                    graph.run(bad.place, {"x": np.full((1, WIDTH), np.nan, np.float32)}, {"window": 0})
                bad.fresh()

            together([good.step, spoil, other.step])
        assert graph.statistics().faults == 20
        assert good.frame == other.frame == 200


@pytest.mark.parametrize("rows", [1, 2])
def test_a_question_that_makes_no_sense_is_the_fault_of_who_asked(rows: int) -> None:
    with shared(rows) as graph:
        good, bad = callers(graph, 2)

        def ask() -> None:
            with pytest.raises(EngineFault):
                graph.run(bad.place, {"y": np.zeros((1, WIDTH), np.float32)}, {"window": 0})

        for _ in range(20):
            together([good.step, ask])


@pytest.mark.parametrize("owner", [True, False], ids=["owned", "whoever waits"])
def test_a_lost_device_is_said_and_nobody_hangs(owner: bool) -> None:
    with shared(2, owner=owner) as graph:
        first, second = callers(graph, 2)
        first.step()
        graph.graphs.lost = True
        for caller in (first, second, first):
            with pytest.raises(EngineFault, match=r"no device|is lost"):
                caller.step()
        with pytest.raises(EngineFault, match=r"the accelerator is lost.*must be started again"):
            graph.place()


@pytest.mark.parametrize("owner", [True, False], ids=["owned", "whoever waits"])
def test_who_waits_when_it_is_closed_is_told(owner: bool) -> None:
    graph = SharedGraph(lambda: Sums(1, takes_s=0.2), owner=owner)
    first, second = callers(graph, 2)
    told: list[str] = []

    def ask(caller: Caller) -> None:
        try:
            caller.step()
        except EngineFault as fault:
            told.append(str(fault))

    threads = [threading.Thread(target=ask, args=(one,)) for one in (first, second, first, second)][:2]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    graph.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert told in ([], ["the engine was closed"])
    with pytest.raises(EngineFault, match="closed"):
        first.step()
    graph.give_up(first.place)
    graph.close()


def test_what_opening_raises_is_raised_where_it_was_asked_for() -> None:
    def broken() -> Sums:
        raise EngineFault("no weights")

    before = threading.active_count()
    with pytest.raises(EngineFault, match="no weights"):
        SharedGraph(broken)
    assert threading.active_count() == before


def test_errands_run_in_the_owner_s_thread_between_frames() -> None:
    with shared(1) as graph:
        (caller,) = callers(graph, 1)
        caller.step()
        assert {graph.call(lambda _: threading.get_ident())} == graph.graphs.threads
        with pytest.raises(ZeroDivisionError):
            graph.call(lambda _: 1 // 0)
        caller.step()


def test_a_session_too_many_is_refused_by_what_was_measured() -> None:
    with shared(1, takes_s=0.004, budget=Budget(share=0.9, frames_s=25)) as graph:
        graph.enter()
        (caller,) = callers(graph, 1)
        for _ in range(9):
            caller.step()
        room = int(900 / (25 * graph.statistics().frame_ms))
        assert 1 <= room <= 9, "as fast as it sleeps, or slower"
        for _ in range(room - 1):
            graph.enter()
        with pytest.raises(EngineBusy, match=r"the engine serves \d+ sessions? of 25 frames/s"):
            graph.enter()
        assert graph.statistics().sessions == room
        graph.leave()
        if room > 1:
            graph.enter()
