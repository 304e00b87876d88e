"""The temporal UNet: noisy latent and conditions in, the noise schedule's prediction out.

B batch   T frames   N = B T images   C channels   H, W rows and columns of the latent, S = H W places at a level
M heads   E channels per head   L face tokens   D token width   R past slots

Input channels, in VividFace's order (arXiv 2412.11279): noisy latent, mask, masked frame's latent, proxy's latent, then
geometry if there is any. Structure and weight shapes with norm "group": SD1.5's UNet with AnimateDiff's motion modules
(arXiv 2307.04725) after every spatial block of a level that has them, and decoupled attention to face tokens. Norm
"rms": the same plan from cheaper blocks.

One set of weights, two forms: `window` computes T frames at once (the teacher's, or what a stream would have seen),
`frame` one frame with the past's keys and values (a stream's).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.models.attention import (
    Banded,
    FeedForward,
    Norm,
    Ring,
    SelfAttention,
    Sight,
    SpatialTransformer,
    TemporalAttention,
    TemporalTransformer,
    Together,
    TokenAttention,
    picture_norm,
)
from engines.models.config import DenoiserConfig
from engines.schedule import guess_around

END = 0.2  # a residual branch's last layer starts that much smaller


@dataclass(frozen=True, slots=True)
class RingShape:
    """What one temporal attention layer remembers: at which level (each is half the one before) and how wide."""

    level: int
    heads: int
    head_width: int


class TimeEmbedding(nn.Module):
    """Sines and cosines of the time, then two layers. [N] to [N, 4 C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rates = channels // 2
        self.linear_1 = nn.Linear(channels, 4 * channels)
        self.linear_2 = nn.Linear(4 * channels, 4 * channels)

    def forward(self, times_N: Tensor) -> Tensor:
        count_F = torch.arange(self.rates, dtype=torch.float32, device=times_N.device)
        angle = times_N.float()[:, None] * torch.exp(count_F * (-math.log(10000.0) / self.rates))
        code = torch.cat([torch.cos(angle), torch.sin(angle)], -1).to(self.linear_1.weight.dtype)
        return cast(Tensor, self.linear_2(functional.silu(self.linear_1(code))))


class ResBlock(nn.Module):
    """group: norm, SiLU, conv, time, norm, SiLU, conv (SD1.5). rms: norm, SiLU, conv, time, ReLU, conv, of which
    runtimes make one pass from the first convolution on."""

    def __init__(self, kind: Norm, channels: int, out_channels: int, time_channels: int) -> None:
        super().__init__()
        self.norm1 = picture_norm(kind, channels, 1e-5)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.time = nn.Linear(time_channels, out_channels)
        self.norm2 = picture_norm(kind, out_channels, 1e-5) if kind == "group" else None
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def forward(self, x_NCHW: Tensor, time_NF: Tensor) -> Tensor:
        inner = self.conv1(functional.silu(self.norm1(x_NCHW)))
        inner = inner + self.time(functional.silu(time_NF))[:, :, None, None]
        inner = functional.relu(inner) if self.norm2 is None else functional.silu(self.norm2(inner))
        return cast(Tensor, self.skip(x_NCHW) + self.conv2(inner))


@dataclass
class Context:
    """What every layer of one pass may look at."""

    time_NF: Tensor
    tokens_NLD: Tensor
    text_1LD: Tensor | None
    sight: Sight


class Layer(nn.Module):
    """A residual block, then attention over places and tokens, then over time, where the level has them; a layer that
    is not `attending` has neither."""

    def __init__(self, config: DenoiserConfig, level: int, channels: int, attending: bool = True) -> None:
        super().__init__()
        width = config.widths[level]
        self.res = ResBlock(config.norm, channels, width, 4 * config.widths[0])
        self.spatial = spatial(config, width) if attending and config.attention[level] else None
        self.temporal = temporal(config, width) if attending and config.temporal[level] else None

    def forward(self, x_NCHW: Tensor, context: Context) -> Tensor:
        x = cast(Tensor, self.res(x_NCHW, context.time_NF))
        if self.spatial is not None:
            x = self.spatial(x, context.tokens_NLD, context.text_1LD)
        if self.temporal is not None:
            x = self.temporal(x, context.sight)
        return x


class Down(nn.Module):
    def __init__(self, config: DenoiserConfig, level: int) -> None:
        super().__init__()
        before, width = config.widths[max(level - 1, 0)], config.widths[level]
        self.layers = nn.ModuleList(Layer(config, level, before if i == 0 else width) for i in range(config.blocks))
        last = level == len(config.widths) - 1
        self.halve = None if last else nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x_NCHW: Tensor, context: Context) -> list[Tensor]:
        """What the way up takes over, finest first; the last is what goes further down."""
        kept: list[Tensor] = []
        for layer in self.layers:
            kept.append(layer(kept[-1] if kept else x_NCHW, context))
        return kept if self.halve is None else [*kept, self.halve(kept[-1])]


