"""What training shows the denoiser: the very numbers of a live frame, and drop-outs that say what they mean."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from distill.conditions import between_frames, conditions, in_tone_of_proxy, region_weight, without_face
from distill.examples.types import Shown
from distill.network import Conditions
from distill.stages.settings import ConditionSettings
from distill.training.draws import Draws
from engines.models.config import Driver
from engines.models.step import IdentityGraph, SwapStep
from engines.models.swapper import Swapper
from tests.distill.made_up import synthetic_batch
from tests.engines.models.specks import lively, speck
from tests.engines.models.streams import Stream

NOTHING = ConditionSettings(drop_mask=0, drop_face=0)


def batch_for(swapper: Swapper, kind: str = "video", batch: int = 1, frames: int = 3) -> Shown:
    encoder = swapper.config.face_encoder
    return synthetic_batch(
        "video" if kind == "video" else "image",
        batch=batch,
        frames=frames,
        picture_px=encoder.picture_px,
        identity_width=encoder.identity_width,
    )


def seeing(swapper: Swapper, driver: Driver) -> Swapper:
    """The same, shown so much of the driver."""
    denoiser = swapper.config.denoiser.model_copy(update={"driver": driver})
    swapper.config = swapper.config.model_copy(update={"denoiser": denoiser})
    return swapper


def live_frames(swapper: Swapper, shown: Shown) -> list[tuple[Tensor, Tensor]]:
    """Conditions and tokens that the denoiser gets of one session that is shown the batch's first row."""
    step, identity = SwapStep(swapper), IdentityGraph(swapper)
    own = swapper.config.face_encoder
    weights = torch.tensor([[own.texture_weight, own.attribute_weight]])
    (tokens,) = identity(shown.identity_BI[:1], shown.texture_B3AA[:1], weights)
    seen: list[tuple[Tensor, Tensor]] = []
    channels = swapper.config.denoiser.latent_channels
    hook = swapper.denoiser.register_forward_pre_hook(lambda _, given: seen.append((given[0][:, channels:], given[2])))
    stream = Stream(step)
    for frame in range(shown.mask_BT1SS.shape[1]):
        stream.run(
            {
                "masked": shown.of_driver(swapper.config.denoiser.driver)[:1, frame],
                "proxy": shown.proxy_BT3SS[:1, frame],
                "mask": shown.mask_BT1SS[:1, frame],
                "attribute": shown.attribute_BT3AA[:1, frame],
                "identity_tokens": tokens,
                "weights": weights,
                "noise": torch.zeros(step.spec.inputs[[s.name for s in step.spec.inputs].index("noise")].shape),
            }
        )
    hook.remove()
    return seen


@pytest.mark.parametrize("driver", ["masked", "whole", "soft"])
@pytest.mark.parametrize(("name", "rounding"), [("tiny", 1e-6), ("full", 5e-6)])  # without, with a temporal encoder
def test_a_clip_is_shown_as_a_stream_shows_it(name: str, rounding: float, driver: Driver) -> None:
    swapper = seeing(lively(speck(name)), driver)
    shown = batch_for(swapper, frames=3 if name == "tiny" else 2)
    given = conditions(swapper, shown)
    for frame, (condition, tokens) in enumerate(live_frames(swapper, shown)):
        torch.testing.assert_close(given.condition_BTKhw[:, frame], condition, atol=rounding, rtol=1e-5)
        torch.testing.assert_close(given.tokens_BTLD[:, frame], tokens, atol=1e-6, rtol=1e-5)


def test_only_a_seen_driver_shows_what_is_under_the_mask() -> None:
    swapper = lively(speck("tiny"))
    shown = batch_for(swapper)
    other = replace(shown, target_BT3SS=-shown.target_BT3SS)
    cases: tuple[tuple[Driver, bool], ...] = (("masked", False), ("whole", True), ("soft", True))
    for driver, moved in cases:
        sees = seeing(swapper, driver)
        before, after = (conditions(sees, one).condition_BTKhw for one in (shown, other))
        assert torch.equal(before, after) != moved


def test_a_soft_driver_has_light_and_no_features() -> None:
    """Detail within a place of the latent is gone, to the bit; what a place is on average stays."""
    swapper = seeing(lively(speck("tiny")), "soft")
    shown = batch_for(swapper)
    ripple = torch.ones(64, 64)
    ripple[::2] = -1
    detailed = replace(shown, target_BT3SS=shown.target_BT3SS + 0.25 * ripple)
    brighter = replace(shown, target_BT3SS=shown.target_BT3SS + 0.25)
    plain, same, other = (conditions(swapper, one).condition_BTKhw for one in (shown, detailed, brighter))
    torch.testing.assert_close(plain, same, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(plain, other, atol=1e-3)


def test_stills_are_encoded_without_the_temporal_branch_and_truth_like_all_else() -> None:
    swapper = lively(speck("full"))
    shown = batch_for(swapper, "image", batch=2)
    given = conditions(swapper, shown)
    torch.testing.assert_close(given.x0_BTChw[:, 0], swapper.autoencoder.encode(shown.truth_BT3SS[:, 0]))
    causal = swapper.autoencoder.encode(shown.truth_BT3SS, causal=True)
    assert not torch.allclose(given.x0_BTChw, causal, atol=1e-3)


def test_gradient_reaches_the_face_encoder_and_not_the_autoencoder() -> None:
    swapper = lively(speck("tiny")).requires_grad_(True)
    given = conditions(swapper, batch_for(swapper))
    assert not given.x0_BTChw.requires_grad
    assert not given.condition_BTKhw.requires_grad
    given.tokens_BTLD.square().mean().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in swapper.face_encoder.parameters())
    assert all(parameter.grad is None for parameter in swapper.autoencoder.parameters())


