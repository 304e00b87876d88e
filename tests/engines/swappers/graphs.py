"""Learned engines small enough for tests: real networks at 64 px, and one that returns the proxy's picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.errors import EngineFault
from engines.graph import Clock, GraphSpec
from engines.models import presets
from engines.models.config import (
    AutoencoderConfig,
    DenoiserConfig,
    FaceEncoderConfig,
    ScheduleConfig,
    SwapperConfig,
    WindowConfig,
)
from engines.models.step import IdentityGraph, SwapStep
from engines.models.swapper import Swapper
from engines.runtimes.base import Array, State
from engines.runtimes.torch_eager import TorchRuntime
from engines.sharing import SharedGraph
from engines.swappers.latent import Latent
from engines.swappers.latent_graphs import LatentGraphs

WHY = "made in a test"


def small_config(
    size_px: int = 64,
    memory: Literal["last_step", "clean_pass", "memory_encoder"] = "last_step",
    steps: int = 1,
    frames: int = 4,
) -> SwapperConfig:
    """Every kind of part, few channels; with `frames` over 1 the decoder remembers too."""
    return SwapperConfig(
        name="small",
        size_px=size_px,
        window=WindowConfig(frames=frames, sinks=int(frames > 2), memory=memory),
        schedule=ScheduleConfig(times=presets.trig_times(steps)),
        autoencoder=AutoencoderConfig(
            kind="tiny",
            latent_channels=4,
            widths=(8, 8, 16),
            blocks=1,
            temporal_encoder=False,
            temporal_decoder=frames > 1,
        ),
        denoiser=DenoiserConfig(
            widths=(16, 16),
            blocks=1,
            attention=(False, True),
            temporal=(False, True),
            heads=2,
            token_width=16,
            norm="rms",
        ),
        face_encoder=FaceEncoderConfig(
            backbone="conv", picture_px=32, feature_width=16, tokens=2, token_width=16, depth=1, heads=2
        ),
    )


def swapper(config: SwapperConfig, seed: int = 1) -> Swapper:
    return Swapper(config).initialise(seed)


class Echo(nn.Module):
    """The proxy's picture, unchanged or brighter by so much: what is seen then is crop and paste alone."""

    def __init__(self, config: SwapperConfig, batch: int = 1, brighter: float = 0.0) -> None:
        super().__init__()
        self.brighter = brighter
        step = SwapStep(swapper(small_config(config.size_px)), batch)
        self.spec = GraphSpec("echo", step.spec.inputs, step.spec.outputs)

    def forward(self, masked: Tensor, proxy: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        latent = torch.zeros(self.spec.outputs[1].shape)
        return (proxy + self.brighter, latent)


class Faulty(TorchRuntime):
    """Runs a graph, and on the frames that are asked for gives NaN, as a runtime that checks nothing, or raises."""

    wrong: Mapping[int, str] = {}
    frames = -1

    def run(
        self, state: State, inputs: Mapping[str, Array], slots: Mapping[Clock, NDArray[np.int64]]
    ) -> dict[str, Array]:
        self.frames += 1
        how = self.wrong.get(self.frames)
        if how == "raises":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if how == "faults":
            raise EngineFault("the device is busy")
        outputs = super().run(state, inputs, slots)
        if how == "nan":
            outputs["face"][0, 1, 20, 20] = np.nan
        if how == "inf":
            outputs["latent"][0, 0, 1, 1] = np.inf
        return outputs


def shared(
    config: SwapperConfig,
    step: Callable[[], nn.Module] | None = None,
    batch: int = 1,
    runtime: type[TorchRuntime] = TorchRuntime,
) -> SharedGraph[LatentGraphs]:
    """An engine of these weights, its step graph replaced where `step` gives another one."""

    def opened() -> LatentGraphs:
        torch.set_num_threads(1)
        graph = SwapStep(swapper(config), batch) if step is None else step()
        identity = IdentityGraph(swapper(config), 1)
        return LatentGraphs(
            config,
            runtime(graph, "cpu", "float32", threads=1),
            TorchRuntime(identity, "cpu", "float32", threads=1),
            WHY,
        )

    graph = SharedGraph(opened, owner=False)
    graph.enter()
    return graph


def small_engine(config: SwapperConfig | None = None, **how: object) -> Latent:
    """An engine with a graph of its own; close `engine._shared` after it."""
    return Latent("tiny", shared(config or small_config(), **how))  # type: ignore[arg-type]


def echo_engine(size_px: int, draws: Literal["face", "change"] = "face", brighter: float = 0.0) -> Latent:
    """An engine that returns the proxy's picture, at any size, or makes it brighter by so much of -1..1."""
    config = small_config(size_px).model_copy(update={"draws": draws})
    return Latent("tiny", shared(config, lambda: Echo(config, brighter=brighter)))
