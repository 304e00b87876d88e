"""What only a GPU can show: replays, allocations, waits, precision. Never run yet: docs/status.md has the list."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from engines.runtimes.compiled import CompiledRuntime
from engines.runtimes.fixed_frame import FixedState
from engines.runtimes.torch_eager import TorchRuntime
from tests.engines.runtimes.ring_graph import Clip, Reference, RingGraph

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")


@pytest.fixture(params=["fused", "graphs"])
def runtime(request: pytest.FixtureRequest) -> Iterator[CompiledRuntime]:
    made = CompiledRuntime(RingGraph(2), "cuda", "float32", fused=request.param == "fused")
    yield made
    made.close()


def test_every_frame_is_one_replay(runtime: CompiledRuntime) -> None:
    states, clips = [runtime.init(), runtime.init()], [Clip(RingGraph(2), 0), Clip(RingGraph(2), 1)]
    for _ in range(20):
        for state, clip in zip(states, clips):
            runtime.run(state, *clip.frame())
    for state in states:
        assert isinstance(state, FixedState)
        assert (state.frames, state.replays) == (20, 20)


def test_a_frame_allocates_nothing_on_the_device(runtime: CompiledRuntime) -> None:
    state, clip = runtime.init(), Clip(RingGraph(2), 2)
    runtime.run(state, *clip.frame())
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    for _ in range(50):
        runtime.run(state, *clip.frame())
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


def test_a_frame_waits_once(runtime: CompiledRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch tells of every wait but the explicit one at the frame's end."""
    state, clip = runtime.init(), Clip(RingGraph(2), 3)
    runtime.run(state, *clip.frame())
    waits = []
    wait = torch.cuda.Stream.synchronize

    def counted(stream: torch.cuda.Stream) -> None:
        waits.append(stream)
        wait(stream)

    monkeypatch.setattr(torch.cuda.Stream, "synchronize", counted)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):
            runtime.run(state, *clip.frame())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(waits) == 5


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 0.01), ("bfloat16", 0.06)])
def test_low_precisions_stay_near(precision: str, tolerance: float) -> None:
    graph = RingGraph(1)
    for make in (TorchRuntime, CompiledRuntime):
        runtime = make(graph, "cuda", precision)  # type: ignore[arg-type]
        state, clip, reference = runtime.init(), Clip(graph, 4), Reference(graph)
        for _ in range(12):
            inputs, slots = clip.frame()
            expected, result = reference.step(inputs, slots), runtime.run(state, inputs, slots)
            assert np.abs(expected["face"] - result["face"]).max() < tolerance
        runtime.close()


def test_a_long_run_needs_no_more_memory(runtime: CompiledRuntime) -> None:
    state, clip = runtime.init(), Clip(RingGraph(2), 5)
    runtime.run(state, *clip.frame())
    before = torch.cuda.memory_allocated()
    for _ in range(2000):
        runtime.run(state, *clip.frame())
    assert torch.cuda.memory_allocated() == before
