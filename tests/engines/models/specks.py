"""Every preset's shape, so small that a frame takes milliseconds: the same levels, norms, attention and memories."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engines.graph import TensorSpec
from engines.models import presets
from engines.models.config import SwapperConfig, WindowConfig
from engines.models.step import SwapStep
from engines.models.swapper import Swapper

SPECKS = ("tiny", "base", "full")  # `toy` is of the same parts, and small enough to be tested as it is
WINDOW = WindowConfig(frames=4, sinks=1)


def speck(name: str, steps: int = 1, window: WindowConfig = WINDOW, size_px: int = 64) -> SwapperConfig:
    """The preset `name` with narrow layers. `full` keeps group norms of 32, so widths are multiples of it."""
    config = presets.of(name, steps)
    grouped = config.denoiser.norm == "group"
    widths = {"tiny": (8, 16, 16), "base": (32, 32, 64), "full": (32, 32, 64, 64)}[name]
    autoencoder = (32,) * 4 if config.autoencoder.kind == "kl" else (8, 8, 16)[-len(config.autoencoder.widths) :]
    encoder = (4, 8) if config.autoencoder.encoder_widths else ()
    vit = config.face_encoder.backbone == "vit"
    return config.model_copy(
        update={
            "size_px": size_px,
            "window": window,
            "autoencoder": config.autoencoder.model_copy(
                update={"widths": autoencoder, "encoder_widths": encoder, "blocks": 1}
            ),
            "denoiser": config.denoiser.model_copy(
                update={
                    "widths": widths,
                    "blocks": 1,
                    "heads": 4 if grouped else 2,
                    "token_width": 16,
                    "text_tokens": min(config.denoiser.text_tokens, 3),
                }
            ),
            "face_encoder": config.face_encoder.model_copy(
                update={
                    "identity_width": 16,
                    "picture_px": 28 if vit else 16,
                    "feature_width": 64 if vit else 16,
                    "tokens": 2,
                    "token_width": 16,
                    "depth": 1,
                    "heads": 2,
                }
            ),
        }
    )


def exact(name: str, steps: int = 1, window: WindowConfig = WINDOW) -> SwapperConfig:
    """`full` with 2x2 places at its last level: norms over two numbers are signs, which no rounding error survives."""
    return speck(name, steps, window, size_px=128 if name == "full" else 64)


def lively(config: SwapperConfig, seed: int = 0) -> Swapper:
    """A swapper in which nothing hides: every parameter is random, biases and gains too."""
    torch.set_num_threads(1)
    swapper = Swapper(config).initialise(seed).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed + 1)
    for parameter in swapper.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1 / math.sqrt(parameter[0].numel()))
    if config.denoiser.text_tokens:
        swapper.denoiser.text_1LD.normal_(generator=generator)
    return swapper


def random_input(spec: TensorSpec, generator: torch.Generator) -> Tensor:
    """What could be there: pictures -1..1, a mask 0..1, noise of unit variance."""
    value = torch.randn(spec.shape, generator=generator)
    if spec.name == "mask":
        return (value > 0).float()
    if spec.name in ("masked", "proxy", "attribute"):
        return torch.tanh(value)
    return value


def clip(step: SwapStep, frames: int, seed: int = 0) -> list[dict[str, Tensor]]:
    """Inputs of `frames` frames, without what the window's arithmetic gives. The identity and the weights stay."""
    generator = torch.Generator().manual_seed(seed)
    specs = [spec for spec in step.spec.inputs if spec.name not in ("positions", "bias", "recent_order")]
    still = {s.name: random_input(s, generator) for s in specs if s.name in ("identity_tokens", "weights")}
    return [
        {spec.name: still[spec.name] if spec.name in still else random_input(spec, generator) for spec in specs}
        for _ in range(frames)
    ]