class Middle(nn.Module):
    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        width, time_channels = config.widths[-1], 4 * config.widths[0]
        self.res1 = ResBlock(config.norm, width, width, time_channels)
        self.spatial = spatial(config, width) if config.middle_attention else None
        self.temporal = temporal(config, width) if config.middle_temporal else None
        self.res2 = ResBlock(config.norm, width, width, time_channels)

    def forward(self, x_NCHW: Tensor, context: Context) -> Tensor:
        x = self.res1(x_NCHW, context.time_NF)
        if self.spatial is not None:
            x = self.spatial(x, context.tokens_NLD, context.text_1LD)
        if self.temporal is not None:
            x = self.temporal(x, context.sight)
        return cast(Tensor, self.res2(x, context.time_NF))


class Up(nn.Module):
    """Ends at twice the size: enlarged, then a wide convolution (SD1.5); rms: narrowed to the next level's channels,
    then enlarged, a hundredth of the work."""

    def __init__(self, config: DenoiserConfig, level: int) -> None:
        super().__init__()
        widths, self.narrow = config.widths, config.norm == "rms"
        width, below = widths[level], widths[min(level + 1, len(widths) - 1)]
        above = widths[max(level - 1, 0)]
        entering = width if self.narrow else below
        self.layers = nn.ModuleList(
            Layer(config, level, (entering if i == 0 else width) + skip, config.upward == "every" or i == config.blocks)
            for i, skip in enumerate([width] * config.blocks + [above])
        )
        self.enlarge: nn.Conv2d | None = None
        if level:
            self.enlarge = nn.Conv2d(width, above, 1) if self.narrow else nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x_NCHW: Tensor, kept: list[Tensor], context: Context) -> Tensor:
        """Takes as many from the end of `kept` as it has layers."""
        x = x_NCHW
        for layer in self.layers:
            x = layer(torch.cat([x, kept.pop()], 1), context)
        if self.enlarge is None:
            return x
        if self.narrow:
            return functional.interpolate(self.enlarge(x), scale_factor=2.0, mode="nearest")
        return cast(Tensor, self.enlarge(functional.interpolate(x, scale_factor=2.0, mode="nearest")))


