"""Whose tensor becomes which of ours: the tables by which published checkpoints are imported.

A rule reads `theirs -> ours`; `{l}`, `{i}`, ... stand for a number that comes back on the other side, and a last
`.weight` or `.bias` is carried over. A rule without `ours` says why a tensor is not taken. Every key of a file must
fit exactly one rule, and whatever a kind's rules can give must be given (engines.build.import_weights sees to both).
That the tables are right is proved by output against output (tests/engines/build/test_import_parity.py).

Layouts: diffusers' (UNet2DConditionModel, MotionAdapter, UNetMotionModel, AutoencoderKL,
AutoencoderKLTemporalDecoder), VividFace's (arXiv 2412.11279, official code), DINOv2's two (arXiv 2304.07193).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from engines.models.attention import time_code
from engines.models.vit import resized_positions

Shape = tuple[int, ...]
Change = Callable[[Tensor, Shape], Tensor]


def as_it_is(theirs: Tensor, ours: Shape) -> Tensor:
    return theirs


def conv_or_linear(theirs: Tensor, ours: Shape) -> Tensor:
    """A 1x1 convolution and a linear layer are the same numbers; which of them is stored differs by version."""
    plain = tuple(side for side in theirs.shape[2:] if side != 1) == () and theirs.shape[:2] == ours[:2]
    return theirs.reshape(ours) if plain and theirs.ndim != len(ours) else theirs


def first_inputs(theirs: Tensor, ours: Shape) -> Tensor:
    """conv_in: their input channels are the first of ours, the others start at zero.

    4 (SD1.5) are our noisy latent; 9 (SD1.5 for inpainting) noisy latent, mask and masked frame's latent, in the same
    order; 13 (VividFace) besides these the proxy's. With zeros the network computes what it did, whatever the new
    conditions show. Any other number of channels means something that is not known: left misshapen.
    """
    fits = len(ours) == 4 and theirs.ndim == 4 and theirs.shape[0] == ours[0] and theirs.shape[2:] == ours[2:]
    if not fits or theirs.shape[1] not in (4, 9, 13) or theirs.shape[1] > ours[1]:
        return theirs
    wide = theirs.new_zeros(ours)
    wide[:, : theirs.shape[1]] = theirs
    return wide


def negated(theirs: Tensor, ours: Shape) -> Tensor:
    """Stable Video Diffusion blends b spatial + (1 - b) temporal with b = 1 - sigmoid(mix_factor), we with sigmoid."""
    return -theirs


def own_grid(theirs: Tensor, ours: Shape) -> Tensor:
    """A position table for the grid of our pictures' size."""
    return resized_positions(theirs, round((ours[1] - 1) ** 0.5)) if theirs.ndim == 3 else theirs


def is_time_code(theirs: Tensor) -> str:
    """What is wrong with a position table that ought to be the sinusoidal one; empty if nothing."""
    rows, channels = theirs.shape[-2:]
    right = torch.allclose(theirs.reshape(rows, channels).float(), time_code(rows, channels), atol=2e-3)
    return "" if right else "is not the sinusoidal code of AnimateDiff"


def never_wrong(theirs: Tensor) -> str:
    return ""


@dataclass(frozen=True)
class Rule:
    """theirs -> ours.

    part   (k, n): what is given is the k-th of n equal stacks of rows
    again  may repeat, to the bit, what another key of the same file gave (one convolution under two names)
    why    if there is no `ours`: why it is not taken; `check` then says what must hold for that
    """

    theirs: str
    ours: str = ""
    change: Change = as_it_is
    part: tuple[int, int] = (0, 1)
    again: bool = False
    why: str = ""
    check: Callable[[Tensor], str] = never_wrong

    @cached_property
    def _theirs(self) -> re.Pattern[str]:
        return _pattern(self.theirs)

    @cached_property
    def _ours(self) -> re.Pattern[str]:
        return _pattern(self.ours)

    def fits(self, key: str) -> bool:
        return self._theirs.fullmatch(key) is not None

    def target(self, key: str) -> str:
        """Our name for their key, which must fit."""
        found = self._theirs.fullmatch(key)
        assert found is not None
        numbers = found.groupdict()
        return self.ours.format(**numbers) + (numbers["leaf"] or "")

    def can_give(self, name: str) -> bool:
        """Whether some key could become our `name` by this rule."""
        return bool(self.ours) and self._ours.fullmatch(name) is not None


def _pattern(readable: str) -> re.Pattern[str]:
    pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[0-9]+)", re.escape(readable))
    return re.compile(pattern + r"(?P<leaf>\.weight|\.bias)?")


