"""One frame at a time equals whole sequences; nothing leaks from later frames, from before a reset, from others."""

from __future__ import annotations

import gc
from typing import Literal

import pytest
import torch
from torch import Tensor

from engines.models import presets
from engines.models.attention import Ring, Together
from engines.models.config import SwapperConfig, WindowConfig
from engines.models.step import SwapStep
from tests.engines.models.specks import SPECKS, clip, exact, lively, speck
from tests.engines.models.streams import Frame, Stream, offline, streamed

MEMORY: tuple[Literal["last_step", "clean_pass", "memory_encoder"], ...] = (
    "last_step",
    "clean_pass",
    "memory_encoder",
)


def close(a: Tensor, b: Tensor, relative: float = 1e-5) -> None:
    assert (a - b).abs().max() <= relative * b.abs().max()


def step_of(config: SwapperConfig, batch: int = 1) -> SwapStep:
    return SwapStep(lively(config), batch)


def small(name: str, size_px: int) -> SwapperConfig:
    return presets.of(name).model_copy(update={"size_px": size_px})


@pytest.mark.parametrize(("memory", "steps"), [*((memory, 1) for memory in MEMORY), ("last_step", 2)])
@pytest.mark.parametrize("name", SPECKS)
def test_streaming_equals_offline(name: str, memory: Literal["last_step"], steps: int) -> None:
    """Over 3 W frames: the ring wraps, its sink stays."""
    step = step_of(exact(name, steps, WindowConfig(frames=3, sinks=1, memory=memory)))
    frames = clip(step, 3 * step.swapper.window.frames)
    faces, latents = streamed(step, frames)
    whole_faces, whole_latents = offline(step.swapper, frames)
    close(latents, whole_latents)
    close(faces, whole_faces)


@pytest.mark.parametrize("window", [(2, 0), (4, 1), (4, 2), (8, 2)], ids=str)
def test_streaming_equals_offline_for_other_windows(window: tuple[int, int]) -> None:
    step = step_of(speck("tiny", window=WindowConfig(frames=window[0], sinks=window[1])))
    frames = clip(step, 3 * window[0])
    close(streamed(step, frames)[1], offline(step.swapper, frames)[1])


@pytest.mark.parametrize("name", ["tiny", "toy"])
def test_small_presets_themselves_stream_as_they_compute_offline(name: str) -> None:
    """Their own widths, `tiny` on a smaller picture."""
    step = step_of(small(name, 64))
    frames = clip(step, 3 * step.swapper.window.frames)
    faces, latents = streamed(step, frames)
    whole_faces, whole_latents = offline(step.swapper, frames)
    close(latents, whole_latents)
    close(faces, whole_faces)


@pytest.mark.parametrize("name", SPECKS)
def test_the_past_matters(name: str) -> None:
    """Without this, every other test here could pass on a network that looks at nothing."""
    step = step_of(speck(name))
    frames = clip(step, 3)
    latents = streamed(step, frames)[1]
    alone = streamed(step, frames[2:])[1]
    assert (latents[:, 2] - alone[:, 0]).abs().max() > 1e-3 * latents.abs().max()


@torch.inference_mode()
def outputs(step: SwapStep, given: list[Tensor]) -> tuple[Tensor, ...]:
    return tuple(step(*given))


@pytest.mark.parametrize("name", SPECKS)
def test_what_enters_matters(name: str) -> None:
    """Every input, and every memory that is not empty, changes the result. Of a hundred memories, each eleventh."""
    step = step_of(speck(name))
    stream = Stream(step)
    for frame in clip(step, 5):
        stream.run(frame)
    frame = clip(step, 1, seed=7)[0]
    given = [(frame | stream.arithmetic())[spec.name] for spec in step.spec.inputs] + stream.memories
    names = [spec.name for spec in step.spec.inputs] + [memory.kept.name for memory in step.spec.memories]
    before = outputs(step, given)
    own, memories = len(step.spec.inputs), len(step.spec.memories)
    for i in (*range(own), *range(own, own + memories, 11 if memories > 100 else 1)):
        name_of_input = names[i]
        if name_of_input in ("bias", "recent_order", "positions"):
            continue
        other = list(given)
        other[i] = given[i] + 1 if name_of_input == "weights" else given[i] * 0.5 + 0.1
        face, latent = outputs(step, other)[:2]
        assert not torch.equal(face, before[0]), name_of_input
        assert torch.equal(latent, before[1]) == ("dec" in name_of_input), name_of_input


@pytest.mark.parametrize("name", SPECKS)
def test_a_later_frame_changes_no_earlier_bit(name: str) -> None:
    """Said of the window form: a stream cannot know what it has not seen."""
    swapper = lively(speck(name))
    frames = clip(SwapStep(swapper), 9)
    before = offline(swapper, frames)
    later = clip(SwapStep(swapper), 9, seed=1)
    changed = [*frames[:6], *({**frame, "identity_tokens": frames[0]["identity_tokens"]} for frame in later[6:])]
    after = offline(swapper, changed)
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[:, :6], new[:, :6])
        assert not torch.equal(old[:, 6], new[:, 6])


