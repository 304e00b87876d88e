"""A clip as a stream draws it, frame by frame on its own past, with gradients: engines.models.step's arithmetic, over
conditions that are already encoded.

B examples   T frames   n steps   C latent channels   h = w = S/8   K condition channels   L tokens, D wide
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from distill.network import Conditions
from distill.past import left_by, ring_of
from engines.models.attention import Past, Ring
from engines.models.swapper import Swapper

Slices = list[tuple[Tensor, Tensor]]  # one frame's keys and values [B, P, M, E], per temporal layer


@dataclass(frozen=True, slots=True)
class Roll:
    """How a clip is rolled out.

    times        the steps of a frame, noisiest first; none: the swapper's own
    first_times  the first frame's, which has no past; none: as all others
    exit         the step whose x0 is the frame, and the only one with gradient: 0 is the noisiest; None: the last. A
                 frame with fewer steps ends at its last one
    through_past gradients flow into earlier frames, through what is kept of them; else what is kept is cut off
    replay       every frame is computed again in the backward pass: activations of one frame instead of T
    """

    times: tuple[float, ...] = ()
    first_times: tuple[float, ...] = ()
    exit: int | None = None
    through_past: bool = False
    replay: bool = False

    def steps_of(self, frame: int, own: tuple[float, ...]) -> tuple[float, ...]:
        """The times of a frame up to its exit."""
        times = self.times or own
        if frame == 0 and self.first_times:
            times = self.first_times
        return times if self.exit is None else times[: self.exit + 1]


PLAIN = Roll()


def stream(swapper: Swapper, given: Conditions, noise_BTnChw: Tensor, roll: Roll = PLAIN) -> Tensor:
    """The frames' x0, float32 [B, T, C, h, w]. given.x0 is not looked at. noise: unit variance, one for each step."""
    left: list[Past] = []
    made: list[Tensor] = []
    for frame in range(given.tokens_BTLD.shape[1]):
        held = [int(past) for past in swapper.window.frames_in(frame) if past >= 0]
        times = roll.steps_of(frame, swapper.config.schedule.times)
        look = _Frame(swapper, frame, held, times, roll.through_past, given.condition_BTKhw[:, frame])
        past = [one for earlier in held for pair in left[earlier] for one in pair]
        inputs = [given.tokens_BTLD[:, frame], noise_BTnChw[:, frame].float(), *past]
        again = roll.replay and torch.is_grad_enabled()
        x0, *slices = checkpoint(look, *inputs, use_reentrant=False) if again else look(*inputs)
        made.append(x0)
        left.append(_pairs(slices))
    return torch.stack(made, 1)


@dataclass(frozen=True, slots=True)
class _Frame:
    """One frame. held: the earlier ones that it sees."""

    swapper: Swapper
    number: int
    held: list[int]
    times: tuple[float, ...]
    through_past: bool
    condition_BKhw: Tensor

    def __call__(self, tokens_BLD: Tensor, noise_BnChw: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """x0, with gradient through the last step alone, then what later frames see: each layer's key and value. past:
        the same of the held frames."""
        swapper, schedule = self.swapper, self.swapper.schedule
        ring = self._ring(past, tokens_BLD.device)
        x, x0 = schedule.start(noise_BnChw[:, 0]), noise_BnChw[:, 0]
        with_gradient = torch.is_grad_enabled()
        for i, t in enumerate(self.times):
            x = schedule.noisy(x0, noise_BnChw[:, i], t) if i else x
            ring = replace(ring, kept=[])
            with torch.set_grad_enabled(with_gradient and i == len(self.times) - 1):
                latent = schedule.network_input(x).to(self.condition_BKhw.dtype)
                shown = torch.cat([latent, self.condition_BKhw], 1)
                output = swapper.denoiser.frame(shown, x.new_full((len(x),), t), tokens_BLD, ring)
                x0 = schedule.clean(x, output.float(), t)
        with torch.set_grad_enabled(with_gradient and self.through_past):
            if swapper.config.window.memory == "last_step" or not swapper.window.slots:
                left = tuple(ring.kept) if swapper.window.slots else ()
            else:
                left = left_by(swapper, x0, self.condition_BKhw, tokens_BLD, 0.0, replace(ring, kept=[]))
        kept = [one for pair in left for one in pair]
        return x0, *(kept if self.through_past else [one.detach() for one in kept])

    def _ring(self, past: Sequence[Tensor], device: torch.device) -> Ring:
        left: list[Past] = [()] * self.number
        each = len(past) // max(len(self.held), 1)
        for place, frame in enumerate(self.held):
            left[frame] = _pairs(past[place * each : (place + 1) * each])
        return ring_of(self.swapper, left, device)


def _pairs(flat: Sequence[Tensor]) -> Past:
    """Each layer's key and value."""
    return tuple(zip(flat[::2], flat[1::2], strict=True))
