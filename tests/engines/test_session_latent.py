"""A session with a learned engine: with a real person before the camera, real networks, and faults in the middle."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from engines import Box, EngineFault, EnginePool, Identity, Rgb, Session, Status, StepResult, SwapSettings, load
from engines.models.step import IdentityGraph, SwapStep
from engines.runtimes.torch_eager import TorchRuntime
from engines.swappers.latent import LatentState
from engines.swappers.latent_graphs import LatentGraphs, loaded_key
from engines.turns import Budget
from tests.engines.face.heads import DARK_SKIN, LIGHT_SKIN, identity
from tests.engines.face.scenes import clip
from tests.engines.raw_face import HIDDEN, RAW, find_face, likeness
from tests.engines.swappers.graphs import Faulty, small_config, swapper

FRAME_S = 1 / 30
TINY = SwapSettings(engine="tiny", label=False)
CONFIG = small_config()


@pytest.fixture(scope="module")
def frames(shared_data: Path) -> tuple[Rgb, ...]:
    return tuple(np.ascontiguousarray(frame) for frame in clip(shared_data / "clips" / "single_face.mp4", 12))


@pytest.fixture(scope="module")
def box(frames: Sequence[Rgb]) -> Box:
    return find_face(frames[0])


def opener(step: Callable[[], nn.Module], runtime: type[TorchRuntime]) -> Callable[[], LatentGraphs]:
    def opened() -> LatentGraphs:
        graphs = (runtime, step()), (TorchRuntime, IdentityGraph(swapper(CONFIG), 1))
        runtimes = [kind(graph, "cpu", "float32", threads=1) for kind, graph in graphs]
        return LatentGraphs(CONFIG, runtimes[0], runtimes[1], "made in a test")

    return opened


@contextmanager
def tiny(
    step: Callable[[], nn.Module] | None = None,
    runtime: type[TorchRuntime] = TorchRuntime,
    settings: SwapSettings = TINY,
    worn: Identity | None = None,
) -> Iterator[Session]:
    """A session of `tiny` whose graph is made here: the pool has it already when the session asks for it."""
    torch.set_num_threads(1)
    pool = EnginePool()
    pool.enter(loaded_key("tiny", settings), opener(step or (lambda: SwapStep(swapper(CONFIG), 1)), runtime)).leave()
    session = load(settings, worn or identity(DARK_SKIN), pool)
    yield session
    session.close()
    pool.close()


def run(session: Session, frames: Sequence[Rgb], since_s: float = 0.0, state: Any = None) -> list[StepResult]:
    state = state or session.init()
    return [session.step(state, frame, since_s + number * FRAME_S) for number, frame in enumerate(frames)]


def latent_of(state: Any) -> LatentState:
    (person,) = state.people.values()
    assert isinstance(person.engine, LatentState)
    return person.engine


def test_every_stage_of_a_frame_is_timed(frames: Sequence[Rgb]) -> None:
    with tiny() as session:
        results = run(session, frames[:2])
    for name in ("track", "occlusion", "proxy", "crop", "graph", "paste"):
        assert results[1].stage_ms[name] > 0, name
    assert results[1].stage_ms["draw"] < results[1].stage_ms["graph"], "nothing costly is left without a name"


def test_a_face_is_drawn_from_the_first_frame_on(frames: Sequence[Rgb], box: Box) -> None:
    with tiny() as session:
        assert (session.engine, session.why) == ("tiny", "asked for by name; made in a test")
        session.marker = None
        for result, frame in zip(run(session, frames), frames):
            assert result.status is Status.DRAWN
            assert likeness(result.rgb_HW3, frame, box) < HIDDEN, "random weights draw noise"
            assert result.rgb_HW3.dtype == np.uint8
            np.testing.assert_array_equal(result.rgb_HW3[:60], frame[:60], "the scene stays")


def test_weights_that_are_no_numbers_show_nothing_of_the_face(frames: Sequence[Rgb], box: Box) -> None:
    """Every step is a fault; what a caller shows then is the standby picture."""
    broken = swapper(CONFIG)
    next(value for value in broken.autoencoder.parameters() if value.dim() == 4).data.view(-1)[3] = float("nan")
    with tiny(lambda: SwapStep(broken, 1)) as session:
        state = session.init()
        for number, frame in enumerate(frames[:5]):
            with pytest.raises(EngineFault, match="no numbers"):
                session.step(state, frame, number * FRAME_S)
            assert likeness(session.standby(frame), frame, box) < HIDDEN
        assert state.last_good is None, "nothing that could be held"


@pytest.mark.parametrize("how", ["nan", "inf", "raises", "faults"])
def test_a_fault_in_the_middle_shows_nothing_and_the_call_goes_on(
    frames: Sequence[Rgb], box: Box, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(Faulty, "wrong", {3: how, 4: how})
    with tiny(runtime=Faulty) as session:
        state, shown = session.init(), []
        for number, frame in enumerate(frames[:9]):
            try:
                result = session.step(state, frame, number * FRAME_S)
            except EngineFault:
                shown.append(Status.STANDBY)
            else:
                shown.append(result.status)
                assert likeness(result.rgb_HW3, frame, box) < RAW
        assert shown == [Status.DRAWN] * 3 + [Status.STANDBY] * 2 + [Status.DRAWN] * 4
        assert latent_of(state).frame == 4, "since the fault"


def test_a_cut_begins_anew(frames: Sequence[Rgb], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the tracker knows the person again in the very frame after it."""
    with tiny() as session:
        state = session.init()
        run(session, frames[:4], state=state)
        before = latent_of(state)
        session.step(state, np.ascontiguousarray(255 - frames[4]), 4 * FRAME_S)
        assert not state.people
        run(session, frames[5:9], since_s=5 * FRAME_S, state=state)
        assert latent_of(state) is not before
        assert latent_of(state).frame <= 4
        goes_on = latent_of(state)
        tracker: Any = session._tracker
        begin = tracker.begin
        monkeypatch.setattr(tracker, "begin", lambda *given: replace(begin(*given), broken=True))
        assert session.step(state, frames[9], 9 * FRAME_S).status is Status.DRAWN
        assert latent_of(state) is not goes_on
        assert latent_of(state).frame == 1


