"""The tiny autoencoder: 256 px in about two GFLOP each way, on a CPU.

Dimensions as in engines.models.autoencoder; L levels of `config.widths`, the last at latent size.

Made for what a CPU does fast, measured shape by shape (docs/log.md): the first convolution strides over 8 / 2^(L-1)
pixels at once, nearly every product is a plain 3x3 convolution with many channels, residual blocks have no norm and
only a ReLU between their two convolutions (EDSR, arXiv 1707.02921): runtimes fuse each block into two operations. Sizes
change by strided and transposed convolutions, which take half the time of the pixel (un)shuffles that they equal; only
the last one, to three channels, is a shuffle. Time enters in one (2+1)D block at latent size, blended by a learned
weight as in the large autoencoder.

Without norms the initial scale is all that keeps activations in range: convolutions keep the variance, each block
adds 1/(2 blocks) of it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.models.autoencoder import PICTURE_CHANNELS, REDUCTION, Autoencoder, Shape
from engines.models.config import AutoencoderConfig
from engines.models.temporal import Blend, Passage, TemporalConv

LATENT_LIMIT = 3.0  # the decoder reads latents through a soft clamp: no outlier of the denoiser can burn the picture


class PlainBlock(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.conv2(F.relu(self.conv1(x))))


class TimeBlock(nn.Module):
    """The temporal half of a (2+1)D block: the same along time. Left out for stills."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = TemporalConv(channels, channels)
        self.conv2 = TemporalConv(channels, channels)
        self.time_mixer = Blend()

    def forward(self, x: Tensor, passage: Passage) -> Tensor:
        if passage.form == "still":
            return x
        hidden = F.relu(self.conv1.pass_through(x, passage))
        return cast(Tensor, self.time_mixer(x, self.conv2.pass_through(hidden, passage)))


def encoder_widths(config: AutoencoderConfig) -> tuple[int, ...]:
    return config.encoder_widths or config.widths


def plain_blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*[PlainBlock(channels) for _ in range(count)])


