"""What a person can choose about a build."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from engines.engine_manifest import ROLLOUT_FRAMES, RuntimeName
from engines.errors import SettingError, UnknownEngine, nearest
from engines.models import presets
from engines.models.config import SwapperConfig
from engines.settings import StrictModel
from engines.store import shipped_weights


class BuildSettings(StrictModel):
    """`vividstream engines build NAME`. Every field is documented in docs/settings.md."""

    name: str = Field(description="preset, or the name in the weights' model card")
    runtime: RuntimeName = Field("ort", description="what is to execute the engine")
    weights: Path | None = Field(
        None, description="file of weights (safetensors with a model card); not given: what came with vividstream"
    )
    random_weights: int | None = Field(
        None, ge=0, description="seed of weights that nobody trained: for measuring; live sessions refuse them"
    )
    steps: int | None = Field(None, ge=1, le=8, description="denoising steps of a frame")
    size: int | None = Field(None, ge=64, le=2048, description="side of the face in pixels, a multiple of 64")
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto", description="of the networks; int8: of their products, for ONNX Runtime on a CPU"
    )
    batch: int = Field(1, ge=1, le=64, description="sessions that are computed together")
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="where it is to run: cpu, cuda, cuda:1")
    rollout: int = Field(ROLLOUT_FRAMES, ge=2, le=10_000, description="frames of the golden check")
    threads: int | None = Field(None, ge=1, description="processor threads of one operation; all cores if not given")
    portable: bool = Field(
        False, description="for any machine and library version: what opens it there checks its numbers"
    )
    store: Path | None = Field(None, description="folder of the built engines")
    rebuild: bool = Field(False, description="build even if this engine is there already")
    wait: bool = Field(True, description="wait for another build in the same store")
    force: bool = Field(False, description="build even if memory seems too small")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.weights is not None and self.random_weights is not None:
            raise ValueError("give either --weights FILE or --random-weights SEED")
        if self.weights is None and self.random_weights is None and shipped_weights(self.name) is None:
            raise ValueError(
                f'no trained weights of "{self.name}" come with vividstream: '
                "give --weights FILE or --random-weights SEED"
            )
        return self

    @property
    def weights_file(self) -> Path | None:
        """Where the weights are; None: they are to be random."""
        return (
            self.weights if self.weights is not None or self.random_weights is not None else shipped_weights(self.name)
        )

    @classmethod
    def read(cls, values: object) -> Self:
        """As StrictModel.read; what concerns no single setting is said without one."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            if not error.errors()[0]["loc"]:
                raise SettingError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
            return super().read(values)


def config_of(settings: BuildSettings) -> SwapperConfig:
    """The network that is to be built. Raises UnknownEngine, SettingError or WeightsError."""
    weights = settings.weights_file
    if weights is None:
        if settings.name not in presets.preset_names():
            raise UnknownEngine(f'no preset "{settings.name}"; {nearest(settings.name, presets.preset_names())}')
        config = presets.of(settings.name)
    else:
        from engines.weights import inspect

        config = inspect(weights).card.config
        if config.name != settings.name:
            raise SettingError(f'{weights} holds weights of "{config.name}", not of "{settings.name}"')
    return _changed(config, settings)


def _changed(config: SwapperConfig, settings: BuildSettings) -> SwapperConfig:
    schedule = config.schedule
    if settings.steps is not None and settings.steps != config.steps:
        times = presets.trig_times if schedule.kind == "trig" else presets.ddpm_times
        schedule = schedule.model_copy(update={"times": times(settings.steps)})
    size_px = settings.size or config.size_px
    try:
        return SwapperConfig.model_validate(
            config.model_copy(update={"schedule": schedule, "size_px": size_px}).model_dump()
        )
    except ValidationError as error:
        raise SettingError(f'setting "size": {error.errors()[0]["msg"]}') from error
