"""Stand-ins for what draws examples: samples are numbers, and one in five is refused. They start in no time."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from distill.data import Batch, Dataset, DataSettings
from distill.examples.cache import Exampler, Means, Split
from distill.examples.settings import ExampleSettings
from distill.examples.types import Example, Refused
from tests.distill.examples.folders import numbered
from tests.distill.numbers import Numbers


@dataclass(frozen=True)
class Marker:
    """An exampler whose examples hold the sample's first pixels."""

    def example(self, batch: Batch, row: int, number: int) -> Example:
        if number // 2 % 5 == 3:
            raise Refused("every fifth")
        frames = batch.target_BTHW3.shape[1]
        example = numbered(number, frames)
        example.target_TSS3[:, 1:9, 1:9] = batch.target_BTHW3[row, :, :8, :8].numpy()
        return example


def numbers(settings: ExampleSettings, split: Split) -> Dataset:
    data = DataSettings(
        seed=settings.seed,
        size_px=32,
        frames=settings.frames,
        images_a_batch=1,
        videos_a_batch=1,
        occlude=0,
        degrade=None,
    )
    return Dataset(data.model_copy(update={"degrade_photos": None}), ((Numbers(split), 1.0),))


def marker(settings: ExampleSettings) -> AbstractContextManager[Exampler]:
    return nullcontext(Marker())


MEANS = Means(numbers, marker)


def asked(folder: Path, **changes: object) -> ExampleSettings:
    few = {"stills": 60, "clips": 14, "held_out_stills": 10, "held_out_clips": 3, "frames": 3, "size_px": 64}
    return ExampleSettings.read({"folder": folder, "data": folder, **few, **changes})
