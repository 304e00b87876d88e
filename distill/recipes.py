"""Complete configurations of runs, as functions: `teacher_tiny(examples)`. No torch here.

Stages     autoencoder, teacher, then of distillation causal, student (few steps, by consistency), rollout; or
           retouch, a rollout that begins at the proxy and needs no teacher
Sizes      toy (64 px, for trying things on a CPU in minutes), tiny, base, full: engines.models.presets

Hyper-parameters start from the published runs that docs/decisions names; a person changes them by `key=value`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field

from distill.examples.settings import BatchSettings
from distill.stages.settings import (
    AutoencoderSettings,
    CausalSettings,
    ConsistencySettings,
    RolloutSettings,
    StageSettings,
    TeacherSettings,
)
from distill.training.settings import MachineSettings, TrainSettings
from engines import SettingError, StrictModel, nearest
from engines.models import presets
from engines.models.config import SwapperConfig

EXAMPLES = Path("examples")
LIGHT_PX = 16  # of a retouch: a gain of finer squares flattens brows and lips
EVEN_PX = 8  # of a retouch: a place of the latent
RETOUCH_RATE = 2.5  # times a size's: it begins where the proxy is, and one step has little noise to average
NOT_OF_THE_NUMBERS: Mapping[str, Any] = MappingProxyType(
    {"machine": True, "licence": True, "data": {"folder", "more_folders", "memory_mb"}}
)


class RunConfig(StrictModel):
    """One run, complete. All but `machine`, `licence` and where the examples lie decides its numbers."""

    recipe: str = Field(description="name of the recipe that it began as")
    swapper: SwapperConfig = Field(description="the networks (engines.models.presets)")
    stage: StageSettings = Field(description="what is learned")
    data: BatchSettings = Field(description="from which examples")
    train: TrainSettings = Field(description="how")
    machine: MachineSettings = Field(MachineSettings(), description="where")
    licence: str = Field("not stated", min_length=1, description="under which the weights may be used")
    start: str = Field("", description="sha256 of the weights that it begins with; empty: random. Filled in")
    teacher: str = Field("", description="sha256 of the teacher's weights. Filled in")

    def decisive(self) -> dict[str, Any]:
        """What decides the run's numbers, as JSON has it."""
        return self.model_dump(mode="json", exclude=dict(NOT_OF_THE_NUMBERS))


@dataclass(frozen=True, slots=True)
class Size:
    """What a size of networks asks for. rate: of a teacher that is trained from nothing, or from imported weights."""

    name: Literal["toy", "tiny", "base", "full"]
    rate: float
    images: int
    videos: int
    frames: int
    steps: int
    few_steps: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    recompute: bool = False
    accumulate: int = 1
    factors: tuple[tuple[str, float], ...] = ()
    autoencoder_rate: float = 2.0  # times `rate`
    rollout_rate: float = 0.1  # the same
    parts: int = 7  # of the student's curriculum
    adversarial: float = 0.05  # a critic makes a roll-out's step twice as dear

    def swapper(self, few_steps: int = 1) -> SwapperConfig:
        return presets.of(self.name, few_steps)

    def whole_windows(self) -> SwapperConfig:
        """The networks before distillation, which stream nothing and have no memory encoder yet."""
        config = self.swapper()
        return config.model_copy(update={"window": config.window.model_copy(update={"memory": "last_step"})})

    def data(self, examples: Path, frames: int | None = None) -> BatchSettings:
        return BatchSettings(
            folder=examples, frames=frames or self.frames, images_a_batch=self.images, videos_a_batch=self.videos
        )

    def train(self, share: float, rate: float, factors: Mapping[str, float] | None = None) -> TrainSettings:
        """share: of this size's steps. rate: times this size's."""
        return TrainSettings(
            steps=max(round(share * self.steps), 1),
            learning_rate=rate * self.rate,
            precision=self.precision,
            recompute=self.recompute,
            accumulate=self.accumulate,
            factors=dict(factors or {}),
        )


TOY = Size(
    "toy",
    rate=1e-3,
    images=16,
    videos=4,
    frames=6,
    steps=4_000,
    autoencoder_rate=4.0,
    rollout_rate=0.5,
    parts=2,
    adversarial=0.0,
)
TINY = Size("tiny", rate=2e-4, images=16, videos=2, frames=8, steps=100_000, autoencoder_rate=5.0)
BASE = Size("base", 1e-4, 32, 4, 8, steps=200_000, few_steps=2, precision="bfloat16")
# VividFace trains what it imports at 1e-5, and its ReferenceNet, of which our face encoder has the place, at a tenth.
FULL = Size("full", 1e-5, 16, 2, 8, 100_000, 2, "bfloat16", True, 2, (("painter.face_encoder", 0.1),))


def autoencoder(size: Size, examples: Path = EXAMPLES) -> RunConfig:
    """Pixels to latents and back, before anything else. Two batches of clips for one of stills (VividFace)."""
    data = size.data(examples, frames=min(size.frames, 4))
    train = size.train(share=0.5, rate=size.autoencoder_rate)
    return RunConfig(
        recipe=f"autoencoder_{size.name}",
        swapper=size.whole_windows(),
        stage=AutoencoderSettings(),
        data=data.model_copy(update={"rhythm": ("image", "video", "video")}),
        train=train.model_copy(update={"channels_last": True}),
    )