class TinyEncoder(nn.Module):
    """Pictures to features at latent size."""

    def __init__(self, config: AutoencoderConfig, fold_by: int) -> None:
        super().__init__()
        widths = encoder_widths(config)
        blocks = config.encoder_blocks or config.blocks
        self.conv_in = nn.Conv2d(PICTURE_CHANNELS, widths[0], 2 * fold_by, stride=fold_by, padding=fold_by // 2)
        self.levels = nn.ModuleList(plain_blocks(width, blocks) for width in widths)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.time = TimeBlock(widths[-1]) if config.temporal_encoder else None

    def forward(self, x_N3HW: Tensor, passage: Passage) -> Tensor:
        x = self.levels[0](self.conv_in(x_N3HW))
        for down, level in zip(self.downs, list(self.levels)[1:], strict=True):
            x = level(down(x))
        return cast(Tensor, x if self.time is None else self.time(x, passage))


class TinyDecoder(nn.Module):
    """Latents to pictures; with `light` to the logarithm of a gain, which has no detail."""

    def __init__(self, config: AutoencoderConfig, fold_by: int) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.time = TimeBlock(widths[0]) if config.temporal_decoder else None
        self.levels = nn.ModuleList(plain_blocks(width, config.blocks) for width in widths)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        each = 1 if config.light else fold_by**2  # pixels that a place of the last level gives
        self.conv_out = nn.Conv2d(widths[-1], PICTURE_CHANNELS * each, 3, padding=1)
        self.gain = nn.Conv2d(widths[0], PICTURE_CHANNELS, 3, padding=1) if config.light else None
        self.fold_by, self.light_px = fold_by, config.light

    def forward(self, z_NChw: Tensor, passage: Passage) -> Tensor:
        x = self.conv_in(LATENT_LIMIT * torch.tanh(z_NChw / LATENT_LIMIT))
        if self.time is not None:
            x = self.time(x, passage)
        x = self.levels[0](x)
        gain = None if self.gain is None else self.gain(x)
        for up, level in zip(self.ups, list(self.levels)[1:], strict=True):
            x = level(up(x))
        made = cast(Tensor, self.conv_out(x))
        if gain is None:
            return F.pixel_shuffle(made, self.fold_by)
        return self._light(made, self.fold_by) + self._light(gain, REDUCTION)

    def _light(self, colours_NChw: Tensor, side_px: int) -> Tensor:
        """A picture of one colour for each square, which flow into each other. side_px: of the squares given, which are
        averaged where larger ones are asked for."""
        larger = max(self.light_px // side_px, 1)
        averaged = F.avg_pool2d(colours_NChw, larger)
        return F.interpolate(averaged, scale_factor=float(larger * side_px), mode="bilinear", align_corners=False)

    def draw_nothing(self) -> None:
        """Takes the last layers to 0."""
        for layer in (self.conv_out, self.gain):
            for weight in () if layer is None else layer.parameters():
                nn.init.zeros_(weight)


class TinyAutoencoder(Autoencoder):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config)
        levels = len(config.widths)
        if not 1 <= levels <= 3:
            raise ValueError(f"an autoencoder of kind tiny has 1 to 3 widths, not {levels}")
        if len(encoder_widths(config)) != levels:
            raise ValueError(f"encoder and decoder have as many widths, not {config.encoder_widths}, {config.widths}")
        fold_by = REDUCTION // 2 ** (levels - 1)
        self.encoder = TinyEncoder(config, fold_by)
        features = encoder_widths(config)[-1]
        self.to_mean = nn.Conv2d(features, config.latent_channels, 3, padding=1)
        self.to_log_variance = nn.Conv2d(features, config.latent_channels, 3, padding=1)
        self.decoder = TinyDecoder(config, fold_by)
        self.initialise()

    def mean_of(self, x_N3HW: Tensor, passage: Passage) -> Tensor:
        return cast(Tensor, self.to_mean(self.encoder(x_N3HW, passage)))

    def moments_of(self, x_N3HW: Tensor, passage: Passage) -> tuple[Tensor, Tensor]:
        features = self.encoder(x_N3HW, passage)
        return self.to_mean(features), self.to_log_variance(features).clamp(-30, 20)

    def picture_of(self, z_NChw: Tensor, passage: Passage) -> Tensor:
        return cast(Tensor, self.decoder(z_NChw, passage))

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Variance is kept: LeCun's law for convolutions, He's before a ReLU, less for what a block adds."""
        for part in (self.encoder, self.decoder, self.to_mean, self.to_log_variance):
            blocks = [module for module in part.modules() if isinstance(module, PlainBlock | TimeBlock)]
            gains = {id(block.conv1): 2.0 for block in blocks} | {id(b.conv2): 0.5 / len(blocks) for b in blocks}
            for module in part.modules():
                if isinstance(module, nn.Conv2d | nn.Conv3d):
                    variance = gains.get(id(module), 1.0) / module.weight[0].numel()
                    nn.init.normal_(module.weight, std=variance**0.5, generator=generator)
                elif isinstance(module, nn.ConvTranspose2d):
                    first = torch.empty_like(module.weight[:, :, :1, :1])
                    nn.init.normal_(first, std=first.shape[0] ** -0.5, generator=generator)
                    nn.init.zeros_(module.weight)  # starts by repeating each pixel: no chequerboard
                    with torch.no_grad():
                        module.weight += first
                if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d) and module.bias is not None:
                    nn.init.zeros_(module.bias)
        assert self.to_log_variance.bias is not None
        nn.init.constant_(self.to_log_variance.bias, -6.0)  # posteriors start narrow

    def encoder_shapes(self, size_px: int) -> tuple[Shape, ...]:
        shape = (encoder_widths(self.config)[-1], size_px // REDUCTION)
        return (shape, shape) if self.config.temporal_encoder else ()

    def decoder_shapes(self, size_px: int) -> tuple[Shape, ...]:
        shape = (self.config.widths[-1], size_px // REDUCTION)
        return (shape, shape) if self.config.temporal_decoder else ()
