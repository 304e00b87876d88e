"""Small networks to import from: diffusers' own, and weights that follow from their names alone."""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engines.models.config import (
    AutoencoderConfig,
    DenoiserConfig,
    FaceEncoderConfig,
    ScheduleConfig,
    SwapperConfig,
    WindowConfig,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # whatever diffusers and what it tries to import deprecate
    diffusers = pytest.importorskip("diffusers")

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

if TYPE_CHECKING:
    from engines.build.import_rules import Rule, Shape

UNET_WIDTHS, VAE_WIDTHS, TOKEN_WIDTH, TEXT_TOKENS = (32, 64), (32, 32, 64, 64), 64, 7


def config(
    *,
    motion: bool = False,
    temporal: tuple[bool, bool] = (False, False),
    denoiser: Mapping[str, Any] | None = None,
    autoencoder: Mapping[str, Any] | None = None,
    face_encoder: Mapping[str, Any] | None = None,
) -> SwapperConfig:
    """A configuration of SD1.5's plan in small: two levels in the UNet, four in the autoencoder.

    temporal: whether the autoencoder's encoder and decoder have (2+1)D blocks
    """
    denoiser_values: dict[str, Any] = {
        "widths": UNET_WIDTHS,
        "attention": (True, False),
        "temporal": (motion, motion),
        "middle_temporal": motion,
        "token_width": TOKEN_WIDTH,
        "text_tokens": TEXT_TOKENS,
        "face_scale": 0.0,
    }
    autoencoder_values: dict[str, Any] = {
        "kind": "kl",
        "widths": VAE_WIDTHS,
        "temporal_encoder": temporal[0],
        "temporal_decoder": temporal[1],
    }
    face_encoder_values: dict[str, Any] = {
        "backbone": "conv",
        "picture_px": 64,
        "feature_width": 64,
        "tokens": 4,
        "token_width": TOKEN_WIDTH,
        "heads": 1,
    }
    return SwapperConfig(
        name="small",
        size_px=64,
        window=WindowConfig(frames=4, sinks=1),
        schedule=ScheduleConfig(kind="ddpm", times=(999.0,)),
        autoencoder=AutoencoderConfig(**autoencoder_values | dict(autoencoder or {})),
        denoiser=DenoiserConfig(**denoiser_values | dict(denoiser or {})),
        face_encoder=FaceEncoderConfig(**face_encoder_values | dict(face_encoder or {})),
    )


def unet(seed: int = 1, **changes: Any) -> Any:
    return stirred(
        diffusers.UNet2DConditionModel(
            **{
                "block_out_channels": UNET_WIDTHS,
                "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
                "cross_attention_dim": TOKEN_WIDTH,
                "attention_head_dim": 8,  # diffusers' name for the number of heads
            }
            | changes
        ),
        seed,
    )


def adapter(seed: int = 2, **changes: Any) -> Any:
    return stirred(diffusers.MotionAdapter(**{"block_out_channels": UNET_WIDTHS} | changes), seed)


def vae(seed: int = 3) -> Any:
    types = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return stirred(diffusers.AutoencoderKL(block_out_channels=VAE_WIDTHS, layers_per_block=2, **types), seed)


def svd_vae(seed: int = 4) -> Any:
    types = ("DownEncoderBlock2D",) * 4
    net = diffusers.AutoencoderKLTemporalDecoder(
        block_out_channels=VAE_WIDTHS, layers_per_block=2, down_block_types=types
    )
    return stirred(net, seed)


def stirred(net: nn.Module, seed: int) -> nn.Module:
    """Gives every parameter a value of its own: fresh norms are ones and zeros, and would hide an exchange."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 0.5, 0.5, generator)
        else:
            nn.init.normal_(parameter, 0, parameter[0].numel() ** -0.5, generator)
    return net.eval()


def saved(net: Any, folder: Path) -> Path:
    net.save_pretrained(folder)
    return folder


def named_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights that depend on their names and shapes alone, so that other programs can make the same."""
    weights = {}
    for name, shape in shapes.items():
        drawn = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)
        scaled = 0.5 + 0.5 * drawn if len(shape) == 1 else drawn / np.prod(shape[1:]) ** 0.5
        weights[name] = torch.from_numpy(scaled.astype(np.float32))
    return weights


def named_input(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape))


def their_shapes(rules: tuple[Rule, ...], ours: Mapping[str, Shape]) -> dict[str, Shape]:
    """What a file must hold to give all that these rules can: the tables read backwards, first names first."""
    shapes: dict[str, Shape] = {}
    for name, shape in ours.items():
        first = {rule.part[0]: rule for rule in reversed(rules) if rule.can_give(name)}
        shapes |= {their_name(rule, name): (shape[0] // rule.part[1], *shape[1:]) for rule in first.values()}
    return shapes


def their_name(rule: Rule, name: str) -> str:
    numbers = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[0-9]+)", re.escape(rule.ours)) + r"(?P<leaf>\.weight|\.bias)?"
    found = re.fullmatch(numbers, name)
    assert found is not None
    return rule.theirs.format(**found.groupdict()) + (found["leaf"] or "")


def write_file(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path
