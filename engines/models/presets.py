"""The configurations that we ship weights for, complete, as functions. `of(name)` finds one by name.

toy   64 px, for trying a whole training in minutes (examples/tiny_chain.sh); nobody should wear it.
tiny  256 px on any CPU in real time: no group norm; attention, in time too, at 16x16 on the way down and up and at
      8x8 in the middle, since many small products cost a CPU more than their FLOP (docs/log.md).
base  384 px on consumer GPUs.
full  VividFace's shape (arXiv 2412.11279): SD1.5's UNet at 512 px, 13 input channels, AnimateDiff's motion modules on
      every level (arXiv 2307.04725), decoupled attention to face tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from engines.models.config import (
    AutoencoderConfig,
    DenoiserConfig,
    FaceEncoderConfig,
    ScheduleConfig,
    SwapperConfig,
    WindowConfig,
)

AROUND_PROXY = 0.75  # measured on examples of tiny's and toy's, inside the face
SECOND_STEP_RAD = 1.1  # sCM's time for the second of two steps (arXiv 2410.11081)


def trig_times(steps: int) -> tuple[float, ...]:
    """Noisiest first: pi/2, then evenly down from sCM's 1.1."""
    if steps < 1:
        raise ValueError(f"a frame needs at least one step, not {steps}")
    return (math.pi / 2, *(SECOND_STEP_RAD * (steps - i) / (steps - 1) for i in range(1, steps)))


def ddpm_times(steps: int) -> tuple[float, ...]:
    """Noisiest first, evenly spaced over SD1.5's 1,000: (999,), (999, 499), (999, 749, 499, 249)."""
    if steps < 1:
        raise ValueError(f"a frame needs at least one step, not {steps}")
    return tuple(float(1000 * (steps - i) // steps - 1) for i in range(steps))


def toy(steps: int = 1, window: WindowConfig | None = None) -> SwapperConfig:
    return SwapperConfig(
        name="toy",
        size_px=64,
        window=window or WindowConfig(frames=6, sinks=1, memory="memory_encoder"),
        schedule=ScheduleConfig(kind="trig", times=trig_times(steps)),
        autoencoder=AutoencoderConfig(
            kind="tiny",
            latent_channels=16,  # an eighth of 64 px is coarse: with 8 channels detail ends at 24 dB
            widths=(32, 64),
            blocks=1,
            temporal_encoder=False,
            temporal_decoder=True,
        ),
        denoiser=DenoiserConfig(
            latent_channels=16,
            widths=(64, 128),
            blocks=1,
            attention=(False, True),
            temporal=(False, True),
            heads=4,
            token_width=64,
            norm="rms",
            positions=16,
            around_proxy=AROUND_PROXY,
        ),
        face_encoder=FaceEncoderConfig(
            backbone="conv",
            picture_px=32,
            feature_width=64,
            tokens=4,
            token_width=64,
            depth=1,
            heads=4,
        ),
    )


def tiny(steps: int = 1, window: WindowConfig | None = None) -> SwapperConfig:
    return SwapperConfig(
        name="tiny",
        size_px=256,
        window=window or WindowConfig(memory="memory_encoder"),
        schedule=ScheduleConfig(kind="trig", times=trig_times(steps)),
        autoencoder=AutoencoderConfig(
            kind="tiny",
            latent_channels=8,
            widths=(64, 128),
            encoder_widths=(32, 96),  # it runs twice a frame
            blocks=1,
            temporal_encoder=False,
            temporal_decoder=True,
        ),
        denoiser=DenoiserConfig(
            latent_channels=8,
            widths=(64, 128, 256),
            blocks=1,
            attention=(False, True, False),
            temporal=(False, True, False),
            upward="last",
            heads=4,
            token_width=128,
            norm="rms",
            positions=32,
            around_proxy=AROUND_PROXY,
        ),
        face_encoder=FaceEncoderConfig(
            backbone="conv",
            picture_px=64,
            feature_width=128,
            tokens=8,
            token_width=128,
            depth=1,
            heads=4,
        ),
    )


def base(steps: int = 1, window: WindowConfig | None = None) -> SwapperConfig:
    return SwapperConfig(
        name="base",
        size_px=384,
        window=window or WindowConfig(memory="memory_encoder"),
        schedule=ScheduleConfig(kind="trig", times=trig_times(steps)),
        autoencoder=AutoencoderConfig(
            kind="tiny",
            latent_channels=8,
            widths=(64, 128, 256),
            blocks=2,
            temporal_encoder=False,
            temporal_decoder=True,
        ),
        denoiser=DenoiserConfig(
            latent_channels=8,
            widths=(160, 320, 640),
            blocks=2,
            attention=(False, True, True),
            temporal=(False, True, True),
            heads=8,
            token_width=512,
            norm="group",
            positions=32,
            around_proxy=AROUND_PROXY,
        ),
        face_encoder=FaceEncoderConfig(
            backbone="conv",
            picture_px=112,
            feature_width=384,
            tokens=16,
            token_width=512,
            depth=2,
            heads=8,
        ),
    )


def full(steps: int = 1, window: WindowConfig | None = None) -> SwapperConfig:
    return SwapperConfig(
        name="full",
        size_px=512,
        window=window or WindowConfig(),
        schedule=ScheduleConfig(kind="ddpm", prediction="velocity", times=ddpm_times(steps)),
        autoencoder=AutoencoderConfig(
            kind="kl",
            latent_channels=4,
            widths=(128, 256, 512, 512),
            blocks=2,
            temporal_encoder=True,
            temporal_decoder=True,
            scale=0.18215,
        ),
        denoiser=DenoiserConfig(
            latent_channels=4,
            widths=(320, 640, 1280, 1280),
            blocks=2,
            attention=(True, True, True, False),
            temporal=(True, True, True, True),
            heads=8,
            token_width=768,
            text_tokens=77,
            face_scale=0.9,
            norm="group",
            positions=32,
        ),
        face_encoder=FaceEncoderConfig(
            backbone="vit",
            picture_px=224,
            feature_width=768,
            tokens=16,
            token_width=768,
            depth=2,
            heads=12,
        ),
    )


_PRESETS: Mapping[str, Callable[[int], SwapperConfig]] = MappingProxyType(
    {"toy": toy, "tiny": tiny, "base": base, "full": full}
)


def preset_names() -> tuple[str, ...]:
    return tuple(_PRESETS)


def of(name: str, steps: int = 1) -> SwapperConfig:
    """Raises KeyError where there is no such preset."""
    return _PRESETS[name](steps)
