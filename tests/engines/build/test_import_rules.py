"""The tables themselves: whole in both directions, and no key that two rules fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from engines.build.import_kinds import KINDS, Kind
from engines.build.import_rules import (
    conv_or_linear,
    first_inputs,
    is_time_code,
    own_grid,
)
from engines.models.attention import time_code
from engines.models.config import SwapperConfig
from engines.models.swapper import Swapper
from tests.engines.build.import_nets import (
    UNET_WIDTHS,
    adapter,
    config,
    diffusers,
    svd_vae,
    their_name,
    their_shapes,
    unet,
    vae,
)

FACES: Mapping[str, Any] = {"backbone": "vit", "picture_px": 28, "feature_width": 64}


def kind(name: str) -> Kind:
    return next(one for one in KINDS if one.name == name)


def our_shapes(wanted: SwapperConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Swapper(wanted).state_dict().items()}


WHOLE = our_shapes(config(motion=True, temporal=(True, True), face_encoder=FACES))


@pytest.mark.parametrize("one", KINDS, ids=lambda one: one.name)
def test_a_table_read_backwards_and_forwards_comes_to_the_same_names(one: Kind) -> None:
    shapes = WHOLE if "temporal_res_block" in str(one.has) else our_shapes(config(motion=True, face_encoder=FACES))
    for name in shapes:
        for rule in one.rules:
            if rule.can_give(name):
                theirs = their_name(rule, name)
                assert rule.fits(theirs)
                assert rule.target(theirs) == name
    for theirs in their_shapes(one.rules, shapes):
        assert len([rule for rule in one.rules if rule.fits(theirs)]) == 1


@pytest.mark.parametrize("one", KINDS, ids=lambda one: one.name)
def test_a_kind_is_recognised_and_no_other_is(one: Kind) -> None:
    shapes = WHOLE if "temporal_res_block" in str(one.has) else our_shapes(config(motion=True, face_encoder=FACES))
    keys = list(their_shapes(one.rules, shapes))
    assert [other.name for other in KINDS if other.recognises(keys)] == [one.name]


@pytest.mark.parametrize(
    ("name", "net"),
    [
        ("UNet2DConditionModel", unet),
        ("MotionAdapter", adapter),
        ("AutoencoderKL", vae),
        ("AutoencoderKLTemporalDecoder", svd_vae),
        ("UNetMotionModel", lambda: diffusers.UNetMotionModel.from_unet2d(unet(), adapter())),
    ],
)
def test_the_keys_are_those_that_diffusers_has(name: str, net: Any) -> None:
    has = {key: tuple(tensor.shape) for key, tensor in net().state_dict().items() if "pos_embed" not in key}
    temporal = (False, name.endswith("TemporalDecoder"))
    made = their_shapes(kind(name).rules, our_shapes(config(motion="Motion" in name, temporal=temporal)))
    made.update({key: has[key] for key in made if key == "conv_in.weight"})  # 13 channels in ours
    assert made == has


def test_full_has_a_source_for_every_tensor() -> None:
    """VividFace's unet and autoencoder, DINOv2 and the text encoder together leave nothing random."""
    from engines.models import presets

    full = presets.full()
    kinds = (kind("VividFace denoising_unet"), kind("VividFace face3dvae"), kind("DINOv2 (transformers)"))
    rules = [rule for one in kinds for rule in one.rules]
    constant = {name for one in kinds for name in one.constants}
    without = [
        name for name in our_shapes(full) if name not in constant and not any(rule.can_give(name) for rule in rules)
    ]
    assert without == ["denoiser.text_1LD"]


def test_rules_without_a_target_say_why() -> None:
    for one in KINDS:
        assert all(rule.ours or rule.why for rule in one.rules)


@pytest.mark.parametrize("channels", [4, 9, 13])
def test_conv_ins_known_channels_come_first_and_the_others_are_zero(channels: int) -> None:
    theirs = torch.randn(32, channels, 3, 3)
    ours = first_inputs(theirs, (32, 15, 3, 3))
    assert torch.equal(ours[:, :channels], theirs)
    assert not ours[:, channels:].any()
    assert first_inputs(torch.randn(32), (32,)).shape == (32,)


@pytest.mark.parametrize("shape", [(32, 8, 3, 3), (16, 4, 3, 3), (32, 4, 1, 1), (32, 13, 3, 3)])
def test_conv_in_of_unknown_meaning_stays_misshapen(shape: tuple[int, ...]) -> None:
    assert first_inputs(torch.randn(shape), (32, 12, 3, 3)).shape == shape


def test_a_linear_layer_is_a_small_convolution() -> None:
    linear = torch.randn(8, 4)
    conv = conv_or_linear(linear, (8, 4, 1, 1))
    x = torch.randn(2, 4, 3, 3)
    by_conv = torch.nn.functional.conv2d(x, conv)
    assert torch.allclose(by_conv, torch.einsum("oc,nchw->nohw", linear, x), atol=1e-5)
    assert torch.equal(conv_or_linear(conv, (8, 4)), linear)
    assert conv_or_linear(torch.randn(8, 4, 3, 3), (8, 4)).shape == (8, 4, 3, 3)
    assert conv_or_linear(torch.randn(4, 8), (8, 4, 1, 1)).shape == (4, 8)


def test_a_trained_position_table_is_not_taken_for_the_sinusoidal_one() -> None:
    table = time_code(24, UNET_WIDTHS[0])[None]
    assert is_time_code(table) == ""
    assert is_time_code(table.half()) == ""
    table[0, 7, 3] += 0.01
    assert "sinusoidal" in is_time_code(table)


def test_a_position_table_is_brought_to_our_grid_with_its_first_row_as_it_is() -> None:
    table = torch.randn(1, 1 + 25, 8)
    ours = own_grid(table, (1, 1 + 16, 8))
    assert ours.shape == (1, 17, 8)
    assert torch.equal(ours[:, 0], table[:, 0])
    assert torch.equal(own_grid(table, (1, 26, 8)), table)
