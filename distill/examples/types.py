"""The form of an example: a sample as the networks are shown it, live and in training alike.

B examples   T frames (1 in a still)   S side of the crop   A side of the face encoder's pictures   I identity vector
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from engines.models.config import Driver
from engines.types import Floats, Mask, Rgb

Kind = Literal["image", "video"]


CONDITIONING = 2  # counts changes after which kept examples are no longer what the live engine would be given


class Refused(Exception):
    """No example can be made of a sample; the text is the reason, one of few, to be counted."""


@dataclass(frozen=True, slots=True)
class Example:
    """One swap, or a part of a clip of one, as it is kept: small, and before anything is drawn by lot.

    target_TSS3    uint8, the driver's crop
    truth_TSS3     uint8, what is to come out
    proxy_TSS3     uint8, the crop with the identity's rendered face on it (engines.swappers.proxy)
    mask_TSS       uint8, 255 where the face is to be drawn (engines.face.region)
    alpha_TSS      uint8, how solid what is drawn is pasted; 0 wherever the mask is
    attribute_TAA3 uint8, small pictures of the twin, who does the same as the driver
    texture_AA3    uint8, the identity's skin
    identity_I     float32, who the identity is (engines.identity_vector)
    number         its own, over all of the data: random numbers hang on it
    """

    target_TSS3: Rgb
    truth_TSS3: Rgb
    proxy_TSS3: Rgb
    mask_TSS: Mask
    alpha_TSS: Mask
    attribute_TAA3: Rgb
    texture_AA3: Rgb
    identity_I: Floats
    number: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A batch on its device, float32. Pictures -1..1, masks 0..1.

    target_BT3SS     the driver's crop
    masked_BT3SS     the same with the region filled
    numbers          what random numbers hang on: for each row something that no other row of the run has
    """

    kind: Kind
    target_BT3SS: Tensor
    masked_BT3SS: Tensor
    proxy_BT3SS: Tensor
    truth_BT3SS: Tensor
    mask_BT1SS: Tensor
    alpha_BT1SS: Tensor
    attribute_BT3AA: Tensor
    texture_B3AA: Tensor
    identity_BI: Tensor
    numbers: tuple[int, ...]

    def of_driver(self, driver: Driver) -> Tensor:
        """What the networks are given of the driver: engines.models.config, `driver`."""
        return self.masked_BT3SS if driver == "masked" else self.target_BT3SS

    def rows(self, start: int, stop: int) -> Shown:
        """A part of the batch, as gradient accumulation takes it."""
        tensors = {one: getattr(self, one)[start:stop] for one in TENSORS}
        return Shown(self.kind, **tensors, numbers=self.numbers[start:stop])

    def __len__(self) -> int:
        return len(self.numbers)


TENSORS = tuple(one.name for one in fields(Shown) if one.name not in ("kind", "numbers"))


def joined(parts: Sequence[Shown]) -> Shown:
    """Several batches of one kind as one."""
    tensors = {one: torch.cat([getattr(part, one) for part in parts]) for one in TENSORS}
    return Shown(parts[0].kind, **tensors, numbers=tuple(number for part in parts for number in part.numbers))
