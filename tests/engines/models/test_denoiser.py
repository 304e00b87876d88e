"""The denoiser's parts, one by one; the way frames pass through it is in test_streaming."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from engines.models import presets
from engines.models.attention import ChannelNorm, Ring, TemporalAttention, Together, time_code
from engines.models.config import DenoiserConfig, SwapperConfig
from engines.models.denoiser import Denoiser
from engines.models.swapper import Swapper
from tests.engines.models.specks import SPECKS, lively, speck


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(layer: TemporalAttention, x_BSLC: Tensor, code_BLC: Tensor) -> Tensor:
    """What the last of L frames sees, as AnimateDiff writes it: the code is added before the projections. [B, S, C]."""
    x = layer.norm(x_BSLC) + code_BLC[:, None]
    heads = layer.heads
    query = layer.to_q(x[:, :, -1:]).unflatten(-1, (heads, -1)).transpose(2, 3)
    key = layer.to_k(x).unflatten(-1, (heads, -1)).transpose(2, 3)
    value = layer.to_v(x).unflatten(-1, (heads, -1)).transpose(2, 3)
    weights = (query @ key.transpose(3, 4) / math.sqrt(query.shape[-1])).softmax(-1)
    seen: Tensor = layer.to_out((weights @ value).squeeze(3).flatten(2))
    return seen


@torch.inference_mode()
def test_the_ring_attends_as_if_the_code_had_been_added_before_the_projections() -> None:
    """Live2Diff's identity, with slots in no order, one of them unfilled, and other positions in each row."""
    torch.manual_seed(0)
    layer = TemporalAttention(channels=16, heads=2, positions=8)
    layer.index = 0
    past, now = some(2, 3, 4, 16), some(2, 3, 1, 16, seed=1)
    positions = torch.tensor([[2, 0, 3, 1], [1, 3, 2, 0]])
    key, value = (part.permute(0, 1, 3, 2, 4) for part in layer.remembered(past))
    bias = torch.tensor([[0, 0, 0, 0], [0, 0, -math.inf, 0]])
    ring = Ring(positions, bias, (key,), (value,), own=4)
    seen = layer(now.transpose(1, 2), ring)[:, 0]
    code = time_code(8, 16)
    for row, slots in enumerate(([0, 1, 2, 3], [0, 1, 3])):
        frames = torch.cat([past[row : row + 1, :, slots], now[row : row + 1]], 2)
        codes = code[[*positions[row, slots].tolist(), 4]][None]
        torch.testing.assert_close(seen[row : row + 1], by_hand(layer, frames, codes))
    torch.testing.assert_close(ring.kept[0][0], layer.remembered(now[:, :, 0])[0])


@torch.inference_mode()
def test_the_teachers_form_sees_every_frame_of_a_window() -> None:
    torch.manual_seed(0)
    layer = TemporalAttention(channels=16, heads=2, positions=8)
    x_BTSC = some(1, 5, 3, 16)
    order = [0, 1, 2, 4, 3]  # `by_hand` speaks of the last
    expected = by_hand(layer, x_BTSC[:, order].transpose(1, 2), time_code(8, 16)[order][None])
    torch.testing.assert_close(layer(x_BTSC, Together(5))[:, 3], expected)


def test_channel_norm_leaves_every_place_with_a_root_mean_square_of_one() -> None:
    x = 7 * some(2, 12, 3, 5)
    normed = ChannelNorm(12)(x)
    torch.testing.assert_close(normed.square().mean(1), torch.ones(2, 3, 5))
    torch.testing.assert_close(functional.cosine_similarity(normed, x), torch.ones(2, 3, 5))


@pytest.mark.parametrize("name", SPECKS)
def test_a_teacher_sees_the_future_and_an_image_model_does_not(name: str) -> None:
    denoiser = lively(speck(name)).denoiser
    x, tokens = some(1, 3, denoiser.config.in_channels, 8, 8), some(1, 3, 2, 16)
    other = torch.cat([x[:, :2], some(1, 1, *x.shape[2:], seed=5)], 1)
    times = torch.full((1, 3), 0.5)
    before, after = (denoiser.window(value, times, tokens, Together(3)) for value in (x, other))
    assert not torch.equal(before[:, 0], after[:, 0])


