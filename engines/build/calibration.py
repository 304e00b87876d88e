"""What a learned engine is shown on a call, recorded: for finding the range of every number before it becomes 8 bits.

Built-in people who do not exist are filmed as puppets (engines.bench.puppet) and wear each other's faces; crop, region,
filling and proxy are the live path's own (engines.swappers.latent), and so is every input. The light of each film is
another: ranges that were found in one light are too narrow for the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from engines.bench.puppet import Puppet
from engines.golden import frame_slots
from engines.graph import Clock, GraphSpec
from engines.identity_store import IdentityStore
from engines.models.config import SwapperConfig
from engines.runtimes.base import Array, Runtime, State
from engines.settings import SwapSettings
from engines.sharing import SharedGraph
from engines.swappers.base import Inputs
from engines.swappers.latent import Latent
from engines.swappers.latent_graphs import LatentGraphs
from engines.types import TrackedFace

Stream = list[dict[str, Array]]  # the inputs of one person's frames, in order, without the memories

FPS = 5.0  # slow: few frames, much movement
FRAMES = 10  # of a film; the window is full after eight
LIGHTS = (1.0, 0.45, 1.25, 0.75)  # of the pictures' values, per film
FILM_PX = 2  # sides of a film, in sides of the engine's face
NAME = "puppets-1"  # goes into an engine's key: another calibration is another engine


class Recorder:
    """A runtime that keeps what it is given. See engines.runtimes.base.Runtime."""

    name = "recorder"
    device = "cpu"

    def __init__(self, spec: GraphSpec) -> None:
        self.spec = spec
        self.taken: Stream = []

    def init(self) -> State:
        return _Nothing()

    def reset(self, state: State, rows: tuple[int, ...] | None = None) -> None:
        """Nothing is remembered."""

    def run(
        self, state: State, inputs: Mapping[str, Array], slots: Mapping[Clock, NDArray[np.int64]]
    ) -> dict[str, Array]:
        self.taken.append({name: np.array(value) for name, value in inputs.items()})
        return {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in self.spec.outputs}

    def close(self) -> None:
        """There is nothing to free."""


class _Nothing:
    size_bytes = 0


class _Fitted:
    """The identity graph, whatever width of identity vector the network takes."""

    def __init__(self, runtime: Runtime) -> None:
        self.name, self.device, self.spec = runtime.name, runtime.device, runtime.spec
        self._runtime = runtime
        self._shapes = {tensor.name: tensor.shape for tensor in runtime.spec.inputs}

    def init(self) -> State:
        return self._runtime.init()

    def reset(self, state: State, rows: tuple[int, ...] | None = None) -> None:
        self._runtime.reset(state, rows)

    def run(
        self, state: State, inputs: Mapping[str, Array], slots: Mapping[Clock, NDArray[np.int64]]
    ) -> dict[str, Array]:
        vector = np.resize(inputs["identity"], self._shapes["identity"])
        vector /= np.linalg.norm(vector)
        return self._runtime.run(state, {**inputs, "identity": vector}, slots)

    def close(self) -> None:
        self._runtime.close()


def record(config: SwapperConfig, step: GraphSpec, identity: Runtime, frames: int = FRAMES) -> list[Stream]:
    """The inputs of `step` (a batch of one) in one film per built-in person; `identity` computes their tokens."""
    people = IdentityStore(None)
    names = people.built_in()
    streams = []
    for number, driver in enumerate(names):
        recorder = Recorder(step)
        graphs = LatentGraphs(config, recorder, _Fitted(identity), "calibration")
        shared = SharedGraph(lambda graphs=graphs: graphs, owner=False)  # type: ignore[misc]
        shared.enter()
        with closing(Latent(config.name, shared)) as engine:
            worn = people.load(names[(number + 1) % len(names)])
            state, side = engine.init(), FILM_PX * config.size_px
            puppet = Puppet(people.load(driver), side, side, FPS, number)
            for index, picture in enumerate(puppet.frames(frames)):
                captured_s = index / FPS
                lit = np.clip(np.round(picture * LIGHTS[number % len(LIGHTS)]), 0, 255).astype(np.uint8)
                points = puppet.points_px(captured_s)
                inputs = Inputs(lit, TrackedFace(0, points, points, 1.0), None, captured_s)
                engine.draw(state, worn, inputs, SwapSettings(), lit.copy())
        streams.append(recorder.taken)
    return streams


def with_memories(
    runtime: Runtime, streams: list[Stream], sinks: int, tell: Callable[[int, int], None] | None = None
) -> Iterator[dict[str, Array]]:
    """Every input of every frame, what is remembered included, as `runtime` (ONNX Runtime on the CPU) fills it.

    tell: takes how many frames of how many are done
    """
    from engines.runtimes.ort import ArrayState

    done, frames = 0, sum(len(stream) for stream in streams)
    for stream in streams:
        state = runtime.init()
        assert isinstance(state, ArrayState)
        for frame, inputs in enumerate(stream):
            yield {**inputs, **{name: array.copy() for name, array in state.kept.items()}}
            runtime.run(state, inputs, frame_slots(runtime.spec, sinks, frame))
            done += 1
            if tell is not None:
                tell(done, frames)
