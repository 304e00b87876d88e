"""What a stream remembers of its past: keys and values for every temporal layer, in each form of memory.

B examples   T frames   R past slots   S places at a level   M heads   E channels per head   C latent channels

Teacher forcing shows a network the true past, in the form in which it will have it when it streams
(`WindowConfig.memory`, engines.models.step): `past_of` makes that of a whole clip at once, for `Banded.past`. A stream
makes it frame by frame: `left_by` is what one frame leaves, `ring_of` what a later one finds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from distill.network import Conditions, spread
from engines import SettingError
from engines.models.attention import Past, Ring
from engines.models.swapper import Swapper


def past_of(
    swapper: Swapper,
    given: Conditions,
    x0: Tensor,
    noise: Tensor | None = None,
    *,
    at: float | None = None,
    level: Tensor | None = None,
) -> Past | None:
    """Keys and values [B, T, S, M, E] per temporal layer, of latents x0 [B, T, C, h, w], for later frames to see. None
    where a window is one frame. With gradient; without, call it under no_grad.

    noise  unit variance, x0's shape: of the look that last_step has, and of what corrupts the past
    at     last_step: the time of that look; None: the configuration's last step, as a stream has it
    level  clean_pass: the past is noised to these times [B, T], and the look is told so. Keep it below 0.1 of the
           latents' deviation: more, and frames move 1.3 times as much as they should

    Raises SettingError for a memory that cannot be corrupted: it is noisy already, or is not told how much.
    """
    memory = swapper.config.window.memory
    if level is not None and memory != "clean_pass":
        raise SettingError(f'only the memory "clean_pass" is told how noisy its past is, not "{memory}": set corrupt=0')
    if swapper.window.slots == 0:
        return None
    if memory == "memory_encoder":
        kept, count = swapper.denoiser.remember(x0.flatten(0, 1)), x0.shape[:2]
        return tuple(
            (key.reshape(*count, *key.shape[1:]), value.reshape(*count, *value.shape[1:])) for key, value in kept
        )
    if memory == "last_step":
        level = x0.new_full(x0.shape[:2], swapper.config.schedule.times[-1] if at is None else at)
    x_t = x0
    if level is not None:
        if noise is None:
            raise ValueError("a past that is noised needs noise")
        x_t = swapper.schedule.noisy(x0, noise, spread(level, x0))
    times = x0.new_zeros(x0.shape[:2]) if level is None else level
    sight = swapper.banded(x0.shape[1], device=x0.device)
    shown = _shown(swapper, x_t, given.condition_BTKhw).flatten(0, 1)
    swapper.denoiser.look_back(shown, times.flatten(), given.tokens_BTLD.flatten(0, 1), sight)
    return tuple(sight.kept)


def detached(past: Past | None) -> Past | None:
    return None if past is None else tuple((key.detach(), value.detach()) for key, value in past)


def ring_of(swapper: Swapper, left: Sequence[Past], device: torch.device | None = None) -> Ring:
    """What the next frame of a stream finds, of what each frame before it has left (at least those that it still holds;
    the others may be empty)."""
    window, frame = swapper.window, len(left)
    own = window.frames - 1
    if window.slots == 0:
        return Ring(None, None, (), (), own)
    positions, bias = (
        torch.from_numpy(part)[None].to(device) for part in (window.positions(frame), window.bias(frame))
    )
    if frame == 0:
        return Ring(positions, bias, *_empty(swapper, device), own)
    held = [int(past) for past in window.frames_in(frame)]
    keys, values = (
        tuple(
            _slots([left[past][layer][which] if past >= 0 else None for past in held]) for layer in range(len(left[-1]))
        )
        for which in (0, 1)
    )
    return Ring(positions, bias, keys, values, own)


def left_by(
    swapper: Swapper, x0_BChw: Tensor, condition_BKhw: Tensor, tokens_BLD: Tensor, time: float, ring: Ring
) -> Past:
    """What a frame leaves when its last look did not: the memory encoder's, or those of a look at `time` (0: the clean
    pass) at a latent that is noised to it already. ring: the frame's, fresh."""
    if swapper.config.window.memory == "memory_encoder":
        return tuple(swapper.denoiser.remember(x0_BChw))
    times = x0_BChw.new_full(x0_BChw.shape[:1], time)
    swapper.denoiser.look_back(_shown(swapper, x0_BChw, condition_BKhw), times, tokens_BLD, ring)
    return tuple(ring.kept)


def _shown(swapper: Swapper, x_t: Tensor, condition: Tensor) -> Tensor:
    return torch.cat([swapper.schedule.network_input(x_t), condition.to(x_t.dtype)], -3)


def _slots(held: Sequence[Tensor | None]) -> Tensor:
    """[B, S, M, R, E]; zeros where nothing is held."""
    like = next(one for one in held if one is not None)
    return torch.stack([torch.zeros_like(like) if one is None else one for one in held], 3)


def _empty(swapper: Swapper, device: torch.device | None) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The rings before the first frame; their bias hides them."""
    side, slots = swapper.config.latent_px, swapper.window.slots
    shapes = [((side >> ring.level) ** 2, ring.heads, ring.head_width) for ring in swapper.denoiser.rings()]
    rings = tuple(torch.zeros(1, places, heads, slots, width, device=device) for places, heads, width in shapes)
    return rings, rings
