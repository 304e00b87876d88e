"""The settings of the loop, in two parts: what decides a run's numbers, and what does not. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from engines import StrictModel

Share = Annotated[float, Field(gt=0, lt=1)]
Factor = Annotated[float, Field(ge=0)]


class TrainSettings(StrictModel):
    """How a stage is trained. Together with stage, swapper and data it decides every number of a run."""

    seed: int = Field(0, ge=0, lt=2**32, description="of all that is drawn by lot while training")
    steps: int = Field(10_000, ge=1, description="length of the run, unless `minutes` says it")
    minutes: float | None = Field(None, gt=0, description="fits curriculum and learning rate to that much time")
    optimiser: Literal["adamw", "radam"] = Field("adamw", description="AdamW or RAdam")
    learning_rate: float = Field(1e-4, gt=0, description="the highest one")
    factors: dict[str, Factor] = Field(
        {}, description="of the learning rate, by player or part: `student.face_encoder`; 0 freezes"
    )
    schedule: Literal["cosine", "constant"] = Field("cosine", description="of the learning rate, to 0 or not")
    warm_up_steps: int = Field(100, ge=0, description="over which the learning rate rises to its highest")
    beta1: float = Field(0.9, ge=0, lt=1, description="of the optimiser's mean of gradients")
    beta2: float = Field(0.99, ge=0, lt=1, description="of the optimiser's mean of their squares")
    weight_decay: float = Field(0.0, ge=0, description="decoupled; matrices and kernels only")
    clip: float = Field(1.0, gt=0, description="longest gradient")
    averages: tuple[Share, ...] = Field(
        (0.999,), min_length=1, description="decay of each average of the weights; the first is what comes out"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16: autocast; weights and averages stay float32"
    )
    accumulate: int = Field(1, ge=1, description="parts in which a batch goes through the networks")
    recompute: bool = Field(False, description="gradient checkpointing: less memory, a third more time")
    channels_last: bool = Field(False, description="layout of the convolutions' weights")


class MachineSettings(StrictModel):
    """Where a run runs, what it keeps and what it says: may change from one sitting to the next, and with
    it no more than rounding."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="cpu, cuda, cuda:1, or auto")
    ranks: Literal["copies", "shards"] = Field(
        "copies", description="under torchrun: a copy of the weights in each process (DDP), or a part (FSDP2)"
    )
    timeout_s: float = Field(600.0, gt=0, description="after which a silent rank is taken for dead")
    compile: bool = Field(False, description="torch.compile of the networks' blocks")
    workers: int = Field(1, ge=0, description="threads that read batches ahead; 0: none")
    save_minutes: float = Field(5.0, gt=0, description="between checkpoints")
    save_steps: int | None = Field(None, ge=1, description="between checkpoints, instead of minutes")
    keep: int = Field(2, ge=1, description="checkpoints that are kept, the best one apart")
    best: str = Field("", description="metric whose lowest value marks the best checkpoint; `-name`: highest")
    watch_minutes: float = Field(5.0, gt=0, description="between looks at pictures and metrics")
    watch_steps: int | None = Field(None, ge=1, description="between looks, instead of minutes")
    tensorboard: bool = Field(True, description="curves for TensorBoard, where it is installed")
    wandb: str = Field("", description="project of Weights & Biases; empty: not used")
    preflight: bool = Field(True, description="measure the memory of a step before the run")
    overfit_steps: int = Field(0, ge=0, description="steps on one batch before the run, whose loss must fall")
    replay: Path | None = Field(None, description="log of a run by minutes, whose progress is gone through again")
