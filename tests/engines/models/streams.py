"""Two ways to run a swapper: frame by frame as a runtime would, and whole sequences at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from engines.models.attention import Past
from engines.models.step import SwapStep
from engines.models.swapper import Swapper
from engines.window import recent_order, recent_slot

Frame = dict[str, Tensor]


class Stream:
    """A step, its memories and one frame counter per row: the plainest runtime."""

    def __init__(self, step: SwapStep) -> None:
        self.step, self.window = step, step.swapper.window
        self.memories = [torch.zeros(memory.kept.shape, dtype=step.dtype) for memory in step.spec.memories]
        self.frame_of_row = [0] * step.spec.inputs[0].shape[0]

    @torch.inference_mode()
    def run(self, frame: Frame, rows: Sequence[int] | None = None) -> dict[str, Tensor]:
        """One frame; rows not in `rows` have none now, and forget nothing. Returns outputs and new slices."""
        given = [(frame | self.arithmetic())[spec.name] for spec in self.step.spec.inputs]
        outputs = self.step(*given, *self.memories)
        specs = [*self.step.spec.outputs, *(memory.new for memory in self.step.spec.memories)]
        assert [tuple(output.shape) for output in outputs] == [spec.shape for spec in specs]
        named = dict(zip((spec.name for spec in specs), outputs, strict=True))
        for row in range(len(self.frame_of_row)) if rows is None else rows:
            self._write(row, named)
            self.frame_of_row[row] += 1
        return named

    def _write(self, row: int, named: dict[str, Tensor]) -> None:
        for kept, memory in zip(self.memories, self.step.spec.memories, strict=True):
            frame, slots = self.frame_of_row[row], kept.shape[memory.axis]
            slot = self.window.slot_of(frame) if memory.clock == "window" else recent_slot(frame, slots)
            kept[row].select(memory.axis - 1, slot).copy_(named[memory.new.name][row])

    def reset(self, row: int) -> None:
        for kept in self.memories:
            kept[row].zero_()
        self.frame_of_row[row] = 0

    def arithmetic(self) -> Frame:
        """What the window's clocks say about this frame."""
        numbers = self.frame_of_row
        return {
            "positions": torch.stack([torch.from_numpy(self.window.positions(frame)) for frame in numbers]),
            "bias": torch.stack([torch.from_numpy(self.window.bias(frame)) for frame in numbers]),
            "recent_order": torch.stack([torch.from_numpy(recent_order(frame, 2)) for frame in numbers]),
        }


def streamed(step: SwapStep, frames: Sequence[Frame]) -> tuple[Tensor, Tensor]:
    """Faces and latents [B, T, ...] of a fresh stream."""
    stream = Stream(step)
    outputs = [stream.run(frame) for frame in frames]
    return torch.stack([o["face"] for o in outputs], 1), torch.stack([o["latent"] for o in outputs], 1)


@torch.inference_mode()
def offline(swapper: Swapper, frames: Sequence[Frame]) -> tuple[Tensor, Tensor]:
    """The same from the window form. What later frames see of a frame depends on that frame's result in most memory
    modes; so the whole sequence is computed again and again, and after round k the first k frames are final."""
    clip = {name: torch.stack([frame[name] for frame in frames], 1) for name in frames[0]}
    condition, tokens = _condition(swapper, clip), _tokens(swapper, clip)
    memory, one_step = swapper.config.window.memory, swapper.config.steps == 1
    latents, past = _sampled(swapper, clip, condition, tokens, None)
    if not (memory == "last_step" and one_step):
        for _ in frames:
            latents, past = _sampled(swapper, clip, condition, tokens, past)
    return swapper.autoencoder.decode(latents, causal=True).clamp(-1, 1), latents


def _sampled(
    swapper: Swapper, clip: Frame, condition: Tensor, tokens: Tensor, past: Past | None
) -> tuple[Tensor, Past]:
    """Latents of all frames, given what later frames see of each; and what they will see next round."""
    schedule, noise = swapper.schedule, clip["noise"]
    x, x0 = schedule.start(noise[:, :, 0]), noise[:, :, 0]
    own: Past = ()
    for i, t in enumerate(swapper.config.schedule.times):
        x = schedule.noisy(x0, noise[:, :, i], t) if i else x
        output, own = _look(swapper, x, t, condition, tokens, past)
        x0 = schedule.clean(x, output, t)
    if swapper.config.window.memory == "clean_pass":
        own = _look(swapper, x0, 0.0, condition, tokens, past)[1]
    if swapper.config.window.memory == "memory_encoder":
        batch = x0.shape[:2]
        made = swapper.denoiser.remember(x0.flatten(0, 1))
        own = tuple((k.reshape(*batch, *k.shape[1:]), v.reshape(*batch, *v.shape[1:])) for k, v in made)
    return x0, own


def _look(
    swapper: Swapper, x: Tensor, t: float, condition: Tensor, tokens: Tensor, past: Past | None
) -> tuple[Tensor, Past]:
    sight = swapper.banded(x.shape[1], past)
    shown = torch.cat([swapper.schedule.network_input(x), condition], 2)
    output = swapper.denoiser.window(shown, torch.full(x.shape[:2], t), tokens, sight)
    return output, tuple(sight.kept)


def _condition(swapper: Swapper, clip: Frame) -> Tensor:
    mask = functional.avg_pool3d(clip["mask"], (1, 8, 8))
    latents = [swapper.autoencoder.encode(clip[name], causal=True) for name in ("masked", "proxy")]
    return torch.cat([mask, *latents, *([clip["geometry"]] if "geometry" in clip else [])], 2)


def _tokens(swapper: Swapper, clip: Frame) -> Tensor:
    flat = {name: value.flatten(0, 1) for name, value in clip.items()}
    tokens = swapper.face_encoder.tokens(flat["identity_tokens"], flat["attribute"], flat["weights"][:, 1])
    return tokens.reshape(*clip["attribute"].shape[:2], *tokens.shape[1:])