@pytest.mark.parametrize(("away_s", "goes_on"), [(0.2, True), (0.8, True), (1.2, False), (5.0, False)])
def test_a_lost_face_goes_on_within_a_second_and_begins_anew_after_it(
    frames: Sequence[Rgb], monkeypatch: pytest.MonkeyPatch, away_s: float, goes_on: bool
) -> None:
    from engines.types import Tracking

    with tiny() as session:
        state = session.init()
        run(session, frames[:4], state=state)
        before = latent_of(state)
        with monkeypatch.context() as patch:
            for half in ("begin", "finish"):
                patch.setattr(session._tracker, half, lambda *_: Tracking((), (), 0))
            lost_s = 3 * FRAME_S + np.arange(FRAME_S, away_s, 4 * FRAME_S)
            assert all(session.step(state, frames[4], float(at)).status is not Status.DRAWN for at in lost_s)
        assert session.step(state, frames[4], 3 * FRAME_S + away_s).status is Status.DRAWN
        after = latent_of(state)
        assert (after is before) == goes_on
        assert after.frame == (5 if goes_on else 1)


def test_rows_are_freed_when_people_go_and_when_a_call_ends(frames: Sequence[Rgb]) -> None:
    with tiny() as session:
        shared = getattr(session._drawer, "_shared")  # noqa: B009
        states = [session.init() for _ in range(3)]
        for state in states:
            run(session, frames[:2], state=state)
        assert shared.statistics().places == 3
        states.clear()
        del state
        gc.collect()
        assert shared.statistics().places == 0


def test_another_identity_is_worn_whole_from_one_frame_to_the_next(frames: Sequence[Rgb]) -> None:
    """Identities come from another thread while frames are drawn: each frame is of one of them, whole."""
    people = [identity(DARK_SKIN, name="dark"), identity(LIGHT_SKIN, name="light")]
    with tiny(worn=people[0]) as session:
        engine: Any = session._drawer
        tokens = [engine._tokens_of(person, TINY).copy() for person in people]
        seen: list[tuple[NDArray[np.float32], int]] = []
        step = engine._shared.graphs.step
        inner = step.run

        def watch(state: Any, inputs: Any, slots: Any) -> Any:
            seen.append((inputs["identity_tokens"].copy(), int(np.isinf(inputs["bias"]).sum())))
            return inner(state, inputs, slots)

        step.run = watch
        stop = threading.Event()

        def change() -> None:
            number = 0
            while not stop.wait(0.01):
                number += 1
                session.set_identity(people[number % 2])

        thread = threading.Thread(target=change)
        thread.start()
        try:
            run(session, [frames[n % 12] for n in range(60)])
        finally:
            stop.set()
            thread.join()
    which = [int(np.array_equal(given, tokens[1])) for given, _ in seen]
    assert all(np.array_equal(given, tokens[one]) for (given, _), one in zip(seen, which))
    changes = [n for n in range(1, len(which)) if which[n] != which[n - 1]]
    assert changes, "or nothing was tried"
    assert all(seen[n][1] == CONFIG.window.frames - 1 for n in changes), "the past of another identity is forgotten"


def test_an_identity_that_the_engine_cannot_take_is_not_worn(
    frames: Sequence[Rgb], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tiny() as session:
        engine: Any = session._drawer
        before = session.identity
        monkeypatch.setattr(
            engine._shared.graphs.identity, "run", lambda *_: {"identity_tokens": np.full((1, 4, 16), np.nan)}
        )
        with pytest.raises(EngineFault, match="for this identity"):
            session.set_identity(identity(LIGHT_SKIN))
        assert session.identity is before


def test_memory_does_not_grow(frames: Sequence[Rgb]) -> None:
    with tiny() as session:
        state = session.init()
        for number in range(40):
            session.step(state, frames[number % 12], number * FRAME_S)
        shared = getattr(session._drawer, "_shared")  # noqa: B009
        assert len(shared._groups) == 1
        assert len(shared._questions) == len(shared._errands) == len(shared._turns) == 0
        assert shared.statistics().frames == 40


def test_sessions_in_threads_of_their_own_do_not_see_each_other(frames: Sequence[Rgb]) -> None:
    """As workers of a server step them, with one pool: each draws what it draws alone, with people of its own."""
    torch.set_num_threads(1)
    films = [list(frames), [np.ascontiguousarray(frame[:, ::-1]) for frame in frames]]
    people = [identity(DARK_SKIN, name="dark"), identity(LIGHT_SKIN, name="light")]
    pool = EnginePool(Budget(share=1000.0))
    pool.enter(loaded_key("tiny", TINY), opener(lambda: SwapStep(swapper(CONFIG), 1), TorchRuntime), False).leave()

    def live(call: int) -> list[StepResult]:
        session = load(TINY, people[call], pool)
        results = run(session, films[call])
        session.close()
        return results

    alone = [live(call) for call in range(2)]
    with ThreadPoolExecutor(2) as threads:
        at_once = list(threads.map(live, range(2)))
    pool.close()
    for one, other in zip([*at_once[0], *at_once[1]], [*alone[0], *alone[1]]):
        assert one.status is other.status is Status.DRAWN
        np.testing.assert_array_equal(one.rgb_HW3, other.rgb_HW3)