class MemoryEncoder(nn.Module):
    """A light way from a clean latent to the input of every temporal layer, instead of a second pass of the UNet."""

    def __init__(self, config: DenoiserConfig, layers: tuple[tuple[int, int], ...]) -> None:
        """layers: level and channels of each temporal attention layer, in order of running."""
        super().__init__()
        widths = [max(32, width // 4) for width in config.widths]
        inputs = [config.latent_channels, *widths]
        self.inward = nn.ModuleList(
            nn.Conv2d(inputs[i], width, 3, stride=2 if i else 1, padding=1) for i, width in enumerate(widths)
        )
        self.further = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in widths)
        self.outward = nn.ModuleList(nn.Linear(widths[level], channels) for level, channels in layers)
        self.level_of = tuple(level for level, _ in layers)

    def forward(self, latent_NCHW: Tensor) -> list[Tensor]:
        """[N, S, C] per temporal attention layer."""
        x, places = latent_NCHW, []
        for inward, further in zip(self.inward, self.further, strict=True):
            x = functional.silu(inward(x))
            x = x + further(x)
            places.append(functional.silu(x).flatten(2).transpose(1, 2))
        return [layer(places[level]) for layer, level in zip(self.outward, self.level_of, strict=True)]


class Denoiser(nn.Module):
    text_1LD: Tensor

    def __init__(self, config: DenoiserConfig, *, memory_encoder: bool = False, sigma_data: float = 0.5) -> None:
        """sigma_data: the schedule's; with `config.around_proxy` only."""
        super().__init__()
        self.config = config
        self.sigma_data = sigma_data
        levels = range(len(config.widths))
        self.conv_in = nn.Conv2d(config.in_channels, config.widths[0], 3, padding=1)
        self.time = TimeEmbedding(config.widths[0])
        self.down = nn.ModuleList(Down(config, level) for level in levels)
        self.middle = Middle(config)
        self.up = nn.ModuleList(Up(config, level) for level in reversed(levels))
        self.norm_out = picture_norm(config.norm, config.widths[0], 1e-5)
        self.conv_out = nn.Conv2d(config.widths[0], config.latent_channels, 3, padding=1)
        if config.text_tokens:
            self.register_buffer("text_1LD", torch.zeros(1, config.text_tokens, config.token_width))
        layers = self.temporal_layers()
        for index, (_, layer) in enumerate(layers):
            layer.index = index
        shapes = tuple((level, layer.to_q.in_features) for level, layer in layers)
        self.memory_encoder = MemoryEncoder(config, shapes) if memory_encoder else None

    def forward(self, x_NCHW: Tensor, times_N: Tensor, tokens_NLD: Tensor, sight: Sight) -> Tensor:
        """x: latent and conditions, `in_channels`. times: radians or 0..999. Returns [N, latent channels, H, W]."""
        x = self._features(x_NCHW, times_N, tokens_NLD, sight, self.up)
        out = cast(Tensor, self.conv_out(functional.silu(self.norm_out(x))))
        return out + self._guess(x_NCHW, times_N).to(out.dtype) if self.config.around_proxy else out

    def _guess(self, x_NCHW: Tensor, times_N: Tensor) -> Tensor:
        """What the proxy alone says of the output: a network that has learned nothing yet draws the proxy."""
        channels = self.config.latent_channels
        noisy, proxy = x_NCHW[:, :channels], x_NCHW[:, 2 * channels + 1 : 3 * channels + 1]
        mean = proxy / self.sigma_data
        return cast(Tensor, guess_around(noisy, mean, times_N.float()[:, None, None, None], self.config.around_proxy))

    def _features(
        self, x_NCHW: Tensor, times_N: Tensor, tokens_NLD: Tensor, sight: Sight, ups: Iterable[nn.Module]
    ) -> Tensor:
        text = self.text_1LD if self.config.text_tokens else None
        context = Context(self.time(times_N), tokens_NLD, text, sight)
        kept = [self.conv_in(x_NCHW)]
        for down in self.down:
            kept += down(kept[-1], context)
        x = cast(Tensor, self.middle(kept[-1], context))
        for up in ups:
            x = up(x, kept, context)
        return x

    def look_back(self, x_NCHW: Tensor, times_N: Tensor, tokens_NLD: Tensor, sight: Banded | Ring) -> None:
        """Runs only for what `sight.kept` collects: no further than the last temporal layer."""
        levels_up = [level for level in reversed(range(len(self.up))) if self.config.temporal[level]]
        needed = len(self.up) - min(levels_up) if levels_up else 0
        self._features(x_NCHW, times_N, tokens_NLD, sight, list(self.up)[:needed])

    def window(self, x_BTCHW: Tensor, times_BT: Tensor, tokens_BTLD: Tensor, sight: Together | Banded) -> Tensor:
        """T frames at once, [B, T, latent channels, H, W]."""
        batch = x_BTCHW.shape[:2]
        out = cast(Tensor, self(x_BTCHW.flatten(0, 1), times_BT.flatten(), tokens_BTLD.flatten(0, 1), sight))
        return out.reshape(*batch, *out.shape[1:])

    def frame(self, x_BCHW: Tensor, times_B: Tensor, tokens_BLD: Tensor, ring: Ring) -> Tensor:
        """One frame, [B, latent channels, H, W]. `ring.kept` then holds every layer's own keys and values."""
        return cast(Tensor, self(x_BCHW, times_B, tokens_BLD, ring))

    def remember(self, latent_NCHW: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The memory encoder's keys and values [N, S, M, E] of a clean latent, per temporal layer."""
        assert self.memory_encoder is not None, "this denoiser was built without a memory encoder"
        inputs = self.memory_encoder(latent_NCHW)
        return [layer.remembered(x) for x, (_, layer) in zip(inputs, self.temporal_layers(), strict=True)]

    def temporal_layers(self) -> list[tuple[int, TemporalAttention]]:
        """Every temporal attention layer with its level, in order of running."""
        return [
            (level, attention)
            for level, part in self._parts()
            for attention in part.modules()
            if isinstance(attention, TemporalAttention)
        ]

    def rings(self) -> tuple[RingShape, ...]:
        """What a stream must remember per temporal layer."""
        return tuple(
            RingShape(level, layer.heads, layer.to_q.in_features // layer.heads)
            for level, layer in self.temporal_layers()
        )

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Random weights from which it can learn: LeCun's law, and every residual branch ends small, so that a new
        network of any depth neither fades nor explodes."""
        ends = {id(end) for module in self.modules() for end in _ends(module)}
        if self.config.around_proxy:
            ends.add(id(self.conv_out))  # it begins near the guess
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                deviation = module.weight[0].numel() ** -0.5 * (END if id(module) in ends else 1)
                nn.init.normal_(module.weight, std=deviation, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _parts(self) -> Iterator[tuple[int, nn.Module]]:
        yield from enumerate(self.down)
        yield len(self.down) - 1, self.middle
        yield from zip(reversed(range(len(self.up))), self.up, strict=True)


def _ends(module: nn.Module) -> tuple[nn.Module, ...]:
    """The last layer of a residual branch."""
    if isinstance(module, ResBlock):
        return (module.conv2,)
    if isinstance(module, TokenAttention) and module.to_out_face is not None:
        return (module.to_out, module.to_out_face)
    if isinstance(module, SelfAttention | TokenAttention | TemporalAttention):
        return (module.to_out,)
    if isinstance(module, FeedForward):
        return (module.outward,)
    return ()


def spatial(config: DenoiserConfig, width: int) -> SpatialTransformer:
    text = config.text_tokens > 0
    return SpatialTransformer(
        config.norm, width, config.heads, config.token_width, text=text, face_scale=config.face_scale
    )


def temporal(config: DenoiserConfig, width: int) -> TemporalTransformer:
    return TemporalTransformer(config.norm, width, config.heads, config.positions)