Pairs = Iterable[tuple[str, str] | tuple[str, str, Change]]


def within(theirs: str, ours: str, parts: Pairs) -> tuple[Rule, ...]:
    """The rules of a part's insides, at one place."""
    return tuple(
        Rule(f"{theirs}.{part[0]}", f"{ours}.{part[1]}", part[2] if len(part) == 3 else as_it_is) for part in parts
    )


# ---- Stable Diffusion 1.5's UNet

RES_BLOCK: Pairs = (
    ("norm1", "norm1"),
    ("conv1", "conv1"),
    ("time_emb_proj", "time"),
    ("norm2", "norm2"),
    ("conv2", "conv2"),
    ("conv_shortcut", "skip", conv_or_linear),
)
FEED_FORWARD: Pairs = (
    ("transformer_blocks.0.ff.net.0.proj", "ff.inward"),
    ("transformer_blocks.0.ff.net.2", "ff.outward"),
)
SPATIAL: Pairs = (
    ("norm", "norm"),
    ("proj_in", "proj_in", conv_or_linear),
    ("transformer_blocks.0.norm1", "norm1"),
    ("transformer_blocks.0.attn1.to_q", "attn1.to_q"),
    ("transformer_blocks.0.attn1.to_k", "attn1.to_k"),
    ("transformer_blocks.0.attn1.to_v", "attn1.to_v"),
    ("transformer_blocks.0.attn1.to_out.0", "attn1.to_out"),
    ("transformer_blocks.0.norm2", "norm2"),
    ("transformer_blocks.0.attn2.to_q", "attn2.to_q"),
    ("transformer_blocks.0.attn2.to_k", "attn2.to_k"),
    ("transformer_blocks.0.attn2.to_v", "attn2.to_v"),
    ("transformer_blocks.0.attn2.to_out.0", "attn2.to_out"),
    ("transformer_blocks.0.norm3", "norm3"),
    *FEED_FORWARD,
    ("proj_out", "proj_out", conv_or_linear),
)
UNET = (
    Rule("conv_in", "denoiser.conv_in", first_inputs),
    Rule("time_embedding.linear_{n}", "denoiser.time.linear_{n}"),
    *within("down_blocks.{l}.resnets.{i}", "denoiser.down.{l}.layers.{i}.res", RES_BLOCK),
    *within("down_blocks.{l}.attentions.{i}", "denoiser.down.{l}.layers.{i}.spatial", SPATIAL),
    Rule("down_blocks.{l}.downsamplers.0.conv", "denoiser.down.{l}.halve"),
    *within("mid_block.resnets.0", "denoiser.middle.res1", RES_BLOCK),
    *within("mid_block.attentions.0", "denoiser.middle.spatial", SPATIAL),
    *within("mid_block.resnets.1", "denoiser.middle.res2", RES_BLOCK),
    *within("up_blocks.{l}.resnets.{i}", "denoiser.up.{l}.layers.{i}.res", RES_BLOCK),
    *within("up_blocks.{l}.attentions.{i}", "denoiser.up.{l}.layers.{i}.spatial", SPATIAL),
    Rule("up_blocks.{l}.upsamplers.0.conv", "denoiser.up.{l}.enlarge"),
    Rule("conv_norm_out", "denoiser.norm_out"),
    Rule("conv_out", "denoiser.conv_out"),
)

# ---- AnimateDiff's motion modules

MOTION_PARTS: Pairs = (
    ("norm", "norm"),
    ("proj_in", "proj_in"),
    ("transformer_blocks.0.norm1", "attentions.0.norm"),
    ("transformer_blocks.0.attn1.to_q", "attentions.0.to_q"),
    ("transformer_blocks.0.attn1.to_k", "attentions.0.to_k"),
    ("transformer_blocks.0.attn1.to_v", "attentions.0.to_v"),
    ("transformer_blocks.0.attn1.to_out.0", "attentions.0.to_out"),
    ("transformer_blocks.0.norm2", "attentions.1.norm"),
    ("transformer_blocks.0.attn2.to_q", "attentions.1.to_q"),
    ("transformer_blocks.0.attn2.to_k", "attentions.1.to_k"),
    ("transformer_blocks.0.attn2.to_v", "attentions.1.to_v"),
    ("transformer_blocks.0.attn2.to_out.0", "attentions.1.to_out"),
    ("transformer_blocks.0.norm3", "norm3"),
    *FEED_FORWARD,
    ("proj_out", "proj_out"),
)


