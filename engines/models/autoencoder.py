"""Pixels to latents and back, 8 times smaller: the contract of both autoencoders, and the large one (VidFaceVAE).

Dimensions: B batch, T frames, N pictures of any origin (B, or B*T), H W pixels, C latent channels, h w = H/8 W/8.
Pictures are RGB -1..1. Latents that leave `encode` are multiplied by `config.scale`, those that enter `decode` divided.

VidFaceVAE (VividFace, arXiv 2412.11279, section 3.3) is Stable Diffusion's autoencoder (arXiv 2112.10752) with
(2+1)D residual blocks: a spatial one, then a temporal one (3x1x1 convolutions), blended by a learned weight and left
out for still pictures (engines.models.temporal). Structure, norms and weight shapes are those of diffusers'
AutoencoderKL and AutoencoderKLTemporalDecoder; tests/engines/build prove it, output against output. Unlike theirs:
`post_quant_conv` is always there (set it to the identity for the temporal decoder, which has none), and the blend's
sign is VividFace's (SVD's decoder has 1 - b: negate mix_factor).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.graph import DType, Memory, TensorSpec
from engines.models.config import AutoencoderConfig
from engines.models.temporal import PAST, Blend, Passage, TemporalConv, TemporalGroupNorm

REDUCTION = 8
PICTURE_CHANNELS = 3
GROUPS = 32

Shape = tuple[int, int]  # channels and side of a temporal convolution's input


class Autoencoder(nn.Module):
    """What both kinds are to everybody else."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def mean_of(self, x_N3HW: Tensor, passage: Passage) -> Tensor:
        """The mean of the posterior, unscaled."""

    @abstractmethod
    def moments_of(self, x_N3HW: Tensor, passage: Passage) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the posterior, unscaled."""

    @abstractmethod
    def picture_of(self, z_NChw: Tensor, passage: Passage) -> Tensor:
        """Pictures from unscaled latents."""

    @abstractmethod
    def encoder_shapes(self, size_px: int) -> tuple[Shape, ...]:
        """The inputs of the encoder's temporal convolutions, in the order in which they are reached."""

    @abstractmethod
    def decoder_shapes(self, size_px: int) -> tuple[Shape, ...]:
        """The inputs of the decoder's temporal convolutions, in the order in which they are reached."""

    @abstractmethod
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Random weights from which it can learn."""

    @property
    def encoder_memories(self) -> int:
        """How many tensors `encode_frame` remembers per picture."""
        return len(self.encoder_shapes(REDUCTION))

    @property
    def decoder_memories(self) -> int:
        """How many tensors `decode_frame` remembers."""
        return len(self.decoder_shapes(REDUCTION))

    def encode(self, x: Tensor, still: bool = False, causal: bool = False) -> Tensor:
        """Latents [B, C, h, w] of pictures [B, 3, H, W], or [B, T, C, h, w] of clips [B, T, 3, H, W].

        still   every frame for itself (always so without a T)
        causal  no frame sees a later one: what `encode_frame` gives, one by one

        The mean of the posterior, scaled. Raises ValueError for sides that are no multiple of 8.
        """
        pictures, passage = _flat(x, still, causal)
        latents = self.mean_of(_check(pictures), passage) * self.config.scale
        return latents.reshape(*x.shape[:-3], *latents.shape[1:])

    def posterior(self, x: Tensor, still: bool = False, causal: bool = False) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each shaped as `encode` shapes its latents. Not scaled: for training."""
        pictures, passage = _flat(x, still, causal)
        mean, log_variance = self.moments_of(_check(pictures), passage)
        shape = (*x.shape[:-3], *mean.shape[1:])
        return mean.reshape(shape), log_variance.reshape(shape)

    def decode(self, latents: Tensor, still: bool = False, causal: bool = False) -> Tensor:
        """Pictures [B, 3, H, W] from [B, C, h, w], or [B, T, 3, H, W] from [B, T, C, h, w]. -1..1, not clamped."""
        flat, passage = _flat(latents, still, causal)
        pictures = self.picture_of(flat / self.config.scale, passage)
        return pictures.reshape(*latents.shape[:-3], *pictures.shape[1:])

    def encode_frame(
        self, x_B3HW: Tensor, past: Sequence[Tensor] = (), order_B2: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One frame of a stream: latents [B, C, h, w] and the new slices of the encoder's memories."""
        passage = Passage("frame" if self.encoder_memories else "still", 1, past, order_B2)
        latents = self.mean_of(_check(x_B3HW), passage) * self.config.scale
        return latents, tuple(passage.new)

    def decode_frame(
        self, latents_BChw: Tensor, past: Sequence[Tensor] = (), order_B2: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One frame of a stream: pictures [B, 3, H, W] and the new slices of the decoder's memories."""
        passage = Passage("frame" if self.decoder_memories else "still", 1, past, order_B2)
        pictures = self.picture_of(latents_BChw / self.config.scale, passage)
        return pictures, tuple(passage.new)

    def memories(self, batch: int, size_px: int, pictures: int = 2, dtype: DType = "float32") -> tuple[Memory, ...]:
        """What a stream remembers: the encoder's for each of the `pictures` that a frame has, then the decoder's."""
        enc, dec = self.encoder_shapes(size_px) * pictures, self.decoder_shapes(size_px)
        named = [(f"enc_{i:02}", s) for i, s in enumerate(enc)] + [(f"dec_{i:02}", s) for i, s in enumerate(dec)]
        return tuple(
            Memory(
                kept=TensorSpec(f"past_{name}", (batch, PAST, channels, side, side), dtype),
                new=TensorSpec(f"new_{name}", (batch, channels, side, side), dtype),
                axis=1,
                clock="recent",
            )
            for name, (channels, side) in named
        )


def _flat(x: Tensor, still: bool, causal: bool) -> tuple[Tensor, Passage]:
    if x.ndim not in (4, 5):
        raise ValueError(f"pictures are [B, C, H, W] and clips [B, T, C, H, W], not {list(x.shape)}")
    if x.ndim == 4 or still:
        return x.flatten(0, -4), Passage("still")
    return x.flatten(0, 1), Passage("causal" if causal else "window", x.shape[1])


def _check(x_N3HW: Tensor) -> Tensor:
    channels, height_px, width_px = x_N3HW.shape[1:]
    if channels != PICTURE_CHANNELS or height_px % REDUCTION or width_px % REDUCTION:
        raise ValueError(f"pictures are RGB with sides that are multiples of {REDUCTION}, not {list(x_N3HW.shape)}")
    return x_N3HW


def build(config: AutoencoderConfig) -> Autoencoder:
    """The autoencoder that a configuration names, with random weights."""
    if config.kind == "kl":
        return KlAutoencoder(config)
    from engines.models.autoencoder_tiny import TinyAutoencoder

    return TinyAutoencoder(config)


class SpatialBlock(nn.Module):
    """Stable Diffusion's residual block, without a time embedding."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, in_channels, eps=1e-6)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, out_channels, eps=1e-6)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        change = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        kept = x if self.conv_shortcut is None else self.conv_shortcut(x)
        return cast(Tensor, kept + change)


class TemporalBlock(nn.Module):
    """Stable Video Diffusion's temporal residual block, without its residual: what it changes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = TemporalGroupNorm(GROUPS, channels, eps=1e-5)
        self.conv1 = TemporalConv(channels, channels)
        self.norm2 = TemporalGroupNorm(GROUPS, channels, eps=1e-5)
        self.conv2 = TemporalConv(channels, channels)

    def forward(self, x: Tensor, passage: Passage) -> Tensor:
        x = self.conv1.pass_through(F.silu(self.norm1.pass_through(x, passage)), passage)
        return self.conv2.pass_through(F.silu(self.norm2.pass_through(x, passage)), passage)


class ResidualBlock(nn.Module):
    """(2+1)D: in space, then in time, blended. Without `temporal`, or for stills, in space alone."""

    def __init__(self, in_channels: int, out_channels: int, temporal: bool) -> None:
        super().__init__()
        self.spatial = SpatialBlock(in_channels, out_channels)
        self.temporal = TemporalBlock(out_channels) if temporal else None
        self.time_mixer = Blend() if temporal else None

    def forward(self, x: Tensor, passage: Passage) -> Tensor:
        x = self.spatial(x)
        if self.temporal is None or self.time_mixer is None or passage.form == "still":
            return x
        return cast(Tensor, self.time_mixer(x, self.temporal(x, passage)))


class MidAttention(nn.Module):
    """Attention of one head within a frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x_NChw: Tensor) -> Tensor:
        tokens_NSC = self.group_norm(x_NChw).flatten(2).transpose(1, 2)
        q, k, v = (project(tokens_NSC).unsqueeze(1) for project in (self.to_q, self.to_k, self.to_v))
        seen_NSC = F.scaled_dot_product_attention(q, k, v).squeeze(1)
        return x_NChw + cast(Tensor, self.to_out(seen_NSC)).transpose(1, 2).reshape(x_NChw.shape)


class MidBlock(nn.Module):
    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(channels, channels, temporal) for _ in range(2))
        self.attention = MidAttention(channels)

    def forward(self, x: Tensor, passage: Passage) -> Tensor:
        return cast(Tensor, self.resnets[1](self.attention(self.resnets[0](x, passage)), passage))


class Downsample(nn.Module):
    """Half the size. Padded at the right and the bottom (Stable Diffusion), or all around (VividFace)."""

    def __init__(self, channels: int, padding: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1 if padding == "around" else 0)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.conv(x if self.conv.padding[0] else F.pad(x, (0, 1, 0, 1))))


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest")))


class Level(nn.Module):
    """Residual blocks of one size, then the way to the next."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, temporal: bool, way: nn.Module | None) -> None:
        super().__init__()
        widths = (in_channels, *[out_channels] * blocks)
        self.resnets = nn.ModuleList(ResidualBlock(a, b, temporal) for a, b in pairwise(widths))
        self.resample = way

    def forward(self, x: Tensor, passage: Passage) -> Tensor:
        for block in self.resnets:
            x = block(x, passage)
        return x if self.resample is None else cast(Tensor, self.resample(x))


class Encoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, last = config.widths, len(config.widths) - 1
        self.conv_in = nn.Conv2d(PICTURE_CHANNELS, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Level(
                widths[max(i - 1, 0)],
                width,
                config.encoder_blocks or config.blocks,
                config.temporal_encoder,
                Downsample(width, config.encoder_padding) if i < last else None,
            )
            for i, width in enumerate(widths)
        )
        self.mid_block = MidBlock(widths[-1], config.temporal_encoder)
        self.conv_norm_out = nn.GroupNorm(GROUPS, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor, passage: Passage) -> Tensor:
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x, passage)
        x = self.mid_block(x, passage)
        return cast(Tensor, self.conv_out(F.silu(self.conv_norm_out(x))))


class Decoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, last = config.widths[::-1], len(config.widths) - 1
        temporal = config.temporal_decoder
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = MidBlock(widths[0], temporal)
        self.up_blocks = nn.ModuleList(
            Level(widths[max(i - 1, 0)], width, config.blocks + 1, temporal, Upsample(width) if i < last else None)
            for i, width in enumerate(widths)
        )
        self.conv_norm_out = nn.GroupNorm(GROUPS, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], PICTURE_CHANNELS, 3, padding=1)
        self.time_conv_out = TemporalConv(PICTURE_CHANNELS, PICTURE_CHANNELS) if temporal else None

    def forward(self, z: Tensor, passage: Passage) -> Tensor:
        x = self.mid_block(self.conv_in(z), passage)
        for level in self.up_blocks:
            x = level(x, passage)
        x = cast(Tensor, self.conv_out(F.silu(self.conv_norm_out(x))))
        if self.time_conv_out is None or passage.form == "still":
            return x
        return self.time_conv_out.pass_through(x, passage)


