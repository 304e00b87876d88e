"""Convolutions along time: one set of weights, four ways to pass through them.

Dimensions: B batch, T frames, C channels, h w height and width of a feature map. Feature maps are [B*T, C, h, w]: space
needs no other form, and time is unfolded only where it is mixed.

    still   every picture for itself: the temporal branches are left out
    window  T frames at once, each sees its neighbours on both sides; norms run over time (Stable Video Diffusion)
    causal  T frames at once, each sees only its past; norms run within a frame
    frame   one frame, the past comes as tensors: what causal gives, frame by frame

A causal convolution of three taps uses the window's weights with the taps moved to the past: t-2, t-1, t.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Form = Literal["still", "window", "causal", "frame"]
TAPS = 3
PAST = TAPS - 1  # frames that a causal convolution remembers


class Passage:
    """One pass through a network: how it treats time, what it remembers, and what of it is new.

    past   one tensor [B, PAST, C, h, w] per temporal convolution, in the order in which they are reached
    order  int64 [B, PAST]: the slots of `past` from the oldest to the newest
    new    filled on the way: each temporal convolution's input of this frame, [B, C, h, w]
    """

    def __init__(
        self, form: Form, frames: int = 1, past: Sequence[Tensor] = (), order_B2: Tensor | None = None
    ) -> None:
        self.form: Form = form
        self.frames = frames
        self.new: list[Tensor] = []
        self._past = past
        self._order_B2 = order_B2

    def remember(self, x_BChw: Tensor) -> Tensor:
        """The next memory's two frames and this one along the channels, oldest first: [B, 3C, h, w]."""
        past_B2Chw = self._past[len(self.new)].to(x_BChw.dtype)
        assert self._order_B2 is not None
        in_order = (self._order_B2[:, 0] == 0)[:, None, None, None]
        first, second = past_B2Chw[:, 0], past_B2Chw[:, 1]
        oldest, newest = torch.where(in_order, first, second), torch.where(in_order, second, first)
        self.new.append(x_BChw)
        return torch.cat([oldest, newest, x_BChw], 1)

    def unfold(self, x_NChw: Tensor) -> Tensor:
        """[B*T, C, h, w] to [B, C, T, h, w]."""
        return x_NChw.reshape(-1, self.frames, *x_NChw.shape[1:]).transpose(1, 2)


def fold(x_BCThw: Tensor) -> Tensor:
    """[B, C, T, h, w] to [B*T, C, h, w]."""
    return x_BCThw.transpose(1, 2).flatten(0, 1)


class TemporalConv(nn.Conv3d):
    """A convolution of three taps along time and none in space; weights as `Conv3d(c_in, c_out, (3, 1, 1))`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, (TAPS, 1, 1), padding=(1, 0, 0))

    def pass_through(self, x_NChw: Tensor, passage: Passage) -> Tensor:
        """[B*T, c_in, h, w] to [B*T, c_out, h, w]."""
        if passage.form == "frame":
            kernel = self.weight[:, :, :, 0, 0].transpose(1, 2).flatten(1)[:, :, None, None]
            return F.conv2d(passage.remember(x_NChw), kernel, self.bias)
        x_BCThw = passage.unfold(x_NChw)
        if passage.form == "causal":
            x_BCThw = F.pad(x_BCThw, (0, 0, 0, 0, PAST, 0))
            return fold(F.conv3d(x_BCThw, self.weight, self.bias))
        return fold(cast(Tensor, self(x_BCThw)))


class TemporalGroupNorm(nn.GroupNorm):
    """Group norm over a whole window, or within each frame where later frames must not change earlier ones."""

    def pass_through(self, x_NChw: Tensor, passage: Passage) -> Tensor:
        """[B*T, C, h, w], the same shape."""
        if passage.form == "window":
            return fold(cast(Tensor, self(passage.unfold(x_NChw))))
        return cast(Tensor, self(x_NChw))


class Blend(nn.Module):
    """b spatial + (1 - b) temporal, b = sigmoid(mix_factor) learned (VividFace, arXiv 2412.11279, section 3.3).

    The temporal branch is itself spatial + change, so what is left is spatial + (1 - b) change.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.zeros(1))

    def forward(self, spatial: Tensor, change: Tensor) -> Tensor:
        return spatial + (1 - torch.sigmoid(self.mix_factor)).to(change.dtype) * change


@torch.no_grad()
def fold_future(module: nn.Module) -> None:
    """Makes weights that were trained in windows a good start for the causal form, in place.

    The frame that is not there yet is taken to be as the present one: taps (past, present, future) become (0, past,
    present + future). Left as they are, the causal form's taps lie one frame late, and what moves leaves a ghost: on
    moving latents the error against the window form is 1.5 to 3.5 times as large (docs/log.md).
    """
    for convolution in module.modules():
        if isinstance(convolution, TemporalConv):
            convolution.weight.copy_(folded(convolution.weight))


def folded(weight_OI311: Tensor) -> Tensor:
    """The taps of one such convolution, `fold_future`'s way."""
    past, present, future = weight_OI311.unbind(2)
    return torch.stack([torch.zeros_like(past), past, present + future], 2)
