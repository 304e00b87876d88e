"""Latents and pictures of a teacher: whole windows, long clips in overlapping windows, streams solved frame by frame.

B examples   T frames   C latent channels   h = w = S/8

`sample_window` solves all frames of a window at once, as the bidirectional teacher is trained; the frames before it may
be given clean. `sample_clip` goes on like that, each window given the end of the one before. `sample_stream` solves one
frame after the other on its own past, as the causal teacher is trained. What a few-step student does live is
distill.streaming.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from distill.conditions import between_frames, conditions, without_face
from distill.examples.types import Shown
from distill.guidance import Guided
from distill.network import Conditions, Network, network
from distill.past import left_by, ring_of
from distill.solvers import Solver, consistency, sample
from distill.streaming import Roll, stream
from distill.times import even_times
from distill.training.draws import Draws
from engines import SettingError
from engines.models.attention import Banded, Past, Ring, Together
from engines.models.swapper import Swapper


@dataclass(frozen=True, slots=True)
class Sampler:
    """How a flow is solved.

    times     noisiest first, down to 0 (distill.times.even_times); none: 50 even ones
    guidance  g of u + g (c - u): 1 is none. Needs a network that was trained with dropped face tokens
    """

    times: tuple[float, ...] = ()
    solver: Solver = "dpm++2m"
    guidance: float = 1.0


PLAIN = Sampler()
STEPS = 50  # of a sampler without times


def continuing(whole: Network, clean: Tensor | None) -> Network:
    """A window's network as that of its later frames alone: the first ones are given, clean, at time 0."""
    if clean is None or clean.shape[1] == 0:
        return whole

    def look(x_BTChw: Tensor, t_BT: Tensor) -> Tensor:
        given = t_BT.new_zeros(clean.shape[:2])
        return whole(torch.cat([clean.to(x_BTChw.dtype), x_BTChw], 1), torch.cat([given, t_BT], 1))[:, clean.shape[1] :]

    return look


def sample_window(
    swapper: Swapper,
    given: Conditions,
    noise_BTChw: Tensor,
    sampler: Sampler = PLAIN,
    *,
    clean: Tensor | None = None,
    sight: Together | Banded | None = None,
) -> Tensor:
    """The latents x0 of the frames that noise is for: the last ones of `given`.

    clean  latents [B, T', C, h, w] of the frames before them; T' + T are the frames of `given`
    sight  who sees whom; None: all each other
    """
    sight = sight or Together(given.condition_BTKhw.shape[1])
    look = continuing(network(swapper, given, sight), clean)
    if sampler.guidance != 1:
        apart = continuing(network(swapper, without_face(given), sight), clean)
        look = Guided(look, apart, sampler.guidance)
    start = swapper.schedule.start(noise_BTChw.float())
    return _solved(swapper, look, start, sampler, axes=2)


def sample_clip(
    swapper: Swapper, given: Conditions, noise_BTChw: Tensor, frames: int, overlap: int, sampler: Sampler = PLAIN
) -> Tensor:
    """A clip of any length: windows of `frames`, of which the first `overlap` are the end of the window before. Raises
    SettingError where a window would bring nothing new."""
    if not 0 <= overlap < frames:
        raise SettingError(f"windows of {frames} frames cannot overlap by {overlap}")
    total = noise_BTChw.shape[1]
    made = sample_window(swapper, between_frames(given, 0, frames), noise_BTChw[:, :frames], sampler)
    while made.shape[1] < total:
        done = made.shape[1]
        start, stop = done - overlap, min(done - overlap + frames, total)
        part = between_frames(given, start, stop)
        new = sample_window(swapper, part, noise_BTChw[:, done:stop], sampler, clean=made[:, start:])
        made = torch.cat([made, new], 1)
    return made


def sample_stream(swapper: Swapper, given: Conditions, noise_BTChw: Tensor, sampler: Sampler = PLAIN) -> Tensor:
    """Frame by frame, each solved on what the frames before it have left, in the swapper's form of memory."""
    shown = given if sampler.guidance == 1 else _beside_the_faceless(given)
    left: list[Past] = []
    made: list[Tensor] = []
    for frame in range(noise_BTChw.shape[1]):
        condition, tokens = shown.condition_BTKhw[:, frame], shown.tokens_BTLD[:, frame]
        ring = ring_of(swapper, left, noise_BTChw.device)
        noise = noise_BTChw[:, frame].float()
        look = _of_one_frame(swapper, condition, tokens, ring, sampler.guidance)
        start = swapper.schedule.start(noise)
        x0 = _solved(swapper, look, start, sampler, axes=1)
        made.append(x0)
        if swapper.window.slots:
            left.append(_left(swapper, x0, noise, condition, tokens, replace(ring, kept=[])))
            _forget(swapper, left)
    return torch.stack(made, 1)


