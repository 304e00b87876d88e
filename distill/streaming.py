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
from engines.models.attention import Ring
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
    window = swapper.window
    kept: list[list[Tensor]] = [[] for _ in range(window.slots)]
    made: list[Tensor] = []
    for frame in range(given.tokens_BTLD.shape[1]):
        times = roll.steps_of(frame, swapper.config.schedule.times)
        look = _Frame(swapper, frame, times, roll.through_past, given.condition_BTKhw[:, frame])
        inputs = [given.tokens_BTLD[:, frame], noise_BTnChw[:, frame].float(), *[one for slot in kept for one in slot]]
        again = roll.replay and torch.is_grad_enabled()
        x0, *slices = checkpoint(look, *inputs, use_reentrant=False) if again else look(*inputs)
        made.append(x0)
        if slices:
            kept[window.slot_of(frame)] = slices
    return torch.stack(made, 1)


@dataclass(frozen=True, slots=True)
class _Frame:
    swapper: Swapper
    number: int
    times: tuple[float, ...]
    through_past: bool
    condition_BKhw: Tensor

    def __call__(self, tokens_BLD: Tensor, noise_BnChw: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """x0, with gradient through the last step alone, then what later frames see: each layer's key and value."""
        schedule = self.swapper.schedule
        ring = self._ring(past, tokens_BLD)
        x, x0 = schedule.start(noise_BnChw[:, 0]), noise_BnChw[:, 0]
        with_gradient = torch.is_grad_enabled()
        for i, t in enumerate(self.times):
            x = schedule.noisy(x0, noise_BnChw[:, i], t) if i else x
            ring = replace(ring, kept=[])
            with torch.set_grad_enabled(with_gradient and i == len(self.times) - 1):
                output = self.swapper.denoiser.frame(*self._shown(x, t), tokens_BLD, ring)
                x0 = schedule.clean(x, output.float(), t)
        with torch.set_grad_enabled(with_gradient and self.through_past):
            kept = [one for pair in self._kept(x0, tokens_BLD, ring) for one in pair]
        return x0, *(kept if self.through_past else [one.detach() for one in kept])

    def _shown(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        latent = self.swapper.schedule.network_input(x).to(self.condition_BKhw.dtype)
        return torch.cat([latent, self.condition_BKhw], 1), x.new_full((len(x),), t)

    def _kept(self, x0: Tensor, tokens_BLD: Tensor, last: Ring) -> list[tuple[Tensor, Tensor]]:
        denoiser, memory = self.swapper.denoiser, self.swapper.config.window.memory
        if not self.swapper.window.slots:
            return []
        if memory == "memory_encoder":
            return denoiser.remember(x0)
        if memory == "clean_pass":
            last = replace(last, kept=[])
            denoiser.look_back(*self._shown(x0, 0.0), tokens_BLD, last)
        return last.kept

    def _ring(self, past: Sequence[Tensor], tokens_BLD: Tensor) -> Ring:
        """past: of each filled slot, of each layer, key and value. What is unfilled is left out, not hidden."""
        window = self.swapper.window
        if not past:
            return Ring(None, None, (), (), window.frames - 1)
        filled = window.frames_in(self.number) >= 0
        positions_R = torch.from_numpy(window.positions(self.number)[filled]).to(tokens_BLD.device)
        positions_BR = positions_R.expand(len(tokens_BLD), -1)
        each = len(past) // len(positions_R)
        keys, values = (tuple(torch.stack(list(past[one::each]), 3) for one in range(kind, each, 2)) for kind in (0, 1))
        return Ring(positions_BR, torch.zeros_like(positions_BR, dtype=torch.float32), keys, values, window.frames - 1)