@pytest.mark.parametrize("name", SPECKS)
def test_frames_of_one_window_may_have_times_and_tokens_of_their_own(name: str) -> None:
    """Teacher forcing noises each frame for itself."""
    denoiser = lively(speck(name)).denoiser
    x, tokens = some(1, 2, denoiser.config.in_channels, 8, 8), some(1, 2, 2, 16)
    last = 999.0 if name == "full" else 1.5
    times = torch.tensor([[0.1, last]])
    before = denoiser.window(x, times, tokens, Together(2))
    assert not torch.equal(before, denoiser.window(x, times.flip(1), tokens, Together(2)))
    assert not torch.equal(before, denoiser.window(x, times, tokens.flip(1), Together(2)))


def test_the_network_tells_times_apart() -> None:
    """TrigFlow's radians reach less far than SD1.5's 0..999; a network must still tell 0.02 from 0.1."""
    denoiser = lively(speck("tiny")).denoiser
    ring = Ring(None, None, (), (), 0)
    x, tokens = some(1, denoiser.config.in_channels, 8, 8), some(1, 2, 16)
    outputs = [denoiser.frame(x, torch.tensor([t]), tokens, ring) for t in (0.02, 0.1)]
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", SPECKS)
def test_new_weights_come_from_the_seed_and_neither_fade_nor_explode(name: str) -> None:
    config = speck(name)
    first, again, other = (Swapper(config).initialise(seed) for seed in (0, 0, 1))
    for (key, a), b in zip(first.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    assert not torch.equal(first.denoiser.conv_in.weight, other.denoiser.conv_in.weight)
    denoiser = first.denoiser
    x, tokens = some(2, denoiser.config.in_channels, 16, 16), some(2, 2, 16)
    with torch.inference_mode():
        output = denoiser.frame(x, torch.tensor([0.5, 1.5]), tokens, Ring(None, None, (), (), 0))
    assert 0.2 < float(output.std()) < 3


def test_a_network_that_has_learned_nothing_draws_the_proxy() -> None:
    """`around_proxy`: with the last layer at 0 one step from any noise gives the proxy's latent, not the masked one."""
    swapper = Swapper(speck("tiny")).initialise(0)
    denoiser, channels = swapper.denoiser, swapper.config.denoiser.latent_channels
    assert denoiser.config.around_proxy
    nn.init.zeros_(denoiser.conv_out.weight)
    x_t, masked, proxy = (some(1, channels, 8, 8, seed=seed) for seed in range(3))
    x = torch.cat([swapper.schedule.network_input(x_t), torch.ones(1, 1, 8, 8), masked, proxy], 1)
    last = swapper.schedule.last
    with torch.inference_mode():
        output = denoiser.frame(x, torch.tensor([last]), some(1, 2, 16), Ring(None, None, (), (), 0))
    assert torch.allclose(swapper.schedule.clean(x_t, output, last), proxy, atol=1e-5)


def test_full_is_left_as_it_was_published() -> None:
    assert presets.full().denoiser.around_proxy == 0
    config = presets.full().model_dump()
    config["denoiser"]["around_proxy"] = 0.5
    with pytest.raises(ValidationError, match="trig"):
        SwapperConfig.model_validate(config)


def test_full_has_exactly_the_weights_of_sd15_with_motion_modules() -> None:
    """13 input channels; the attention to face tokens comes on top."""
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        ours = Denoiser(presets.full().denoiser)
        theirs = diffusers.UNetMotionModel(in_channels=13, cross_attention_dim=768)
    count = sum(parameter.numel() for name, parameter in ours.named_parameters() if "face" not in name)
    assert count == sum(parameter.numel() for parameter in theirs.parameters())


def test_input_channels_are_vividfaces() -> None:
    assert presets.full().denoiser.in_channels == 4 + 1 + 4 + 4


def test_every_temporal_layer_has_its_number() -> None:
    for name in SPECKS:
        layers = Swapper(speck(name)).denoiser.temporal_layers()
        assert [layer.index for _, layer in layers] == list(range(len(layers)))
    config = DenoiserConfig(widths=(32, 64), attention=(True, False), temporal=(False, True), heads=4, blocks=2)
    levels = [level for level, _ in Denoiser(config).temporal_layers()]
    assert levels == [1] * 2 * (2 + 1 + 3), "two in each motion module: down, middle, up"


def test_attention_in_the_last_layer_of_a_level_on_the_way_up() -> None:
    """`tiny` attends three times: 16x16 going down, 8x8 in the middle, 16x16 going up."""
    denoiser = Swapper(presets.tiny()).denoiser
    assert [(ring.level, ring.head_width) for ring in denoiser.rings()] == [(1, 32), (2, 64), (1, 32)]
    up_16 = denoiser.up[1].layers
    assert isinstance(up_16, nn.ModuleList)
    assert [layer.spatial is not None for layer in up_16] == [False, True]
    assert [layer.temporal is not None for layer in up_16] == [False, True]
