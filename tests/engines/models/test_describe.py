"""What `describe` counts, against figures that others published and against plain arithmetic."""

from __future__ import annotations

import functools
import json

import pytest
import torch

from engines.models import describe as module
from engines.models import presets
from engines.models.config import SwapperConfig, WindowConfig
from engines.models.describe import Description, Part

# Stable Diffusion 1.5 at 512 px, counted by the same counter through diffusers, FLOP. The first is its UNet at a latent
# of 64x64 with 77 text tokens, the next its autoencoder.
SD15_UNET = 803_273_441_280
SD15_ENCODE = 1_116_658_466_816
SD15_DECODE = 2_514_518_933_504
MOTION_16_KEYS = 1_109_306_992_640  # AnimateDiff's UNet with its middle module, per frame of 16

# (width, places, layers) with attention to tokens in SD1.5's UNet at a latent of 64x64
SD15_ATTENTION = ((320, 4096, 5), (640, 1024, 5), (1280, 256, 5), (1280, 64, 1))


@functools.cache
def _described(config_json: str, precision: str) -> Description:
    return module.describe(SwapperConfig.model_validate_json(config_json), precision)


def describe(config: SwapperConfig, precision: str = "float32") -> Description:
    """Seconds each for `full`, so each configuration once."""
    return _described(config.model_dump_json(), precision)


def full(*, motion: bool = True, temporal_autoencoder: bool = False, frames: int = 8) -> SwapperConfig:
    config = presets.full()
    still = {"temporal": (False,) * 4, "middle_temporal": False}
    autoencoder = {"temporal_encoder": temporal_autoencoder, "temporal_decoder": temporal_autoencoder}
    return config.model_copy(
        update={
            "denoiser": config.denoiser if motion else config.denoiser.model_copy(update=still),
            "autoencoder": config.autoencoder.model_copy(update=autoencoder),
            "window": config.window.model_copy(update={"frames": frames}),
        }
    )


def part(description: Description, name: str) -> Part:
    return next(part for part in description.parts if part.name == name)


def ours_beyond_sd15() -> int:
    """9 more input channels, and attention of every place to 16 face tokens with a query and a way out of its own, as
    VividFace has it: 3.4 % of the UNet, FLOP."""
    conv_in = 2 * 64 * 64 * 9 * 320 * 9
    tokens = 16
    return conv_in + sum(
        layers * 2 * 2 * (tokens * 768 * width + places * tokens * width + places * width * width)
        for width, places, layers in SD15_ATTENTION
    )


def test_full_is_stable_diffusion_to_the_flop() -> None:
    described = describe(full(motion=False))
    assert part(described, "denoiser").flop == SD15_UNET + ours_beyond_sd15()
    assert part(described, "encoder").flop == SD15_ENCODE
    assert part(described, "decoder").flop == SD15_DECODE
    assert ours_beyond_sd15() / SD15_UNET == pytest.approx(0.034, abs=0.001)


def test_motion_modules_cost_what_they_are_known_to() -> None:
    """The rest, under 0.4 %, is the position code: its projections (constant, folded by runtimes) and its scores."""
    flop = part(describe(full(frames=16, temporal_autoencoder=True)), "denoiser").flop - ours_beyond_sd15()
    assert 1 < flop / MOTION_16_KEYS < 1.004


def test_temporal_blocks_of_the_large_autoencoder() -> None:
    """Products of 3 taps at every residual block: no surprise beside the spatial 9."""
    temporal = describe(full(frames=16, temporal_autoencoder=True))
    assert 1.15 < part(temporal, "encoder").flop / SD15_ENCODE < 1.4
    assert 1.15 < part(temporal, "decoder").flop / SD15_DECODE < 1.4
    assert temporal.past_bytes > 7e9  # 3.5 GB at 16 bit: decisions on `full` must know it
    assert describe(full(motion=False)).past_bytes == 0


def test_the_parts_are_the_whole() -> None:
    for config in (full(frames=16, temporal_autoencoder=True), presets.tiny(steps=2)):
        described = describe(config, "float32")
        assert sum(part.flop_per_frame for part in described.parts) == described.flop_per_frame
        assert sum(part.parameters for part in described.parts) == described.parameters
        assert described.weight_bytes == 4 * described.parameters
        assert part(described, "denoiser").calls_per_frame == config.steps
        assert described.identity_flop > 0


def test_tiny_keeps_its_budget() -> None:
    assert describe(presets.tiny()).flop_per_frame <= 12e9


def test_where_the_past_comes_from_has_its_price() -> None:
    config = presets.tiny(window=WindowConfig(memory="last_step"))
    one_pass = part(describe(config), "denoiser").flop
    least = describe(config).flop_per_frame
    more = {}
    for memory in ("clean_pass", "memory_encoder"):
        window = config.window.model_copy(update={"memory": memory})
        described = describe(config.model_copy(update={"window": window}))
        more[memory] = described.flop_per_frame - least
        assert part(described, memory.replace("_", " ")).flop_per_frame == more[memory]
        assert part(described, "denoiser").flop == one_pass
        assert sum(part.parameters for part in described.parts) == described.parameters
    assert 0.5 * one_pass < more["clean_pass"] <= one_pass  # it ends with the last temporal layer
    assert 0 < more["memory_encoder"] < 0.25 * one_pass


def test_memories_grow_with_the_window_and_shrink_with_precision() -> None:
    config = presets.tiny()
    ring = {frames: describe(_window(config, frames)).ring_bytes for frames in (1, 4, 8)}
    assert ring[1] == 0
    assert ring[8] / ring[4] == pytest.approx(7 / 3)
    assert describe(config, "bfloat16").ring_bytes * 2 == ring[8]
    assert describe(config, "bfloat16").activation_bytes < describe(config).activation_bytes


def test_it_prints_as_a_table_and_as_json() -> None:
    described = describe(presets.tiny())
    table = described.as_table()
    assert all(len(line) <= 80 for line in table.splitlines())
    for words in ("tiny: 256 px, 1 step", "denoiser", "whole", "ring of keys and values"):
        assert words in table
    plain = json.loads(json.dumps(described.as_json()))
    assert plain["flop_per_frame"] == described.flop_per_frame
    assert plain["parts"][0]["flop_per_frame"] == described.parts[0].flop_per_frame


def test_the_peak_counts_what_lives_at_once() -> None:
    live = module._Live()
    x = torch.empty(1000, device="meta")
    with live:
        a = x + 1
        b = a * 2
        a.mul_(2)
        view = b.view(10, 100)
        del a
        c = view + 1
        del b, view, c
    assert live.peak_bytes == 2 * 4000


def _window(config: SwapperConfig, frames: int) -> SwapperConfig:
    sinks = min(config.window.sinks, max(frames - 2, 0))
    return config.model_copy(update={"window": config.window.model_copy(update={"frames": frames, "sinks": sinks})})
