"""What the denoiser is shown of a batch, and what is to come out: the training side of engines.models.step.

B examples   T frames   S side of the crop   h = w = S/8   C latent channels   N face tokens   D their width

The driver's frame, masked or whole (`driver` of the denoiser), and the proxy go through the frozen autoencoder as a
stream's frames do (no frame sees a later one; stills without the temporal branch), the mask is averaged to latent size,
the tokens are the face encoder's at the engine's own weights of texture and attribute. With nothing dropped these are
the very numbers that `SwapStep` computes.

Dropped by lot, as VividFace does (arXiv 2412.11279 and its train.py):
    mask   of single frames: nothing is to be drawn there, and the frame's picture is whole, which is the truth
    face   all tokens of an example become 0: what guidance guides away from
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from distill.examples.types import Shown
from distill.network import Conditions
from distill.stages.settings import ConditionSettings
from distill.training.draws import Draws
from engines.models.step import REDUCTION
from engines.models.swapper import Swapper

MOST_GAIN = 3.0  # of a channel, between the truth's tone and the proxy's
EMPTY = 1e-3  # sum over a face that is not there


def conditions(
    swapper: Swapper, shown: Shown, draws: Draws | None = None, settings: ConditionSettings | None = None
) -> Conditions:
    """draws: what drop-outs are drawn from; without it nothing is dropped. Gradient flows to the face encoder only."""
    settings = settings or ConditionSettings()
    mask, masked = shown.mask_BT1SS, shown.of_driver(swapper.config.denoiser.driver)
    if draws is not None and settings.drop_mask:
        dropped_BT = draws.uniform("drop mask", mask.shape[1]) < settings.drop_mask
        dropped = dropped_BT[:, :, None, None, None]
        mask, masked = mask.masked_fill(dropped, 0), torch.where(dropped, shown.truth_BT3SS, masked)
    masked = swapper.shown(masked.flatten(0, 1)).reshape(masked.shape)
    tokens = face_tokens(swapper, shown)
    if draws is not None and settings.drop_face:
        tokens = tokens * (draws.uniform("drop face", 1, 1, 1) >= settings.drop_face)
    truth, masked, proxy = _latents(swapper, (shown.truth_BT3SS, masked, shown.proxy_BT3SS), shown.kind == "image")
    condition = torch.cat([_at_latent_size(mask), masked, proxy], 2)
    return Conditions(truth, condition, tokens, region_weight(shown.mask_BT1SS, settings.outside, settings.ring))


def face_tokens(swapper: Swapper, shown: Shown) -> Tensor:
    """The face encoder's two calls, [B, T, N, D]: once per person, once per frame."""
    encoder, own = swapper.face_encoder, swapper.config.face_encoder
    count, frames = shown.attribute_BT3AA.shape[:2]
    texture_weight = shown.identity_BI.new_full((count,), own.texture_weight)
    identity = encoder.identity_tokens(shown.identity_BI, shown.texture_B3AA, texture_weight)
    attribute_weight = shown.identity_BI.new_full((count * frames,), own.attribute_weight)
    attribute = shown.attribute_BT3AA.flatten(0, 1)
    tokens = encoder.tokens(identity.repeat_interleave(frames, 0), attribute, attribute_weight)
    return tokens.float().reshape(count, frames, *tokens.shape[1:])


def in_tone_of_proxy(shown: Shown) -> Shown:
    """The same with the truth's face in the mean colour that the proxy's has, one gain per channel and example.

    How an unknown skin stood in an unknown light is most of the proxy's error and hardly to be told from one photo
    (docs/log.md): as noise it drowns what a network can learn. The gain is on gamma-coded values, as the proxy's own.
    """
    truth, proxy = (shown.truth_BT3SS + 1) / 2, (shown.proxy_BT3SS + 1) / 2
    solid = shown.alpha_BT1SS
    sums = [(one * solid).sum((1, 3, 4), keepdim=True) for one in (proxy, truth)]
    gain = (sums[0].clamp_min(EMPTY) / sums[1].clamp_min(EMPTY)).clamp(1 / MOST_GAIN, MOST_GAIN)
    toned = (truth * gain).clamp(0, 1) * 2 - 1
    return replace(shown, truth_BT3SS=torch.lerp(shown.truth_BT3SS, toned, shown.mask_BT1SS))


def region_weight(mask_BT1SS: Tensor, outside: float, ring: int) -> Tensor:
    """1 on the face and on `ring` latent pixels around it, `outside` elsewhere; then scaled to 1 on average over each
    example. [B, T, 1, h, w]."""
    inside = _at_latent_size(mask_BT1SS)
    near = functional.max_pool2d(inside.flatten(0, 1), 2 * ring + 1, 1, ring).reshape(inside.shape)
    weight = outside + (1 - outside) * near
    return weight / weight.mean((1, 2, 3, 4), keepdim=True)


def without_face(given: Conditions) -> Conditions:
    """The same with the face's tokens dropped: guidance's other side."""
    return replace(given, tokens_BTLD=torch.zeros_like(given.tokens_BTLD))


def between_frames(given: Conditions, start: int, stop: int) -> Conditions:
    """Frames start..stop - 1."""
    return Conditions(
        given.x0_BTChw[:, start:stop],
        given.condition_BTKhw[:, start:stop],
        given.tokens_BTLD[:, start:stop],
        given.weight_BT1hw[:, start:stop],
    )


@torch.no_grad()
def _latents(swapper: Swapper, pictures: tuple[Tensor, ...], still: bool) -> tuple[Tensor, ...]:
    """Of several clips [B, T, 3, S, S] in one pass: [B, T, C, h, w] each, float32."""
    latents = swapper.autoencoder.encode(torch.cat(pictures), still=still, causal=True)
    return latents.float().chunk(len(pictures))


def _at_latent_size(mask_BT1SS: Tensor) -> Tensor:
    return functional.avg_pool3d(mask_BT1SS, (1, REDUCTION, REDUCTION))