class KlAutoencoder(Autoencoder):
    """VidFaceVAE; without temporal blocks Stable Diffusion's autoencoder."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config)
        if 2 ** (len(config.widths) - 1) != REDUCTION:
            raise ValueError(f"an autoencoder of kind kl has 4 widths, not {len(config.widths)}")
        channels = config.latent_channels
        self.encoder = Encoder(config)
        self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)
        self.decoder = Decoder(config)

    def mean_of(self, x_N3HW: Tensor, passage: Passage) -> Tensor:
        return self.moments_of(x_N3HW, passage)[0]

    def moments_of(self, x_N3HW: Tensor, passage: Passage) -> tuple[Tensor, Tensor]:
        mean, log_variance = cast(Tensor, self.quant_conv(self.encoder(x_N3HW, passage))).chunk(2, dim=1)
        return mean, log_variance.clamp(-30, 20)

    def picture_of(self, z_NChw: Tensor, passage: Passage) -> Tensor:
        return cast(Tensor, self.decoder(self.post_quant_conv(z_NChw), passage))

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """LeCun's law everywhere: the norms before every convolution see to the rest."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
                fan_in = module.weight[0].numel()
                nn.init.normal_(module.weight, std=fan_in**-0.5, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def encoder_shapes(self, size_px: int) -> tuple[Shape, ...]:
        if not self.config.temporal_encoder:
            return ()
        blocks = self.config.encoder_blocks or self.config.blocks
        levels = [(width, size_px >> i) for i, width in enumerate(self.config.widths)]
        each = [shape for shape in levels for _ in range(2 * blocks)]
        return (*each, *[levels[-1]] * 4)

    def decoder_shapes(self, size_px: int) -> tuple[Shape, ...]:
        if not self.config.temporal_decoder:
            return ()
        levels = [(width, size_px >> i) for i, width in enumerate(self.config.widths)][::-1]
        each = [shape for shape in levels for _ in range(2 * (self.config.blocks + 1))]
        return (*[levels[0]] * 4, *each, (PICTURE_CHANNELS, size_px))