def _motion(theirs: str, ours: str) -> tuple[Rule, ...]:
    code = f"{theirs}.transformer_blocks.0.pos_embed.pe"
    return (*within(theirs, ours, MOTION_PARTS), Rule(code, why="computed, not learned", check=is_time_code))


MOTION = (
    *_motion("down_blocks.{l}.motion_modules.{i}", "denoiser.down.{l}.layers.{i}.temporal"),
    *_motion("mid_block.motion_modules.0", "denoiser.middle.temporal"),
    *_motion("up_blocks.{l}.motion_modules.{i}", "denoiser.up.{l}.layers.{i}.temporal"),
)

# ---- VividFace's denoising_unet: SD1.5's and AnimateDiff's parts, decoupled face attention and the face mixer

FACE_ATTENTION: Pairs = (
    ("transformer_blocks.0.attnip.to_q", "attn2.to_q_face"),
    ("transformer_blocks.0.attnip.to_k", "attn2.to_k_face"),
    ("transformer_blocks.0.attnip.to_v", "attn2.to_v_face"),
    ("transformer_blocks.0.attnip.to_out.0", "attn2.to_out_face"),
)
RESAMPLER: Pairs = (
    ("proj_in", "proj_in"),
    ("layers.{d}.0.norm1", "layers.{d}.0.norm1"),
    ("layers.{d}.0.norm2", "layers.{d}.0.norm2"),
    ("layers.{d}.0.to_q", "layers.{d}.0.to_q"),
    ("layers.{d}.0.to_kv", "layers.{d}.0.to_kv"),
    ("layers.{d}.0.to_out", "layers.{d}.0.to_out"),
    ("layers.{d}.1.{n}", "layers.{d}.1.{n}"),
    ("proj_out", "proj_out"),
    ("norm_out", "norm_out"),
)
FACE = (
    *within("down_blocks.{l}.attentions.{i}", "denoiser.down.{l}.layers.{i}.spatial", FACE_ATTENTION),
    *within("mid_block.attentions.0", "denoiser.middle.spatial", FACE_ATTENTION),
    *within("up_blocks.{l}.attentions.{i}", "denoiser.up.{l}.layers.{i}.spatial", FACE_ATTENTION),
    Rule("position_net.content_proj.proj.{n}", "face_encoder.proj.{n}"),
    Rule("position_net.content_proj.norm", "face_encoder.norm"),
    *within("position_net.content_proj.dino_resampler", "face_encoder.texture_resampler", RESAMPLER),
    *within("position_net.content_proj.attr_resampler", "face_encoder.attribute_resampler", RESAMPLER),
    Rule("position_net.coord_proj.{n}", why="box coordinates, which VividFace's own code never passes"),
)

# ---- autoencoders

VAE_RES_BLOCK: Pairs = (
    ("norm1", "norm1"),
    ("conv1", "conv1"),
    ("norm2", "norm2"),
    ("conv2", "conv2"),
    ("conv_shortcut", "conv_shortcut", conv_or_linear),
)
VAE_ATTENTION: Pairs = (
    ("group_norm", "group_norm"),
    ("to_q", "to_q", conv_or_linear),
    ("to_k", "to_k", conv_or_linear),
    ("to_v", "to_v", conv_or_linear),
    ("to_out.0", "to_out", conv_or_linear),
    ("query", "to_q", conv_or_linear),  # as SD1.5's own file still names them
    ("key", "to_k", conv_or_linear),
    ("value", "to_v", conv_or_linear),
    ("proj_attn", "to_out", conv_or_linear),
)
TEMPORAL_BLOCK: Pairs = (("norm1", "norm1"), ("conv1", "conv1"), ("norm2", "norm2"), ("conv2", "conv2"))


def _vae_blocks(theirs: str, ours: str, mix: Change | None) -> tuple[Rule, ...]:
    """mix: how the blend's weight is taken, None for blocks without time."""
    if mix is None:
        return within(theirs, f"{ours}.spatial", VAE_RES_BLOCK)
    return (
        *within(f"{theirs}.spatial_res_block", f"{ours}.spatial", VAE_RES_BLOCK),
        *within(f"{theirs}.temporal_res_block", f"{ours}.temporal", TEMPORAL_BLOCK),
        Rule(f"{theirs}.time_mixer.mix_factor", f"{ours}.time_mixer.mix_factor", mix),
    )


