"""Face tokens: VividFace's formula, weights that turn, DINOv2's shape."""

from __future__ import annotations

from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.models.config import FaceEncoderConfig
from engines.models.face_encoder import FaceEncoder, PerceiverAttention
from engines.models.vit import Block, VisionTransformer, resized_positions

CONV = FaceEncoderConfig(
    backbone="conv", picture_px=32, feature_width=24, tokens=4, token_width=32, identity_width=16, heads=4
)
VIT = CONV.model_copy(update={"backbone": "vit", "picture_px": 28, "feature_width": 64})
BACKBONES = pytest.mark.parametrize("config", [CONV, VIT], ids=["conv", "vit"])
B = 2
DINOV2_BASE = 86_580_480  # parameters of the published model, at 518 px


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def built(config: FaceEncoderConfig) -> FaceEncoder:
    model = FaceEncoder(config)
    model.initialise(torch.Generator().manual_seed(0))
    return model.eval().requires_grad_(False)


def inputs(config: FaceEncoderConfig, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    side = config.picture_px
    pictures = torch.rand(2, B, 3, side, side, generator=generator) * 2 - 1
    identity = F.normalize(torch.randn(B, config.identity_width, generator=generator), dim=-1)
    return identity, pictures[0], pictures[1]


@BACKBONES
def test_tokens_are_identity_and_weighted_texture_and_attributes(config: FaceEncoderConfig) -> None:
    model = built(config)
    identity, texture, attribute = inputs(config)
    texture_weight, attribute_weight = torch.tensor([0.6, 0.0]), torch.tensor([0.3, 1.2])
    carried = model.identity_tokens(identity, texture, texture_weight)
    assert carried.shape == (B, model.carried_tokens, config.token_width)
    tokens = model.tokens(carried, attribute, attribute_weight)

    x = model.norm(model.proj(identity).reshape(B, config.tokens, config.token_width))
    textured = model.texture_resampler(x, model.backbone(texture))
    attributes = model.attribute_resampler(x, model.backbone(attribute))
    expected = x + texture_weight[:, None, None] * textured + attribute_weight[:, None, None] * attributes
    torch.testing.assert_close(tokens, expected)
    torch.testing.assert_close(model.attribute_tokens(attribute, x), attributes)


@BACKBONES
def test_each_input_matters_where_its_weight_is_not_zero(config: FaceEncoderConfig) -> None:
    model = built(config)
    identity, texture, attribute = inputs(config)
    none, one = torch.zeros(B), torch.ones(B)
    other = inputs(config, seed=2)
    bare = model.identity_tokens(identity, texture, none)
    assert torch.equal(bare, model.identity_tokens(identity, other[1], none))
    assert not torch.allclose(bare, model.identity_tokens(other[0], texture, none))
    assert not torch.allclose(
        model.identity_tokens(identity, texture, one), model.identity_tokens(identity, other[1], one)
    )
    assert torch.equal(model.tokens(bare, attribute, none), model.tokens(bare, other[2], none))
    assert not torch.allclose(model.tokens(bare, attribute, one), model.tokens(bare, other[2], one))


@BACKBONES
def test_rows_do_not_mix(config: FaceEncoderConfig) -> None:
    model = built(config)
    identity, texture, attribute = inputs(config)
    weight = torch.ones(B)
    both = model.tokens(model.identity_tokens(identity, texture, weight), attribute, weight)
    changed = attribute.clone()
    changed[1] = 0
    after = model.tokens(model.identity_tokens(identity, texture, weight), changed, weight)
    assert torch.equal(both[0], after[0])
    assert not torch.equal(both[1], after[1])


@BACKBONES
def test_where_a_feature_lies_is_known(config: FaceEncoderConfig) -> None:
    """Attention alone cannot tell a face from the same face upside down: positions must be in the tokens."""
    model = built(config)
    with torch.no_grad():
        for name, parameter in model.backbone.named_parameters():
            if name in ("positions", "pos_embed"):
                parameter.normal_(generator=torch.Generator().manual_seed(3))
    picture = inputs(config)[1]
    forth, back = model.features(picture), model.features(picture.flip(-2, -1)).flip(1)
    assert not torch.allclose(forth, back, atol=0.1)


@BACKBONES
def test_gradients_reach_everything(config: FaceEncoderConfig) -> None:
    model = FaceEncoder(config)
    identity, texture, attribute = inputs(config)
    tokens = model.tokens(model.identity_tokens(identity, texture, torch.ones(B)), attribute, torch.ones(B))
    assert 0.3 < tokens.detach().std() < 3
    tokens.square().mean().backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@BACKBONES
def test_pictures_of_another_size_are_refused(config: FaceEncoderConfig) -> None:
    with pytest.raises(ValueError, match="for the face encoder"):
        FaceEncoder(config).features(torch.zeros(1, 3, config.picture_px, config.picture_px + 2))
    with pytest.raises(ValueError, match="of a multiple of"):
        FaceEncoder(config.model_copy(update={"picture_px": config.picture_px + 2}))


def test_the_vision_transformer_is_dinov2_base() -> None:
    with torch.device("meta"):
        model = VisionTransformer(518, 768)
    absent = 768 + 2 * 768  # mask token and last norm
    assert sum(parameter.numel() for parameter in model.parameters()) + absent == DINOV2_BASE
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes["pos_embed"] == (1, 1370, 768)
    assert shapes["patch_embed.proj.weight"] == (768, 3, 14, 14)
    assert shapes["blocks.11.attn.qkv.weight"] == (2304, 768)
    assert shapes["blocks.0.ls2.gamma"] == (768,)
    assert shapes["blocks.0.mlp.fc1.bias"] == (3072,)


def test_a_block_is_a_transformer_block() -> None:
    """Against torch's own layer, which has no layer scale."""
    block = Block(128).eval().requires_grad_(False)
    layer = nn.TransformerEncoderLayer(
        128, 2, 512, dropout=0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    ).eval()
    pairs = {
        "self_attn.in_proj_": block.attn.qkv,
        "self_attn.out_proj.": block.attn.proj,
        "linear1.": block.mlp.fc1,
        "linear2.": block.mlp.fc2,
        "norm1.": block.norm1,
        "norm2.": block.norm2,
    }
    layer.load_state_dict({f"{name}{k}": v for name, ours in pairs.items() for k, v in ours.state_dict().items()})
    x = torch.randn(2, 5, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(block(x), layer(x))
        block.ls1.gamma.fill_(0)
        block.ls2.gamma.fill_(0)
        assert torch.equal(block(x), x)


def test_only_patches_come_out_and_pictures_are_normalised_as_imagenets() -> None:
    model = VisionTransformer(28, 64, blocks=0).requires_grad_(False)
    model.pos_embed.normal_(generator=torch.Generator().manual_seed(0))
    picture = inputs(VIT)[1]
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    normal = ((picture + 1) / 2 - mean) / std
    patches = model.patch_embed.proj(normal).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model(picture), patches + model.pos_embed[:, 1:])


def test_the_resampler_is_vividfaces() -> None:
    """Written out anew: x asks features and itself, twice a residual, then a projection and a norm."""
    resampler = built(CONV).texture_resampler
    generator = torch.Generator().manual_seed(1)
    x, features = torch.randn(B, 4, 32, generator=generator), torch.randn(B, 6, 24, generator=generator)

    seen, pictured = x, resampler.proj_in(features)
    for layer in resampler.layers:
        attention, feed_forward = cast(nn.ModuleList, layer)
        assert isinstance(attention, PerceiverAttention)
        known, asking = attention.norm1(pictured), attention.norm2(seen)
        keys, values = attention.to_kv(torch.cat([known, asking], 1)).chunk(2, -1)
        parts = [part.reshape(B, -1, 4, 8) for part in (attention.to_q(asking), keys, values)]
        weights = torch.einsum("bqhe,bkhe->bhqk", parts[0], parts[1]) / 8**0.5
        found = torch.einsum("bhqk,bkhe->bqhe", weights.softmax(-1), parts[2]).reshape(B, 4, 32)
        seen = seen + attention.to_out(found)
        seen = seen + feed_forward(seen)
    torch.testing.assert_close(resampler(x, features), resampler.norm_out(resampler.proj_out(seen)))


def test_a_position_table_is_brought_to_another_grid() -> None:
    rows = torch.linspace(0, 1, 37)[:, None].expand(37, 37).reshape(1, -1, 1)
    table = torch.cat([torch.full((1, 1, 1), 7.0), rows], 1)
    assert resized_positions(table, 37) is table
    small = resized_positions(table, 16)
    assert small.shape == (1, 257, 1)
    assert small[0, 0] == 7
    ramp = small[0, 1:, 0].reshape(16, 16)
    assert torch.allclose(ramp[:, 0], ramp[:, 9], atol=1e-6)
    assert torch.allclose(ramp[1:-1, 0].diff(), torch.full((13,), 37 / 16 / 36), atol=4e-3)
    with pytest.raises(ValueError, match="rows, not 7"):
        resized_positions(torch.zeros(1, 7, 4), 4)