def pictures(swapper: Swapper, latents_BTChw: Tensor, proxy_BT3SS: Tensor) -> Tensor:
    """What a stream would show of them, -1..1 [B, T, 3, S, S]; one frame is a still."""
    decoded = swapper.autoencoder.decode(latents_BTChw, still=latents_BTChw.shape[1] == 1, causal=True)
    return swapper.drawn(decoded.float(), proxy_BT3SS).clamp(-1, 1)


Form = Literal["window", "stream", "student"]


def predictor(
    swapper: Swapper, form: Form, sampler: Sampler | None = None, *, seed: int = 0, frames: int = 8, overlap: int = 4
) -> Callable[[Shown], Tensor]:
    """From a batch to its pictures [B, T, 3, S, S].

    form  window: the bidirectional teacher, in windows of `frames`. stream: the causal teacher. student: the few-step
          stream, its own steps unless the sampler has some; noise is the same in every frame, as live
    """
    sampler = sampler or (Sampler() if form != "student" else None)

    @torch.no_grad()
    def predict(shown: Shown) -> Tensor:
        given = conditions(swapper, shown)
        draws = Draws(seed, 0, shown.numbers, str(given.x0_BTChw.device))
        shape = given.x0_BTChw.shape[1:]
        if form == "student":
            times = () if sampler is None else sampler.times
            steps = len(times or swapper.config.schedule.times)
            noise = draws.normal("sample", steps, *shape[1:])[:, None].expand(-1, shape[0], -1, -1, -1, -1)
            return pictures(swapper, stream(swapper, given, noise, Roll(times)), shown.proxy_BT3SS)
        assert sampler is not None
        noise = draws.normal("sample", *shape)
        if form == "stream":
            return pictures(swapper, sample_stream(swapper, given, noise, sampler), shown.proxy_BT3SS)
        return pictures(swapper, sample_clip(swapper, given, noise, frames, overlap, sampler), shown.proxy_BT3SS)

    return predict


def _solved(swapper: Swapper, look: Network, x: Tensor, sampler: Sampler, axes: int) -> Tensor:
    """Down to clean data. The last step of every solver takes the clean latent as the network sees it; written so here,
    since the ddpm table's row 0, where a solver would end, is not quite clean."""
    schedule = swapper.schedule
    times = sampler.times or even_times(schedule, STEPS)
    if len(times) < 2 or times[-1] != 0:
        raise SettingError(f"a sampler's times fall to 0 in one step or more, not {times}")
    x = sample(look, schedule, x, times[:-1], sampler.solver, axes=axes)
    return consistency(look, schedule, x, x.new_full(x.shape[:axes], times[-2]))


def _of_one_frame(swapper: Swapper, condition: Tensor, tokens: Tensor, ring: Ring, guidance: float) -> Network:
    """The network of one frame [B, C, h, w]. With guidance the conditions have 2 B rows, those without face last, and
    each half sees the past that it made itself."""

    def look(x_BChw: Tensor, t_B: Tensor) -> Tensor:
        halves = len(condition) // len(x_BChw)
        latent = swapper.schedule.network_input(x_BChw).repeat(halves, 1, 1, 1)
        shown = torch.cat([latent, condition.to(latent.dtype)], 1)
        output = swapper.denoiser.frame(shown, t_B.repeat(halves), tokens, replace(ring, kept=[]))
        if halves == 1:
            return output
        with_face, without = output.chunk(2)
        return without + guidance * (with_face - without)

    return look


def _left(swapper: Swapper, x0: Tensor, noise: Tensor, condition: Tensor, tokens: Tensor, ring: Ring) -> Past:
    """What a solved frame leaves. The last step's keys and values are those of a look at the configuration's last time,
    as in training (distill.past)."""
    seen, at = x0, 0.0
    if swapper.config.window.memory == "last_step":
        at = swapper.config.schedule.times[-1]
        seen = swapper.schedule.noisy(x0, noise, at)
    return left_by(swapper, seen.repeat(len(condition) // len(x0), 1, 1, 1), condition, tokens, at, ring)


def _forget(swapper: Swapper, left: list[Past]) -> None:
    """Lets go of what no later frame holds."""
    held = set(swapper.window.frames_in(len(left)).tolist())
    for frame in range(len(left)):
        if frame not in held:
            left[frame] = ()


def _beside_the_faceless(given: Conditions) -> Conditions:
    tokens = torch.cat([given.tokens_BTLD, torch.zeros_like(given.tokens_BTLD)])
    return replace(given, condition_BTKhw=given.condition_BTKhw.repeat(2, 1, 1, 1, 1), tokens_BTLD=tokens)
