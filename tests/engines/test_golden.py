"""The golden check against an exact runtime in NumPy: what it feeds, what it stores, what it catches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import golden
from engines.engine_manifest import GoldenResult, Tolerance
from engines.errors import EngineFault, EngineRefused
from engines.golden import Golden, checked_frames, compare, first_beyond, frame_inputs, frame_slots, record, replay
from engines.graph import Clock, GraphSpec, Memory, TensorSpec
from engines.runtimes.base import Array, State
from engines.window import Window

W, SINKS, SIDE = 4, 1, 8

SPEC = GraphSpec(
    "ring",
    (
        TensorSpec("picture", (2, 1, SIDE, SIDE)),
        TensorSpec("tokens", (2, 3)),
        TensorSpec("positions", (2, W - 1), "int64"),
        TensorSpec("bias", (2, W - 1)),
        TensorSpec("recent_order", (2, 2), "int64"),
    ),
    (TensorSpec("face", (2, 1, SIDE, SIDE)),),
    (
        Memory(TensorSpec("key", (2, SIDE, W - 1)), TensorSpec("new_key", (2, SIDE)), 2, "window"),
        Memory(TensorSpec("past", (2, 2, SIDE)), TensorSpec("new_past", (2, SIDE)), 1, "recent"),
    ),
)


class Kept:
    """Memories as arrays."""

    def __init__(self) -> None:
        self.arrays = {memory.kept.name: np.zeros(memory.kept.shape, np.float32) for memory in SPEC.memories}
        self.frames = 0

    @property
    def size_bytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())


class Plain:
    """Adds what it remembers to the picture. fault: what it does wrong from frame `since` on."""

    name, device, spec = "plain", "cpu", SPEC

    def __init__(self, fault: str = "", since: int = 0) -> None:
        self.fault, self.since = fault, since

    def init(self) -> State:
        return Kept()

    def reset(self, state: State, rows: tuple[int, ...] | None = None) -> None:
        raise NotImplementedError

    def run(
        self, state: State, inputs: Mapping[str, Array], slots: Mapping[Clock, NDArray[np.int64]]
    ) -> dict[str, Array]:
        assert isinstance(state, Kept)
        assert {name: value.shape for name, value in inputs.items()} == {one.name: one.shape for one in SPEC.inputs}
        wrong = self.fault if state.frames >= self.since else ""
        keys, past = state.arrays["key"], state.arrays["past"]
        ages = np.exp(-0.1 * inputs["positions"] + inputs["bias"])
        remembered = (keys * ages[:, None, :]).sum(2)
        older = np.take_along_axis(past, inputs["recent_order"][:, :, None], 1)[:, 0]
        face = inputs["picture"] + 0.3 * (remembered + older)[:, None, :, None] + inputs["tokens"].sum()
        if wrong == "nan":
            face[1, 0, 0, 0] = np.nan
        for row in range(2):
            if wrong != "forgets":
                keys[row, :, slots["window"][row]] = inputs["picture"][row, 0][:, 0]
            past[row, slots["recent"][row]] = inputs["picture"][row, 0].mean(0)
        state.frames += 1
        return {"face": (face * 1.01 if wrong == "loud" else face).astype(np.float32)}

    def close(self) -> None:
        pass


@pytest.fixture
def inputs() -> dict[str, Array]:
    generator = np.random.default_rng(0)
    return {
        one.name: generator.standard_normal(one.shape).astype(np.float32)
        for one in SPEC.inputs
        if one.name not in golden.FROM_WINDOW
    }


def test_the_same_runtime_is_exact_over_the_whole_rollout(inputs: dict[str, Array]) -> None:
    stored = record(Plain(), inputs, SINKS, 30)
    told: list[tuple[int, int]] = []
    again = replay(Plain(), stored, tell=lambda done, of: told.append((done, of)))
    assert [result.frame for result in again.results] == [0, 1, 3, 8, 15, 29]
    assert all(result.rms == result.worst == 0 for result in again.results)
    assert told[-1] == (30, 30)
    assert len(again.frame_ms) == 30


def test_frames_move_and_follow_the_window(inputs: dict[str, Array]) -> None:
    stored, window = Golden(inputs, {}, 30, SINKS), Window(W, SINKS)
    assert np.array_equal(frame_inputs(SPEC, stored, 0)["picture"], inputs["picture"])
    fifth = frame_inputs(SPEC, stored, 5)
    assert not np.array_equal(fifth["picture"], inputs["picture"])
    assert np.array_equal(np.sort(fifth["picture"].ravel()), np.sort(inputs["picture"].ravel()))
    assert np.array_equal(fifth["tokens"], inputs["tokens"])
    for row in range(2):
        assert np.array_equal(fifth["positions"][row], window.positions(5))
        assert np.array_equal(fifth["bias"][row], window.bias(5))
    assert fifth["positions"].dtype == np.int64
    assert frame_slots(SPEC, SINKS, 5)["window"].tolist() == [window.slot_of(5)] * 2
    assert frame_slots(SPEC, SINKS, 5)["recent"].tolist() == [1, 1]


@pytest.mark.parametrize(("window", "frames"), [(8, 100), (1, 100), (4, 2), (32, 10)])
def test_the_frames_that_are_stored_are_of_the_rollout(window: int, frames: int) -> None:
    kept = checked_frames(window, frames)
    assert kept[0] == 0
    assert kept[-1] == frames - 1
    assert list(kept) == sorted(set(kept))


@pytest.mark.parametrize(
    ("fault", "since", "frame"), [("forgets", 0, 1), ("forgets", 10, 15), ("loud", 0, 0), ("loud", 20, 29)]
)
def test_a_runtime_that_goes_wrong_is_caught_at_the_next_stored_frame(
    inputs: dict[str, Array], fault: str, since: int, frame: int
) -> None:
    stored = record(Plain(), inputs, SINKS, 30)
    said = first_beyond(replay(Plain(fault, since), stored).results, golden.TOLERANCES["float32"])
    assert f"ring: face of frame {frame} is" in said


def test_nan_ends_the_check_wherever_it_appears(inputs: dict[str, Array]) -> None:
    stored = record(Plain(), inputs, SINKS, 30)
    with pytest.raises(EngineFault, match="ring: face has values that are no numbers in frame 12"):
        replay(Plain("nan", 12), stored)
    with pytest.raises(EngineFault, match="no numbers in frame 3"):
        record(Plain("nan", 3), inputs, SINKS, 30)


def test_a_short_replay_stops_early(inputs: dict[str, Array]) -> None:
    stored = record(Plain(), inputs, SINKS, 30)
    assert [result.frame for result in replay(Plain("loud", 9), stored, 9).results] == [0, 1, 3, 8]
    assert not first_beyond(replay(Plain("loud", 9), stored, 9).results, golden.TOLERANCES["float32"])


def test_both_measures_of_an_error_count() -> None:
    truth = np.ones((1, 1000), np.float32)
    spot = truth.copy()
    spot[0, 7] = 1.5
    found = compare("g", "o", 0, spot, truth)
    assert found.rms == pytest.approx(0.0158, rel=0.01)
    assert found.worst == 0.5
    allowed = Tolerance(first_rms=0.02, first_worst=0.4, rollout_rms=0.02, rollout_worst=0.6)
    assert "worst value" in first_beyond([found], allowed)
    later = found.model_copy(update={"frame": 1})
    assert first_beyond([later], allowed) == ""
    assert "(rms)" in first_beyond([later.model_copy(update={"rms": 0.03})], allowed)


def test_an_error_that_is_no_number_is_beyond_any_tolerance() -> None:
    wide = Tolerance(first_rms=1e9, first_worst=1e9, rollout_rms=1e9, rollout_worst=1e9)
    nan = GoldenResult(graph="g", output="o", frame=0, rms=float("nan"), worst=0.0)
    assert "is nan off" in first_beyond([nan], wide)
    assert np.isnan(compare("g", "o", 0, np.array([np.nan]), np.array([1.0])).rms)


def test_tolerances_grow_with_coarser_numbers() -> None:
    fine, middle, coarse = (golden.TOLERANCES[name] for name in ("float32", "float16", "bfloat16"))
    for name in Tolerance.model_fields:
        assert getattr(fine, name) < getattr(middle, name) < getattr(coarse, name)


def test_a_golden_file_comes_back_as_it_was(inputs: dict[str, Array], tmp_path: Path) -> None:
    path = tmp_path / "golden.safetensors"
    stored = record(Plain(), inputs, SINKS, 30)
    golden.write_golden(path, {"ring": stored, "other": record(Plain(), inputs, SINKS, 5)})
    read = golden.read_golden(path, "ring")
    assert (read.frames, read.sinks) == (30, SINKS)
    assert set(read.outputs) == set(stored.outputs)
    assert all(result.rms == 0 for result in replay(Plain(), read).results)


@pytest.mark.parametrize("damage", ["cut", "graph", "missing"])
def test_a_damaged_golden_file_is_refused(inputs: dict[str, Array], tmp_path: Path, damage: str) -> None:
    path, graph = tmp_path / "golden.safetensors", "ring"
    golden.write_golden(path, {"ring": record(Plain(), inputs, SINKS, 5)})
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "missing":
        path.unlink()
    else:
        graph = "another"
    with pytest.raises(EngineRefused, match="no golden file of"):
        golden.read_golden(path, graph)


def test_a_graph_without_memories_is_checked_too() -> None:
    spec: Any = GraphSpec("flat", (TensorSpec("identity", (1, 4)),), (TensorSpec("tokens", (1, 4)),))
    assert golden.window_of(spec, 2) == Window(1, 0)
    assert frame_slots(spec, 2, 3) == {}
