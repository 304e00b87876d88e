"""One thread for all calls: nobody's picture goes to anybody else, and nobody's fault is anybody else's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from engines import Rgb, Status, StepResult, SwapSettings, load
from streamer.errors import WorkerBusy
from streamer.mailbox import Latest
from streamer.worker import LEAST_STEPS, LOAD_WINDOW_S, MOST_ERRANDS, MOST_STEPS, Load, Outcome, Seat, Worker
from tests.streamer.calls import StubSession, negative, plain

RED, BLUE = (220, 10, 10), (10, 10, 220)


@dataclass(frozen=True)
class Shot:
    """A picture that knows which call it belongs to, and its number."""

    rgb_HW3: Rgb
    number: int
    captured_s: float

    def to_rgb(self) -> Rgb:
        return self.rgb_HW3


class Sitter:
    """A call at the worker, collecting what it is given."""

    def __init__(self, worker: Worker[Shot], call: str, session: StubSession, shared: bool = False) -> None:
        self.call = call
        self.outcomes: list[Outcome[Shot]] = []
        self.faults: list[Exception] = []
        self.mailbox: Latest[Shot] = Latest(worker.wake)
        self.seat = Seat(
            call, session.as_session(), self.mailbox, self.outcomes.append, self.faults.append, shared=shared
        )
        worker.call(lambda: worker.serve(self.seat)).result(5.0)

    def put(self, rgb_HW3: Rgb, number: int = 0) -> None:
        self.mailbox.put(Shot(rgb_HW3, number, time.monotonic()))


@pytest.fixture
def worker() -> Iterator[Worker[Shot]]:
    worker: Worker[Shot] = Worker()
    worker.start()
    yield worker
    assert worker.close(10.0)


def wait_until(what: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.001)


def test_ten_thousand_frames_of_two_calls_and_none_crossed(worker: Worker[Shot]) -> None:
    """Both calls share one session of the real passthrough engine; red and blue arrive as fast as they can."""
    session = load(SwapSettings(engine="passthrough", label=False))
    sitters = []
    for call in ("red", "blue"):
        sitter = Sitter(worker, call, StubSession(negative), shared=True)
        sitter.seat.session = session
        sitters.append(sitter)
    total = 5_000

    def pour(sitter: Sitter, colour: tuple[int, int, int]) -> None:
        number = 0
        while len(sitter.outcomes) < total:
            picture = plain(colour, 24, 32)
            picture[0, 0] = number & 255  # so that a picture can be told from the one before
            sitter.put(picture, number)
            number += 1
            time.sleep(0)

    threads = [threading.Thread(target=pour, args=pair) for pair in zip(sitters, (RED, BLUE))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    for sitter, colour in zip(sitters, (RED, BLUE)):
        outcomes = sitter.outcomes[:total]
        assert len(outcomes) == total
        assert {outcome.call for outcome in outcomes} == {sitter.call}
        numbers = [outcome.picture.number for outcome in outcomes]
        assert numbers == sorted(set(numbers))
        for outcome in outcomes:
            assert (outcome.result.rgb_HW3[1:] == colour).all()
            assert (outcome.result.rgb_HW3[0, 0] == outcome.picture.number & 255).all()
    assert sitters[0].seat.state is not sitters[1].seat.state
    session.close()


def test_calls_take_turns_however_fast_one_of_them_is(worker: Worker[Shot]) -> None:
    def slowly(rgb_HW3: Rgb, captured_s: float) -> StepResult:
        time.sleep(0.002)
        return negative(rgb_HW3)

    greedy, modest = (Sitter(worker, call, StubSession(slowly)) for call in ("greedy", "modest"))
    for number in range(60):
        for _ in range(5):
            greedy.put(plain(RED, 8, 8), number)
        modest.put(plain(BLUE, 8, 8), number)
        time.sleep(0.006)
    wait_until(lambda: not modest.mailbox.received - modest.mailbox.dropped - len(modest.outcomes))
    assert len(modest.outcomes) > 50
    assert greedy.mailbox.dropped > 100


def test_the_mailbox_never_holds_more_than_one_picture_for_a_slow_engine(worker: Worker[Shot]) -> None:
    ages_s: list[float] = []

    def slowly(rgb_HW3: Rgb, captured_s: float) -> StepResult:
        ages_s.append(time.monotonic() - captured_s)
        time.sleep(0.03)
        return negative(rgb_HW3)

    sitter = Sitter(worker, "slow", StubSession(slowly))
    for number in range(400):
        sitter.put(plain(RED, 8, 8), number)
        time.sleep(0.005)
    third = len(ages_s) // 3
    assert max(ages_s) < 0.2
    assert np.median(ages_s[-third:]) < np.median(ages_s[:third]) + 0.02
    assert sitter.mailbox.received - sitter.mailbox.dropped - len(ages_s) <= 1


def test_an_engine_that_raises_hurts_only_its_own_picture(
    worker: Worker[Shot], caplog: pytest.LogCaptureFixture
) -> None:
    def moody(rgb_HW3: Rgb, captured_s: float) -> StepResult:
        if rgb_HW3[0, 0, 0] == 13:
            raise ValueError("thirteen")
        return negative(rgb_HW3)

    session = StubSession(moody)
    unlucky, other = Sitter(worker, "unlucky", session), Sitter(worker, "other", StubSession(negative))
    for number, value in enumerate((1, 13, 13, 2)):
        unlucky.put(plain((value, 0, 0), 8, 8), number)
        other.put(plain(BLUE, 8, 8), number)
        done = [number + 1, number + 1]
        wait_until(lambda: [len(unlucky.outcomes) + len(unlucky.faults), len(other.outcomes)] == done)  # noqa: B023
    assert [outcome.picture.number for outcome in unlucky.outcomes] == [0, 3]
    assert [str(error) for error in unlucky.faults] == ["thirteen", "thirteen"]
    assert session.states == 3, "a state that was in use during a fault must not be used again"
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == 1, "one traceback for many faults in a row"
    assert "call unluck:" in caplog.text, "enough of the id to tell calls apart, not all of it: it is a secret"


def test_a_broken_picture_is_a_fault_too(worker: Worker[Shot]) -> None:
    class Broken(Shot):
        def to_rgb(self) -> Rgb:
            raise MemoryError("no room for the picture")

    sitter = Sitter(worker, "call", StubSession(negative))
    sitter.mailbox.put(Broken(plain(RED), 0, 0.0))
    wait_until(lambda: len(sitter.faults) == 1)
    sitter.put(plain(RED))
    wait_until(lambda: len(sitter.outcomes) == 1)


def test_a_closed_mailbox_frees_session_and_state(worker: Worker[Shot]) -> None:
    session = StubSession(negative)
    sitter = Sitter(worker, "call", session)
    sitter.put(plain(RED))
    wait_until(lambda: len(sitter.outcomes) == 1)
    sitter.mailbox.close()
    wait_until(lambda: session.closed == 1)
    assert sitter.seat.state is None


def test_another_session_starts_from_a_fresh_state(worker: Worker[Shot]) -> None:
    first, second = StubSession(negative), StubSession(lambda rgb, at: StepResult(rgb, Status.STANDBY, 0))
    sitter = Sitter(worker, "call", first)
    sitter.put(plain(RED))
    wait_until(lambda: len(sitter.outcomes) == 1)
    worker.call(lambda: sitter.seat.use(second.as_session())).result(5.0)
    sitter.put(plain(RED))
    wait_until(lambda: len(sitter.outcomes) == 2)
    assert (first.closed, second.closed, second.states) == (1, 0, 1)
    assert sitter.outcomes[1].result.status is Status.STANDBY


def test_errands_are_bounded_and_their_errors_come_back(worker: Worker[Shot]) -> None:
    gate = threading.Event()
    worker.call(lambda: gate.wait(20.0))
    time.sleep(0.05)
    assert worker.busy_s(time.monotonic()) > 0.02
    waiting = [worker.call(lambda: 1 / 0) for _ in range(MOST_ERRANDS)]
    with pytest.raises(WorkerBusy, match="does not answer"):
        worker.call(lambda: None)
    waiting[1].cancel()
    gate.set()
    with pytest.raises(ZeroDivisionError):
        waiting[0].result(5.0)
    with pytest.raises(ZeroDivisionError):
        waiting[-1].result(5.0)
    assert waiting[1].cancelled()


def test_after_the_end_errands_are_refused() -> None:
    worker: Worker[Shot] = Worker()
    worker.start()
    session = StubSession(negative)
    Sitter(worker, "call", session)
    assert worker.close()
    assert session.closed == 1
    with pytest.raises(WorkerBusy, match="shutting down"):
        worker.call(lambda: None)


def loaded(rate: float, took_s: float, seconds: float = LOAD_WINDOW_S) -> tuple[Load, float]:
    load, frames = Load(), int(rate * seconds)
    for frame in range(frames):
        load.add(100 + frame / rate + took_s, took_s)
    return load, 100 + frames / rate


@pytest.mark.parametrize(("rate", "took_s", "share"), [(30, 0.01, 0.3), (60, 0.005, 0.3), (25, 0.04, 1.0)])
def test_the_load_is_the_share_of_time_that_pictures_take(rate: float, took_s: float, share: float) -> None:
    load, now_s = loaded(rate, took_s)
    assert load.share(now_s) == pytest.approx(share, abs=0.02)
    assert load.share(now_s + LOAD_WINDOW_S / 2) < 0.6 * share + 0.02
    assert load.share(now_s + 2 * LOAD_WINDOW_S) == 0
    short, now_s = loaded(rate, took_s, 1.0)
    assert short.share(now_s) == pytest.approx(share, abs=0.05), "a young call counts as what it takes now"


def test_a_call_that_would_not_fit_is_refused_in_words() -> None:
    load, now_s = loaded(30, 0.012)
    assert load.refusal(0, now_s) is None
    assert load.refusal(1, now_s) is None, "two of 36 % fit"
    assert load.refusal(2, now_s) is None, "36 % are the two together"
    busy, now_s = loaded(30, 0.022)
    refusal = busy.refusal(1, now_s)
    assert refusal is not None
    assert "1 call takes 66%" in refusal
    assert "132%" in refusal
    assert busy.refusal(3, now_s) is None


def test_what_was_hardly_measured_refuses_nobody() -> None:
    load = Load()
    for frame in range(LEAST_STEPS - 1):
        load.add(100 + frame / 30, 1 / 30)
    assert load.refusal(1, 101) is None


def test_the_load_remembers_only_so_much() -> None:
    load, now_s = loaded(2000, 0.0001, 10.0)
    assert len(load._steps) == MOST_STEPS
    assert load.share(now_s) == pytest.approx(0.2, abs=0.02)


def test_the_worker_measures_what_it_does(worker: Worker[Shot]) -> None:
    def slow(rgb_HW3: Rgb, captured_s: float) -> StepResult:
        time.sleep(0.02)
        return negative(rgb_HW3, captured_s)

    sitter = Sitter(worker, "a", StubSession(slow))
    for number in range(LEAST_STEPS):
        sitter.put(plain(RED), number)
        wait_until(lambda number=number: len(sitter.outcomes) > number)  # type: ignore[misc]
    assert 0.1 < worker.load.share(time.monotonic()) <= 1
