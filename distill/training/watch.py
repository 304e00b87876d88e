"""What is looked at in mid-run: the same examples with the same noise every time, by the average's weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image
from torch import Tensor

from distill.errors import NotWritten
from distill.examples.types import Shown
from distill.training.draws import Draws

CLIP_FRAME_MS = 40


@dataclass(frozen=True, slots=True)
class Seen:
    """What a stage shows of itself.

    grids    uint8 [H, W, 3] by name: `1-step`, `2-steps`, `4-steps`
    clips    uint8 [T, H, W, 3] by name: long roll-outs
    metrics  by name; lower is better unless `machine.best` says otherwise
    """

    grids: Mapping[str, Tensor] = field(default_factory=dict)
    clips: Mapping[str, Tensor] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Watch(Protocol):
    """A stage that can be looked at. Called without gradients, in eval mode, on the run's first batch of each kind."""

    def watch(self, shown: Shown, draws: Draws) -> Seen: ...


def grid(pictures_RC3HW: Tensor) -> Tensor:
    """Rows and columns of pictures -1..1 as one, uint8 [R H, C W, 3]."""
    rows, columns, _, height, width = pictures_RC3HW.shape
    whole = pictures_RC3HW.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, 3)
    return _bytes(whole)


def clip(pictures_T3HW: Tensor) -> Tensor:
    """Pictures -1..1 as uint8 [T, H, W, 3]."""
    return _bytes(pictures_T3HW.permute(0, 2, 3, 1))


def write(folder: Path, kind: str, seen: Seen) -> None:
    """`KIND-NAME.png` for grids, `KIND-NAME.webp`, moving, for clips. Raises NotWritten."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in seen.grids.items():
            Image.fromarray(picture.cpu().numpy()).save(folder / f"{kind}-{_safe(name)}.png")
        for name, pictures in seen.clips.items():
            frames = [Image.fromarray(one) for one in pictures.cpu().numpy()]
            path = folder / f"{kind}-{_safe(name)}.webp"
            frames[0].save(path, save_all=True, append_images=frames[1:], duration=CLIP_FRAME_MS, loop=0)
    except OSError as error:
        raise NotWritten(f"{folder}: pictures cannot be written: {error.strerror or error}") from error


def _bytes(values: Tensor) -> Tensor:
    return ((values.detach().float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu()


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)
