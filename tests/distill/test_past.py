"""The past as it is shown in training: what a stream would remember of the truth, in every form of memory."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.conditions import conditions
from distill.network import Conditions, network
from distill.past import detached, left_by, past_of, ring_of
from engines import SettingError
from engines.models.config import WindowConfig
from engines.models.swapper import Swapper
from tests.distill.test_conditions import batch_for
from tests.engines.models.specks import lively, speck

MEMORIES = ("last_step", "clean_pass", "memory_encoder")
FRAMES = 6  # of a window of 4 with a sink: the ring rolls


def forced(memory: Any, name: str = "tiny") -> tuple[Swapper, Conditions, Tensor]:
    swapper = lively(speck(name, window=WindowConfig(frames=4, sinks=1, memory=memory)))
    given = conditions(swapper, batch_for(swapper, frames=FRAMES))
    return swapper, given, torch.randn(given.x0_BTChw.shape, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("name", ["tiny", "base"])
@pytest.mark.parametrize("memory", MEMORIES)
def test_a_stream_over_the_true_past_is_the_banded_pass(memory: str, name: str) -> None:
    """Every frame leaves what it would leave if it had come out true; the frames after it see just that."""
    swapper, given, noise = forced(memory, name)
    schedule, t = swapper.schedule, 0.8
    x_t = schedule.noisy(given.x0_BTChw, noise, t)
    past = past_of(swapper, given, given.x0_BTChw, noise)
    whole = network(swapper, given, swapper.banded(FRAMES, past))(x_t, torch.full((1, FRAMES), t))
    at = swapper.config.schedule.times[-1] if memory == "last_step" else 0.0
    left: list[Any] = []
    for frame in range(FRAMES):
        condition, tokens = given.condition_BTKhw[:, frame], given.tokens_BTLD[:, frame]
        shown = torch.cat([schedule.network_input(x_t[:, frame]), condition], 1)
        alone = swapper.denoiser.frame(shown, torch.full((1,), t), tokens, ring_of(swapper, left))
        torch.testing.assert_close(alone, whole[:, frame], atol=2e-5, rtol=1e-4)
        seen = schedule.noisy(given.x0_BTChw[:, frame], noise[:, frame], at)
        left.append(left_by(swapper, seen, condition, tokens, at, ring_of(swapper, left)))


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_past_is_of_earlier_frames_only_and_has_gradient(memory: str) -> None:
    swapper, given, noise = forced(memory)
    swapper.denoiser.requires_grad_(True)
    at = 0.5 if memory == "last_step" else None  # its look at pure noise knows nothing of the result
    past = past_of(swapper, given, given.x0_BTChw, noise, at=at)
    assert past is not None
    changed = given.x0_BTChw.clone()
    changed[:, 3] += 1
    other = past_of(swapper, given, changed, noise, at=at)
    assert other is not None
    for one, two in zip(itertools.chain(*past), itertools.chain(*other), strict=True):
        torch.testing.assert_close(one[:, :3], two[:, :3])
        assert one.requires_grad
    assert not torch.allclose(past[-1][0][:, 3], other[-1][0][:, 3], atol=1e-4)
    alone = detached(past)
    assert alone is not None
    assert not any(part.requires_grad for part in itertools.chain(*alone))
    with torch.no_grad():
        quiet = past_of(swapper, given, given.x0_BTChw, noise, at=at)
    torch.testing.assert_close(quiet, alone)


def test_the_last_steps_past_is_of_its_own_time() -> None:
    swapper, given, noise = forced("last_step")
    plain = past_of(swapper, given, given.x0_BTChw, noise)
    assert torch.testing.assert_close(past_of(swapper, given, given.x0_BTChw, noise, at=1.5707963), plain) is None
    near = past_of(swapper, given, given.x0_BTChw, noise, at=0.05)
    assert near is not None
    assert plain is not None
    assert not torch.allclose(near[0][0], plain[0][0], atol=1e-3)
    with pytest.raises(ValueError, match="needs noise"):
        past_of(swapper, given, given.x0_BTChw)


def test_a_corrupted_past_is_told_its_level() -> None:
    swapper, given, noise = forced("clean_pass")
    times: list[Tensor] = []
    hook = swapper.denoiser.time.register_forward_pre_hook(lambda _, seen: times.append(seen[0]))
    level = torch.linspace(0, 0.1, FRAMES)[None]
    noisy = past_of(swapper, given, given.x0_BTChw, noise, level=level)
    hook.remove()
    torch.testing.assert_close(times, [level[0]])
    clean = past_of(swapper, given, given.x0_BTChw)
    assert noisy is not None
    assert clean is not None
    torch.testing.assert_close(noisy[0][0][:, 0], clean[0][0][:, 0])
    assert not torch.allclose(noisy[0][0][:, -1], clean[0][0][:, -1], atol=1e-4)


@pytest.mark.parametrize("memory", ["last_step", "memory_encoder"])
def test_a_memory_that_cannot_be_told_is_not_corrupted(memory: str) -> None:
    swapper, given, noise = forced(memory)
    with pytest.raises(SettingError, match="clean_pass"):
        past_of(swapper, given, given.x0_BTChw, noise, level=torch.full((1, FRAMES), 0.1))


def test_a_window_of_one_frame_has_no_past() -> None:
    swapper = lively(speck("tiny", window=WindowConfig(frames=1, sinks=0)))
    given = conditions(swapper, batch_for(swapper, frames=2))
    assert past_of(swapper, given, given.x0_BTChw) is None
    assert ring_of(swapper, []).positions_BR is None
