"""Who the face is and how it looks now, as tokens for cross-attention (VividFace, arXiv 2412.11279, section 3.2).

Dimensions: B batch, A side of the pictures in pixels, P tokens of a picture, F their width, N face tokens, D their
width, I width of the identity vector. Pictures are RGB -1..1.

    x = LN(MLP(identity))                                                    [B, N, D]
    tokens = x + texture_weight R_tex(x, texture) + attribute_weight R_attr(x, attribute)

R is a Perceiver resampler (arXiv 2103.03206, 2204.14198): x asks, the picture's tokens and x itself answer. Identity
and texture are of the photo and computed once per person; only the attributes are of the frame. Both resamplers ask
with x, so what is carried from frame to frame is x + texture's part, then x: 2N tokens.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.models.autoencoder_tiny import PlainBlock, plain_blocks
from engines.models.config import FaceEncoderConfig
from engines.models.vit import VisionTransformer

FEEDFORWARD = 2  # the resamplers' hidden layer, in widths
CONV_FOLD = 8  # the small backbone's pixel unshuffle
CONV_WIDTH = 128


class PerceiverAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, features_BPD: Tensor, latents_BND: Tensor) -> Tensor:
        features_BPD, latents_BND = self.norm1(features_BPD), self.norm2(latents_BND)
        both_BSD = torch.cat([features_BPD, latents_BND], 1)
        keys, values = cast(Tensor, self.to_kv(both_BSD)).chunk(2, dim=-1)
        q, k, v = (self._split(part) for part in (self.to_q(latents_BND), keys, values))
        seen_BND = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return cast(Tensor, self.to_out(seen_BND))

    def _split(self, x_BSD: Tensor) -> Tensor:
        return x_BSD.reshape(*x_BSD.shape[:2], self.heads, -1).transpose(1, 2)


class FeedForward(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, FEEDFORWARD * width, bias=False),
            nn.GELU(),
            nn.Linear(FEEDFORWARD * width, width, bias=False),
        )


class Resampler(nn.Module):
    """N tokens that ask a picture's P tokens. Weight shapes as VividFace's FacePerceiverResampler."""

    def __init__(self, config: FaceEncoderConfig) -> None:
        super().__init__()
        width = config.token_width
        self.proj_in = nn.Linear(config.feature_width, width)
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(width, config.heads), FeedForward(width)]) for _ in range(config.depth)
        )
        self.proj_out = nn.Linear(width, width)
        self.norm_out = nn.LayerNorm(width)

    def forward(self, x_BND: Tensor, features_BPF: Tensor) -> Tensor:
        features_BPD = self.proj_in(features_BPF)
        for layer in self.layers:
            attention, feed_forward = cast(nn.ModuleList, layer)
            x_BND = attention(features_BPD, x_BND) + x_BND
            x_BND = feed_forward(x_BND) + x_BND
        return cast(Tensor, self.norm_out(self.proj_out(x_BND)))


class ConvBackbone(nn.Module):
    """Pictures to tokens, small and ours: folded 8 times, then plain convolutions at A/8 and A/16."""

    def __init__(self, picture_px: int, feature_width: int) -> None:
        super().__init__()
        if picture_px % (2 * CONV_FOLD):
            raise ValueError(f"the conv backbone takes pictures of a multiple of {2 * CONV_FOLD} px, not {picture_px}")
        side = picture_px // (2 * CONV_FOLD)
        self.conv_in = nn.Conv2d(3 * CONV_FOLD**2, CONV_WIDTH, 1)
        self.fine = plain_blocks(CONV_WIDTH, 1)
        self.down = nn.Conv2d(CONV_WIDTH, feature_width, 3, stride=2, padding=1)
        self.coarse = plain_blocks(feature_width, 1)
        self.positions = nn.Parameter(torch.zeros(1, side * side, feature_width))

    def forward(self, x_B3AA: Tensor) -> Tensor:
        x = self.fine(self.conv_in(F.pixel_unshuffle(x_B3AA, CONV_FOLD)))
        return cast(Tensor, self.coarse(self.down(x))).flatten(2).transpose(1, 2) + self.positions


class FaceEncoder(nn.Module):
    def __init__(self, config: FaceEncoderConfig) -> None:
        super().__init__()
        self.config = config
        wide = 2 * config.identity_width
        self.proj = nn.Sequential(
            nn.Linear(config.identity_width, wide), nn.GELU(), nn.Linear(wide, config.tokens * config.token_width)
        )
        self.norm = nn.LayerNorm(config.token_width)
        self.texture_resampler = Resampler(config)
        self.attribute_resampler = Resampler(config)
        self.backbone: nn.Module
        if config.backbone == "conv":
            self.backbone = ConvBackbone(config.picture_px, config.feature_width)
        else:
            self.backbone = VisionTransformer(config.picture_px, config.feature_width)
        self.initialise()

    @property
    def carried_tokens(self) -> int:
        """How many tokens `identity_tokens` gives: 2N."""
        return 2 * self.config.tokens

    def identity_tokens(self, identity_BI: Tensor, texture_B3AA: Tensor, texture_weight_B: Tensor) -> Tensor:
        """What is carried of a person, [B, 2N, D].

        identity_BI       a recogniser's vector, of length 1
        texture_B3AA      the photo's face, -1..1
        texture_weight_B  0 and up: more is more likeness, less expression
        """
        x_BND = self.norm(self.proj(identity_BI).reshape(-1, self.config.tokens, self.config.token_width))
        textured_BND = self.texture_resampler(x_BND, self.features(texture_B3AA))
        return torch.cat([x_BND + texture_weight_B[:, None, None] * textured_BND, x_BND], 1)

    def attribute_tokens(self, attribute_B3AA: Tensor, x_BND: Tensor) -> Tensor:
        """What the driver's crop adds at weight 1, [B, N, D]; x_BND are the last N of `identity_tokens`."""
        return cast(Tensor, self.attribute_resampler(x_BND, self.features(attribute_B3AA)))

    def tokens(self, identity_tokens_B2ND: Tensor, attribute_B3AA: Tensor, attribute_weight_B: Tensor) -> Tensor:
        """The tokens of one frame, [B, N, D]."""
        fused_BND, x_BND = identity_tokens_B2ND.chunk(2, dim=1)
        return fused_BND + attribute_weight_B[:, None, None] * self.attribute_tokens(attribute_B3AA, x_BND)

    def features(self, picture_B3AA: Tensor) -> Tensor:
        """A picture's tokens, [B, P, F]. Raises ValueError for a picture of another size."""
        expected = (3, self.config.picture_px, self.config.picture_px)
        if picture_B3AA.shape[1:] != expected:
            raise ValueError(f"pictures for the face encoder are {list(expected)}, not {list(picture_B3AA.shape[1:])}")
        return cast(Tensor, self.backbone(picture_B3AA))

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """LeCun's law, He's before a ReLU; positions and class tokens 0.02 as usual for transformers."""
        halves = {id(m.conv2): 0.5 for m in self.modules() if isinstance(m, PlainBlock)}
        firsts = {id(m.conv1): 2.0 for m in self.modules() if isinstance(m, PlainBlock)}
        gains = halves | firsts
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                variance = gains.get(id(module), 1.0) / module.weight[0].numel()
                nn.init.normal_(module.weight, std=variance**0.5, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, parameter in self.backbone.named_parameters():
            if name in ("positions", "pos_embed", "cls_token"):
                nn.init.normal_(parameter, std=0.02, generator=generator)