def teacher(size: Size, examples: Path = EXAMPLES) -> RunConfig:
    """The bidirectional teacher, on a trained autoencoder's latents."""
    return RunConfig(
        recipe=f"teacher_{size.name}",
        swapper=size.whole_windows(),
        stage=TeacherSettings(),
        data=size.data(examples),
        train=size.train(share=1.0, rate=1.0, factors=dict(size.factors)),
    )


def causal(size: Size, examples: Path = EXAMPLES) -> RunConfig:
    """Distillation, stage 1: the teacher on a clean cached past."""
    return RunConfig(
        recipe=f"causal_{size.name}",
        swapper=size.swapper(size.few_steps),
        stage=CausalSettings(),
        data=size.data(examples),
        train=size.train(share=0.25, rate=0.5, factors=dict(size.factors)),
    )


def student(size: Size, examples: Path = EXAMPLES) -> RunConfig:
    """Distillation, stage 2: few steps."""
    return RunConfig(
        recipe=f"student_{size.name}",
        swapper=size.swapper(size.few_steps),
        stage=ConsistencySettings(parts=size.parts),
        data=size.data(examples),
        train=size.train(share=0.45, rate=0.5),
    )


def rollout(size: Size, examples: Path = EXAMPLES) -> RunConfig:
    """Distillation, stage 3: on its own past, over more frames. A memory encoder learns through that past only."""
    swapper = size.swapper(size.few_steps)
    return RunConfig(
        recipe=f"rollout_{size.name}",
        swapper=swapper,
        stage=RolloutSettings(adversarial=size.adversarial, through_past=swapper.window.memory == "memory_encoder"),
        data=size.data(examples, frames=size.frames * 3 // 2),
        train=size.train(share=0.1, rate=size.rollout_rate),
    )


def retouch(size: Size, examples: Path = EXAMPLES) -> RunConfig:
    """The proxy's picture made better in one step, from an autoencoder alone, by what the pictures say (decision 034).

    Denoiser, face encoder and decoder learn together. Clips come as often as stills do; from the first step on the
    student goes on from its own past.
    """
    swapper = size.swapper()
    if swapper.autoencoder.kind != "tiny":
        raise SettingError(f"retouch draws changes, which {size.name} cannot (autoencoder {swapper.autoencoder.kind})")
    seeing = swapper.denoiser.model_copy(update={"driver": "soft"})
    lit = swapper.autoencoder.model_copy(update={"light": LIGHT_PX})
    return RunConfig(
        recipe=f"retouch_{size.name}",
        swapper=swapper.model_copy(update={"denoiser": seeing, "autoencoder": lit, "draws": "change"}),
        stage=RolloutSettings(
            latent=0.0,
            adversarial=0.0,
            tone="proxy",
            even_px=EVEN_PX,
            perceptual=1.0,
            through_past=swapper.window.memory == "memory_encoder",
        ),
        data=size.data(examples).model_copy(update={"rhythm": ("image", "image", "video")}),
        train=size.train(share=0.2, rate=RETOUCH_RATE).model_copy(update={"channels_last": True}),
    )


autoencoder_toy, teacher_toy = partial(autoencoder, TOY), partial(teacher, TOY)
causal_toy, student_toy, rollout_toy = partial(causal, TOY), partial(student, TOY), partial(rollout, TOY)
autoencoder_tiny, teacher_tiny = partial(autoencoder, TINY), partial(teacher, TINY)
causal_tiny, student_tiny, rollout_tiny = partial(causal, TINY), partial(student, TINY), partial(rollout, TINY)
autoencoder_base, teacher_base = partial(autoencoder, BASE), partial(teacher, BASE)
causal_base, student_base, rollout_base = partial(causal, BASE), partial(student, BASE), partial(rollout, BASE)
autoencoder_full, teacher_full = partial(autoencoder, FULL), partial(teacher, FULL)
causal_full, student_full, rollout_full = partial(causal, FULL), partial(student, FULL), partial(rollout, FULL)

SIZES: Mapping[str, Size] = MappingProxyType({size.name: size for size in (TOY, TINY, BASE, FULL)})
RECIPES: Mapping[str, Callable[[Size, Path], RunConfig]] = MappingProxyType(
    {one.__name__: one for one in (autoencoder, teacher, causal, student, rollout, retouch)}
)
OF_STAGE: Mapping[str, str] = MappingProxyType({"consistency": "student"})  # else they have the same name


def of(stage: str, size: str, examples: Path = EXAMPLES) -> RunConfig:
    """The recipe of a stage at a size. Raises SettingError that names the nearest."""
    name = OF_STAGE.get(stage, stage)
    if name not in RECIPES:
        raise SettingError(f'no recipe for "{stage}"; {nearest(name, RECIPES)}')
    if size not in SIZES:
        raise SettingError(f'no recipe of size "{size}"; {nearest(size, SIZES)}')
    return RECIPES[name](SIZES[size], examples)
