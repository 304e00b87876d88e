"""The graphs of a frame and of a person: what stands where, in which precision, without a break."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from engines.models import presets
from engines.models.config import ScheduleConfig, SwapperConfig, WindowConfig
from engines.models.step import IdentityGraph, SwapStep
from engines.models.swapper import Swapper
from tests.engines.models.specks import SPECKS, clip, exact, lively, random_input, speck
from tests.engines.models.streams import Stream


def captured(step: SwapStep, frame: dict[str, Tensor]) -> list[tuple[Tensor, ...]]:
    """What the denoiser is called with."""
    calls: list[tuple[Tensor, ...]] = []
    hook = step.swapper.denoiser.register_forward_pre_hook(lambda _, given: calls.append(given))
    Stream(step).run(frame)
    hook.remove()
    return calls


@pytest.mark.parametrize("name", SPECKS)
def test_the_denoiser_sees_latent_mask_masked_frame_proxy_and_geometry_in_this_order(name: str) -> None:
    config = speck(name)
    config = config.model_copy(update={"denoiser": config.denoiser.model_copy(update={"geometry_channels": 2})})
    step = SwapStep(lively(config))
    frame = clip(step, 1)[0]
    shown = captured(step, frame)[0][0]
    swapper, first = step.swapper, {name: value[:, None] for name, value in frame.items()}
    expected = [
        swapper.schedule.network_input(swapper.schedule.start(frame["noise"][:, 0])),
        functional.avg_pool2d(frame["mask"], 8),
        swapper.autoencoder.encode(first["masked"], causal=True)[:, 0],
        swapper.autoencoder.encode(first["proxy"], causal=True)[:, 0],
        frame["geometry"],
    ]
    torch.testing.assert_close(shown, torch.cat(expected, 1))


def test_steps_follow_the_consistency_samplers_rule() -> None:
    """x = noisy(x0, fresh noise, t) between two looks (arXiv 2303.01469, algorithm 1); the last x0 is the result."""
    step = SwapStep(lively(speck("tiny", steps=3)))
    frame = clip(step, 1)[0]
    calls = captured(step, frame)
    schedule, times = step.swapper.schedule, step.swapper.config.schedule.times
    x = x0 = schedule.start(frame["noise"][:, 0])
    channels = x.shape[1]
    for i, (shown, when, *_) in enumerate(calls):
        torch.testing.assert_close(shown[:, :channels], schedule.network_input(x))
        assert when.tolist() == pytest.approx([times[i]])
        ring = calls[i][3]
        output = step.swapper.denoiser(shown, when, calls[i][2], ring)
        x0 = schedule.clean(x, output, times[i])
        if i + 1 < len(times):
            x = schedule.noisy(x0, frame["noise"][:, i + 1], times[i + 1])
    assert len(calls) == 3
    torch.testing.assert_close(Stream(step).run(frame)["latent"], x0)


@pytest.mark.parametrize(("memory", "passes"), [("last_step", 2), ("clean_pass", 3), ("memory_encoder", 2)])
def test_only_the_clean_pass_costs_another_pass(memory: Any, passes: int) -> None:
    step = SwapStep(lively(speck("tiny", 2, WindowConfig(frames=4, sinks=1, memory=memory))))
    times: list[float] = []
    step.swapper.denoiser.time.register_forward_pre_hook(lambda _, given: times.append(float(given[0])))
    Stream(step).run(clip(step, 1)[0])
    assert times == pytest.approx([*step.swapper.config.schedule.times, 0.0][:passes])


def test_the_clean_pass_ends_with_the_last_temporal_layer() -> None:
    """What comes after it cannot be remembered: it is not computed, and all layers have left their keys."""
    step = SwapStep(lively(speck("tiny", 1, WindowConfig(frames=4, sinks=1, memory="clean_pass"))))
    runs = {"up": 0, "out": 0}
    last, out = step.swapper.denoiser.up[-1], step.swapper.denoiser.conv_out
    last.register_forward_pre_hook(lambda *_: runs.update(up=runs["up"] + 1))
    out.register_forward_pre_hook(lambda *_: runs.update(out=runs["out"] + 1))
    named = Stream(step).run(clip(step, 1)[0])
    assert runs == {"up": 1, "out": 1}, "tiny has no temporal layer at its finest level"
    assert len([key for key in named if key.startswith("new_key")]) == len(step.swapper.denoiser.temporal_layers())


@pytest.mark.parametrize("name", SPECKS)
def test_bfloat16_inside_float32_outside(name: str) -> None:
    """Roughly the same picture, within what eight bits of mantissa give a network of random weights."""
    config = exact(name)
    frames = clip(SwapStep(lively(config)), 3)
    fine, rough = Stream(SwapStep(lively(config))), Stream(SwapStep(lively(config), dtype=torch.bfloat16))
    outputs = [(fine.run(frame), rough.run(frame)) for frame in frames]
    for expected, got in outputs:
        assert got["face"].dtype == got["latent"].dtype == torch.float32
        assert got["new_key_00"].dtype == torch.bfloat16
        error = (got["latent"] - expected["latent"]).square().mean().sqrt()
        assert error < 0.15 * expected["latent"].square().mean().sqrt()


@pytest.mark.parametrize("name", SPECKS)
def test_the_picture_stays_in_range(name: str) -> None:
    step = SwapStep(lively(speck(name)))
    frame = {key: 50 * value for key, value in clip(step, 1)[0].items()}
    face = Stream(step).run(frame)["face"]
    assert float(face.abs().max()) <= 1


@pytest.mark.timeout(400)
def test_the_graph_has_no_break() -> None:
    """Traced as a whole by torch's own tracer, which refuses what it would have to leave to Python.

    `full` with two levels: it has every kind of layer, and tracing takes as long as there are layers.
    """
    config = speck("full")
    two = {name: getattr(config.denoiser, name)[:2] for name in ("widths", "attention", "temporal")}
    step = SwapStep(lively(config.model_copy(update={"denoiser": config.denoiser.model_copy(update=two)})))
    stream = Stream(step)
    frame = clip(step, 1)[0] | stream.arithmetic()
    given = [frame[spec.name] for spec in step.spec.inputs] + stream.memories
    with torch.inference_mode():
        expected = step(*given)
        got = torch.compile(step, fullgraph=True, backend="eager")(*given)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", SPECKS)
def test_the_identity_graph_gives_what_the_step_takes(name: str) -> None:
    swapper = lively(speck(name))
    graph, step = IdentityGraph(swapper, batch=2), SwapStep(swapper, batch=2)
    generator = torch.Generator().manual_seed(0)
    given = [random_input(spec, generator) for spec in graph.spec.inputs]
    tokens = graph(*given)
    [taken] = [spec for spec in step.spec.inputs if spec.name == "identity_tokens"]
    assert tuple(tokens[0].shape) == graph.spec.outputs[0].shape == taken.shape
    given[2] = given[2] * torch.tensor([1.0, 0.0])
    assert torch.equal(graph(*given)[0], tokens[0]), "the attribute's weight is the step's business"
    given[2] = given[2] + torch.tensor([1.0, 0.0])
    assert not torch.equal(graph(*given)[0], tokens[0])


@pytest.mark.parametrize("name", SPECKS)
def test_a_swapper_made_without_memory_works_once_it_has_weights(name: str) -> None:
    """Files hold parameters only; everything else must come by itself."""
    full = lively(speck(name))
    with torch.device("meta"):
        empty = Swapper(speck(name))
    empty.load_state_dict(full.state_dict(), strict=True, assign=True)
    frame = clip(SwapStep(full), 1)[0]
    expected, got = (Stream(SwapStep(swapper.eval())).run(frame) for swapper in (full, empty))
    assert all(torch.equal(expected[key], got[key]) for key in expected)


def wrong(**changes: Any) -> SwapperConfig:
    config = speck("tiny")
    parts = {
        part: getattr(config, part).model_copy(update=values) if isinstance(values, dict) else values
        for part, values in changes.items()
    }
    return config.model_copy(update=parts)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (wrong(denoiser={"latent_channels": 4}), "4 channels, the autoencoder's 8"),
        (wrong(denoiser={"token_width": 24}), "tokens of width 24, the face encoder gives 16"),
        (wrong(denoiser={"positions": 3}), "a window of 4 frames is longer than the 3 positions"),
        (wrong(denoiser={"heads": 3}), "16 channels cannot be split among 3 heads"),
        (wrong(denoiser={"widths": (8,) * 5, "attention": (True,) * 5, "temporal": (True,) * 5}), "cannot be halved"),
        (wrong(window={"sinks": 3}), "sinks leave no room"),
        (wrong(schedule={"times": (0.5, 1.5)}), "times must fall"),
        (wrong(schedule={"times": (1.6,)}), "times must fall"),
        (wrong(schedule={"times": (1.5, 0.0)}), "times must fall"),
        (wrong(schedule=ScheduleConfig(kind="trig", prediction="noise")), "velocity"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parts_that_do_not_fit_are_refused(config: SwapperConfig, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Swapper(config)


@pytest.mark.parametrize("name", presets.preset_names())
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_presets_fit_together(name: str, steps: int) -> None:
    config = presets.of(name, steps)
    assert config.steps == steps
    with torch.device("meta"):
        step = SwapStep(Swapper(config))
    assert {spec.name for spec in step.spec.inputs} >= {"masked", "proxy", "mask", "noise", "positions", "bias"}


def test_times_of_presets() -> None:
    assert presets.trig_times(1) == (math.pi / 2,)
    assert presets.trig_times(2) == (math.pi / 2, 1.1), "sCM's midpoint"
    assert presets.ddpm_times(4) == (999, 749, 499, 249)
    for times in (presets.trig_times, presets.ddpm_times):
        with pytest.raises(ValueError, match="at least one step"):
            times(0)
