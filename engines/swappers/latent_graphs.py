"""The graphs of a learned engine: of a built engine in the store, or with random weights where those are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines import store
from engines.errors import EngineUnavailable
from engines.machine import this_machine
from engines.models import presets
from engines.models.config import SwapperConfig
from engines.runtimes.base import Runtime
from engines.settings import SwapSettings
from engines.store import Wanted

if TYPE_CHECKING:
    import torch
    from torch import nn

    from engines.models.swapper import Swapper

RANDOM_SEED = 0
RANDOM = "RANDOM WEIGHTS: nobody trained them, and the face is noise"


@dataclass(frozen=True, slots=True)
class LatentGraphs:
    """What lives on the device: `step` once per frame, `identity` once per person (engines.models.step)."""

    config: SwapperConfig
    step: Runtime
    identity: Runtime
    why: str

    def close(self) -> None:
        self.step.close()
        self.identity.close()


def loaded_key(name: str, settings: SwapSettings) -> tuple[object, ...]:
    """Sessions for which this is the same share one engine."""
    chosen = (settings.runtime, settings.device, settings.precision, settings.size_px, settings.steps)
    return (name, *chosen, settings.weights, settings.batch)


def open_graphs(name: str, settings: SwapSettings) -> LatentGraphs:
    """Opens the engine. Raises EngineUnavailable, with the command that mends it."""
    wanted = wanted_of(name, settings)
    if settings.precision == "int8" and settings.runtime not in ("auto", "ort"):
        raise EngineUnavailable(
            f"int8 is for ONNX Runtime on a CPU, and the runtime {settings.runtime} was asked for: --runtime ort, or "
            "another --precision"
        )
    if random_from_code(settings):
        return _random(wanted, settings)
    loaded = store.load(store.find(wanted), wanted.device)
    key = loaded.manifest.key
    return LatentGraphs(
        key.config, loaded.graphs[store.STEP], loaded.graphs[store.IDENTITY], f"{key.runtime}: {loaded.why}"
    )


def random_from_code(settings: SwapSettings) -> bool:
    """Whether random weights are asked for, of a runtime that needs nothing built.

    To compile for a CPU takes minutes: that is for `vividstream engines build`, not for a call.
    """
    on_gpu = settings.device.startswith("cuda")
    if settings.precision == "int8":
        return False  # its ranges are found while it is built
    return settings.weights == "random" and settings.runtime in ("auto", "torch", *(["compiled"] if on_gpu else []))


def wanted_of(name: str, settings: SwapSettings) -> Wanted:
    """What the settings ask of the store."""
    device = settings.device
    if device == "auto":
        device = "cuda" if this_machine("cuda").gpu else "cpu"
    return Wanted(
        name=name,
        runtime=None if settings.runtime == "auto" else settings.runtime,
        device=device,
        precision=None if settings.precision == "auto" else settings.precision,
        size_px=settings.size_px,
        steps=settings.steps,
        batch=settings.batch,
        random_weights=settings.weights == "random",
    )


def random_config(wanted: Wanted) -> SwapperConfig:
    """The preset, at the size and with the steps that were asked for."""
    config = presets.of(wanted.name, wanted.steps or 1)
    return config if wanted.size_px is None else config.model_copy(update={"size_px": wanted.size_px})


def _random(wanted: Wanted, settings: SwapSettings) -> LatentGraphs:
    """A preset with weights that nobody trained, straight from the code: for measuring."""
    try:
        from engines.models.step import IdentityGraph, SwapStep
        from engines.models.swapper import Swapper
        from engines.runtimes.choose import open_runtime
    except ImportError as error:
        raise EngineUnavailable(
            f'the engine "{wanted.name}" with random weights needs torch: pip install "vividstream[train]"'
        ) from error
    config = random_config(wanted)

    def swapper() -> Swapper:
        return Swapper(config).initialise(RANDOM_SEED)

    def step(dtype: torch.dtype) -> nn.Module:
        return SwapStep(swapper(), wanted.batch, dtype)

    def identity(dtype: torch.dtype) -> nn.Module:
        return IdentityGraph(swapper(), 1, dtype)

    opened = [open_runtime(settings.runtime, make, wanted.device, settings.precision) for make in (step, identity)]
    return LatentGraphs(config, opened[0].runtime, opened[1].runtime, f"{opened[0].why}; {RANDOM}")
