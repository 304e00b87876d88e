"""Which kinds of published files there are, how each is recognised, and what it decides besides its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from engines.build.import_rules import (
    DINOV2,
    DINOV2_TRANSFORMERS,
    FACE,
    MOTION,
    UNET,
    VAE,
    VAE_SVD,
    VAE_VIVIDFACE,
    Rule,
    Shape,
)
from engines.models.config import SwapperConfig


@dataclass(frozen=True)
class Kind:
    """One layout of files.

    has, lacks  parts of keys by which it is recognised: each of `has` in some key, none of `lacks` in any
    only        a part that every key must have
    sets        fields of our configuration that shapes do not show and that this kind decides
    reads       fields of a config.json beside the file: their name, and what it must be by our configuration
    copies      fields of a config.json that become fields of ours
    counts      fields of our configuration that say how many of something there are: which keys to count
    constants   tensors of ours that such a file leaves out because they change nothing
    """

    name: str
    rules: tuple[Rule, ...]
    has: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    only: str = ""
    sets: Mapping[str, Any] = field(default_factory=dict)
    reads: Mapping[str, Callable[[SwapperConfig], Any]] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Callable[[Shape], Tensor]] = field(default_factory=dict)

    def recognises(self, keys: Iterable[str]) -> bool:
        keys = list(keys)
        return (
            all(any(part in key for key in keys) for part in self.has)
            and not any(part in key for part in self.lacks for key in keys)
            and all(self.only in key for key in keys)
        )


def _identity(shape: Shape) -> Tensor:
    """A 1x1 convolution, or its bias, that changes nothing."""
    return torch.eye(shape[0]).reshape(shape) if len(shape) > 1 else torch.zeros(shape)


DDPM: Mapping[str, Any] = {"schedule.kind": "ddpm", "schedule.prediction": "noise"}
NO_POST_QUANT = {f"autoencoder.post_quant_conv.{leaf}": _identity for leaf in ("weight", "bias")}
UNET_CONFIG: Mapping[str, Callable[[SwapperConfig], Any]] = {
    "act_fn": lambda ours: "silu",
    "norm_num_groups": lambda ours: 32,
    "norm_eps": lambda ours: 1e-5,
    "layers_per_block": lambda ours: ours.denoiser.blocks,
    "block_out_channels": lambda ours: list(ours.denoiser.widths),
    "cross_attention_dim": lambda ours: ours.denoiser.token_width,
    "transformer_layers_per_block": lambda ours: 1,
    "center_input_sample": lambda ours: False,
    "flip_sin_to_cos": lambda ours: True,
    "freq_shift": lambda ours: 0,
}
HEADS: Mapping[str, Callable[[SwapperConfig], Any]] = {
    "attention_head_dim": lambda ours: ours.denoiser.heads,  # diffusers' name for the number of heads
    "num_attention_heads": lambda ours: ours.denoiser.heads,
}
MOTION_HEADS: Mapping[str, Callable[[SwapperConfig], Any]] = {
    "motion_num_attention_heads": lambda ours: ours.denoiser.heads,
    "use_motion_mid_block": lambda ours: ours.denoiser.middle_temporal,
}
VAE_CONFIG: Mapping[str, Callable[[SwapperConfig], Any]] = {
    "act_fn": lambda ours: "silu",
    "norm_num_groups": lambda ours: 32,
    "block_out_channels": lambda ours: list(ours.autoencoder.widths),
    "latent_channels": lambda ours: ours.autoencoder.latent_channels,
}
VAE_SCALE = {"scaling_factor": "autoencoder.scale"}
DINOV2_CONFIG: Mapping[str, Callable[[SwapperConfig], Any]] = {
    "hidden_size": lambda ours: ours.face_encoder.feature_width,
    "num_attention_heads": lambda ours: max(ours.face_encoder.feature_width // 64, 1),
    "hidden_act": lambda ours: "gelu",
    "patch_size": lambda ours: 14,
    "use_swiglu_ffn": lambda ours: False,
}
TIME_KEYS = ("time_embedding.linear_1",)

KINDS = (
    Kind(
        "VividFace denoising_unet",
        (*UNET, *MOTION, *FACE),
        has=(*TIME_KEYS, ".attnip.", "position_net.", ".motion_modules."),
        sets={**DDPM, "denoiser.face_scale": 0.9},
        reads={**UNET_CONFIG, **HEADS, **MOTION_HEADS},
    ),
    Kind(
        "UNetMotionModel",
        (*UNET, *MOTION),
        has=(*TIME_KEYS, ".motion_modules."),
        lacks=(".attnip.",),
        sets=DDPM,
        reads={**UNET_CONFIG, **HEADS, **MOTION_HEADS},
    ),
    Kind(
        "UNet2DConditionModel",
        UNET,
        has=TIME_KEYS,
        lacks=(".motion_modules.", ".attnip."),
        sets=DDPM,
        reads={**UNET_CONFIG, **HEADS},
    ),
    Kind(
        "MotionAdapter",
        MOTION,
        has=(".motion_modules.",),
        lacks=(".temporal_transformer.",),
        only=".motion_modules.",
        reads=MOTION_HEADS,
    ),
    Kind(
        "VividFace face3dvae",
        VAE_VIVIDFACE,
        has=("encoder.mid_block.resnets.0.temporal_res_block.", "decoder.time_conv_out"),
        sets={"autoencoder.encoder_padding": "around"},
        reads=VAE_CONFIG,
        copies=VAE_SCALE,
        counts={"autoencoder.encoder_blocks": "encoder.down_blocks.0.resnets.{i}.spatial_res_block.conv1.weight"},
        constants=NO_POST_QUANT,
    ),
    Kind(
        "AutoencoderKLTemporalDecoder",
        VAE_SVD,
        has=("decoder.time_conv_out", "decoder.mid_block.resnets.0.temporal_res_block."),
        lacks=("encoder.mid_block.resnets.0.temporal_res_block.",),
        sets={"autoencoder.encoder_padding": "corner"},
        reads=VAE_CONFIG,
        copies=VAE_SCALE,
        constants=NO_POST_QUANT,
    ),
    Kind(
        "AutoencoderKL",
        VAE,
        has=("encoder.down_blocks.", "decoder.up_blocks.", "quant_conv"),
        lacks=(".temporal_res_block.",),
        sets={"autoencoder.encoder_padding": "corner"},
        reads=VAE_CONFIG,
        copies=VAE_SCALE,
    ),
    Kind("DINOv2", DINOV2, has=("patch_embed.proj", "blocks.0.attn.qkv")),
    Kind(
        "DINOv2 (transformers)",
        DINOV2_TRANSFORMERS,
        has=("embeddings.patch_embeddings.projection", "layer_scale1.lambda1"),
        reads=DINOV2_CONFIG,
    ),
)

# What people will try, and what to do about it.
FOREIGN: Mapping[str, str] = MappingProxyType(
    {
        "model.diffusion_model.": "Stable Diffusion's original layout; convert it with diffusers' "
        "StableDiffusionPipeline.from_single_file(...).save_pretrained(...) and import the folder's unet and vae",
        "first_stage_model.": "Stable Diffusion's original layout; take the diffusers folder of the same model",
        "temporal_transformer.": "AnimateDiff's original layout; convert it with diffusers' MotionAdapter."
        "from_single_file(...).save_pretrained(...)",
        "lora_": "a LoRA; merge it into its model with diffusers' fuse_lora() and save that",
    }
)