def _vae_half(half: str, blocks: str, mix: Change | None) -> tuple[Rule, ...]:
    ours, middle = f"autoencoder.{half}", f"{half}.mid_block"
    return (
        Rule(f"{half}.conv_in", f"{ours}.conv_in"),
        *_vae_blocks(f"{half}.{blocks}.{{l}}.resnets.{{i}}", f"{ours}.{blocks}.{{l}}.resnets.{{i}}", mix),
        *_vae_blocks(f"{middle}.resnets.{{i}}", f"{ours}.mid_block.resnets.{{i}}", mix),
        *within(f"{middle}.attentions.0", f"{ours}.mid_block.attention", VAE_ATTENTION),
        Rule(f"{half}.conv_norm_out", f"{ours}.conv_norm_out"),
        Rule(f"{half}.conv_out", f"{ours}.conv_out"),
    )


DOWN = Rule("encoder.down_blocks.{l}.downsamplers.0.conv", "autoencoder.encoder.down_blocks.{l}.resample.conv")
UP = Rule("decoder.up_blocks.{l}.upsamplers.0.conv", "autoencoder.decoder.up_blocks.{l}.resample.conv")
QUANT = Rule("quant_conv", "autoencoder.quant_conv", conv_or_linear)
TIME_OUT = Rule("decoder.time_conv_out", "autoencoder.decoder.time_conv_out")
VAE = (
    *_vae_half("encoder", "down_blocks", None),
    *_vae_half("decoder", "up_blocks", None),
    DOWN,
    UP,
    QUANT,
    Rule("post_quant_conv", "autoencoder.post_quant_conv", conv_or_linear),
)
VAE_SVD = (
    *_vae_half("encoder", "down_blocks", None),
    *_vae_half("decoder", "up_blocks", negated),
    DOWN,
    UP,
    QUANT,
    TIME_OUT,
)
VAE_VIVIDFACE = (
    *_vae_half("encoder", "down_blocks", as_it_is),
    *_vae_half("decoder", "up_blocks", as_it_is),
    Rule(DOWN.theirs, DOWN.ours, again=True),
    Rule("encoder.down_blocks.{l}.downsamplers.0.Conv2d_0", DOWN.ours, again=True),
    UP,
    QUANT,
    TIME_OUT,
)

# ---- DINOv2, as its authors publish it and as transformers does

NO_MASK = "used while DINOv2 was trained, never after"
NO_NORM = "tokens are taken before the last norm, as VividFace does"
BLOCK = "face_encoder.backbone.blocks.{i}"
DINOV2 = (
    Rule("cls_token", "face_encoder.backbone.cls_token"),
    Rule("mask_token", why=NO_MASK),
    Rule("pos_embed", "face_encoder.backbone.pos_embed", own_grid),
    Rule("patch_embed.proj", "face_encoder.backbone.patch_embed.proj"),
    Rule("blocks.{i}.norm{n}", f"{BLOCK}.norm{{n}}"),
    Rule("blocks.{i}.attn.qkv", f"{BLOCK}.attn.qkv"),
    Rule("blocks.{i}.attn.proj", f"{BLOCK}.attn.proj"),
    Rule("blocks.{i}.ls{n}.gamma", f"{BLOCK}.ls{{n}}.gamma"),
    Rule("blocks.{i}.mlp.fc{n}", f"{BLOCK}.mlp.fc{{n}}"),
    Rule("norm", why=NO_NORM),
)
DINOV2_TRANSFORMERS = (
    Rule("embeddings.cls_token", "face_encoder.backbone.cls_token"),
    Rule("embeddings.mask_token", why=NO_MASK),
    Rule("embeddings.position_embeddings", "face_encoder.backbone.pos_embed", own_grid),
    Rule("embeddings.patch_embeddings.projection", "face_encoder.backbone.patch_embed.proj"),
    Rule("encoder.layer.{i}.norm{n}", f"{BLOCK}.norm{{n}}"),
    Rule("encoder.layer.{i}.attention.attention.query", f"{BLOCK}.attn.qkv", part=(0, 3)),
    Rule("encoder.layer.{i}.attention.attention.key", f"{BLOCK}.attn.qkv", part=(1, 3)),
    Rule("encoder.layer.{i}.attention.attention.value", f"{BLOCK}.attn.qkv", part=(2, 3)),
    Rule("encoder.layer.{i}.attention.output.dense", f"{BLOCK}.attn.proj"),
    Rule("encoder.layer.{i}.layer_scale{n}.lambda1", f"{BLOCK}.ls{{n}}.gamma"),
    Rule("encoder.layer.{i}.mlp.fc{n}", f"{BLOCK}.mlp.fc{{n}}"),
    Rule("layernorm", why=NO_NORM),
)
