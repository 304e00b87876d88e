"""O10, its third part: a window that has rolled equals one that never held more. The others, a later frame that changes
no bit of an earlier one and the stream against the whole sequence, are in tests/engines/models/test_streaming.py."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from engines.models.config import WindowConfig
from engines.models.step import SwapStep
from tests.engines.models.specks import clip, lively, speck
from tests.engines.models.streams import Stream

WINDOW, SINKS, FRAMES = 4, 1, 10


@pytest.mark.parametrize("memory", ["last_step", "clean_pass", "memory_encoder"])
@pytest.mark.parametrize("name", ["tiny", "base"])
def test_o10_a_rolled_window_equals_a_truncated_one(
    name: str, memory: Literal["last_step", "clean_pass", "memory_encoder"]
) -> None:
    """Ten frames go through a ring of three; a fresh ring gets the keys and values of the sink and of the last two
    alone. The memory encoder's are made anew from the latents: no history at all is left in them."""
    step = SwapStep(lively(speck(name, window=WindowConfig(frames=WINDOW, sinks=SINKS, memory=memory))))
    frames = clip(step, FRAMES)
    whole, fresh = Stream(step), Stream(step)
    outputs = [whole.run(frame) for frame in frames]
    seen = [0, *range(FRAMES - 1 - (WINDOW - 1 - SINKS), FRAMES - 1)]
    with torch.inference_mode():
        for i in seen:
            named = dict(outputs[i])
            if memory == "memory_encoder":
                keys_and_values = step.swapper.denoiser.remember(named["latent"])
                for layer, (key, value) in enumerate(keys_and_values):
                    named |= {f"new_key_{layer:02}": key, f"new_value_{layer:02}": value}
            fresh._write(0, named)
            fresh.frame_of_row[0] += 1
    expected, got = outputs[-1]["latent"], fresh.run(frames[-1])["latent"]
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()
    other = Stream(step)
    other.run(frames[3])
    assert (other.run(frames[-1])["latent"] - expected).abs().max() > 1e-4 * expected.abs().max()