@pytest.mark.parametrize("name", SPECKS)
def test_reset_equals_fresh(name: str) -> None:
    step = step_of(speck(name))
    stream = Stream(step)
    for frame in clip(step, 6, seed=3):
        stream.run(frame)
    stream.reset(0)
    frames = clip(step, 6)
    fresh = Stream(step)
    for frame in frames:
        again, expected = stream.run(frame), fresh.run(frame)
        assert all(torch.equal(again[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", SPECKS)
def test_unfilled_slots_are_hidden(name: str) -> None:
    """Whatever lies in a slot that no frame of this stream has filled, the result is the same to the last bit."""
    step = step_of(speck(name))
    clean, dirty = Stream(step), Stream(step)
    for kept, memory in zip(dirty.memories, step.spec.memories, strict=True):
        if memory.clock == "window":
            kept.normal_(std=30.0)
    for frame in clip(step, 6):
        assert torch.equal(clean.run(frame)["face"], dirty.run(frame)["face"])


@pytest.mark.parametrize(
    ("name", "memory"), [*((name, "last_step") for name in SPECKS), *(("tiny", m) for m in MEMORY)]
)
def test_a_window_of_one_frame_is_the_image_model(name: str, memory: Literal["last_step"]) -> None:
    """No ring at all; each frame as the teacher's form computes a window of a single picture."""
    config = exact(name, window=WindowConfig(frames=1, sinks=0, memory=memory))
    step = step_of(config)
    assert not [m for m in step.spec.memories if m.clock == "window"]
    assert not {"positions", "bias"} & {spec.name for spec in step.spec.inputs}
    frames = clip(step, 4)
    latents = streamed(step, frames)[1]
    close(latents, offline(step.swapper, frames)[1])
    if config.autoencoder.temporal_encoder:
        return
    for i, frame in enumerate(frames):
        assert torch.equal(latents[:, i], streamed(step, [frame])[1][:, 0]), "no frame knows another"


@pytest.mark.parametrize("name", SPECKS)
def test_the_denoiser_alone_with_one_frame_is_the_teachers_single_picture(name: str) -> None:
    """Group norms over one frame are norms within it; position W - 1 = 0."""
    denoiser = lively(speck(name, window=WindowConfig(frames=1, sinks=0))).denoiser
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, denoiser.config.in_channels, 16, 16, generator=generator)
    tokens = torch.randn(2, 2, denoiser.config.token_width, generator=generator)
    times = torch.tensor([0.5, 1.0])
    alone = denoiser.frame(x, times, tokens, Ring(None, None, (), (), 0))
    teachers = denoiser.window(x[:, None], times[:, None], tokens[:, None], Together(1))[:, 0]
    close(alone, teachers)


def test_two_sessions_never_mix() -> None:
    """Interleaved frame by frame on one step: each as if it were alone."""
    step = step_of(speck("tiny"))
    clips = [clip(step, 6, seed=seed) for seed in (0, 1)]
    streams = [Stream(step), Stream(step)]
    together: list[list[Tensor]] = [[], []]
    for i in range(6):
        for session in (0, 1):
            together[session].append(streams[session].run(clips[session][i])["latent"])
    for session in (0, 1):
        assert torch.equal(torch.stack(together[session], 1), streamed(step, clips[session])[1])


@pytest.mark.parametrize("name", SPECKS)
def test_rows_of_a_batch_have_their_own_clocks(name: str) -> None:
    """One row joins late, pauses, and is reset: each as if it were alone."""
    swapper = lively(exact(name))
    both, alone = SwapStep(swapper, 2), SwapStep(swapper, 1)
    first, second = clip(alone, 9, seed=0), clip(alone, 9, seed=1)
    stream = Stream(both)
    has_frame = [i >= 2 and i != 5 for i in range(9)]  # the second row's
    got: list[Tensor] = []
    expected_second = Stream(alone)
    for i, present in enumerate(has_frame):
        if i == 7:
            stream.reset(1)
            expected_second = Stream(alone)
        frame: Frame = {name: torch.cat([first[i][name], second[i][name]]) for name in first[i]}
        latent = stream.run(frame, rows=(0, 1) if present else (0,))["latent"]
        got.append(latent[:1])
        if present:
            close(latent[1:], expected_second.run(second[i])["latent"])
    close(torch.stack(got, 1), streamed(alone, first)[1])


@pytest.mark.parametrize("frames", [100, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_memory_is_constant(frames: int) -> None:
    """Not a tensor more after many frames than after the first ones, and the last is as good as any."""
    step = step_of(speck("tiny"))
    stream, inputs = Stream(step), clip(step, 3)
    kept = [memory.data_ptr() for memory in stream.memories]

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    for i in range(20):
        stream.run(inputs[i % 3])
    early = tensors()
    for i in range(20, frames):
        stream.run(inputs[i % 3])
    assert tensors() <= early
    assert [memory.data_ptr() for memory in stream.memories] == kept
    assert torch.isfinite(stream.run(inputs[0])["face"]).all()


def test_inputs_are_left_as_they_were() -> None:
    step = step_of(speck("tiny"))
    stream, frame = Stream(step), clip(step, 1)[0]
    given = [(frame | stream.arithmetic())[spec.name] for spec in step.spec.inputs] + stream.memories
    before = [value.clone() for value in given]
    outputs(step, given)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