def test_drop_outs_come_as_often_as_set_and_again_the_same() -> None:
    swapper = lively(speck("tiny"))
    shown = batch_for(swapper, batch=48, frames=2)
    settings = ConditionSettings(drop_mask=0.25, drop_face=0.5)
    draws = Draws(1, 2, shown.numbers)
    dropped, again = (conditions(swapper, shown, draws, settings) for _ in range(2))
    for one in fields(Conditions):
        assert torch.equal(getattr(dropped, one.name), getattr(again, one.name))
    no_mask = dropped.condition_BTKhw[:, :, 0].flatten(2).amax(-1) == 0
    no_face = dropped.tokens_BTLD.flatten(2).abs().amax(-1) == 0
    assert 0.1 < no_mask.float().mean() < 0.4
    assert 0.3 < no_face.float().mean() < 0.7
    assert (no_mask[:, 0] != no_mask[:, 1]).any(), "each frame's mask falls by itself"
    assert (no_face[:, 0] == no_face[:, 1]).all(), "tokens fall for the whole example"
    other = conditions(swapper, shown, Draws(1, 3, shown.numbers), settings)
    assert not torch.equal(other.condition_BTKhw, dropped.condition_BTKhw)


def test_a_frame_without_mask_is_shown_whole_and_all_others_are_left_alone() -> None:
    """VividFace's train.py zeroes the mask before it fills the region: nothing to draw, so nothing is filled."""
    swapper = lively(speck("tiny"))
    shown = batch_for(swapper, batch=4, frames=3)
    plain = conditions(swapper, shown)
    given = conditions(swapper, shown, Draws(0, 0, shown.numbers), ConditionSettings(drop_mask=0.5, drop_face=0))
    channels = swapper.config.denoiser.latent_channels
    dropped = given.condition_BTKhw[:, :, 0].flatten(2).amax(-1) == 0
    assert dropped.any()
    assert not dropped.all()
    torch.testing.assert_close(given.condition_BTKhw[:, :, 1 : 1 + channels][dropped], given.x0_BTChw[dropped])
    torch.testing.assert_close(given.condition_BTKhw[~dropped], plain.condition_BTKhw[~dropped])
    torch.testing.assert_close(given.condition_BTKhw[:, :, 1 + channels :], plain.condition_BTKhw[:, :, 1 + channels :])
    torch.testing.assert_close(given.weight_BT1hw, plain.weight_BT1hw)


def test_errors_count_on_the_face_and_around_it() -> None:
    mask = torch.zeros(2, 1, 1, 64, 64)
    mask[0, ..., 24:40, 24:40] = 1  # 2 x 2 latent pixels, a ring of 12 around them
    weight = region_weight(mask, outside=0.25, ring=1)
    assert weight.mean((1, 2, 3, 4)).tolist() == pytest.approx([1, 1])
    expected = functional.pad(torch.full((4, 4), 4.0), (2, 2, 2, 2), value=1.0)
    torch.testing.assert_close(weight[0, 0, 0] / weight[0, 0, 0].min(), expected)
    assert (weight[1] == 1).all(), "without a face every place counts alike"
    assert (region_weight(mask, 0.0, 1)[0, 0, 0, 0] == 0).all()


def test_parts_and_the_faceless() -> None:
    swapper = lively(speck("tiny"))
    given = conditions(swapper, batch_for(swapper, frames=3), settings=NOTHING)
    part = between_frames(given, 1, 3)
    torch.testing.assert_close(part.condition_BTKhw, given.condition_BTKhw[:, 1:])
    assert part.tokens_BTLD.shape[1] == part.weight_BT1hw.shape[1] == part.x0_BTChw.shape[1] == 2
    faceless = without_face(given)
    assert not faceless.tokens_BTLD.any()
    assert faceless.condition_BTKhw is given.condition_BTKhw


def test_a_truth_in_the_proxys_tone_differs_by_one_gain_per_channel_inside_the_mask() -> None:
    """Darker and yellower truths come out as the proxy; what is no matter of tone stays; outside nothing changes."""
    shown = synthetic_batch("video", batch=2, frames=3, picture_px=32, identity_width=8)
    rows = torch.arange(shown.mask_BT1SS.shape[-2])[:, None]
    mask = (rows > 10).float().expand_as(shown.mask_BT1SS)
    tint = torch.tensor([0.8, 0.7, 0.5])[:, None, None]
    darker = (shown.proxy_BT3SS + 1) / 2 * tint * 2 - 1
    toned = in_tone_of_proxy(replace(shown, truth_BT3SS=darker, mask_BT1SS=mask, alpha_BT1SS=mask)).truth_BT3SS
    torch.testing.assert_close(toned * mask, shown.proxy_BT3SS * mask, atol=1e-5, rtol=0)
    assert torch.equal(toned[..., :10, :], darker[..., :10, :])
    nothing = torch.zeros_like(mask)
    kept = in_tone_of_proxy(replace(shown, mask_BT1SS=mask, alpha_BT1SS=nothing)).truth_BT3SS
    torch.testing.assert_close(kept, shown.truth_BT3SS)
